from __future__ import annotations

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.preflight import clock, hosts
from ansible_collections.cht.k3s.plugins.module_utils.preflight.hosts import HostRequirements
from ansible_collections.cht.k3s.plugins.module_utils.preflight.vms import Node

BIOS = "420e3f11-8a5c-4d01-9b77-c0de00000011"
RECORD = {"vsphere_bios_uuid": BIOS}


def host(**more):
    return {
        "hostname": "agent-1",
        "product_serial": "VMware-42 0e 3f 11 8a 5c 4d 01-9b 77 c0 de 00 00 00 11",
        "product_uuid": BIOS,
        "os_id": "ubuntu",
        "os_version": "22.04",
        "architecture": "x86_64",
        "kernel": "5.15.0-91-generic",
        "swap_mb": 0,
        "cgroup_version": 2,
        "cgroup_v1_configured": False,
        "disks": [{"path": "/var/lib/rancher", "free_gb": 40.0, "size_gb": 50.0}],
        "k3s_installed": False,
        "k3s_foreign": [],
        "ports_in_use": [],
        "reach": [],
        "clock_offset": 0.0,
        **more,
    }


def check(**more):
    return hosts.check_host(Node("agent-1", "agent-1", host=host(**more)), RECORD, HostRequirements())


def ids(findings):
    return [finding.id for finding in findings]


def test_a_good_machine_has_no_findings():
    assert check() == []


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ({"hostname": "ubuntu"}, ["host-name"]),
        ({"product_serial": "VMware-42 0e 3f 99 8a 5c 4d 01-9b 77 c0 de 00 00 00 11"}, ["host-uuid"]),
        ({"product_serial": "", "product_uuid": ""}, ["host-uuid"]),
        ({"os_id": "gentoo"}, ["host-os"]),
        ({"os_version": "18.04"}, ["host-os"]),
        ({"os_id": "debian", "os_version": "12"}, []),
        ({"os_id": "debian", "os_version": "10"}, ["host-os"]),
        ({"architecture": "i686"}, ["host-architecture"]),
        ({"kernel": "4.15.0-1"}, ["host-kernel"]),
        ({"kernel": "4.18.0-553.el8"}, []),
        ({"swap_mb": 2048}, ["host-swap"]),
        ({"noexec": ["/var/lib/rancher/k3s"]}, ["host-noexec"]),
        ({"noexec": [], "default_route": False}, ["host-route"]),
        ({"noexec": [], "default_route": True}, []),
        ({"disks": [{"path": "/var/lib/rancher", "free_gb": 3.5, "size_gb": 50}]}, ["host-disk"]),
        ({"clock_offset": 7.5}, ["host-clock"]),
        ({"clock_offset": -7.5}, ["host-clock"]),
        ({"clock_offset": None}, []),
        ({"k3s_foreign": ["/etc/rancher/k3s/config.yaml is not there"], "k3s_installed": True}, ["host-foreign"]),
        ({"ports_in_use": [6443, 10250]}, ["host-port", "host-port"]),
        ({"ports_in_use": [6443], "k3s_installed": True}, []),
        ({"reach": [{"target": "vc:443", "purpose": "vCenter", "ok": True, "error": ""}]}, []),
        ({"reach": [{"target": "vc:443", "purpose": "", "ok": False, "error": "no answer within 5 s"}]}, ["host-connect"]),
        ({"reach": [{"target": "vc:443", "purpose": "", "ok": False, "error": "name not resolved (x)"}]}, ["host-dns"]),
    ],
)
def test_each_fault_is_found_and_nothing_else(fault, found):
    assert ids(check(**fault)) == found


@pytest.mark.parametrize(("release", "version", "configured", "arguments", "found"), [
    ("v1.35.4+k3s1", 1, False, (), ["host-cgroup"]), ("v1.36.0+k3s1", 1, False, ["v=2", "fail-cgroupv1=true"], ["host-cgroup"]),
    ("v1.34.4+k3s1", 1, False, (), []), ("v1.35.4+k3s1", 2, False, (), []), ("v1.35.4+k3s1", 0, False, (), []),
    ("v1.35.4+k3s1", 1, True, (), []), ("v1.35.4+k3s1", 1, False, ["v=2", "fail-cgroupv1=false"], []), ("", 1, False, (), []),
])
def test_version_1_of_cgroups_is_an_error_from_1_35_on_unless_the_kubelet_takes_it(release, version, configured, arguments, found):
    node = Node("agent-1", "agent-1", host=host(cgroup_version=version, cgroup_v1_configured=configured), kubelet_args=arguments)
    assert ids(hosts.check_host(node, RECORD, HostRequirements(k3s=release))) == found


