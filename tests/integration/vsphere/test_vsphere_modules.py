"""The modules against the real vcsim: missing input, check mode, change, no change."""
from __future__ import annotations

import pytest
from pyVmomi import vim

NODES = [*(f"control-plane-{n}" for n in (1, 2, 3)), *(f"agent-{n}" for n in range(1, 10))]
BIOS = "420e3f23-8a5c-4d13-9b77-c0de00000023"
INSTANCE = "500e7a23-1d2c-4b43-8e13-aa0000000023"


def test_twelve_vms_are_one_session(module, vcenter):
    result = module("vsphere_vm_uuid", vms=NODES, **vcenter.options)
    assert [vm["name"] for vm in result["vms"]] == NODES
    assert result["changed"] is False
    assert result["by_query"]["agent-3"]["provider_id"] == f"vsphere://{BIOS}"
    assert vcenter.counts == (1, 0, 0)


def test_the_instance_uuid_only_when_asked_for(module, vcenter):
    vm = module("vsphere_vm_uuid", vms=["agent-3"], source="instance", **vcenter.options)["vms"][0]
    assert (vm["uuid"], vm["provider_id"]) == (INSTANCE, f"vsphere://{INSTANCE}")


@pytest.mark.parametrize(
    ("search_by", "query"),
    [
        ("path", "/dc-moh/vm/k3s/agent-3"),
        ("ip", "198.18.0.23"),
        ("guest_hostname", "agent-3"),
        ("bios_uuid", BIOS.upper()),
        ("instance_uuid", INSTANCE),
    ],
)
def test_every_way_to_look_a_vm_up(module, vcenter, search_by, query):
    vm = module("vsphere_vm_uuid", vms=[query], search_by=search_by, **vcenter.options)["vms"][0]
    assert (vm["name"], vm["bios_uuid"], vm["datacenter"], vm["cluster"]) == ("agent-3", BIOS, "dc-moh", "cluster-cht")
    again = module("vsphere_vm_uuid", vms=[vm["moid"]], search_by="moid", **vcenter.options)["vms"][0]
    assert again["bios_uuid"] == BIOS


def test_missing_vms_are_all_named_with_similar_names(module, vcenter):
    message = module("vsphere_vm_uuid", vms=["agent-3", "agnet-4", "nothing"], **vcenter.options)["msg"]
    assert "'agnet-4' (similar: agent-" in message and "'nothing'" in message and "'agent-3'" not in message


def test_a_datacenter_that_does_not_exist(module, vcenter):
    message = module("vsphere_vm_uuid", vms=["agent-3"], datacenters=["elsewhere"], **vcenter.options)["msg"]
    assert "no datacenter 'elsewhere'" in message and "dc-moh" in message


def test_two_vms_of_one_name_are_listed_with_their_paths(module, own):
    service = own.connect()
    folder = own.vms(service)["dhis2-db"].parent
    machine = own.vms(service)["agent-3"]
    from cht_lab.vcenter import _wait

    _wait(machine.CloneVM_Task(folder, "agent-3", vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False)))
    message = module("vsphere_vm_uuid", vms=["agent-3"], **own.options)["msg"]
    assert "/dc-moh/vm/k3s/agent-3 and /dc-moh/vm/other/agent-3" in message
    found = module("vsphere_vm_uuid", vms=["/dc-moh/vm/k3s/agent-3"], search_by="path", **own.options)
    assert found["vms"][0]["bios_uuid"] == BIOS


def disk_uuid(vcenter, name):
    service = vcenter.connect()
    config = vcenter.vms(service)[name].config.extraConfig
    return {option.key: option.value for option in config if option.key.lower() == "disk.enableuuid"}


def test_disk_uuid_predicts_sets_and_then_leaves_alone(module, own):
    own.change("agent-1", extraConfig=[vim.option.OptionValue(key="disk.EnableUUID", value="")])
    own.change("agent-2", extraConfig=[vim.option.OptionValue(key="disk.EnableUUID", value="1")])
    vms = ["agent-1", "agent-2", "agent-3"]
    predicted = module("vsphere_disk_uuid", check=True, vms=vms, **own.options)
    assert disk_uuid(own, "agent-1").get("disk.EnableUUID", "") in ("", None)
    real = module("vsphere_disk_uuid", vms=vms, **own.options)
    assert (predicted["changed"], predicted["vms"], predicted["diff"]) == (real["changed"], real["vms"], real["diff"])
    assert [vm["changed"] for vm in real["vms"]] == [True, False, False]
    assert [vm["restart_required"] for vm in real["vms"]] == [True, False, False]
    assert disk_uuid(own, "agent-1") == {"disk.EnableUUID": "TRUE"}
    assert disk_uuid(own, "agent-2") == {"disk.EnableUUID": "1"}
    again = module("vsphere_disk_uuid", vms=vms, **own.options)
    assert again["changed"] is False
    assert [vm["restart_required"] for vm in again["vms"]] == [True, False, False], "it still runs as it did before"
    found = module("vsphere_preflight", nodes=[{"name": name} for name in vms], accept=["host-unreachable"], **own.options)["findings"]
    assert [(item["object"], "was set while the VM ran" in item["message"]) for item in found if item["id"] == "vm-disk-uuid"] == [("agent-1", True)]
    off_and_on = module("vsphere_disk_uuid", vms=vms, power_cycle="hard", power_timeout=20, **own.options)
    assert off_and_on["changed"] and [vm["power_cycled"] for vm in off_and_on["vms"]] == [True, False, False]
    assert [vm["changed"] for vm in off_and_on["vms"]] == [False] * 3
    last = module("vsphere_disk_uuid", vms=vms, power_cycle="hard", power_timeout=20, **own.options)
    assert last["changed"] is False and last["restart_required"] is False
    assert own.counts[1:] == (0, 0)


