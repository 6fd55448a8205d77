# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot of an inventory is that inventory, without vCenter; and what is to run with it asks nothing of vCenter."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, lookup_loader
from ansible.utils.collection_loader import AnsibleCollectionConfig

if not AnsibleCollectionConfig.collection_finder:
    init_plugin_loader()
ROOT = Path(__file__).resolve().parents[4]
SOURCE = """
all:
  vars: {here: everywhere}
  children:
    k3s:
      vars: {level: outer}
      children:
        control_plane: {hosts: {control-plane-1: {ansible_host: 192.0.2.1, vsphere_bios_uuid: 42ab}}}
        agent:
          vars: {level: inner}
          hosts: {agent-1: {ansible_host: 192.0.2.11, vsphere_nics: [{network: net, ips: [192.0.2.11]}], greeting: "größer: #1"}, agent-2: {}}
    site_north: {hosts: {agent-1: {}}}
    also: {children: {agent: {}}}
"""


def described(path: Path) -> dict[str, object]:
    inventory = InventoryManager(loader=DataLoader(), sources=[str(path)])
    kept = ("inventory_file", "inventory_dir")
    return {
        "hosts": {name: {key: value for key, value in host.vars.items() if key not in kept} for name, host in inventory.hosts.items()},
        "groups": {name: (group.depth, dict(group.vars), sorted(host.name for host in group.get_hosts())) for name, group in inventory.groups.items()},
        "below": {name: sorted(child.name for child in group.child_groups) for name, group in inventory.groups.items()},
    }


def snapshot(path: Path, hosts: list[str]) -> str:
    return lookup_loader.get("cht.k3s.inventory_snapshot", loader=DataLoader()).run([str(path)], {"groups": {"all": hosts}})[0]


def test_a_snapshot_is_the_same_inventory(tmp_path: Path) -> None:
    source, copy = tmp_path / "source.yml", tmp_path / "hosts.yml"
    source.write_text(SOURCE, encoding="utf-8")
    copy.write_text(snapshot(source, ["control-plane-1", "agent-1", "agent-2", "localhost"]), encoding="utf-8")
    assert described(copy) == described(source)
    assert snapshot(copy, ["control-plane-1", "agent-1", "agent-2"]) == copy.read_text(encoding="utf-8"), "a snapshot of a snapshot is the same"


def test_an_inventory_that_answers_half_makes_no_snapshot(tmp_path: Path) -> None:
    (tmp_path / "source.yml").write_text(SOURCE, encoding="utf-8")
    with pytest.raises(AnsibleError, match="has 3 hosts where this run has 12"):
        snapshot(tmp_path / "source.yml", [f"agent-{number}" for number in range(12)])


def test_an_encrypted_value_stays_encrypted(tmp_path: Path) -> None:
    text = "all:\n  hosts:\n    a:\n      secret: !vault |\n        $ANSIBLE_VAULT;1.1;AES256\n        6162\n"
    (tmp_path / "source.yml").write_text(text, encoding="utf-8")
    assert "!vault" in snapshot(tmp_path / "source.yml", ["a"]) and "$ANSIBLE_VAULT;1.1;AES256" in snapshot(tmp_path / "source.yml", ["a"])


@pytest.mark.parametrize("name", ["report", "projects", "backup_project", "restore_project", "project_credentials", "remove_project", "backup", "access"])
def test_what_runs_without_vcenter_asks_nothing_of_it(name: str) -> None:
    """Every file of tasks that the playbook can reach, followed by the names of roles and files."""
    seen: set[Path] = set()

    def read(path: Path) -> None:
        if path in seen:
            return
        seen.add(path)
        text = path.read_text(encoding="utf-8")
        assert "cht.k3s.vsphere" not in text and "community.vmware" not in text and "vmware.vmware" not in text, path
        for entry in yaml.safe_load(text):
            follow(entry, path)

    def follow(entry: object, path: Path) -> None:
        if isinstance(entry, list):
            for item in entry:
                follow(item, path)
        if not isinstance(entry, dict):
            return
        for key, value in entry.items():
            if key in ("ansible.builtin.import_role", "ansible.builtin.include_role") or (key == "role" and isinstance(value, str)):
                role, file = (value, "main") if isinstance(value, str) else (value["name"], value.get("tasks_from", "main"))
                read(ROOT / "roles" / role.removeprefix("cht.k3s.") / "tasks" / f"{file}.yml")
                needs = yaml.safe_load((ROOT / "roles" / role.removeprefix("cht.k3s.") / "meta/main.yml").read_text(encoding="utf-8"))["dependencies"]
                assert "cht.k3s.vsphere" not in str(needs), path
            elif key in ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks"):
                read(path.parent / (value if isinstance(value, str) else value["file"]))
            elif key == "ansible.builtin.import_playbook":
                read(ROOT / "playbooks" / value)
            elif key in ("tasks", "roles", "block", "rescue", "always", "pre_tasks", "post_tasks"):
                follow(value, path)

    read(ROOT / "playbooks" / f"{name}.yml")
    assert len(seen) > 4, "the roles were followed"
