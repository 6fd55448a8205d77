# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkPolicies: rules as text, then packets through real iptables in network namespaces."""
from __future__ import annotations

import os
import subprocess
import time

import pytest
from standin import netpolicy


def pod(name, ip, namespace="a", node="n1", labels=None, ports=None, **more):
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, "node": node, "host": False, "ip": ip, "phase": "Running",
            "ports": ports or {}, **more}


def policy(spec, namespace="a", name="p"):
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


NAMESPACES = [{"metadata": {"name": "a", "labels": {}}}, {"metadata": {"name": "b", "labels": {"team": "x"}}}]
SERVER = pod("server", "198.19.0.10", labels={"app": "server"}, ports={"http": ("TCP", 8080)})
CLIENT = pod("client", "198.19.0.11", labels={"role": "client"})
STRANGER = pod("stranger", "198.19.0.12", namespace="b", node="n2")
PODS = [SERVER, CLIENT, STRANGER]


def chain(chains, direction, item):
    return chains[netpolicy.chain_name(direction, item)]


def test_no_policy_no_rules():
    assert list(netpolicy.render("n1", [], PODS, NAMESPACES)) == [netpolicy.ROOT]


def test_selected_pod_is_isolated_for_that_direction_only():
    chains = netpolicy.render("n1", [policy({"podSelector": {"matchLabels": {"app": "server"}}})], PODS, NAMESPACES)
    assert len(chains) == 2
    assert chain(chains, "Ingress", SERVER)[-1].endswith("-j REJECT --reject-with icmp-port-unreachable")


def test_pods_of_other_nodes_get_no_chain():
    assert len(netpolicy.render("n2", [policy({"podSelector": {}})], PODS, NAMESPACES)) == 1


@pytest.mark.parametrize(("peer", "sources"), [
    ({"podSelector": {"matchLabels": {"role": "client"}}}, ["198.19.0.11"]),
    ({"namespaceSelector": {}}, ["198.19.0.10", "198.19.0.11", "198.19.0.12"]),
    ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}}}, ["198.19.0.12"]),
    ({"namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": {"matchLabels": {"no": "one"}}}, []),
    ({"ipBlock": {"cidr": "10.0.0.0/30", "except": ["10.0.0.0/31"]}}, ["10.0.0.2/31"]),
    ({"podSelector": {"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["client"]}]}}, ["198.19.0.10"]),
])
def test_peers(peer, sources):
    spec = {"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": [peer]}]}
    rules = chain(netpolicy.render("n1", [policy(spec)], PODS, NAMESPACES), "Ingress", SERVER)[:-1]
    assert rules == [f"-s {source} -j RETURN" for source in sources]


@pytest.mark.parametrize(("port", "match"), [
    ({"port": 80}, "-p tcp -m tcp --dport 80"), ({"port": "http"}, "-p tcp -m tcp --dport 8080"), ({"protocol": "UDP"}, "-p udp"),
    ({"port": 30000, "endPort": 30010, "protocol": "UDP"}, "-p udp -m udp --dport 30000:30010"),
])
def test_ports(port, match):
    spec = {"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"ports": [port]}]}
    assert chain(netpolicy.render("n1", [policy(spec)], PODS, NAMESPACES), "Ingress", SERVER)[:-1] == [f"{match} -j RETURN"]


def test_empty_rule_allows_all_and_missing_rules_none():
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}]}
    chains = netpolicy.render("n1", [policy(spec)], PODS, NAMESPACES)
    assert chain(chains, "Ingress", SERVER)[0] == "-j RETURN"
    assert len(chain(chains, "Egress", SERVER)) == 1


def test_finished_and_host_network_pods_are_left_out():
    others = [pod("done", "198.19.0.20", phase="Succeeded"), pod("host", "198.18.0.5", host=True)]
    assert list(netpolicy.render("n1", [policy({"podSelector": {}})], others, NAMESPACES)) == [netpolicy.ROOT]


def test_stale_chains_are_removed():
    text = netpolicy.restore_text({netpolicy.ROOT: ["-j RETURN"]}, {"K3S-NP-IOLD"})
    assert ":K3S-NP-IOLD - [0:0]" in text and "-X K3S-NP-IOLD" in text


# -- packets