def test_disk_uuid_turns_vms_off_and_on_one_after_the_other(module, own):
    for name in ("control-plane-1", "control-plane-2"):
        own.change(name, extraConfig=[vim.option.OptionValue(key="disk.EnableUUID", value="FALSE")])
    own.ledger.reset()
    vms = ["control-plane-1", "control-plane-2", "agent-1"]
    result = module("vsphere_disk_uuid", vms=vms, power_cycle="hard", power_timeout=20, **own.options)
    assert [vm["power_cycled"] for vm in result["vms"]] == [True, True, False]
    assert result["restart_required"] is False
    service = own.connect()
    assert all(own.vms(service)[name].runtime.powerState == "poweredOn" for name in vms)
    # The second only goes off when the first is on again.
    power = [event for event in own.power_events() if event[0] in vms[:2]][-4:]
    assert power in (
        [(name, state) for name in vms[:2] for state in ("off", "on")],
        [(name, state) for name in vms[1::-1] for state in ("off", "on")],
    )


def test_a_graceful_shutdown_without_tools_is_refused_before_anything_changes(module, own):
    own.change(
        "agent-1",
        extraConfig=[
            vim.option.OptionValue(key="disk.EnableUUID", value="FALSE"),
            vim.option.OptionValue(key="SET.guest.toolsRunningStatus", value="guestToolsNotRunning"),
        ],
    )
    message = module("vsphere_disk_uuid", vms=["agent-1"], power_cycle="graceful", **own.options)["msg"]
    assert "/dc-moh/vm/k3s/agent-1 (not running)" in message and "Nothing was changed" in message
    assert disk_uuid(own, "agent-1") == {"disk.EnableUUID": "FALSE"}


def hardware(vcenter, name):
    service = vcenter.connect()
    config = vcenter.vms(service)[name].config
    kinds = [type(device).__name__.rpartition(".")[2] for device in config.hardware.device]
    disks = [device.capacityInKB for device in config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk)]
    return config.version, "ParaVirtualSCSIController" in kinds, config.hardware.numCPU, config.hardware.memoryMB, max(disks) // 1024**2


def test_hardware_predicts_changes_and_then_leaves_alone(module, own):
    wanted = {"vms": ["agent-1", "agent-2"], "hardware_version": 20, "cpu": 50, "memory_mb": 200000, "disk_gb": 120}
    refused = module("vsphere_vm_hardware", **wanted, **own.options)
    assert refused["failed"] and "/dc-moh/vm/k3s/agent-1 is on" in refused["msg"] and "Nothing was changed" in refused["msg"]
    wanted["power_cycle"] = "hard"
    predicted = module("vsphere_vm_hardware", check=True, **wanted, **own.options)
    assert hardware(own, "agent-1") == ("vmx-19", True, 48, 196608, 100)
    real = module("vsphere_vm_hardware", **wanted, snapshot=True, **own.options)
    assert (predicted["vms"], predicted["diff"]) == (real["vms"], real["diff"])
    assert real["changed"] and all(vm["power_cycled"] for vm in real["vms"])
    for name in wanted["vms"]:
        assert hardware(own, name) == ("vmx-20", True, 50, 200000, 120)
        machine = own.vms(own.connect())[name]
        assert machine.runtime.powerState == "poweredOn"
        assert machine.snapshot.rootSnapshotList[0].name == "before hardware change (cht.k3s)"
    assert module("vsphere_vm_hardware", **wanted, **own.options)["changed"] is False
    assert own.counts[1:] == (0, 0)


def test_a_controller_is_added_beside_the_old_one_while_the_vm_runs(module, faulty):
    result = module("vsphere_vm_hardware", check=True, vms=["agent-3"], **faulty.options)
    assert result["vms"][0] == {
        "query": "agent-3", "name": "agent-3", "path": "/dc-moh/vm/k3s/agent-3", "changed": True, "changes": {"pvscsi": True}, "power_cycled": False,
    }  # fmt: skip


def test_faulty_vms_are_repaired(module, tmp_path):
    from conftest import FAULTS
    from vcenter import Vcenter

    with Vcenter(tmp_path, FAULTS) as vcenter:
        vms = ["agent-1", "agent-3"]
        result = module("vsphere_vm_hardware", vms=vms, power_cycle="hard", **vcenter.options)
        assert [vm["changes"] for vm in result["vms"]] == [{"hardware_version": 15}, {"pvscsi": True}]
        assert [vm["power_cycled"] for vm in result["vms"]] == [True, False]
        assert hardware(vcenter, "agent-1")[0] == "vmx-15" and hardware(vcenter, "agent-3")[1]
        assert module("vsphere_vm_hardware", vms=vms, **vcenter.options)["changed"] is False
