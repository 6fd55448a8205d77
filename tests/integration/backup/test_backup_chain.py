# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A county is saved and restored through the real CSI controller, snapshot-controller and kubelet, in a lab of two machines.

vCenter's simulator keeps snapshots and volumes, but nothing on them: what is on a disk is a folder of the lab, which is copied when the driver
takes a snapshot and when it makes a volume from one. CouchDB is the lab's stand-in. The tests build on each other.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lab import OUTPUT, Lab, Run, own_lab

COUNTY = {"name": "nairobi", "host": "nairobi.health.example", "version": "4.22.0", "couchdb": {"nodes": 3, "storage": "1Gi"}}
CLAIMS = [f"couchdb-{number}-claim0" for number in (1, 2, 3)]
SETTINGS: dict[str, Any] = {
    "csi_snapshots": True, "csi_verify": ["objects", "rollout", "csinode"], "csi_timeout": 300, "cht_project_wait": True, "cht_project_wait_timeout": 300,
}
YES = {"cht_project_restore_confirm": "nairobi", "cht_project_restore_stop": True}


class Chain:
    """The cluster, and what is on the county's volumes."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.secret: dict[str, str] = {}
        self.replaced: dict[str, str] = {}

    def play(self, name: str, *arguments: str, playbook: str, **variables: Any) -> Run:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        extra = OUTPUT / f"backup-{name}.json"
        extra.write_text(json.dumps({**SETTINGS, **variables}))
        return self.lab.playbook("-e", f"@{extra}", *arguments, playbook=f"playbooks/{playbook}.yml", name=f"backup-{name}")

    def projects(self, name: str, **more: Any) -> Run:
        return self.play(name, playbook="projects", cht_projects=[{**COUNTY, **more}]).expect()

    def backup(self, name: str, **variables: Any) -> str:
        """Save the county; return the name of the set."""
        run = self.play(name, playbook="backup_project", cht_project_backup=["nairobi"], **variables).expect()
        return str(run.results("cht_project_backup")[0]["counties"][0]["set"])

    def restore(self, name: str, which: str, **variables: Any) -> Run:
        return self.play(name, playbook="restore_project", cht_project_restore=which, **variables).expect()

    def write(self, text: str) -> None:
        """A line on the volume of each CouchDB node, written by its pod."""
        for number in (1, 2, 3):
            self.inside(number, f"echo {text} {number} > /opt/couchdb/data/kept && sync")

    def read(self) -> list[str]:
        return [self.inside(number, "cat /opt/couchdb/data/kept").strip() for number in (1, 2, 3)]

    def inside(self, number: int, command: str) -> str:
        return self.lab("kubectl", "exec", "-n", "nairobi", f"deploy/cht-couchdb-{number}", "--", "sh", "-c", command)

    def volumes(self) -> dict[str, str]:
        """The volume of each claim."""
        claims = self.lab.kubectl("get", "pvc", "-n", "nairobi")["items"]
        return {item["metadata"]["name"]: item["spec"]["volumeName"] for item in claims}

    def handle(self, volume: str) -> str:
        return str(self.lab.kubectl("get", "pv", volume)["spec"]["csi"]["volumeHandle"])

    def govc(self, *arguments: str) -> str:
        return self.lab.govc(*arguments)

    def in_vcenter(self) -> set[str]:
        """Handles of the volumes that vCenter has."""
        return {row.split()[0] for row in self.govc("volume.ls").splitlines() if row.strip()}

    def snapshots(self, volume: str) -> int:
        """How many snapshots vCenter has of a volume."""
        return len([row for row in self.govc("volume.snapshot.ls", self.handle(volume)).splitlines() if row.strip()])

    def credentials(self) -> dict[str, str]:
        return dict(self.lab.kubectl("get", "secret", "cht-couchdb-credentials", "-n", "nairobi")["data"])


@pytest.fixture(scope="module", name="chain")
def fixture_chain() -> Iterator[Chain]:
    with own_lab("backup", Path(__file__).parent / "cluster.yml") as lab:
        chain = Chain(lab)
        chain.play("site", "--skip-tags", "verify", playbook="site", cht_projects=[COUNTY]).expect()
        yield chain


def test_1_all_volumes_are_saved_and_the_county_is_as_before(chain: Chain) -> None:
    chain.write("first")
    chain.secret = chain.credentials()
    name = chain.backup("first")
    held = chain.lab.kubectl("get", "volumesnapshots", "-n", "cht-backups")["items"]
    assert {item["metadata"]["name"]: item["status"]["readyToUse"] for item in held} == {f"{name}-couchdb-{number}": True for number in (1, 2, 3)}
    assert chain.lab.kubectl("get", "volumesnapshots", "-n", "nairobi")["items"] == []
    assert [chain.snapshots(volume) for volume in chain.volumes().values()] == [1, 1, 1]
    assert chain.projects("after-backup").changed == []
    assert chain.read() == ["first 1", "first 2", "first 3"]


def test_2_the_oldest_set_goes_and_its_snapshots_go_from_vcenter(chain: Chain) -> None:
    first = chain.lab.kubectl("get", "secrets", "-n", "cht-backups", "-l", "cht.k3s/backup")["items"][0]["metadata"]["name"]
    for number in range(2):
        chain.backup(f"more-{number}", cht_project_backup_live=True)
    sets = [item["metadata"]["name"] for item in chain.lab.kubectl("get", "secrets", "-n", "cht-backups", "-l", "cht.k3s/backup")["items"]]
    assert len(sets) == 2 and first not in sets
    assert [chain.snapshots(volume) for volume in chain.volumes().values()] == [2, 2, 2]


def test_3_a_county_is_put_back_in_place(chain: Chain) -> None:
    sets = sorted(item["metadata"]["name"] for item in chain.lab.kubectl("get", "secrets", "-n", "cht-backups", "-l", "cht.k3s/backup")["items"])
    chain.write("later")
    chain.replaced = chain.volumes()
    chain.restore("in-place", sets[-1], **YES)
    new = chain.volumes()
    assert sorted(new) == CLAIMS and not set(new.values()) & set(chain.replaced.values())
    assert {chain.handle(volume) for volume in (*new.values(), *chain.replaced.values())} <= chain.in_vcenter()
    assert chain.read() == ["first 1", "first 2", "first 3"]
    assert chain.restore("in-place-again", sets[-1], **YES).changed == []
    assert chain.projects("after-restore").changed == []


def test_4_the_namespace_is_deleted_and_the_data_read_back(chain: Chain) -> None:
    chain.write("second")
    name = chain.backup("before-removal")
    gone = {"cht_projects": [], "cht_project_remove": ["nairobi"], "cht_project_remove_data": ["nairobi"]}
    chain.play("remove", playbook="remove_project", **gone).expect()
    assert "nairobi" not in [item["metadata"]["name"] for item in chain.lab.kubectl("get", "namespaces")["items"]]
    chain.restore("after-removal", name)
    chain.projects("up-again")
    assert chain.read() == ["second 1", "second 2", "second 3"] and chain.credentials() == chain.secret
    assert chain.projects("up-again-twice").changed == []


def test_5_what_a_restore_put_out_of_use_can_be_had_again(chain: Chain) -> None:
    gone = {"cht_projects": [], "cht_project_remove": ["nairobi"], "cht_project_remove_data": ["nairobi"]}
    chain.play("remove-again", playbook="remove_project", **gone).expect()
    entries = {key: _text(chain.secret[f"COUCHDB_{key.upper()}"]) for key in ("password", "secret", "uuid")}
    volumes = [chain.replaced[claim] for claim in CLAIMS]
    deadline = time.monotonic() + 60
    while any(chain.lab.kubectl("get", "pv", volume)["status"]["phase"] != "Released" for volume in volumes):
        assert time.monotonic() < deadline
        time.sleep(1)
    chain.projects("old-volumes", couchdb={**COUNTY["couchdb"], "volumes": volumes}, credentials=entries)  # type: ignore[dict-item]
    assert chain.volumes() == chain.replaced and chain.read() == ["later 1", "later 2", "later 3"]


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