class Wire:
    """A node's namespace that routes between three pods' namespaces, and a server of TCP 8080 in each pod."""

    def __init__(self):
        self.node = f"npn{os.getpid() % 100000}"
        self.made = [self.node]
        self.servers = []
        self.ip("netns", "add", self.node)
        self.run("ip", "link", "set", "lo", "up")
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for index, item in enumerate(PODS):
            name = f"{self.node}p{index}"
            self.made.append(name)
            self.ip("netns", "add", name)
            self.run("ip", "link", "add", f"v{index}", "type", "veth", "peer", "name", "eth0", "netns", name)
            self.run("ip", "addr", "add", "198.19.0.1/32", "dev", f"v{index}")
            self.run("ip", "link", "set", f"v{index}", "up")
            self.run("ip", "route", "add", item["ip"], "dev", f"v{index}", "src", "198.19.0.1")
            self.ip("-n", name, "addr", "add", f"{item['ip']}/32", "dev", "eth0")
            self.ip("-n", name, "link", "set", "eth0", "up")
            self.ip("-n", name, "route", "add", "198.19.0.1", "dev", "eth0")
            self.ip("-n", name, "route", "add", "default", "via", "198.19.0.1")
            self.servers.append(subprocess.Popen(
                ["ip", "netns", "exec", name, "python3", "-m", "http.server", "8080"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 20
        while not all(self.reach(source, target) for source in (0, 1) for target in (0, 1, 2) if source != target):
            assert time.monotonic() < deadline, "the pods never answered"
            time.sleep(0.2)

    def ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def run(self, *command, data=None):
        subprocess.run(["ip", "netns", "exec", self.node, *command], check=True, capture_output=True, input=data, text=True)

    def reach(self, source, target, namespace=None):
        script = f"import socket; socket.create_connection(('{PODS[target]['ip']}', 8080), 1)"
        name = namespace or f"{self.node}p{source}"
        return subprocess.run(["ip", "netns", "exec", name, "python3", "-c", script], capture_output=True, check=False).returncode == 0

    def enforce(self, *policies):
        chains = netpolicy.render("n1", list(policies), PODS, NAMESPACES)
        known = getattr(self, "known", set())
        self.run("iptables-restore", "--noflush", data=netpolicy.restore_text(chains, known - set(chains)))
        self.known = set(chains)
        for hook in ("FORWARD", "INPUT"):
            subprocess.run(["ip", "netns", "exec", self.node, "iptables", "-D", hook, "-j", netpolicy.ROOT], capture_output=True, check=False)
            self.run("iptables", "-I", hook, "1", "-j", netpolicy.ROOT)

    def close(self):
        for process in self.servers:
            process.kill()
            process.wait()
        for name in self.made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def wire():
    assert os.geteuid() == 0, "packet tests need root: network namespaces"
    made = Wire()
    yield made
    made.close()


SERVER_ONLY = {"matchLabels": {"app": "server"}}


def test_packets_without_policy_pass(wire):
    wire.enforce()
    assert wire.reach(1, 0) and wire.reach(2, 0)


def test_packets_deny_all_ingress(wire):
    wire.enforce(policy({"podSelector": SERVER_ONLY}))
    assert not wire.reach(1, 0) and not wire.reach(2, 0)
    assert wire.reach(0, 1), "the isolated pod itself may still call out"
    assert wire.reach(None, 0, namespace=wire.node), "the node always reaches its pods (probes)"


def test_packets_allow_by_label_and_port(wire):
    wire.enforce(policy({"podSelector": SERVER_ONLY, "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "client"}}}],
                                                                  "ports": [{"port": "http"}]}]}))
    assert wire.reach(1, 0) and not wire.reach(2, 0)
    wire.enforce(policy({"podSelector": SERVER_ONLY, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 8081}]}]}))
    assert not wire.reach(1, 0)


def test_packets_allow_by_namespace(wire):
    wire.enforce(policy({"podSelector": SERVER_ONLY, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}]}]}))
    assert wire.reach(2, 0) and not wire.reach(1, 0)


def test_packets_egress(wire):
    wire.enforce(policy({"podSelector": {"matchLabels": {"role": "client"}}, "policyTypes": ["Egress"],
                         "egress": [{"to": [{"ipBlock": {"cidr": "198.19.0.0/24", "except": ["198.19.0.12/32"]}}]}]}))
    assert wire.reach(1, 0) and not wire.reach(1, 2)


def test_packets_policies_add_up(wire):
    wire.enforce(policy({"podSelector": SERVER_ONLY}, name="deny"),
                 policy({"podSelector": SERVER_ONLY, "ingress": [{"from": [{"podSelector": {}}]}]}, name="allow"))
    assert wire.reach(1, 0) and not wire.reach(2, 0)
    wire.enforce()
    assert wire.reach(2, 0)
