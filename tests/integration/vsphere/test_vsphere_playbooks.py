"""Playbooks that work on VMs, run as a user would, against the real vcsim."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import FAULTS
from vcenter import ROOT, Vcenter


class Project:
    """A folder with an inventory, as AWX would have it."""

    def __init__(self, folder: Path, vcenter: Vcenter) -> None:
        self.folder = folder
        self.vcenter = vcenter
        source = {"plugin": "cht.k3s.vsphere", "folders": ["/dc-moh/vm/k3s"], "names": ["agent-[1-37]", "control-plane-*"]}
        (folder / "cluster.vsphere.yml").write_text(yaml.safe_dump(source))

    def play(self, name: str, *arguments: str, inventory: str = "") -> subprocess.CompletedProcess[str]:
        """Run a playbook."""
        source = inventory or str(self.folder / "cluster.vsphere.yml")
        return self.command("ansible-playbook", "-i", source, str(ROOT / "playbooks" / name), *arguments)

    def command(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program as AWX would."""
        options = self.vcenter.options
        env = {
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            # The VMs have no machines behind them.
            "ANSIBLE_TIMEOUT": "1",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_PYTHON_INTERPRETER": "/nonexistent/python",
            "VMWARE_HOST": options["hostname"],
            "VMWARE_PORT": str(options["port"]),
            "VMWARE_USER": options["username"],
            "VMWARE_PASSWORD": options["password"],
            "VMWARE_CA_PATH": options["ca_path"],
        }
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=self.folder, check=False)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "vcenter"
    folder.mkdir()
    with Vcenter(folder, FAULTS) as vcenter:
        yield Project(tmp_path, vcenter)


def versions(vcenter):
    service = vcenter.connect()
    return {
        name: (machine.config.version, str(machine.runtime.powerState))
        for name, machine in vcenter.vms(service).items()
        if name in ("agent-1", "agent-7", "control-plane-2")
    }


def test_prepare_vms_predicts_corrects_and_then_leaves_alone(project):
    vcenter = project.vcenter
    before = versions(vcenter)
    refused = project.play("prepare_vms.yml")
    assert refused.returncode != 0 and "/dc-moh/vm/k3s/agent-1 is on" in refused.stdout and versions(vcenter) == before
    predicted = project.play("prepare_vms.yml", "--check", "--diff", "-e", "vm_prepare_power_cycle=hard")
    assert predicted.returncode == 0, predicted.stdout + predicted.stderr
    for line in (
        "+/dc-moh/vm/k3s/agent-1: hardware_version = 15",
        "+/dc-moh/vm/k3s/agent-3: pvscsi = True",
        "+/dc-moh/vm/k3s/agent-7: power = on",
        "+/dc-moh/vm/k3s/agent-2: disk.EnableUUID = TRUE",
        "+/dc-moh/vm/k3s/control-plane-2: disk.EnableUUID = TRUE",
    ):
        assert line in predicted.stdout
    assert versions(vcenter) == before
    done = project.play("prepare_vms.yml", "-e", "vm_prepare_power_cycle=hard")
    assert done.returncode == 0, done.stdout + done.stderr
    assert versions(vcenter) == {
        "agent-1": ("vmx-15", "poweredOn"), "agent-7": ("vmx-19", "poweredOn"), "control-plane-2": ("vmx-19", "poweredOn"),
    }  # fmt: skip
    again = project.play("prepare_vms.yml", "-e", "vm_prepare_power_cycle=hard")
    assert again.returncode == 0 and "changed=0" in again.stdout and "changed=1" not in again.stdout
    assert vcenter.counts[1:] == (0, 0)


@pytest.mark.extensive
def test_prepare_vms_makes_up_for_a_power_cycle_that_was_not_allowed(project):
    """agent-2 only lacks disk.EnableUUID, which can be set while it runs, and does nothing until it was off."""
    only = ("--limit", "agent-2")
    first = project.play("prepare_vms.yml", *only)
    assert first.returncode == 0 and "changed=1" in first.stdout, first.stdout + first.stderr
    again = project.play("prepare_vms.yml", *only)
    assert again.returncode == 0 and "changed=0" in again.stdout
    for run in (first, again):
        assert "/dc-moh/vm/k3s/agent-2" in run.stdout.partition("Name the VMs that still have to be powered off and on")[2]
    cycled = project.play("prepare_vms.yml", *only, "-e", "vm_prepare_power_cycle=hard")
    assert cycled.returncode == 0 and "changed=1" in cycled.stdout, cycled.stdout + cycled.stderr
    assert project.vcenter.power_events()[-2:] == [("agent-2", "off"), ("agent-2", "on")]
    last = project.play("prepare_vms.yml", *only, "-e", "vm_prepare_power_cycle=hard")
    assert last.returncode == 0 and "changed=0" in last.stdout and "changed=1" not in last.stdout


def test_vcenter_roles_are_made_assigned_and_then_left_alone(project):
    arguments = []
    for name, value in {
        "vcenter_roles_admin_username": project.vcenter.options["username"],
        "vcenter_roles_admin_password": project.vcenter.options["password"],
        "vcenter_roles_principal": "VSPHERE.LOCAL\\k3s",
        "vcenter_roles_datastores": ["datastore-cht"],
        "vcenter_roles_folders": ["k3s"],
        "vcenter_roles_file_clusters": ["cluster-cht"],
        "vcenter_roles_datacenters": ["dc-moh"],
    }.items():
        arguments += ["-e", yaml.safe_dump({name: value}, default_flow_style=True, width=1000).strip()]
    refused = project.play("vcenter_roles.yml", *arguments, "-e", "vcenter_roles_admin_password=wrong", inventory="localhost,")
    assert refused.returncode != 0 and "refused the login of 'k3s@vsphere.local'" in " ".join(refused.stdout.split())
    # Not one for each role: that would lock the administrator.
    assert project.vcenter.counts == (0, 1, 0)
    # Another folder of the name: nothing is given to the first that is met, and nothing is made.
    folder = project.vcenter.connect().content.rootFolder.childEntity[0].vmFolder
    twin = folder.CreateFolder("test").CreateFolder("k3s")
    ambiguous = project.play("vcenter_roles.yml", *arguments)
    said = " ".join(ambiguous.stdout.split())
    assert ambiguous.returncode != 0 and "The folder 'k3s' stands for /dc-moh/vm/k3s (" in said and "/dc-moh/vm/test/k3s" in said
    assert not [role for role in project.vcenter.connect().content.authorizationManager.roleList if role.name.startswith("CNS-")]
    arguments += ["-e", "{vcenter_roles_folders: [/dc-moh/vm/k3s]}"]
    done = project.play("vcenter_roles.yml", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    content = project.vcenter.connect().content
    roles = {role.roleId: role for role in content.authorizationManager.roleList}
    made = {role.name: set(role.privilege) for role in roles.values()}
    assert made["CNS-VM"] >= {"VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.AddRemoveDevice"}
    given = {
        (permission.entity.name, roles[permission.roleId].name, permission.propagate)
        for permission in content.authorizationManager.RetrieveAllPermissions()
        if permission.principal == "VSPHERE.LOCAL\\k3s"
    }
    assert given == {
        ("Datacenters", "CNS-SEARCH-AND-SPBM", False), ("datastore-cht", "CNS-DATASTORE", False),
        ("cluster-cht", "CNS-HOST-CONFIG-STORAGE", True), ("k3s", "CNS-VM", True), ("dc-moh", "ReadOnly", True),
    }  # fmt: skip
    assert not content.authorizationManager.RetrieveEntityPermissions(twin, False)
    again = project.play("vcenter_roles.yml", *arguments)
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
