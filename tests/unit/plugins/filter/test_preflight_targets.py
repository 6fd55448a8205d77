from __future__ import annotations

import pytest

from ansible_collections.cht.k3s.plugins.filter.preflight_targets import preflight_targets
from ansible_collections.cht.k3s.plugins.filter.preflight_udp import preflight_udp
from ansible_collections.cht.k3s.plugins.module_utils.preflight.targets import url_target

GROUPS = {"control_plane": ["cp-1", "cp-2"], "agent": ["agent-1"]}
HOSTVARS = {"cp-1": {"ansible_host": "192.0.2.11"}, "cp-2": {"ansible_host": "192.0.2.12"}, "agent-1": {}}
VCENTER = {"host": "vc.example.org", "port": "443"}


def targets(name, limit=("cp-1", "cp-2", "agent-1"), **more):
    return {(item["host"], item["port"]): item for item in preflight_targets(name, HOSTVARS, GROUPS, limit, **more)}


def test_servers_reach_each_other_the_agents_and_vcenter():
    found = targets("cp-1", vcenter=VCENTER)
    assert set(found) == {
        ("vc.example.org", 443),
        ("192.0.2.12", 2379),
        ("192.0.2.12", 2380),
        ("192.0.2.12", 6443),
        ("192.0.2.12", 10250),
        ("agent-1", 10250),
    }
    assert found["192.0.2.12", 6443]["refused_ok"] and not found["vc.example.org", 443].get("refused_ok")


def test_agents_reach_the_servers_and_not_vcenter():
    assert set(targets("agent-1", vcenter=VCENTER)) == {("192.0.2.11", 6443), ("192.0.2.12", 6443)}


def test_nodes_that_give_images_to_each_other_reach_each_other():
    more = {"server_config": {"embedded-registry": True}}
    assert set(targets("agent-1", **more)) - set(targets("agent-1")) == {("192.0.2.11", 5001), ("192.0.2.12", 5001)}
    assert set(targets("cp-1", **more)) - set(targets("cp-1")) == {("192.0.2.12", 5001), ("agent-1", 5001), ("agent-1", 6443)}


def test_the_port_of_the_pod_network_is_tried_between_new_nodes_only():
    def facts(installed):
        return {"preflight_host": {"host": {"k3s_installed": installed}}}

    known = {"cp-1": {"ansible_host": "192.0.2.11", **facts(False)}, "cp-2": facts(True), "agent-1": facts(False), "agent-2": {"preflight_host": {"msg": "no"}}}
    groups = {"control_plane": ["cp-1", "cp-2"], "agent": ["agent-1", "agent-2"]}
    assert preflight_udp("cp-1", known, groups, list(known)) == {"port": 8472, "hosts": ["agent-1"]}
    assert preflight_udp("agent-1", known, groups, list(known)) == {"port": 8472, "hosts": ["192.0.2.11"]}
    assert preflight_udp("agent-1", known, groups, ["agent-1"], {"flannel-backend": "wireguard-native"}) == {"port": 51820, "hosts": []}
    for name, config in (("cp-2", {}), ("agent-2", {}), ("cp-1", {"flannel-backend": "host-gw"})):
        assert preflight_udp(name, known, groups, list(known), config) == {"port": 0, "hosts": []}


def test_nodes_outside_the_run_are_not_needed():
    assert set(targets("agent-1", limit=["agent-1", "cp-2"])) == {("192.0.2.12", 6443)}
    assert targets("agent-1", between=False) == {}


def test_only_hosts_to_which_a_connection_goes_are_looked_at():
    """Reading another host's variables costs Ansible time; 500 agents must not read 500 each."""
    read = []

    class Hosts(dict):
        def __getitem__(self, name):
            read.append(name)
            return {"ansible_host": name}

    groups = {"control_plane": ["cp-1", "cp-2"], "agent": [f"agent-{number}" for number in range(500)]}
    everybody = [name for names in groups.values() for name in names]
    for name, most in (("agent-7", 2), ("cp-1", 502)):
        read.clear()
        assert preflight_targets(name, Hosts(), groups, everybody) and len(read) <= most
    read.clear()
    assert preflight_targets("cp-1", Hosts(), groups, everybody, between=False) == [] and read == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/k3s-io/k3s/releases/download", [("github.com", 443)]),
        ("http://198.51.100.2:8080/k3s", [("198.51.100.2", 8080)]),
        ("http://mirror.example.org/", [("mirror.example.org", 80)]),
        ("", []),
        ("/a/file", []),
    ],
)
def test_the_download_site(url, expected):
    assert [(item["host"], item["port"]) for item in url_target(url)] == expected
