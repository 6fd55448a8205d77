from __future__ import annotations

from types import SimpleNamespace as Thing

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.preflight import run, vms
from ansible_collections.cht.k3s.plugins.module_utils.preflight.hosts import HostRequirements
from ansible_collections.cht.k3s.plugins.module_utils.preflight.vms import Node, Requirements
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import Node as TreeNode
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import Tree

REQUIREMENTS = Requirements(15, {"agent": {"cpu": 4, "memory_mb": 8192, "disk_gb": 50}})


def record(name="agent-1", **more):
    return {
        "vsphere_name": name,
        "vsphere_moid": f"moid-{name}",
        "vsphere_path": f"/dc/vm/{name}",
        "vsphere_datacenter": "dc",
        "vsphere_template": False,
        "vsphere_power_state": "on",
        "vsphere_hardware_version": 19,
        "vsphere_disk_enable_uuid": True,
        "vsphere_restart_required": False,
        "vsphere_pvscsi": True,
        "vsphere_snapshot_count": 0,
        "vsphere_tools_status": "running",
        "vsphere_guest_hostname": name,
        "vsphere_ips": ["192.0.2.21"],
        "vsphere_cpu_count": 4,
        "vsphere_memory_mb": 8192,
        "vsphere_disks": [{"size_gb": 50.0}],
        "vsphere_bios_uuid": f"uuid-{name}",
        **more,
    }


def ids(findings):
    return [finding.id for finding in findings]


def check(**more):
    return vms.check_vm(Node("agent-1", "agent-1", address="192.0.2.21"), record(**more), REQUIREMENTS)


def test_a_snapshot_of_a_server_is_told_with_what_it_would_do_to_etcd():
    server = vms.check_vm(Node("s", "s", role="control_plane"), record(vsphere_snapshot_count=1, vsphere_guest_hostname="s"), REQUIREMENTS)
    (finding,) = [one for one in server if one.id == "vm-snapshots"]
    assert finding.severity == "warning" and "etcd would be older" in finding.message and "never put a server back" in finding.remedy
    assert "etcd" not in check(vsphere_snapshot_count=1)[0].message


def test_a_good_vm_has_no_findings():
    assert check() == []


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ({"vsphere_hardware_version": 13}, ["vm-hardware-version"]),
        ({"vsphere_disk_enable_uuid": False}, ["vm-disk-uuid"]),
        ({"vsphere_disk_enable_uuid": False, "vsphere_restart_required": True}, ["vm-disk-uuid"]),
        ({"vsphere_restart_required": True}, ["vm-disk-uuid"]),
        ({"vsphere_pvscsi": False}, ["vm-pvscsi"]),
        ({"vsphere_snapshot_count": 2}, ["vm-snapshots"]),
        ({"vsphere_tools_status": "not_running", "vsphere_guest_hostname": "", "vsphere_ips": []}, ["vm-tools"]),
        ({"vsphere_guest_hostname": "Agent-1"}, ["vm-guest-name"]),
        ({"vsphere_guest_hostname": ""}, ["vm-guest-name"]),
        ({"vsphere_ips": ["192.0.2.99"]}, ["vm-ip"]),
        ({"vsphere_ips": []}, ["vm-ip"]),
        ({"vsphere_power_state": "off", "vsphere_tools_status": "not_running"}, ["vm-power"]),
        ({"vsphere_power_state": "suspended"}, ["vm-power"]),
        ({"vsphere_power_state": "unknown", "vsphere_connection_state": "inaccessible", "vsphere_tools_status": "not_running"}, ["vm-connection"]),
        ({"vsphere_template": True, "vsphere_power_state": "off"}, ["vm-template"]),
        ({"vsphere_cpu_count": 2}, ["vm-size"]),
        ({"vsphere_memory_mb": 4096}, ["vm-size"]),
        ({"vsphere_disks": [{"size_gb": 20.0}]}, ["vm-size"]),
        ({"vsphere_disks": []}, ["vm-size"]),
        ({"vsphere_memory_mb": 256}, ["vm-size-floor"]),
        ({"vsphere_memory_mb": 8100}, []),
    ],
)
def test_each_fault_is_found_and_nothing_else(fault, found):
    assert ids(check(**fault)) == found


def test_several_faults_are_all_found():
    assert set(ids(check(vsphere_hardware_version=13, vsphere_pvscsi=False, vsphere_ips=[]))) == {
        "vm-hardware-version",
        "vm-pvscsi",
        "vm-ip",
    }


