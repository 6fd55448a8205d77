from __future__ import annotations

from types import SimpleNamespace as Thing

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import hostvars
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import Node, Tree

TREE = Tree(
    [
        Node("dc", "Datacenter", "DC0", "root"),
        Node("vmf", "Folder", "vm", "dc"),
        Node("cl", "ClusterComputeResource", "C0", "dc"),
        Node("h", "HostSystem", "esx1", "cl"),
    ]
)


def reference(moid):
    return Thing(_moId=moid)


def device(kind, **values):
    return Thing(_wsdlName=kind, deviceInfo=Thing(label=values.pop("label", "")), **values)


DEVICES = [
    device("ParaVirtualSCSIController", key=1000, busNumber=0),
    device(
        "VirtualDisk",
        key=2000,
        controllerKey=1000,
        label="Hard disk 1",
        capacityInKB=50 * 1024 * 1024,
        backing=Thing(fileName="[shared ds] agent-1/agent-1.vmdk", uuid="6000C29A-1"),
    ),
    device("VirtualVmxnet3", key=4000, label="Network adapter 1", macAddress="00:50:56:AA:00:01", connectable=Thing(connected=True)),
]
GUEST_NET = [
    Thing(macAddress="00:50:56:aa:00:01", network="VM Network", ipAddress=["192.0.2.21", "fe80::1"], connected=True),
    Thing(macAddress="3e:00:00:00:00:01", network=None, ipAddress=["10.42.0.1"], connected=True),
]


def values(**more):
    return {
        "name": "agent-1",
        "parent": reference("vmf"),
        "runtime.host": reference("h"),
        "runtime.powerState": "poweredOn",
        "config.uuid": "420E3F11-8A5C-4D01-9B77-C0DE00000011",
        "config.instanceUuid": "500e7a11-1d2c-4b31-8e01-aa0000000011",
        "config.version": "vmx-19",
        "config.template": False,
        "config.hardware.numCPU": 4,
        "config.hardware.memoryMB": 8192,
        "config.hardware.device": DEVICES,
        "config.extraConfig": [Thing(key="disk.enableuuid", value="true")],
        "guest.hostName": "agent-1",
        "guest.ipAddress": "192.0.2.21",
        "guest.net": GUEST_NET,
        "guest.toolsRunningStatus": "guestToolsRunning",
        "snapshot": None,
        **more,
    }


def test_a_whole_vm():
    record = hostvars.host_vars("vm-1", values(), TREE)
    assert set(record) == set(hostvars.SOURCES)
    assert record["vsphere_path"] == "/DC0/vm/agent-1"
    assert record["vsphere_datacenter"] == "DC0"
    assert record["vsphere_cluster"] == "C0"
    assert record["vsphere_host"] == "esx1"
    assert record["vsphere_bios_uuid"] == "420e3f11-8a5c-4d01-9b77-c0de00000011"
    assert record["vsphere_hardware_version"] == 19
    assert record["vsphere_power_state"] == "on"
    assert record["vsphere_tools_status"] == "running"
    assert record["vsphere_pvscsi"] is True
    assert record["vsphere_disk_enable_uuid"] is True
    assert record["vsphere_ips"] == ["192.0.2.21", "fe80::1"], "not the pods' bridge"
    assert record["vsphere_disks"] == [
        {
            "label": "Hard disk 1",
            "size_gb": 50.0,
            "datastore": "shared ds",
            "controller": "ParaVirtualSCSIController",
            "uuid": "6000c29a-1",
        }
    ]
    assert record["vsphere_datastores"] == ["shared ds"]
    assert [nic["mac"] for nic in record["vsphere_nics"]] == ["00:50:56:aa:00:01", "3e:00:00:00:00:01"]
    assert record["vsphere_nics"][0]["network"] == "VM Network"


def test_a_vm_of_which_nothing_can_be_read_still_gives_every_variable():
    record = hostvars.host_vars("vm-1", {"name": "x"}, Tree([]))
    assert set(record) == set(hostvars.SOURCES)
    assert record["vsphere_power_state"] == "unknown"
    assert record["vsphere_tools_status"] == "not_running"
    assert record["vsphere_path"] == "/x"


