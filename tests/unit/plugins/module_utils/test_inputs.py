from __future__ import annotations

import socket
import threading
import time
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.cht.k3s.plugins.filter.node_addresses import node_addresses
from ansible_collections.cht.k3s.plugins.filter.preflight_nodes import preflight_nodes
from ansible_collections.cht.k3s.plugins.filter.preflight_targets import preflight_targets
from ansible_collections.cht.k3s.plugins.filter.server_urls import server_urls
from ansible_collections.cht.k3s.plugins.module_utils.inputs import Inputs, group_problems, load_role_options, range_problems, value_problems
from ansible_collections.cht.k3s.plugins.module_utils.dns import resolve

ROLES = {"cpi": {"cpi_version": {"type": "str"}}, "control_plane": {"control_plane_disable": {"type": "list"}}}


def test_a_typo_is_named_with_what_it_resembles() -> None:
    inputs = Inputs(ROLES, ["vsphere_moid"])
    assert inputs.unknown(["cpi_verson", "cpi_version", "vsphere_moid", "other", "control_plane_disabled"]) == [
        "control_plane_disabled", "cpi_verson"]
    assert inputs.describe_unknown("cpi_verson", ["a", "b", "c", "d"]) == (
        "unknown variable cpi_verson (on a, b, c and 1 more): did you mean cpi_version?")


def test_without_a_near_name_the_docs_are_named() -> None:
    assert "ansible-doc -t role cht.k3s.cpi" in Inputs(ROLES).describe_unknown("cpi_zzzzzzzzz", ["a"])


@pytest.mark.parametrize("count,good", [(0, False), (1, True), (2, False), (3, True), (4, False), (5, True), (6, False)])
def test_etcd_wants_an_odd_number(count: int, good: bool) -> None:
    problems = group_problems({"control_plane": [f"s{i}" for i in range(count)]}, None)
    assert (problems == []) is good
    if not good:
        assert f"has {count} host(s)" in problems[0]


def test_a_failed_source_hides_the_consequences() -> None:
    assert group_problems({}, "wrong password") == ["the vSphere inventory could not be read: wrong password"]


def test_a_node_is_a_server_or_an_agent() -> None:
    assert "in both groups" in group_problems({"control_plane": ["a"], "agent": ["a"]}, None)[0]


def test_every_role_variable_carries_its_roles_name() -> None:
    roles = Path(__file__).parents[4] / "roles"
    options = load_role_options(roles, yaml.safe_load)
    assert options
    for role, names in options.items():
        assert [name for name in names if not name.startswith(role + "_") and name != "cht_projects"] == []


def test_defaults_and_specs_name_the_same_options() -> None:
    roles = Path(__file__).parents[4] / "roles"
    for role, options in load_role_options(roles, yaml.safe_load).items():
        path = roles / role / "defaults" / "main.yml"
        defaults = yaml.safe_load(path.read_text()) or {} if path.exists() else {}
        assert sorted(set(defaults) - set(options)) == [], f"{role}: defaults without a spec"
        with_default = {name for name, spec in options.items() if "default" in spec}
        assert sorted(with_default - set(defaults)) == [], f"{role}: a default in the spec, none in defaults/main.yml"


def test_each_role_names_all_its_variables_in_its_readme() -> None:
    roles = Path(__file__).parents[4] / "roles"
    for role, options in load_role_options(roles, yaml.safe_load).items():
        text = (roles / role / "README.md").read_text(encoding="utf-8")
        assert [name for name in options if name not in text] == [], f"roles/{role}/README.md does not name these"


NODES = [{"inventory_hostname": "a", "ansible_host": "198.18.0.11"}, {"inventory_hostname": "b", "ansible_host": "198.18.0.21"}]