@pytest.mark.parametrize(
    ("address", "reported", "found"),
    [
        ("2001:db8::21", ["2001:0db8:0:0::21"], []),
        ("2001:db8::21", ["2001:db8::22"], ["vm-ip"]),
        ("agent-1.example.org", ["192.0.2.1"], []),
        ("", ["192.0.2.1"], []),
    ],
)
def test_addresses_are_compared_as_addresses_and_names_not_at_all(address, reported, found):
    node = Node("agent-1", "agent-1", address=address)
    assert ids(vms.check_vm(node, record(vsphere_ips=reported), REQUIREMENTS)) == found


def test_a_small_vm_is_a_warning_and_one_below_k3s_own_need_an_error():
    assert [finding.severity for finding in check(vsphere_cpu_count=2)] == ["warning"]
    assert [finding.severity for finding in check(vsphere_cpu_count=0)] == ["error"]


def test_servers_have_limits_of_their_own():
    server = Node("cp-1", "cp-1", role="control_plane")
    found = vms.check_vm(server, record("cp-1", vsphere_memory_mb=1024, vsphere_cpu_count=1), REQUIREMENTS)
    assert ids(found) == ["vm-size-floor", "vm-size-floor"]


def test_missing_ambiguous_and_shared_vms():
    nodes = [Node("a", "a"), Node("b", "b"), Node("c", "one"), Node("d", "one")]
    found = vms.check_names(
        nodes,
        {"a": [], "b": [record("b"), record("b", vsphere_path="/dc2/vm/b")], "one": [record("one")]},
        {"a": " (similar: aa)"},
    )
    assert [(finding.id, finding.object) for finding in found] == [
        ("vm-missing", "a"),
        ("vm-ambiguous", "b"),
        ("vm-duplicate", "c"),
        ("vm-duplicate", "d"),
    ]
    assert "similar: aa" in found[0].message
    assert "/dc/vm/b and /dc2/vm/b" in found[1].message


def two_clusters(**more):
    """Ours, and one of another cluster with the same name and a fault."""
    ours = record("agent-1", vsphere_moid="vm-1")
    return [record("agent-1", vsphere_moid="vm-2", vsphere_path="/dc/other/agent-1", vsphere_bios_uuid="other", vsphere_pvscsi=False, **more), ours]


def test_of_vms_with_one_name_the_one_that_the_inventory_read_is_meant():
    node = Node("agent-1", "agent-1", moid="vm-1", host_error="x")
    assert vms.check_names([node], {"agent-1": two_clusters()}, {}) == []
    assert ids(judge([node], run.VcenterView("7.0.3.0", {"agent-1": two_clusters()}))) == ["host-unreachable"]
    other = Node("agent-1", "agent-1", moid="vm-2", host_error="x")
    assert "vm-pvscsi" in ids(judge([other], run.VcenterView("7.0.3.0", {"agent-1": two_clusters()})))
    for moid in ("", "vm-9"):
        assert ids(vms.check_names([Node("agent-1", "agent-1", moid=moid)], {"agent-1": two_clusters()}, {})) == ["vm-ambiguous"]
    # One only: the inventory may be older than a VM that was registered anew.
    assert vms.check_names([Node("agent-1", "agent-1", moid="vm-9")], {"agent-1": [record()]}, {}) == []


def test_a_vm_of_another_vcenter_is_not_missing_but_not_checked():
    node = Node("agent-1", "agent-1", moid="vm-1", vcenter="b.example.org")
    for found in ({}, {"agent-1": [record(vsphere_moid="vm-7")]}):
        (finding,) = vms.check_names([node], found, {})
        assert (finding.id, finding.severity) == ("vm-other-vcenter", "warning") and "b.example.org" in finding.message
    # The same vCenter under another name.
    assert vms.check_names([node], {"agent-1": [record(vsphere_moid="vm-1")]}, {}) == []
    view = run.VcenterView("7.0.3.0", {"agent-1": [record(vsphere_moid="vm-7", vsphere_pvscsi=False)]})
    assert ids(judge([node], view)) == ["vm-other-vcenter", "host-unreachable"], "the machine itself is judged"


