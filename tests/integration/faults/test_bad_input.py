"""Bad input: one clear message, before anything is changed, from every way of starting the playbooks."""
from __future__ import annotations

from pathlib import Path

import pytest
from support.lab import NODES, Lab, Run
from support.layouts import Awx, Installed, Layout

LAYOUTS = {"checkout": Layout, "installed": Installed, "awx": Awx}


@pytest.fixture(scope="module", params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    made = LAYOUTS[request.param](lab, tmp_path_factory.mktemp(request.param))
    if isinstance(made, Awx):
        # A job whose inventory is the source file itself: what AWX does when it updates on launch, and fails.
        (made.data / "inventory").mkdir()
        for path in (made.project / "inventories" / "lab").iterdir():
            (made.data / "inventory" / path.name).symlink_to(path)
    return made


def nothing_changed(run: Run) -> bool:
    return run.changed == [] and not [t for t in run.tasks if t["host"] in NODES and t["role"]]


def test_wrong_password(layout: Layout) -> None:
    layout.lab.reset_logins()
    run = layout.playbook(f"bad-password-{layout.name}", env={"VMWARE_PASSWORD": "not-the-password"}).expect(1)
    assert nothing_changed(run)
    assert "user name or password" in run.output.lower() or "wrong password" in run.output.lower()
    assert "VMWARE_PASSWORD" in run.output and layout.environment["VMWARE_HOST"] in run.output
    assert layout.lab.ansible_logins() == {"ok": 0, "failed": 1, "open": 0}


def test_unreachable_vcenter(layout: Layout) -> None:
    run = layout.playbook(f"bad-host-{layout.name}", env={"VMWARE_HOST": "198.18.0.99"}).expect(1)
    assert nothing_changed(run) and "198.18.0.99" in run.output


def test_untrusted_certificate(layout: Layout, tmp_path: Path) -> None:
    run = layout.playbook(f"bad-ca-{layout.name}", env={"VMWARE_CA_PATH": ""}).expect(1)
    assert nothing_changed(run) and "certificate" in run.output and "VMWARE_CA_PATH" in run.output


def test_no_vm_matches(layout: Layout, tmp_path: Path) -> None:
    source = tmp_path / "vsphere.yml"
    source.write_text("plugin: cht.k3s.vsphere\nfolders: [/no-such-dc/vm/nothing]\n")
    run = layout.lab.playbook(inventory=str(source), name=f"bad-empty-{layout.name}").expect(1)
    assert run.changed == [] and "/no-such-dc/vm/nothing" in run.output


def test_unknown_variable(layout: Layout) -> None:
    run = layout.playbook(f"bad-variable-{layout.name}", "-e", "cpi_verson=1.31.0").expect(1)
    assert nothing_changed(run) and "cpi_verson" in run.output and "did you mean cpi_version?" in run.output


def test_wrong_type(layout: Layout) -> None:
    run = layout.playbook(f"bad-type-{layout.name}", "-e", "k3s_container_runtime=rkt").expect(1)
    assert nothing_changed(run) and "k3s_container_runtime" in run.output and "rkt" in run.output


def test_a_host_that_is_no_vm(layout: Layout) -> None:
    if isinstance(layout, Awx):
        extra = layout.data / "inventory" / "extra.yml"
    else:
        extra = layout.folder / "extra.yml"
    extra.write_text("agent:\n  hosts:\n    agent-99:\n      ansible_host: 198.18.0.21\n")
    try:
        argv = () if isinstance(layout, Awx) else ("-i", str(extra))
        run = layout.playbook(f"bad-vm-{layout.name}", *argv).expect(1)
    finally:
        extra.unlink()
    assert run.changed == [] and "agent-99" in run.output and "vCenter" in run.output
