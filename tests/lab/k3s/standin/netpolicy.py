# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkPolicies over iptables, in the place of kube-router, which k3s embeds.

Every packet of a pod is forwarded by its node (CNI plugin ptp), so chains in FORWARD (and
INPUT, for what pods send to their own node) see all. What the node itself sends to its pods
is always allowed. A pod that policies select for a direction gets a chain; what no rule of
it lets through is rejected.
"""
from __future__ import annotations

import hashlib
import ipaddress
import subprocess
from typing import Any

from . import log, network
from .kube import Cache, Client, Debounce

ROOT = "K3S-NETPOL"
PREFIX = "K3S-NP-"


# -- selectors

def selects(selector: dict | None, labels: dict[str, str]) -> bool:
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for row in selector.get("matchExpressions") or []:
        key, values = row["key"], row.get("values") or []
        fine = {
            "In": labels.get(key) in values and key in labels,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[row["operator"]]
        if not fine:
            return False
    return True


def types_of(policy: dict) -> set[str]:
    spec = policy.get("spec") or {}
    if spec.get("policyTypes"):
        return set(spec["policyTypes"])
    return {"Ingress", "Egress"} if "egress" in spec else {"Ingress"}


def slim_pod(pod: dict) -> dict:
    spec, status, meta = pod["spec"], pod.get("status") or {}, pod["metadata"]
    ports = {row["name"]: (row.get("protocol", "TCP"), row["containerPort"])
             for container in spec.get("containers") or [] for row in container.get("ports") or [] if row.get("name")}
    return {"metadata": {key: meta.get(key) for key in ("name", "namespace", "labels", "resourceVersion")}, "node": spec.get("nodeName", ""),
            "host": bool(spec.get("hostNetwork")), "ip": status.get("podIP", ""), "phase": status.get("phase", ""), "ports": ports}


def slim_namespace(item: dict) -> dict:
    return {"metadata": {key: item["metadata"].get(key) for key in ("name", "labels", "resourceVersion")}}


def live(pod: dict) -> bool:
    return bool(pod["ip"]) and not pod["host"] and pod["phase"] in ("Pending", "Running")


# -- rules

def peer_addresses(peer: dict, namespace: str, pods: list[dict], spaces: dict[str, dict]) -> list[str]:
    block = peer.get("ipBlock")
    if block:
        return subtract(block["cidr"], block.get("except") or [])
    found = []
    for pod in pods:
        meta = pod["metadata"]
        if "namespaceSelector" in peer and peer["namespaceSelector"] is not None:
            if not selects(peer["namespaceSelector"], spaces.get(meta["namespace"], {})):
                continue
        elif meta["namespace"] != namespace:
            continue
        if selects(peer.get("podSelector"), meta.get("labels") or {}):
            found.append(pod["ip"])
    return sorted(set(found))


def subtract(cidr: str, excepted: list[str]) -> list[str]:
    nets = [ipaddress.ip_network(cidr, strict=False)]
    if nets[0].version != 4:
        return []
    for item in excepted:
        hole = ipaddress.ip_network(item, strict=False)
        rest = []
        for net in nets:
            if hole.version != net.version or not hole.overlaps(net):
                rest.append(net)
            elif hole.supernet_of(net):
                continue
            else:
                rest += list(net.address_exclude(hole))
        nets = rest
    return [str(net) for net in sorted(nets)]


def port_matches(ports: list[dict] | None, targets: list[dict]) -> list[str]:
    """iptables matches for the ports of a rule; [''] when it names none. Names mean the target pods' ports."""
    if not ports:
        return [""]
    out = []
    for row in ports:
        protocol = row.get("protocol", "TCP")
        value = row.get("port")
        if value is None:
            numbers = [""]
        elif isinstance(value, str) and not value.isdigit():
            numbers = sorted({str(pod["ports"][value][1]) for pod in targets if pod["ports"].get(value, ("",))[0] == protocol})
        else:
            numbers = [f"{value}:{row['endPort']}" if row.get("endPort") else str(value)]
        for number in numbers:
            low = protocol.lower()
            out.append(f"-p {low}" + (f" -m {low} --dport {number}" if number else ""))
    return out


def pod_rules(pod: dict, policies: list[dict], direction: str, pods: list[dict], spaces: dict[str, dict]) -> list[str] | None:
    """The rules of one pod for Ingress or Egress; None when no policy selects it for that."""
    meta = pod["metadata"]
    chosen = [policy for policy in policies if policy["metadata"]["namespace"] == meta["namespace"] and direction in types_of(policy)
              and selects((policy.get("spec") or {}).get("podSelector"), meta.get("labels") or {})]
    if not chosen:
        return None
    side, key, peers_key = ("-s", "ingress", "from") if direction == "Ingress" else ("-d", "egress", "to")
    rules = []
    for policy in chosen:
        for rule in (policy["spec"].get(key) or []):
            peers = rule.get(peers_key)
            if direction == "Ingress":
                targets = [pod]
            else:
                targets = pods
            ports = port_matches(rule.get("ports"), targets)
            sources = [""]
            if peers:
                sources = [f"{side} {address}" for peer in peers for address in peer_addresses(peer, meta["namespace"], pods, spaces)]
            for source in sources:
                for port in ports:
                    rules.append(" ".join(part for part in (source, port, "-j RETURN") if part))
    return list(dict.fromkeys(rules))