def test_a_replica_of_another_name_anywhere_in_vcenter_is_an_error():
    own = record(vsphere_moid="vm-1")
    replica = record("agent-1_replica", vsphere_moid="vm-2", vsphere_path="/dr/vm/replicas/agent-1_replica", vsphere_bios_uuid="uuid-agent-1")
    view = run.VcenterView("7.0.3.0", {"agent-1": [own]}, alike={"uuid-agent-1": [own, replica]})
    found = [finding for finding in judge([Node("agent-1", "agent-1")], view) if finding.id == "vm-bios-uuid-duplicate"]
    assert [finding.message for finding in found] == ["the BIOS UUID uuid-agent-1 belongs to /dc/vm/agent-1 and /dr/vm/replicas/agent-1_replica"]
    alone = run.VcenterView("7.0.3.0", {"agent-1": [own]}, alike={"uuid-agent-1": [own]})
    assert "vm-bios-uuid-duplicate" not in ids(judge([Node("agent-1", "agent-1")], alone))


def test_the_nodes_uuids_are_searched_in_all_datacenters(monkeypatch):
    asked = []

    def search(_session, queries, search_by="name", datacenters=(), variables=()):
        asked.append((list(queries), search_by, list(datacenters)))
        return Thing(found={query: [record()] for query in queries}, seen=set(), elsewhere={}, tree=Tree([TreeNode("dc1", "Datacenter", "dc", "root")]))

    monkeypatch.setattr(run, "search_vms", search)
    monkeypatch.setattr(run, "read_account", lambda *dummy: run.AccountView())
    session = Thing(run=lambda work: work(), content=Thing(about=Thing(apiVersion="8.0.0.0")))
    monkeypatch.setattr(run, "VsphereSession", lambda options: Opened(session))
    view = run.read_vcenter(Thing(), [Node("agent-1", "agent-1")], ["dc"])
    assert asked == [(["agent-1"], "name", ["dc"]), (["uuid-agent-1"], "bios_uuid", [])] and list(view.alike) == ["uuid-agent-1"]
    assert view.datacenters == ["/dc"], "the report says what the account sees, since it may be a part"


class Opened:
    """A session in a with block."""

    def __init__(self, session):
        self.session = session

    def __enter__(self):
        return self.session

    def __exit__(self, *dummy):
        return None


def test_a_restored_copy_with_the_same_bios_uuid_is_an_error():
    copy = {**two_clusters()[0], "vsphere_bios_uuid": "uuid-agent-1"}
    (finding,) = vms.check_names([Node("agent-1", "agent-1", moid="vm-1")], {"agent-1": [copy, two_clusters()[1]]}, {})
    assert finding.id == "vm-bios-uuid-duplicate" and "/dc/other/agent-1 and /dc/vm/agent-1" in finding.message


def test_nothing_is_asked_about_vms_of_another_cluster(monkeypatch):
    """The account may have no right on them."""
    asked = []

    class Session:
        content = Thing(about=Thing(apiVersion="7.0.3.0"))

        def __init__(self, *dummy):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *dummy):
            pass

        def run(self, call):
            return call()

    monkeypatch.setattr(run, "VsphereSession", Session)
    monkeypatch.setattr(run, "search_vms", lambda *args, **more: Thing(found={"agent-1": two_clusters()}, tree=Tree([]), seen=set(), elsewhere={}))
    monkeypatch.setattr(run, "read_account", lambda _session, _tree, records: asked.extend(item["vsphere_moid"] for item in records))
    run.read_vcenter(None, [Node("agent-1", "agent-1", moid="vm-1")], ())
    assert asked == ["vm-1"]


def test_the_nodes_own_name_is_judged_where_it_has_one():
    assert ids(vms.check_names([Node("AGENT_1", "a", node_name="agent-1")], {"a": [record("a")]}, {})) == []


@pytest.mark.parametrize("name", ["agent_1", "-a", "a" * 64, "a b"])
def test_names_that_kubernetes_refuses(name):
    assert "vm-node-name" in ids(vms.check_names([Node(name, name)], {name: [record(name)]}, {}))


def test_duplicate_bios_uuids_are_found_on_both_but_not_for_one_vm_used_twice():
    nodes = [Node("a", "a"), Node("b", "b"), Node("c", "c")]
    records = {
        "a": record("a", vsphere_bios_uuid="u"),
        "b": record("b", vsphere_bios_uuid="u"),
        "c": record("c", vsphere_bios_uuid=""),
    }
    assert [(finding.id, finding.object) for finding in vms.check_uuids(nodes, records)] == [
        ("vm-bios-uuid", "c"),
        ("vm-bios-uuid-duplicate", "a"),
        ("vm-bios-uuid-duplicate", "b"),
    ]
    same = {"a": record("x"), "b": record("x")}
    assert vms.check_uuids(nodes[:2], same) == []


@pytest.mark.parametrize(("version", "count"), [("7.0.3.0", 0), ("6.7.3", 0), ("6.7.2", 1), ("6.5", 1), ("8.0.1.0", 0), ("", 0)])
def test_old_vcenters_are_refused(version, count):
    assert len(vms.vcenter_version_findings(version, "vc")) == count


