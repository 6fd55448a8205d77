"""provision_vms.yml against the real vcsim: what is missing is made, what exists is never touched."""
from __future__ import annotations

import base64
import json

import pytest
import yaml
from conftest import DESCRIPTION
from pyVmomi import vim
from test_vsphere_playbooks import Project
from vcenter import Vcenter

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEtesttesttesttesttesttesttesttesttesttest ops@example.org"
MACHINES = [{"name": f"node-{n}", "role": "control_plane", "address": f"198.18.0.{n}/24"} for n in (31, 32, 33)]
WORKER = {"name": "node-41", "role": "agent", "address": "198.18.0.41/24", "cpu": 6, "memory_mb": 12288, "disk_gb": 120}
VARIABLES = {
    "vm_machines": [*MACHINES, WORKER],
    "vm_datacenter": "dc-moh",
    "vm_cluster": "cluster-cht",
    "vm_folder": "k3s-new",
    "vm_template": "debian-12-template",
    "vm_network": "VM Network",
    "vm_gateway": "198.18.0.1",
    "vm_nameservers": ["198.18.0.2"],
    "vm_ssh_keys": [KEY],
}


class Provision(Project):
    """A project whose VMs are made by the playbook."""

    def run(self, *arguments: str, **changes):
        """The playbook with these variables."""
        file = self.folder / "vms.yml"
        file.write_text(yaml.safe_dump({**VARIABLES, **changes}))
        return self.play("provision_vms.yml", "-e", f"@{file}", *arguments, inventory="localhost,")

    def vms(self) -> dict[str, dict]:
        """Everything of every VM that a careless run could change."""
        service = self.vcenter.connect()
        result = {}
        for name, machine in self.vcenter.vms(service).items():
            config = machine.config
            kinds = [type(device).__name__.rpartition(".")[2] for device in config.hardware.device]
            result[name] = {
                "moid": machine._moId,
                "folder": machine.parent.name,
                "version": config.version,
                "power": str(machine.runtime.powerState),
                "size": (config.hardware.numCPU, config.hardware.memoryMB),
                "disks": [d.capacityInKB // 1024**2 for d in config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)],
                "pvscsi": "ParaVirtualSCSIController" in kinds,
                "settings": {option.key: option.value for option in config.extraConfig},
                "networks": sorted(network.name for network in machine.network),
                "changed": str(config.changeVersion),
            }
        return result

    def rules(self) -> dict[str, list[str]]:
        """The cluster's rules."""
        content = self.vcenter.connect().content
        view = content.viewManager.CreateContainerView(content.rootFolder, [vim.ClusterComputeResource], True)
        return {rule.name: sorted(machine.name for machine in rule.vm) for rule in view.view[0].configurationEx.rule}


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "vcenter"
    folder.mkdir()
    with Vcenter(folder, DESCRIPTION) as vcenter:
        yield Provision(tmp_path, vcenter)


def told(vm, key):
    """What the guest is told."""
    return base64.b64decode(vm["settings"][f"guestinfo.{key}"]).decode()


def test_missing_vms_are_made_and_existing_ones_never_touched(project):
    before = project.vms()
    predicted = project.run("--check", "--diff")
    assert predicted.returncode == 0, predicted.stdout + predicted.stderr
    assert "/dc-moh/vm/k3s-new/being-made/node-41" in predicted.stdout
    assert project.vms() == before

    done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    after = project.vms()
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"node-31", "node-32", "node-33", "node-41"}
    for name, size in (("node-31", (4, 8192)), ("node-41", (6, 12288))):
        vm = after[name]
        assert (vm["folder"], vm["power"], vm["size"], vm["pvscsi"]) == ("k3s-new", "poweredOn", size, True)
        assert vm["settings"]["disk.EnableUUID"] == "TRUE" and int(vm["version"].partition("-")[2]) >= 19
        metadata = json.loads(told(vm, "metadata"))
        assert metadata["local-hostname"] == metadata["instance-id"] == name
        assert metadata["network"]["ethernets"]["primary"]["addresses"] == [f"198.18.0.{name[-2:]}/24"]
        userdata = told(vm, "userdata")
        assert userdata.startswith("#cloud-config\n") and yaml.safe_load(userdata)["users"][0]["ssh_authorized_keys"] == [KEY]
    assert max(after["node-41"]["disks"]) == 120
    assert project.rules() == {"cht-control-plane": ["node-31", "node-32", "node-33"]}
    assert project.vcenter.counts[1:] == (0, 0)

    # Another size for what exists: left alone, with one login.
    project.vcenter.ledger.reset()
    wish = {"vm_machines": [*MACHINES, {**WORKER, "cpu": 2, "memory_mb": 4096, "address": "198.18.0.49/24"}], "vm_hardware_version": 20}
    again = project.run(**wish)
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout + again.stderr
    assert project.vms() == after
    assert project.vcenter.counts == (1, 0, 0)

    # One more line, one more VM.
    more = {"name": "node-42", "role": "agent", "address": "198.18.0.42/24", "cpu": 2, "memory_mb": 4096}
    grown = project.run(vm_machines=[*MACHINES, WORKER, more])
    assert grown.returncode == 0, grown.stdout + grown.stderr
    final = project.vms()
    assert set(final) - set(after) == {"node-42"} and {name: final[name] for name in after} == after

    # What was made is what the inventory finds.
    source = {"plugin": "cht.k3s.vsphere", "folders": ["k3s-new"], "control_plane": {"names": ["node-3?"]}, "agent": {"names": ["node-4?"]}}
    (project.folder / "cluster.vsphere.yml").write_text(yaml.safe_dump(source))
    listed = project.command("ansible-inventory", "-i", str(project.folder / "cluster.vsphere.yml"), "--list")
    groups = json.loads(listed.stdout)
    assert groups["control_plane"]["hosts"] == ["node-31", "node-32", "node-33"] and groups["agent"]["hosts"] == ["node-41", "node-42"]
    assert groups["_meta"]["hostvars"]["node-41"]["vsphere_pvscsi"] is True


