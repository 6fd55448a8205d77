from __future__ import annotations

import pytest
from pyVmomi import vim

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import hardware
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hardware import Wanted, plan


def record(**more):
    return {
        "vsphere_name": "agent-1",
        "vsphere_path": "/dc/vm/agent-1",
        "vsphere_template": False,
        "vsphere_power_state": "on",
        "vsphere_tools_status": "running",
        "vsphere_hardware_version": 19,
        "vsphere_pvscsi": True,
        "vsphere_cpu_count": 4,
        "vsphere_memory_mb": 8192,
        "vsphere_disks": [{"size_gb": 20.0}, {"size_gb": 50.0}],
        "vsphere_snapshot_count": 0,
        **more,
    }


def test_a_vm_that_has_all_is_left_alone():
    assert plan(record(), Wanted(15, True, 4, 8192, 50)).changes == {}
    assert plan(record(), Wanted(15, True, 2, 1024, 10)).changes == {}


@pytest.mark.parametrize(
    ("lack", "wanted", "changes", "off"),
    [
        ({"vsphere_hardware_version": 13}, Wanted(), {"hardware_version": (13, 15)}, True),
        ({"vsphere_pvscsi": False}, Wanted(), {"pvscsi": (False, True)}, False),
        ({"vsphere_pvscsi": False}, Wanted(pvscsi=False), {}, False),
        ({}, Wanted(cpu=48), {"cpu": (4, 48)}, True),
        ({}, Wanted(memory_mb=16384), {"memory_mb": (8192, 16384)}, True),
        ({}, Wanted(disk_gb=100), {"disk_gb": (50.0, 100)}, False),
        ({"vsphere_power_state": "off"}, Wanted(cpu=48), {"cpu": (4, 48)}, False),
        ({"vsphere_power_state": "off"}, Wanted(power_on=True), {"power": ("off", "on")}, False),
        ({}, Wanted(power_on=True), {}, False),
        ({"vsphere_power_state": "suspended"}, Wanted(cpu=48), {"cpu": (4, 48)}, True),
    ],
)
def test_only_what_is_lacking_is_planned(lack, wanted, changes, off):
    result = plan(record(**lack), wanted)
    assert (result.changes, result.needs_off) == (changes, off)


@pytest.mark.parametrize(
    ("lack", "power_cycle", "text"),
    [
        ({"vsphere_hardware_version": 13}, "never", "can only be changed while it is off"),
        ({"vsphere_hardware_version": 13, "vsphere_template": True}, "hard", "is a template"),
        ({"vsphere_snapshot_count": 1}, "hard", "has snapshots"),
        ({"vsphere_disks": []}, "hard", "has no disk"),
        ({"vsphere_hardware_version": 13, "vsphere_tools_status": "not_running"}, "graceful", "not running"),
    ],
)
def test_what_cannot_be_done_is_refused_first(lack, power_cycle, text):
    with pytest.raises(VsphereError, match=text) as caught:
        hardware.refuse_impossible([plan(record(**lack), Wanted(disk_gb=100))], power_cycle)
    assert "/dc/vm/agent-1" in str(caught.value) and "othing was changed" in str(caught.value)


def test_nothing_to_do_is_never_refused():
    hardware.refuse_impossible([plan(record(vsphere_template=True), Wanted())], "never")


def controller(bus):
    return vim.vm.device.VirtualLsiLogicController(key=1000 + bus, busNumber=bus)


def test_a_controller_goes_to_the_first_free_bus():
    spec = hardware._pvscsi([controller(0), controller(1), controller(3)], "vm")
    assert isinstance(spec.device, vim.vm.device.ParaVirtualSCSIController)
    assert spec.device.busNumber == 2 and spec.operation == "add"
    with pytest.raises(VsphereError, match="four SCSI controllers"):
        hardware._pvscsi([controller(bus) for bus in range(4)], "/dc/vm/x")


def test_the_largest_disk_grows():
    small, large = (vim.vm.device.VirtualDisk(key=key, capacityInKB=key) for key in (10, 20))
    spec = hardware._larger_disk([small, controller(0), large], 100)
    assert spec.device is large and large.capacityInKB == 100 * 1024 * 1024 and spec.operation == "edit"