def judge(nodes, view):
    return run.judge(nodes, view, "vc:443", REQUIREMENTS, HostRequirements())


def test_hosts_outside_the_limit_only_serve_to_see_duplicates():
    nodes = [Node("a", "a", host_error="x"), Node("b", "b", checked=False)]
    view = run.VcenterView(
        "7.0.3.0",
        {"a": [record("a", vsphere_bios_uuid="u")], "b": [record("b", vsphere_bios_uuid="u", vsphere_pvscsi=False)]},
    )
    found = judge(nodes, view)
    assert {finding.object for finding in found} == {"a"}
    assert "vm-bios-uuid-duplicate" in ids(found)


def test_without_vcenter_the_machines_are_still_judged():
    view = run.VcenterView(error=VsphereError("login", "refused", "Correct it."))
    found = judge([Node("a", "a", host_error="no route")], view)
    assert ids(found) == ["vcenter-connection", "host-unreachable"]
    assert found[0].remedy == "Correct it."


def test_a_vcenter_whose_certificate_is_not_verified_is_told():
    view = run.VcenterView("7.0.3.0", {})
    assert "vcenter-unverified" not in ids(judge([], view))
    found = run.judge([], view, "vc:443", REQUIREMENTS, HostRequirements(), verified=False)
    assert [(finding.id, finding.severity) for finding in found] == [("vcenter-unverified", "warning")]


def test_versions_that_do_not_belong_together():
    found = run.version_findings({"k3s": "v1.34.4+k3s1", "cpi": "1.31.0", "csi": "3.3.1"})
    assert [(finding.id, finding.object) for finding in found] == [("version-set", "cpi"), ("version-set", "csi")], "each can be accepted alone"
    assert ids(run.version_findings({"k3s": "v1.34.4+k3s1", "cpi": "1.31.0", "csi": ""})) == ["version-set"]
    assert ids(run.version_findings({"k3s": "v1.36.4+k3s1"})) == ["version-set"], "no CSI for 1.36 is released"
    assert run.version_findings({"k3s": None}) == []
    assert ids(run.version_findings({"k3s": "v1.99.0+k3s1"})) == ["version-set"]


def test_the_summary_counts_and_puts_errors_first():
    nodes = [Node("agent-1", "agent-1")]
    view = run.VcenterView("7.0.3.0", {"agent-1": [record(vsphere_snapshot_count=1, vsphere_pvscsi=False)]})
    result = run.summary(judge(nodes, view), ["host-unreachable"])
    assert result["counts"] == {"error": 1, "warning": 1, "accepted": 1}
    assert [finding["id"] for finding in result["findings"]] == ["vm-pvscsi", "vm-snapshots", "host-unreachable"]


@pytest.mark.parametrize(("ips", "cpi_nodes", "found"), [
    (["192.0.2.21"], {}, []),
    (["192.0.2.21", "fe80::1", "2001:db8::1"], {}, []),
    (["192.0.2.21", "192.0.2.10"], {}, [("vm-cpi-address", "warning")]),
    (["192.0.2.10", "192.0.2.21"], {}, [("vm-cpi-address", "error")]),
    (["192.0.2.10", "192.0.2.21"], {"internal_network_subnet_cidr": "192.0.2.16/28"}, []),
    (["192.0.2.10", "192.0.2.21"], {"internal_network_subnet_cidr": "198.18.0.0/16"}, [("vm-ip", "error")]),
])
def test_the_address_that_the_cpi_would_choose_is_judged(ips, cpi_nodes, found):
    node = Node("agent-1", "agent-1", address="192.0.2.21", cpi_nodes=cpi_nodes)
    assert [(item.id, item.severity) for item in vms.check_vm(node, record(vsphere_ips=ips), REQUIREMENTS)] == found


# Two cards, as Tools list them: the one for storage comes first.
CARDS = [{"network": "Storage", "ips": ["198.18.0.21"]}, {"network": "VM Network", "ips": ["192.0.2.21", "192.0.2.10", "fe80::1"]}]


