# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports between nodes: one table for the preflight, which tries them, and for the firewalls, which open them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Port:
    """Nodes of group `source` connect to this port of nodes of group `destination`."""

    source: str
    destination: str
    number: int
    protocol: str
    purpose: str


SERVER, AGENT = "control_plane", "agent"
TABLE = (
    Port(SERVER, SERVER, 2379, "tcp", "etcd clients"),
    Port(SERVER, SERVER, 2380, "tcp", "etcd peers"),
    Port(SERVER, SERVER, 6443, "tcp", "API"),
    Port(AGENT, SERVER, 6443, "tcp", "API"),
    Port(SERVER, AGENT, 10250, "tcp", "kubelet"),
    Port(SERVER, SERVER, 10250, "tcp", "kubelet"),
    # The metrics server may run on any node.
    Port(AGENT, SERVER, 10250, "tcp", "kubelet"),
    Port(AGENT, AGENT, 10250, "tcp", "kubelet"),
)
# UDP between all nodes, by flannel's backend; host-gw and none have none. WireGuard's second one is that of IPv6.
POD_NETWORK = {"vxlan": (8472,), "wireguard-native": (51820, 51821), "wireguard": (51820, 51821), "host-gw": (), "none": (), "ipsec": ()}


@dataclass(frozen=True)
class Network:
    """What the servers' settings of k3s say about the network."""

    backend: str = "vxlan"
    # Whether nodes give images to each other (Spegel).
    registry: bool = False


DEFAULT = Network()


def network(config: dict) -> Network:
    """The same from a server's settings."""
    registry = str(config.get("embedded-registry") or "").lower()
    return Network(str(config.get("flannel-backend") or "vxlan").split("=", 1)[0], registry in ("true", "1", "t"))


def table(settings: Network = DEFAULT) -> tuple:
    """All ports between nodes with these settings."""
    pairs = [(source, destination) for source in (SERVER, AGENT) for destination in (SERVER, AGENT)]
    more = [Port(*pair, number, "udp", "pod network") for number in POD_NETWORK.get(settings.backend, (8472,)) for pair in pairs]
    if settings.registry:
        # Spegel finds its peers through each node's supervisor port.
        more += [Port(*pair, 5001, "tcp", "images of other nodes") for pair in pairs]
        more += [Port(source, AGENT, 6443, "tcp", "images of other nodes") for source in (SERVER, AGENT)]
    return (*TABLE, *more)


def open_for(group: str, addresses: dict, settings: Network = DEFAULT, api: list | tuple = ()) -> list:
    """(source address, port, protocol) that a node of a group takes; `addresses` are those of each group, `api` those besides that use the API."""
    rules = [
        (address, port.number, port.protocol) for port in table(settings) if port.destination == group for address in addresses.get(port.source) or []
    ]
    rules += [(address, 6443, "tcp") for address in api if group == SERVER]
    return sorted(set(rules))
