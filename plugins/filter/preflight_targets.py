# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node of this run has to reach."""
from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_targets
short_description: Connections that a node needs, for M(cht.k3s.host_facts)
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Lists the ports of the other nodes of this run, the download site, and for servers the vCenter.
  - Nodes outside the run are left out, so that a dead one does not stop the repair of others.
positional: hostvars, groups, limit
options:
  _input:
    description: Name of the host.
    type: str
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
  groups:
    description: The variable C(groups).
    type: dict
    required: true
  limit:
    description: The hosts of this run.
    type: list
    elements: str
    required: true
  vcenter:
    description: Host and port of the vCenter.
    type: dict
  download_url:
    description: URL of the download site; empty if nothing is downloaded.
    type: str
    default: ''
  between:
    description: Whether the ports between nodes are wanted.
    type: bool
    default: true
  server_config:
    description: The servers' settings of k3s (C(control_plane_config)); with some of them nodes use more ports.
    type: dict
"""

EXAMPLES = r"""
- name: Show the connections
  ansible.builtin.debug:
    msg: "{{ inventory_hostname | cht.k3s.preflight_targets(hostvars, groups, ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: Connections.
  type: list
  elements: dict
  sample:
    - host: 192.0.2.11
      port: 6443
      refused_ok: true
      purpose: control-plane-1
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def preflight_targets(
    name: str,
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Iterable[str]],
    limit: Iterable[str],
    vcenter: Mapping[str, Any] | None = None,
    download_url: str = "",
    between: bool = True,
    server_config: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """All connections of one host."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.ports import network
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import node_address
    from ansible_collections.cht.k3s.plugins.module_utils.preflight.targets import (
        destinations,
        node_targets,
        url_target,
        without_duplicates,
    )

    running = set(limit)
    role = "control_plane" if name in set(groups.get("control_plane", ())) else "agent"
    settings = network(dict(server_config or {}))
    nodes: dict[str, Sequence[tuple[str, str]]] = {
        group: [
            (host, node_address(hostvars[host]) or host) for host in groups.get(group, ()) if host in running
        ]
        # Another host's variables are worked out each time they are asked for: not those of all agents for every agent.
        for group in (destinations(role, settings) if between else ())
    }
    targets = url_target(download_url)
    if vcenter and vcenter.get("host") and role == "control_plane":
        # The CPI and the CSI controller run on the servers.
        targets.append({"host": vcenter["host"], "port": int(vcenter["port"]), "purpose": "vCenter"})
    if between:
        targets += node_targets(role, name, nodes, settings)
    return without_duplicates(targets)


class FilterModule:
    """Filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"preflight_targets": preflight_targets}