@pytest.mark.parametrize(("cpi_nodes", "severity", "said"), [
    # The CPI compares names without their case, and takes the first address of the card.
    ({"internal_vm_network_name": "vm network", "exclude_internal_network_subnet_cidr": "192.0.2.10/32"}, "", ""),
    ({"internal_vm_network_name": "VM Network"}, "warning", "several addresses by cpi_nodes.internal_vm_network_name"),
    ({"internal_vm_network_name": "Storage"}, "error", "take 198.18.0.21 by cpi_nodes.internal_vm_network_name for the node's address and not 192.0.2.21"),
    # A name of no card is passed over: then the first address of all counts.
    ({"internal_vm_network_name": "VM Netwrok"}, "error", "would take 198.18.0.21 for"),
    ({"internal_vm_network_name": "A", "external_vm_network_name": "B"}, "error", "no card of the VM is in the networks A and B"),
    # One side found alone leaves the other without any.
    ({"external_vm_network_name": "VM Network"}, "error", "no internal address by cpi_nodes"),
    ({"external_network_subnet_cidr": "198.18.0.0/16", "internal_vm_network_name": "VM Network", "exclude_internal_network_subnet_cidr": ["192.0.2.10/32"]},
     "", ""),
    ({"exclude_internal_network_subnet_cidr": "198.18.0.0/16,192.0.2.0/28"}, "", ""),
    # The network counts before the name.
    ({"internal_network_subnet_cidr": "192.0.2.16/28", "internal_vm_network_name": "Storage"}, "", ""),
    ({"internal_network_subnet_cidr": ["2001:db8::/64", "192.0.2.0/24"]}, "warning", "several addresses by cpi_nodes.internal_network_subnet_cidr"),
    ({"exclude_internal_network_subnet_cidr": "198.18.0.0/16,192.0.2.10/32", "internal_vm_network_name": "Netwrok"}, "warning", "in the network Netwrok"),
])
def test_the_choice_by_names_of_networks_is_the_cpis(cpi_nodes, severity, said):
    node = Node("agent-1", "agent-1", address="192.0.2.21", cpi_nodes=cpi_nodes)
    found = vms.check_vm(node, record(vsphere_ips=[ip for card in CARDS for ip in card["ips"]], vsphere_nics=CARDS), REQUIREMENTS)
    assert [(item.id, item.severity) for item in found] == ([("vm-cpi-address", severity)] if severity else [])
    assert not said or said in found[0].message and "198.18.0.21 (Storage)" in found[0].message


@pytest.mark.parametrize(("address", "ips", "families", "said"), [
    ("2001:db8::21", ["2001:db8::21"], ["ipv6"], ""),
    ("2001:db8::21", ["2001:db8::21"], ["ipv4"], "cpi_ip_family has ipv4, of which the guest has no address"),
    ("2001:db8::21", ["192.0.2.21", "2001:db8::21"], ["ipv4"], "the CPI takes addresses of ipv4 only"),
    ("192.0.2.21", ["192.0.2.21"], ["ipv4", "ipv6"], "cpi_ip_family has ipv6"),
    ("192.0.2.21", ["192.0.2.21", "fe80::1"], ["ipv4", "ipv6"], "cpi_ip_family has ipv6"),
    ("192.0.2.21", ["192.0.2.21", "2001:db8::21"], ["ipv6", "ipv4"], ""),
])
def test_each_family_of_the_cpi_needs_an_address(address, ips, families, said):
    found = vms.check_vm(Node("agent-1", "agent-1", address=address, cpi_ip_family=families), record(vsphere_ips=ips), REQUIREMENTS)
    assert ids(found) == (["vm-cpi-address"] if said else []) and (not said or said in found[0].message)


@pytest.mark.parametrize(("name", "node_name", "guest", "found"), [
    ("AGENT-1", "", "agent-1", []),
    ("AGENT-1", "", "AGENT-1", ["vm-guest-name"]),
    ("county-a", "Agent-1.", "agent-1", []),
    ("county-a", "agent-1", "county-a", ["vm-guest-name"]),
])
def test_the_guest_is_compared_with_the_name_of_the_node(name, node_name, guest, found):
    node = Node(name, "vm", address="192.0.2.21", node_name=node_name)
    result = vms.check_vm(node, record(vsphere_guest_hostname=guest), REQUIREMENTS)
    assert ids(result) == found and all("Node's name 'agent-1'" in one.message for one in result)


def test_two_hosts_that_would_be_one_node_are_told():
    nodes = [Node("a", "a", node_name="agent-1"), Node("AGENT-1", "b"), Node("c_d", "c")]
    found = vms.check_names(nodes, {name: [record(name)] for name in "abc"}, {})
    assert [(one.id, one.object) for one in found] == [("vm-node-name", "a"), ("vm-node-name", "AGENT-1"), ("vm-node-name", "c_d")]
    assert "like that of AGENT-1" in found[0].message and "'c_d'" in found[2].message