@pytest.mark.extensive
def test_an_interrupted_run_is_gone_on_with(project):
    # A clone that was left: made, but without settings, size and place.
    service = project.vcenter.connect()
    vms = project.vcenter.vms(service)
    datacenter = service.content.rootFolder.childEntity[0]
    staging = datacenter.vmFolder.CreateFolder("k3s-new").CreateFolder("being-made")
    from cht_lab.vcenter import _wait

    pool = datacenter.hostFolder.childEntity[0].resourcePool
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(pool=pool), powerOn=False, template=False)
    _wait(vms["debian-12-template"].CloneVM_Task(staging, "node-41", spec))
    left = project.vms()["node-41"]
    done = project.run(vm_machines=[MACHINES[0], WORKER])
    assert done.returncode == 0, done.stdout + done.stderr
    after = project.vms()["node-41"]
    assert after["moid"] == left["moid"] and after["folder"] == "k3s-new" and after["power"] == "poweredOn"
    assert after["size"] == (6, 12288) and "guestinfo.metadata" in after["settings"]


def options(vcenter, **changes):
    """The module's arguments for the same variables."""
    given = {name.removeprefix("vm_"): value for name, value in {**VARIABLES, **changes}.items()}
    return {**given, "guest_user": "ops", "sizes": {"agent": {"cpu": 1, "memory_mb": 1024, "disk_gb": 20}}, **vcenter.options}


SIZED = [{**machine, "cpu": 4, "memory_mb": 8192, "disk_gb": 50} for machine in MACHINES]


def test_everything_wrong_with_the_list_is_said_at_once_without_asking_vcenter(module, vcenter):
    wrong = module("vsphere_vm_plan", **options(
        vcenter,
        vm_machines=[SIZED[0], {**SIZED[0], "address": "198.18.0.300/24"}, {**WORKER, "name": "Node_41", "address": "198.18.1.41/24"}],
        vm_ssh_keys=["-----BEGIN OPENSSH PRIVATE KEY-----"],
        vm_nameservers=["dns.example.org"],
    ))  # fmt: skip
    for part in (
        "the name node-31 is there twice",
        "'198.18.0.300/24' is no address with its network",
        "'Node_41' cannot be a node's name",
        "it must have 1, 3 or 5",
        "the gateway 198.18.0.1 is not in the network of Node_41",
        "the name server 'dns.example.org' is no address",
        "SSH key number 1 is no public key",
        "Nothing was changed",
    ):
        assert part in wrong["msg"]
    assert "PRIVATE KEY" not in wrong["msg"] and vcenter.counts == (0, 0, 0)


def test_everything_that_vcenter_does_not_have_is_said_at_once(module, vcenter):
    wrong = module("vsphere_vm_plan", **options(
        vcenter,
        vm_machines=[{**SIZED[0], "address": "198.18.0.21/24"}, {**WORKER, "name": "agent-3"}],
        vm_template="debian-21-template", vm_network="VM Netwrok", vm_datastore="datastore-chd",
    ))  # fmt: skip
    for part in (
        "there is no template 'debian-21-template' (similar: debian-12-template",
        "reach no network 'VM Netwrok' (similar: VM Network",
        "reach no datastore 'datastore-chd' (similar: datastore-cht",
        "the address 198.18.0.21 of node-31 is used by /dc-moh/vm/k3s/agent-1",
        "agent-3 exists as /dc-moh/vm/k3s/agent-3, outside /dc-moh/vm/k3s-new",
        "Nothing was changed",
    ):
        assert part in wrong["msg"]
    for changes, part in (
        ({"vm_cluster": "cluster-chd"}, "no cluster 'cluster-chd'"),
        ({"vm_datacenter": "dc-mho"}, "no datacenter 'dc-mho'"),
        ({"vm_folder": "/other/vm/k3s"}, "is no folder below /dc-moh/vm"),
    ):
        assert part in module("vsphere_vm_plan", **options(vcenter, vm_machines=SIZED, **changes))["msg"]
    good = module("vsphere_vm_plan", **options(vcenter, vm_machines=SIZED))
    assert good["changed"] is False and [vm["name"] for vm in good["todo"]] == ["node-31", "node-32", "node-33"]
    assert vcenter.counts[1:] == (0, 0)


def test_the_playbook_refuses_before_it_asks(project):
    for changes, part in (
        ({"vm_gatway": "198.18.0.1"}, "did you mean vm_gateway?"),
        ({"vm_library_item": "debian"}, "Give vm_template, or vm_library_item, and not both"),
    ):
        refused = project.run(**changes)
        assert refused.returncode != 0 and part in " ".join(refused.stdout.split())
    assert project.vcenter.counts == (0, 0, 0)
    # The tests' Python has no SDK for content libraries. That is said, and no VM is begun.
    before = project.vms()
    refused = project.run(vm_template="", vm_library_item="debian-12", vm_machines=[MACHINES[0]])
    assert refused.returncode != 0 and "vSphere Automation SDK" in " ".join(refused.stdout.split()), refused.stdout
    assert project.vms() == before
