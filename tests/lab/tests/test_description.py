"""The description is checked when it is read, and a faulty VM is data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cht_lab import description
from cht_lab.shell import LabError

LAB = Path(__file__).resolve().parents[1]


def base() -> dict[str, Any]:
    return yaml.safe_load((LAB / "lab.yml").read_text(encoding="utf-8"))


def test_lab_has_three_servers_and_nine_agents() -> None:
    lab = description.load(LAB / "lab.yml")
    assert [vm.role for vm in lab.nodes].count("control_plane") == 3
    assert [vm.role for vm in lab.nodes].count("agent") == 9
    assert len({vm.bios_uuid for vm in lab.vms} | {vm.instance_uuid for vm in lab.vms}) == 2 * len(lab.vms)
    assert len({vm.mac for vm in lab.nodes}) == len({vm.port for vm in lab.nodes}) == 12
    agent = lab.node("agent-1")
    assert (agent.cpus, agent.memory_mb, agent.tags, agent.folder) == (48, 196608, ("agent",), "k3s")


@pytest.mark.parametrize("file", sorted((LAB / "descriptions").glob("*.yml")), ids=lambda path: path.stem)
def test_every_variant_can_be_read(file: Path) -> None:
    assert description.load(file).nodes


def test_what_is_kept_is_what_was_read(tmp_path: Path) -> None:
    lab = description.load(LAB / "descriptions/faults.yml")
    kept = tmp_path / "kept.yml"
    kept.write_text(description.dump(lab), encoding="utf-8")
    again = description.load(kept)
    assert again.vms == lab.vms
    assert again.vcenter == lab.vcenter
    assert (again.csi, again.stub_time) == (lab.csi, lab.stub_time)


def test_a_variant_may_play_cht_at_its_real_pace(tmp_path: Path) -> None:
    variant = tmp_path / "slow.yml"
    variant.write_text(f"extends: {LAB / 'lab.yml'}\nstub_time: 1\n", encoding="utf-8")
    assert description.load(variant).stub_time == 1 and description.load(LAB / "lab.yml").stub_time < 1
    with pytest.raises(LabError, match="stub_time must be a factor"):
        description.parse({**base(), "stub_time": "long"}, "here")


def test_faults_are_data() -> None:
    lab = description.load(LAB / "descriptions/faults.yml")
    assert lab.vm("agent-1").hardware_version == 13
    assert lab.vm("agent-2").disk_enable_uuid is None
    assert lab.vm("agent-4").bios_uuid == lab.vm("agent-5").bios_uuid
    assert lab.vm("agent-6").reported_hostname == "template-old-name"
    assert lab.vm("agent-5").reported_hostname == "agent-5"


def test_serial_is_written_as_vmware_does() -> None:
    assert description.serial("420E3F11-8a5c-4d01-9b77-c0de00000011") == "VMware-42 0e 3f 11 8a 5c 4d 01-9b 77 c0 de 00 00 00 11"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ip": "10.0.0.1"}, "198.18.0.0/15"),
        ({"bios_uuid": "nonsense"}, "bios_uuid must be"),
        ({"colour": "red"}, "unknown key colour"),
        ({"role": "worker"}, "role worker is not one of"),
        ({"name": "under_score"}, "host name"),
        ({"scsi": "ide"}, "scsi must be"),
        ({"ip": "198.18.0.12"}, "same ip"),
        ({"instance_uuid": "500e7a12-1d2c-4b32-8e02-aa0000000012"}, "same instance_uuid"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    data = base()
    data["vms"][0] |= change
    with pytest.raises(LabError, match=message):
        description.parse(data, "test")


def test_a_variant_names_vms_that_exist(tmp_path: Path) -> None:
    file = tmp_path / "variant.yml"
    file.write_text(f"extends: {LAB / 'lab.yml'}\nchange: {{agent-99: {{}}}}\n", encoding="utf-8")
    with pytest.raises(LabError, match="agent-99"):
        description.load(file)