@pytest.mark.parametrize(("given", "words"), [
    ({"ansible_host": "10.43.7.11"}, "a has the address 10.43.7.11, which lies in k3s_service_cidr 10.43.0.0/16"),
    ({"k3s_node_ip": "10.42.7.11"}, "a has the address 10.42.7.11, which lies in k3s_cluster_cidr"),
    ({"k3s_cluster_cidr": "10.43.0.0/16"}, "k3s_cluster_cidr 10.43.0.0/16 and k3s_service_cidr 10.43.0.0/16 overlap"),
    ({"k3s_service_cidr": "10.42.128.0/17"}, "overlap"),
    ({"control_plane_config": {"cluster-cidr": "198.18.0.0/16"}}, "a has the address 198.18.0.11"),
    ({"k3s_cluster_cidr": "10.42.0.0/16,2001:db8::/56", "k3s_service_cidr": "10.43.0.0/16,2001:db8::/112"}, "2001:db8::/56 and k3s_service_cidr"),
    ({"k3s_cluster_cidr": "10.42.0.1/16"}, "is not a network such as"),
    ({"vsphere_hostname": "10.42.0.5"}, "the vCenter has the address 10.42.0.5"),
    ({"vm_gateway": "10.43.0.1"}, "the gateway has"),
    ({"vm_nameservers": ["10.43.0.53"]}, "the name server has"),
    ({"k3s_environment": {"HTTPS_PROXY": "http://user:word@10.42.1.1:3128"}}, "the proxy has the address 10.42.1.1,"),
    ({"k3s_registries": {"mirrors": {"docker.io": {"endpoint": ["https://10.42.1.2:5000"]}}}}, "the registry has the address 10.42.1.2"),
    ({"k3s_server_url": "https://10.43.0.9:6443"}, "k3s_server_url has the address 10.43.0.9"),
])
def test_ranges_are_judged_against_each_other_and_all_that_is_reached(given: dict, words: str) -> None:
    first = {**NODES[0], **given}
    found, unknown = range_problems(first, [first, NODES[1]])
    assert unknown == []
    assert found and words in found[0] and "it can't be changed once there is a cluster" in found[0]
    assert range_problems(NODES[0], NODES) == ([], [])


@pytest.mark.parametrize(("given", "name", "words"), [
    ({"k3s_server_url": "https://k3s.example.org:6443"}, "k3s.example.org", "k3s_server_url (k3s.example.org)"),
    ({"vsphere_hostname": "vc.example.org"}, "vc.example.org", "the vCenter (vc.example.org)"),
    ({"vsphere_vcenter": "vc.example.org"}, "vc.example.org", "the vCenter (vc.example.org)"),
    ({"csi_vcenters": [{"hostname": "vc2.example.org"}]}, "vc2.example.org", "the vCenter (vc2.example.org)"),
    ({"k3s_registries": {"mirrors": {"docker.io": {"endpoint": ["https://mirror.example.org:5000"]}, "*": {}}}}, "mirror.example.org", "the registry"),
    ({"k3s_registries": {"mirrors": {"own.example.org": {}}}}, "own.example.org", "the registry"),
    ({"k3s_environment": {"https_proxy": "http://proxy.example.org:3128"}}, "proxy.example.org", "the proxy (proxy.example.org)"),
    ({"control_plane_secret_config": {"etcd-s3-endpoint": "s3.example.org:9000"}}, "s3.example.org", "the store of snapshots (s3.example.org)"),
    ({"k3s_release_url": "https://files.example.org/k3s"}, "files.example.org", "the source of k3s"),
    ({"ansible_host": "a.example.org"}, "a.example.org", "a (a.example.org)"),
])
def test_names_are_held_against_the_ranges_by_their_addresses(given: dict, name: str, words: str) -> None:
    """A registry whose name leads to 10.43.7.7 is never reached from the cluster, which can't be changed later."""
    first = {**NODES[0], **given}
    asked: list[list[str]] = []

    def answer(*addresses: str) -> t.Callable[[t.Iterable[str]], dict[str, list[str]]]:
        return lambda names: asked.append(list(names)) or {name: list(addresses)}

    found, unknown = range_problems(first, [first, NODES[1]], answer("192.0.2.1", "10.43.7.7"))
    assert asked == [[name]] and words in found[0] and "10.43.7.7, which lies in k3s_service_cidr" in found[0] and unknown == []
    assert range_problems(first, [first, NODES[1]], answer("192.0.2.1")) == ([], [])
    found, unknown = range_problems(first, [first, NODES[1]], answer())
    # SSH may call a node by a name that DNS does not know.
    assert found == [] and len(unknown) == (0 if "ansible_host" in given else 1) and (not unknown or name in unknown[0])


