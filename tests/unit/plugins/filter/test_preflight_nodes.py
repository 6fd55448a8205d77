from __future__ import annotations

from ansible_collections.cht.k3s.plugins.filter.preflight_nodes import preflight_nodes
from ansible_collections.cht.k3s.plugins.filter.vm_names import vm_names
from ansible_collections.cht.k3s.plugins.filter.vm_search_by import vm_search_by
from ansible_collections.cht.k3s.plugins.filter.vms_without_uuid import vms_without_uuid

GROUPS = {"control_plane": ["cp-1"], "agent": ["agent-1", "agent-2"]}
HOSTVARS = {
    "cp-1": {"ansible_host": "192.0.2.11", "preflight_host": {"host": {"hostname": "cp-1"}}},
    "agent-1": {"vsphere_name": "VM of agent 1", "preflight_host": {"unreachable": True, "msg": "no route"}},
    "agent-2": {"vsphere_bios_uuid": "u", "preflight_host": {"msg": "failed", "module_stderr": "\nsudo: no\nmore"}},
}


def test_every_node_gets_its_role_vm_address_and_facts():
    nodes = preflight_nodes(GROUPS, HOSTVARS, ["cp-1", "agent-1"])
    assert [node["name"] for node in nodes] == ["cp-1", "agent-1", "agent-2"]
    assert nodes[0]["role"] == "control_plane" and nodes[0]["address"] == "192.0.2.11"
    assert nodes[0]["host"] == {"hostname": "cp-1"} and nodes[0]["host_error"] == ""
    assert nodes[1]["vm"] == "VM of agent 1" and nodes[1]["host_error"] == "no route"
    assert [node["checked"] for node in nodes] == [True, True, False]


def test_the_first_line_of_raw_output_tells_why_sudo_failed():
    assert preflight_nodes(GROUPS, HOSTVARS, [])[2]["host_error"] == "failed sudo: no"


def test_the_kubelets_arguments_go_along():
    known = {
        "cp-1": {"control_plane_kubelet_args": ["v=2"], "agent_kubelet_args": ["x=1"]},
        "agent-1": {"agent_config": {"kubelet-arg": "fail-cgroupv1=false"}},
    }
    nodes = preflight_nodes({"control_plane": ["cp-1"], "agent": ["agent-1"]}, known, [])
    assert [node["kubelet_args"] for node in nodes] == [["v=2"], ["fail-cgroupv1=false"]]


def test_whether_the_role_node_opens_ports_goes_along():
    known = {"cp-1": {}, "agent-1": {"node_firewall": "false"}, "agent-2": {"node_firewall": True}}
    assert [node["opens_ports"] for node in preflight_nodes(GROUPS, known, [])] == [True, False, True]


def test_no_groups_are_no_nodes():
    assert preflight_nodes({}, {}, []) == []


def test_only_hosts_without_uuid_are_looked_up():
    assert vms_without_uuid(["cp-1", "agent-1", "agent-2"], HOSTVARS) == ["cp-1", "VM of agent 1"]


def test_a_host_may_have_a_vm_of_another_name():
    assert vm_names(["cp-1", "agent-1"], HOSTVARS) == ["cp-1", "VM of agent 1"]


def test_vms_are_looked_up_by_what_is_unique_if_all_have_it():
    known = {"a": {"vsphere_path": "/dc/vm/a/same", "vsphere_name": "same"}, "b": {"vsphere_path": "/dc/vm/b/same", "vsphere_name": "same"}, "c": {}}
    assert vm_search_by(["a", "b"], known) == "path" and vm_names(["a", "b"], known, "path") == ["/dc/vm/a/same", "/dc/vm/b/same"]
    # Not by the ID, which in another vCenter is that of another VM: it would be switched off.
    assert vm_search_by(["a"], {"a": {"vsphere_moid": "vm-1"}}) == "name"
    # One list has one way to look things up.
    assert vm_search_by(["a", "b", "c"], known) == "name"


def test_the_id_that_the_inventory_read_goes_along():
    nodes = preflight_nodes({"agent": ["a", "c"]}, {"a": {"vsphere_moid": "vm-1", "vsphere_vcenter": "vc"}, "c": {}}, [])
    assert [(node["moid"], node["vcenter"]) for node in nodes] == [("vm-1", "vc"), ("", "")]