def chain_name(direction: str, pod: dict) -> str:
    digest = hashlib.sha256(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}/{pod['ip']}".encode()).hexdigest()[:14].upper()
    return f"{PREFIX}{direction[0]}{digest}"


def render(node: str, policies: list[dict], pods: list[dict], namespaces: list[dict]) -> dict[str, list[str]]:
    """All chains with their rules."""
    spaces = {item["metadata"]["name"]: {**(item["metadata"].get("labels") or {})} for item in namespaces}
    for name, labels in spaces.items():
        labels.setdefault("kubernetes.io/metadata.name", name)
    alive = sorted((pod for pod in pods if live(pod)), key=lambda pod: (pod["metadata"]["namespace"], pod["metadata"]["name"]))
    root = ["-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"]
    chains: dict[str, list[str]] = {ROOT: root}
    for pod in alive:
        if pod["node"] != node:
            continue
        for direction, side in (("Egress", "-s"), ("Ingress", "-d")):
            rules = pod_rules(pod, policies, direction, alive, spaces)
            if rules is None:
                continue
            name = chain_name(direction, pod)
            label = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"[:200]
            chains[name] = [*rules, f'-m comment --comment "{label}" -j REJECT --reject-with icmp-port-unreachable']
            root.append(f"{side} {pod['ip']}/32 -j {name}")
    return chains


def restore_text(chains: dict[str, list[str]], stale: set[str]) -> str:
    lines = ["*filter"]
    lines += [f":{name} - [0:0]" for name in sorted(set(chains) | stale)]
    for name, rules in chains.items():
        lines += [f"-A {name} {rule}" for rule in rules]
    lines += [f"-X {name}" for name in sorted(stale)]
    return "\n".join([*lines, "COMMIT", ""])


# -- the controller

class Enforcer:
    def __init__(self, client: Client, node: str):
        self.client, self.node = client, node
        self.pods: Cache | None = None
        self.spaces: Cache | None = None
        self.last = ""
        self.known: set[str] = set()
        self.worker = Debounce("network policy", self.sync, settle=0.3, every=60)
        self.policies = Cache(client, "/apis/networking.k8s.io/v1/networkpolicies", changed=self.worker.poke)

    def sync(self) -> None:
        if not self.policies.synced.is_set():
            return
        policies = self.policies.values()
        if not policies and self.pods is None and not self.leftovers():
            return
        if self.pods is None:
            # pods are only watched once there is a policy: that watch is what costs
            self.pods = Cache(self.client, "/api/v1/pods", changed=self.worker.poke, slim=slim_pod)
            self.spaces = Cache(self.client, "/api/v1/namespaces", changed=self.worker.poke, slim=slim_namespace)
        if not (self.pods.synced.wait(30) and self.spaces.synced.wait(30)):
            return
        chains = render(self.node, policies, self.pods.values(), self.spaces.values())
        if not self.known:
            self.known = self.leftovers()
        stale = self.known - set(chains)
        text = restore_text(chains, stale)
        if text != self.last or not self.hooked():
            network.run("iptables-restore", "-w", "10", "--noflush", data=text)
            self.hook()
            self.last = restore_text(chains, set())
            self.known = set(chains)

    def leftovers(self) -> set[str]:
        text = network.run("iptables-save", "-t", "filter", check=False)
        return {line[1:].split()[0] for line in text.splitlines() if line.startswith(":" + PREFIX)}

    def hooked(self) -> bool:
        """Our jump must stay first: KUBE-FORWARD accepts marked packets."""
        for chain in ("FORWARD", "INPUT"):
            done = subprocess.run(["iptables", "-w", "10", "-S", chain, "1"], capture_output=True, text=True, check=False)
            if f"-j {ROOT}" not in done.stdout:
                return False
        return True

    def hook(self) -> None:
        for chain in ("FORWARD", "INPUT"):
            while subprocess.run(["iptables", "-w", "10", "-D", chain, "-j", ROOT], capture_output=True, check=False).returncode == 0:
                pass
            network.run("iptables", "-w", "10", "-I", chain, "1", "-j", ROOT)


def start(client: Client, node: str, _config: dict[str, Any]) -> Enforcer:
    log.info("Starting network policy controller")
    return Enforcer(client, node)
