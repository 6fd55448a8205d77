# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, pod network (CNI plugin ptp, one subnet per node), routes to other nodes, masquerade."""
from __future__ import annotations

import ipaddress
import json
import pathlib
import socket
import subprocess
import threading
from typing import Any

from . import log, pki
from .kube import Cache, Debounce
from .log import Fatal

ROUTE_PROTOCOL = "98"
CHAIN = "K3S-POSTROUTING"


def run(*command: str, check: bool = True, data: str | None = None) -> str:
    done = subprocess.run(command, input=data, capture_output=True, text=True, check=False, timeout=60)
    if check and done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def node_ip(options: Any) -> str:
    given = options.split("node-ip")
    if given:
        try:
            return str(ipaddress.ip_address(given[0]))
        except ValueError:
            raise Fatal(f"Error: invalid node-ip {given[0]}") from None
    try:
        name = socket.gethostbyname(socket.gethostname())
        if not name.startswith("127."):
            return name
    except OSError:
        pass
    for link in json.loads(run("ip", "-j", "-4", "addr", "show", "scope", "global") or "[]"):
        for address in link.get("addr_info", []):
            return address["local"]
    raise Fatal("Error: no default routes found in \"/proc/net/route\" or \"/proc/net/ipv6_route\"")


def check_families(cluster: str, service: str, ip: str) -> None:
    """pkg/agent/run.go, run: each node's agent compares the cluster's ranges and its own address."""
    ranges = {}
    for flag, value in (("cluster-cidr", cluster), ("service-cidr", service)):
        try:
            ranges[flag] = ipaddress.ip_network(value).version
        except ValueError as err:
            raise Fatal(f"Error: invalid {flag} {value}: {err}") from None
    why = "must share the same IP version (IPv4, IPv6 or dual-stack)"
    if ranges["cluster-cidr"] != ranges["service-cidr"]:
        raise Fatal(f"Error: cluster-cidr: [{cluster}] and service-cidr: [{service}], {why}")
    if ranges["cluster-cidr"] != ipaddress.ip_address(ip).version:
        raise Fatal(f"Error: cluster-cidr: [{cluster}] and node-ip: [{ip}], {why}")


def prepare_host() -> None:
    for name, value in (("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/forwarding", "1"), ("net/bridge/bridge-nf-call-iptables", "1")):
        place = pathlib.Path("/proc/sys") / name
        try:
            if place.exists() and place.read_text(encoding="ascii").strip() != value:
                place.write_text(value, encoding="ascii")
        except OSError as err:
            log.warning(f"Failed to set sysctl {name.replace('/', '.')}={value}: {err}")


def write_cni(agent_dir: pathlib.Path, cidr: str) -> None:
    """ptp instead of a bridge: traffic of pods on one node is routed too, so it passes iptables without br_netfilter."""
    config = {
        "cniVersion": "1.0.0", "name": "cbr0",
        "plugins": [
            {"type": "ptp", "ipMasq": False, "mtu": 1500,
             "ipam": {"type": "host-local", "ranges": [[{"subnet": cidr}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/var/lib/cni/networks"}},
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }
    place = agent_dir / "etc" / "cni" / "net.d" / "10-flannel.conflist"
    data = json.dumps(config, indent=1).encode()
    if not place.exists() or place.read_bytes() != data:
        pki.write_private(place, data, 0o644)


def internal_ip(node: dict) -> str:
    for address in (node.get("status") or {}).get("addresses") or []:
        if address["type"] == "InternalIP" and ":" not in address["address"]:
            return address["address"]
    notes = node["metadata"].get("annotations") or {}
    return notes.get("k3s.io/internal-ip") or notes.get("alpha.kubernetes.io/provided-node-ip") or ""


class Routes:
    """host-gw: one route for each other node's pod subnet, by its internal address."""

    def __init__(self, nodes: Cache, own: str, cluster_cidr: str):
        self.nodes, self.own, self.cidr = nodes, own, cluster_cidr
        self.known: dict[str, str] | None = None
        self.lock = threading.Lock()

    def start(self) -> None:
        self.masquerade()
        self.sync()
        worker = Debounce("routes", self.sync, settle=0.5, every=60)
        before = self.nodes.changed

        def changed() -> None:
            if before:
                before()
            if self.wanted() != self.known:
                worker.poke()
        self.nodes.changed = changed

    def wanted(self) -> dict[str, str]:
        out = {}
        for node in self.nodes.values():
            cidr, via = node.get("spec", {}).get("podCIDR"), internal_ip(node)
            if node["metadata"]["name"] != self.own and cidr and via:
                out[cidr] = via
        return out

    def present(self) -> dict[str, str]:
        rows = json.loads(run("ip", "-j", "-4", "route", "show", "proto", ROUTE_PROTOCOL) or "[]")
        return {row["dst"]: row.get("gateway", "") for row in rows}

    def sync(self) -> None:
        with self.lock:
            wanted, present = self.wanted(), self.present()
            failed = False
            for cidr, via in wanted.items():
                if present.get(cidr) != via:
                    try:
                        run("ip", "route", "replace", cidr, "via", via, "proto", ROUTE_PROTOCOL)
                    except OSError as err:
                        failed = True
                        log.error(f"Failed to add route to {cidr}: {err}")
            for cidr in present.keys() - wanted.keys():
                run("ip", "route", "del", cidr, "proto", ROUTE_PROTOCOL, check=False)
            self.known = None if failed else wanted

    def masquerade(self) -> None:
        """Pods leave the pod network under their node's address."""
        lines = ["*nat", f":{CHAIN} - [0:0]", f"-F {CHAIN}",
                 f"-A {CHAIN} -s {self.cidr} -d {self.cidr} -j RETURN",
                 f"-A {CHAIN} -s {self.cidr} ! -d 224.0.0.0/4 -m comment --comment \"pods to the world\" -j MASQUERADE --random-fully",
                 "COMMIT", ""]
        run("iptables-restore", "-w", "10", "--noflush", data="\n".join(lines))
        if subprocess.run(["iptables", "-w", "10", "-t", "nat", "-C", "POSTROUTING", "-j", CHAIN], capture_output=True, check=False).returncode:
            run("iptables", "-w", "10", "-t", "nat", "-A", "POSTROUTING", "-j", CHAIN)
        rule = ["FORWARD", "-s", self.cidr, "-j", "ACCEPT"]
        back = ["FORWARD", "-d", self.cidr, "-j", "ACCEPT"]
        for item in (rule, back):
            if subprocess.run(["iptables", "-w", "10", "-C", *item], capture_output=True, check=False).returncode:
                run("iptables", "-w", "10", "-A", *item)