def test_the_message_about_clocks_has_the_direction():
    assert "7.5 s ahead of" in check(clock_offset=7.5)[0].message
    assert "7.5 s behind" in check(clock_offset=-7.5)[0].message


@pytest.mark.parametrize(("name", "node_name", "hostname", "found"), [
    ("agent-1", "", "Agent-1", []), ("AGENT-1", "", "agent-1", []), ("county-a", "agent-1", "agent-1", []), ("county-a", "agent-1", "county-a", ["host-name"]),
])
def test_the_machine_is_compared_with_the_name_of_the_node(name, node_name, hostname, found):
    """k3s registers the host name in lower case."""
    assert ids(hosts.check_host(Node(name, "vm", node_name=node_name, host=host(hostname=hostname)), RECORD, HostRequirements())) == found


def test_a_full_disk_is_only_a_warning_where_k3s_runs_already():
    full = [{"path": "/var/lib/rancher", "free_gb": 3.5, "size_gb": 50}]
    assert [finding.severity for finding in check(disks=full)] == ["error"]
    assert [finding.severity for finding in check(disks=full, k3s_installed=True)] == ["warning"]


def test_a_machine_that_cannot_be_read_gives_the_reason():
    found = hosts.check_host(Node("a", "a", host_error="sudo: a password is required"), None, HostRequirements())
    assert ids(found) == ["host-unreachable"]
    assert "sudo" in found[0].message


def test_without_vcenter_only_the_uuid_cannot_be_judged():
    node = Node("agent-1", "agent-1", host=host(hostname="x"))
    assert ids(hosts.check_host(node, None, HostRequirements())) == ["host-name"]


@pytest.mark.parametrize(
    ("asked", "there", "answered", "expected"),
    [(100, 101, 103, 0.0), (100, 99, 103, -1.0), (100, 110, 103, 7.0), (100, 100, 100, 0.0)],
)
def test_the_network_gets_the_whole_duration(asked, there, answered, expected):
    assert clock.offset(asked, there, answered) == expected


@pytest.mark.parametrize(("text", "expected"), [("5.15.0-91", (5, 15, 0)), ("22.04", (22, 4)), ("", ()), ("x", ())])
def test_numbers_of_versions(text, expected):
    assert hosts.numbers(text) == expected


@pytest.mark.parametrize(("opens", "firewall", "purpose", "severity"), [
    (True, "ufw", "agent-2", "warning"), (False, "ufw", "agent-2", "error"), (True, "", "agent-2", "error"), (True, "ufw", "vCenter", "error"),
])
def test_a_port_that_the_role_node_is_about_to_open_is_no_error(opens, firewall, purpose, severity):
    blocked = [{"target": "192.0.2.22:10250", "purpose": purpose, "ok": False, "error": "no answer within 5 s (a firewall drops it?)"}]
    nodes = [Node("agent-1", "agent-1", host=host(reach=blocked)),
             Node("agent-2", "agent-2", host=host(hostname="agent-2", firewall=firewall), opens_ports=opens)]
    (finding,) = hosts.check_hosts(nodes, {}, HostRequirements())
    assert (finding.id, finding.severity) == ("host-connect", severity)
    assert ("ufw is active there" in finding.message) is (severity == "warning")


def test_udp_that_does_not_come_back_is_a_warning_with_the_nodes_name():
    answers = {"192.0.2.22": "no answer within 5 s (a firewall drops it?)", "192.0.2.23": ""}
    nodes = [Node("agent-1", "agent-1", host=host(), udp=answers),
             Node("cp-1", "cp-1", address="192.0.2.22", host=host(hostname="cp-1", firewall="firewalld"), opens_ports=True)]
    (finding,) = hosts.check_hosts(nodes, {}, HostRequirements())
    assert (finding.id, finding.severity, finding.object) == ("host-udp", "warning", "agent-1")
    assert "cp-1 does not answer" in finding.message and "firewalld is active there" in finding.message


def test_an_unreachable_download_only_matters_before_the_installation():
    blocked = [{"target": "mirror:80", "purpose": "download", "ok": False, "error": "connection refused"}]
    assert [finding.severity for finding in check(reach=blocked)] == ["error"]
    assert [finding.severity for finding in check(reach=blocked, k3s_installed=True)] == ["warning"]
    assert "download (mirror:80)" in check(reach=blocked)[0].message