@pytest.mark.parametrize("value", ["TRUE", "True", "true", " true ", "1", "yes", "T", True])
@pytest.mark.parametrize("key", ["disk.EnableUUID", "disk.enableUUID", "DISK.ENABLEUUID"])
def test_any_spelling_of_true_counts(key, value):
    assert hostvars.disk_enable_uuid([Thing(key="other", value="x"), Thing(key=key, value=value)], False)


@pytest.mark.parametrize(
    ("config", "flag", "expected"),
    [
        ([Thing(key="disk.EnableUUID", value="FALSE")], True, False),
        ([Thing(key="disk.EnableUUID", value="0")], None, False),
        ([], True, True),
        (None, None, False),
    ],
)
def test_the_explicit_setting_wins_over_the_flag(config, flag, expected):
    assert hostvars.disk_enable_uuid(config, flag) is expected


@pytest.mark.parametrize(("text", "number"), [("vmx-15", 15), ("vmx-08", 8), ("", 0), (None, 0), ("esx", 0)])
def test_hardware_versions_are_numbers(text, number):
    assert hostvars.hardware_version(text) == number


def test_snapshots_are_counted_through_the_whole_tree():
    leaf = Thing(childSnapshotList=[])
    trees = Thing(rootSnapshotList=[Thing(childSnapshotList=[leaf, Thing(childSnapshotList=[leaf])])])
    assert hostvars.host_vars("vm-1", values(snapshot=trees), TREE)["vsphere_snapshot_count"] == 4


def test_names_are_unescaped_but_paths_stay_unambiguous():
    record = hostvars.host_vars("vm-1", values(name="a%2fb ä"), TREE)
    assert record["vsphere_name"] == "a/b ä"
    assert record["vsphere_path"] == "/DC0/vm/a%2fb ä"


def test_only_the_properties_of_the_wanted_variables_are_asked_for():
    assert hostvars.properties_for(["vsphere_bios_uuid"]) == ["name", "config.uuid"]
    assert "config.hardware.device" not in hostvars.properties_for(["vsphere_ips", "vsphere_cpu_count"])


def test_tools_that_were_never_installed_are_told_apart():
    assert hostvars.tools_status("guestToolsNotRunning", "guestToolsNotInstalled") == "not_installed"
    assert hostvars.tools_status(None, None) == "not_running"


@pytest.mark.parametrize(("power", "connection", "state"), [
    ("poweredOff", "connected", "off"), ("poweredOn", "connected", "on"), ("suspended", "connected", "suspended"), ("poweredOff", None, "off"),
    ("poweredOff", "disconnected", "unknown"), ("poweredOff", "inaccessible", "unknown"), ("poweredOn", "orphaned", "unknown"), (None, "invalid", "unknown"),
])
def test_the_power_state_counts_only_where_vcenter_reaches_the_vm(power, connection, state):
    assert hostvars.power_state(power, connection) == state


@pytest.mark.parametrize(("net", "addresses"), [
    # guest.ipAddress is a VIP, which the second card may carry for now.
    ([("00:50:56:aa:00:01", ["192.0.2.21"], 4000)], ["192.0.2.21"]),
    ([("3e:00:00:00:00:01", ["10.42.0.1"], -1), ("00:50:56:aa:00:01", ["192.0.2.21", "192.0.2.10"], 4000)], ["192.0.2.21", "192.0.2.10"]),
    # A bridge has its card's MAC, but is none.
    ([("00:50:56:aa:00:01", ["172.17.0.1"], -1), ("00:50:56:aa:00:01", ["192.0.2.21"], 4000)], ["192.0.2.21"]),
    # kube-vip's card is not the VM's.
    ([("02:00:00:00:00:01", ["192.0.2.10"], 4001)], []),
    (None, []), ([], []),
])
def test_addresses_are_those_of_the_vms_own_cards_as_the_cpi_reads_them(net, addresses):
    guest = net and [Thing(macAddress=mac, network="", ipAddress=ips, connected=True, deviceConfigId=device) for mac, ips, device in net]
    assert hostvars.host_vars("vm-1", values(**{"guest.net": guest, "guest.ipAddress": "192.0.2.10"}), TREE)["vsphere_ips"] == addresses
