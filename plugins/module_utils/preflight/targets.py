# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node must be able to connect to."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.cht.k3s.plugins.module_utils.k3s.ports import AGENT, TABLE

# 8472/udp (vxlan) cannot be tried without a listener that answers, and what agents ask of each other needs no proof before there are any.
BETWEEN = tuple((port.source, port.destination, port.number) for port in TABLE if port.protocol == "tcp" and (port.source, port.number) != (AGENT, 10250))

Target = dict[str, Any]


def url_target(url: str) -> list[Target]:
    """Host and port of a download site."""
    parts = urlsplit(url)
    if not parts.hostname:
        return []
    return [{"host": parts.hostname, "port": parts.port or (80 if parts.scheme == "http" else 443), "purpose": "download"}]


def destinations(role: str) -> list[str]:
    """The groups of nodes to which a node of this role connects."""
    return sorted({destination for source, destination, dummy in BETWEEN if source == role})


def node_targets(role: str, name: str, nodes: Mapping[str, Sequence[tuple[str, str]]]) -> list[Target]:
    """The ports of the other nodes, each as (name, address); nothing needs to listen there yet."""
    return [
        {"host": address, "port": port, "refused_ok": True, "purpose": other}
        for source, destination, port in BETWEEN
        if source == role
        for other, address in nodes.get(destination, ())
        if other != name
    ]


def without_duplicates(targets: Iterable[Target]) -> list[Target]:
    """Each host and port once."""
    return list({(target["host"], target["port"]): target for target in targets}.values())
