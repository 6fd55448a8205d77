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
    Port(SERVER, SERVER, 8472, "udp", "pod network"),
    Port(SERVER, AGENT, 8472, "udp", "pod network"),
    Port(AGENT, SERVER, 8472, "udp", "pod network"),
    Port(AGENT, AGENT, 8472, "udp", "pod network"),
)


def open_for(group: str, addresses: dict) -> list:
    """(source address, port, protocol) that a node of a group takes; `addresses` are those of each group."""
    rules = [
        (address, port.number, port.protocol) for port in TABLE if port.destination == group for address in addresses.get(port.source) or []
    ]
    return sorted(set(rules))