@pytest.mark.parametrize(("given", "nodes", "words"), [
    ({"k3s_cluster_cidr": "10.42.0.0/22"}, 4, ""),
    ({"k3s_cluster_cidr": "10.42.0.0/22"}, 5, "has room for 4 nodes with a /24 each, and there are 5"),
    ({"k3s_cluster_cidr": "10.42.0.0/22", "control_plane_controller_manager_args": ["node-cidr-mask-size=26"]}, 12, ""),
    ({"k3s_cluster_cidr": "10.42.0.0/26"}, 1, "has room for 0 nodes"),
    ({"control_plane_config": {"cluster-cidr": "10.42.0.0/23"}}, 3, "has room for 2 nodes"),
    ({"k3s_cluster_cidr": "2001:db8:42::/56", "k3s_service_cidr": "2001:db8:43::/112"}, 12, ""),
    ({}, 256, ""),
])
def test_the_range_of_pods_has_a_part_for_each_node(given: dict, nodes: int, words: str) -> None:
    """CIDRNotAvailable: the fifth node joins, and no pod on it ever gets an address."""
    one = {**NODES[0], **given}
    found, _unknown = range_problems(one, [one] * nodes)
    assert (words in found[0] and "k3s_accept_overlap" in found[0]) if words else found == []


@pytest.mark.parametrize(("registries", "words"), [
    ({"mirrors": {"docker.io": {"endpoint": ["https://mirror.example.org"]}, "*": None}, "configs": {"mirror.example.org:5000": {"tls": {}}}}, ""),
    ({"mirrors": {"docker.io": {"endpoint": "https://mirror.example.org"}}}, "k3s_registries.mirrors.docker.io.endpoint has to be a list"),
    ({"mirrors": ["docker.io"]}, "k3s_registries.mirrors has to be a mapping"),
    ({"mirrors": {"docker.io": ["https://mirror.example.org"]}}, "k3s_registries.mirrors.docker.io has to be a mapping"),
    ({"mirrors": {"https://reg.example.org": {}}}, "'https://reg.example.org': it is given by the name that images have"),
    ({"configs": {"http://reg.example.org:5000": {"auth": {"password": "word"}}}}, "k3s_registries.configs has 'http://reg.example.org:5000'"),
    ({"mirror": {}}, "unknown key mirror"),
])
def test_registries_that_k3s_can_not_read_or_would_not_use_are_refused(registries: dict, words: str) -> None:
    given = {**NODES[0], "k3s_registries": registries}
    found = value_problems("agent", given, {})
    assert (words in found[0] and "word" not in found[0]) if words else found == []
    # What is of another shape stops nothing on the way to that message.
    assert range_problems(given, [given]) == ([], [])


def test_a_name_server_that_is_silent_costs_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(name: str, *dummy: t.Any, **more: t.Any) -> list[tuple[t.Any, ...]]:
        if name == "slow":
            threading.Event().wait(30)
        if name == "none":
            raise socket.gaierror
        return [(0, 0, 0, "", ("192.0.2.1", 0)), (0, 0, 0, "", ("192.0.2.1", 0)), (0, 0, 0, "", ("fe80::1%eth0", 0))]

    monkeypatch.setattr("socket.getaddrinfo", lookup)
    begun = time.monotonic()
    assert resolve(["good", "slow", "none"], seconds=0.5) == {"good": ["192.0.2.1", "fe80::1"], "slow": [], "none": []}
    assert time.monotonic() - begun < 10


def test_two_addresses_of_a_node_are_refused_clearly() -> None:
    assert "names several addresses" in value_problems("agent", {"k3s_node_ip": "198.18.0.11,fd00::11"}, {})[0]
    assert "is not an address" in value_problems("agent", {"k3s_node_ip": "eth0"}, {})[0]
    assert value_problems("agent", {"k3s_node_ip": "198.18.0.11"}, {}) == []


def test_urls_firewall_and_preflight_take_one_address() -> None:
    """Two cards: the address of the cluster is not the one that Ansible connects to."""
    groups = {"control_plane": ["a"], "agent": ["b"]}
    known = {"a": {"inventory_hostname": "a", "ansible_host": "198.18.0.11", "k3s_node_ip": "192.0.2.11"}, "b": {"ansible_host": "198.18.0.21"}}
    assert server_urls(["a"], known) == {"a": "https://192.0.2.11:6443"} and node_addresses(groups, known)["control_plane"] == ["192.0.2.11"]
    assert {target["host"] for target in preflight_targets("b", known, groups, ["a", "b"])} == {"192.0.2.11"}
    assert preflight_nodes(groups, known, ["a"])[0]["address"] == "192.0.2.11"
