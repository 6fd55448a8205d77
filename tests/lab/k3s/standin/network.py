# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, and the pod network: flannel, CNI plugins, network policies."""
from __future__ import annotations

import ipaddress
import json
import pathlib
import socket
import subprocess
import time
from typing import Any

from . import lab, log, pki, proc
from .log import Fatal

SUBNET = pathlib.Path("/run/flannel/subnet.env")
BACKENDS = ("vxlan", "host-gw")


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


def internal_ip(node: dict) -> str:
    for address in (node.get("status") or {}).get("addresses") or []:
        if address["type"] == "InternalIP" and ":" not in address["address"]:
            return address["address"]
    notes = node["metadata"].get("annotations") or {}
    return notes.get("k3s.io/internal-ip") or notes.get("alpha.kubernetes.io/provided-node-ip") or ""


# -- flannel and kube-router: the real ones, in a program of the lab

def program() -> str:
    return str(lab.part("network") / "network")


def kubeconfig(agent_dir: pathlib.Path) -> str:
    """A kubelet may not list all nodes since 1.32, so flannel asks as the controller of k3s."""
    return str(agent_dir / "k3scontroller.kubeconfig")


def start_flannel(agent: Any, pod_cidr: str) -> None:
    """flannel's backend, then the CNI plugins with the subnet that it was given."""
    backend = agent.config.get("flannel-backend") or "vxlan"
    if backend == "none":
        return
    if backend not in BACKENDS:
        raise Fatal(f"Error: the lab's flannel has no backend {backend}")
    log.info(f"Starting flannel with backend {backend}")
    place = agent.dir / "etc" / "flannel" / "net-conf.json"
    conf = {"Network": agent.config["cluster-cidr"], "EnableIPv4": True, "EnableIPv6": False, "IPv6Network": "::/0", "Backend": {"Type": backend}}
    pki.write_private(place, json.dumps(conf, indent=1).encode(), 0o644)
    SUBNET.unlink(missing_ok=True)
    command = [program(), "flannel", "--kubeconfig", kubeconfig(agent.dir), "--node", agent.name, "--conf", str(place)]
    if agent.options["flannel-iface"]:
        command += ["--ip", agent.options["flannel-iface"]]
    proc.Child("flannel", command, env={"GOGC": "60"})
    while not SUBNET.exists():
        time.sleep(0.2)
    write_cni(agent.dir, agent.config["cluster-cidr"], pod_cidr, subnet_env(SUBNET.read_text(encoding="utf-8")))


def subnet_env(text: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in text.splitlines())


def write_cni(agent_dir: pathlib.Path, cluster_cidr: str, pod_cidr: str, given: dict[str, str]) -> None:
    """What flannel's own plugin hands to the bridge plugin; that one is no Go module."""
    bridge = {
        "type": "bridge", "bridge": "cni0", "hairpinMode": True, "forceAddress": True, "isDefaultGateway": True, "ipMasq": False,
        "mtu": int(given["FLANNEL_MTU"]),
        "ipam": {"type": "host-local", "ranges": [[{"subnet": pod_cidr}]], "routes": [{"dst": cluster_cidr}], "dataDir": "/var/lib/cni/networks"},
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}, {"type": "bandwidth", "capabilities": {"bandwidth": True}}]
    place = agent_dir / "etc" / "cni" / "net.d" / "10-flannel.conflist"
    data = json.dumps({"cniVersion": "1.0.0", "name": "cbr0", "plugins": plugins}, indent=1).encode()
    if not place.exists() or place.read_bytes() != data:
        pki.write_private(place, data, 0o644)


def start_policy(agent: Any) -> None:
    log.info("Starting network policy controller version v2.1.0")
    proc.Child("network-policy", [
        program(), "policy", "--kubeconfig", kubeconfig(agent.dir), "--node", agent.name, "--service-cidrs", agent.config["service-cidr"],
        "--service-node-port-range", agent.config["service-node-port-range"]], env={"GOGC": "60"})
