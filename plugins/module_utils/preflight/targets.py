# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node must be able to connect to."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.cht.k3s.plugins.module_utils.k3s.ports import AGENT, DEFAULT, Network, table

Target = dict[str, Any]


def url_target(url: str) -> list[Target]:
    """Host and port of a download site."""
    parts = urlsplit(url)
    if not parts.hostname:
        return []
    return [{"host": parts.hostname, "port": parts.port or (80 if parts.scheme == "http" else 443), "purpose": "download"}]


def _between(role: str, network: Network) -> list[tuple[str, int]]:
    """Group and TCP port of all that a node of this role connects to; what agents ask of each other's kubelets needs no proof before there are any."""
    return [
        (port.destination, port.number) for port in table(network)
        if port.source == role and port.protocol == "tcp" and (port.source, port.number) != (AGENT, 10250)
    ]


def destinations(role: str, network: Network = DEFAULT) -> list[str]:
    """The groups of nodes to which a node of this role connects."""
    return sorted({destination for destination, dummy in _between(role, network)})


def node_targets(role: str, name: str, nodes: Mapping[str, Sequence[tuple[str, str]]], network: Network = DEFAULT) -> list[Target]:
    """The ports of the other nodes, each as (name, address); nothing needs to listen there yet."""
    return [
        {"host": address, "port": port, "refused_ok": True, "purpose": other}
        for destination, port in _between(role, network)
        for other, address in nodes.get(destination, ())
        if other != name
    ]


def without_duplicates(targets: Iterable[Target]) -> list[Target]:
    """Each host and port once."""
    return list({(target["host"], target["port"]): target for target in targets}.values())
