# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranges of pods and services against each other, and against every address that nodes and pods have to reach. None of it can be changed later."""

from __future__ import annotations

import ipaddress
from itertools import combinations
from urllib.parse import urlsplit

RANGES = {"k3s_cluster_cidr": "10.42.0.0/16", "k3s_service_cidr": "10.43.0.0/16"}
KEYS = {"k3s_cluster_cidr": "cluster-cidr", "k3s_service_cidr": "service-cidr"}


def _networks(given: dict, name: str) -> list:
    value = (given.get("control_plane_config") or {}).get(KEYS[name]) or given.get(name) or RANGES[name]
    return [part.strip() for item in (value if isinstance(value, list) else [value]) for part in str(item).split(",") if part.strip()]


def ranges(given: dict) -> tuple:
    """([(variable, network)], problems) of a server's variables."""
    found, problems = [], []
    for name in RANGES:
        for text in _networks(given, name):
            try:
                found.append((name, ipaddress.ip_network(text)))
            except ValueError:
                problems.append(f"{name} {text!r} is not a network such as {RANGES[name]}")
    return found, problems


def _address(text: str):
    try:
        return ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None


def _host(url: str) -> str:
    try:
        return urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return ""


def _list(value) -> list:
    return value if isinstance(value, list) else [value] if value else []


def room_problem(given: dict, nodes: int, bits: int | None) -> str:
    """Nodes that would get no addresses for their pods; `bits` is the mask of what each node gets, None where it is of IPv6."""
    networks = [network for name, network in ranges(given)[0] if name == "k3s_cluster_cidr" and network.version == 4]
    room = sum(2 ** max(bits - network.prefixlen, -1) for network in networks) if bits is not None and networks else nodes
    if int(room) >= nodes:
        return ""
    shown = ", ".join(map(str, networks))
    return f"k3s_cluster_cidr {shown} has room for {int(room)} nodes with a /{bits} each, and there are {nodes}: the others would get no addresses for pods"


def reached(given: dict) -> list:
    """[(what, address as text)] that a node's variables name, names of DNS too."""
    environment = given.get("k3s_environment") or {}
    # Of another shape they are refused by accepted.registries_problems.
    mirrors = (given.get("k3s_registries") or {}).get("mirrors") or {}
    mirrors = {name: mirror for name, mirror in mirrors.items() if isinstance(mirror or {}, dict)} if isinstance(mirrors, dict) else {}
    # A name that has mirrors is what images are called.
    registries = [name for name, mirror in mirrors.items() if _address(_host(str(name))) or not (mirror or {}).get("endpoint")]
    registries += [url for mirror in mirrors.values() for url in _list((mirror or {}).get("endpoint"))]
    s3 = {**(given.get("control_plane_config") or {}), **(given.get("control_plane_secret_config") or {})}
    vcenters = [given.get("vsphere_hostname"), given.get("vsphere_vcenter")] + [
        one.get("hostname") for name in ("cpi_vcenters", "csi_vcenters") for one in given.get(name) or [] if isinstance(one, dict)
    ]
    servers = given.get("vm_nameservers") or []
    return [
        *(("the vCenter", str(name or "")) for name in dict.fromkeys(vcenters)),
        ("the proxy of vCenter", str(given.get("vsphere_proxy_host") or "")),
        ("k3s_server_url", _host(str(given.get("k3s_server_url") or ""))),
        ("the gateway", str(given.get("vm_gateway") or "")),
        *(("the name server", str(server)) for server in _list(servers)),
        *(("the proxy", _host(str(url))) for name, url in environment.items() if str(name).upper() in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")),
        *(("the registry", _host(str(url))) for url in registries if url != "*"),
        ("the store of snapshots", _host(str(s3.get("etcd-s3-endpoint") or ""))),
        ("the proxy of the store of snapshots", _host(str(s3.get("etcd-s3-proxy") or ""))),
        ("the source of k3s", _host(str(given.get("k3s_release_url") or ""))),
    ]


def problems(server: dict, nodes: list, room: str = "") -> list:
    """What is wrong with the ranges.

    `server` are the variables of a server, `nodes` are [(host, address)] and [(what, address)] of what is reached, `room` is what room_problem said.
    """
    found, wrong = ranges(server)
    for (one, network), (other, second) in combinations(found, 2):
        if network.version == second.version and network.overlaps(second):
            wrong.append(f"{one} {network} and {other} {second} overlap: pods and services would have the same addresses")
    for what, text in dict.fromkeys(nodes):
        address = _address(text)
        inside = [(name, network) for name, network in found if address is not None and address.version == network.version and address in network]
        wrong += [f"{what} has the address {address}, which lies in {name} {network}: it would not be reached from the cluster" for name, network in inside]
    wrong += [room] if room else []
    remedy = f"Give {' or '.join(RANGES)} another range; it can't be changed once there is a cluster, which then goes on with k3s_accept_overlap: true"
    return [f"{problem}. {remedy}" for problem in wrong]
