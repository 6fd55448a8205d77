# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes a new node asks on the port of the pod network."""
from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_udp
short_description: Port and hosts for M(cht.k3s.udp_probe)
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Gives the UDP port of the pod network, and the other new nodes of this run that a node asks there - a server all, an agent the servers.
  - Nodes that have k3s already are left out, as the port is flannel's there. For one of those the port is 0.
  - Needs the result of M(cht.k3s.host_facts) that was registered as C(preflight_host).
positional: hostvars, groups, limit, server_config
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
  server_config:
    description: The servers' settings of k3s (C(control_plane_config)).
    type: dict
"""

EXAMPLES = r"""
- name: Show what is asked
  ansible.builtin.debug:
    msg: "{{ inventory_hostname | cht.k3s.preflight_udp(hostvars, groups, ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: Port and hosts.
  type: dict
  sample: {"port": 8472, "hosts": ["192.0.2.11", "192.0.2.12"]}
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def _is_new(variables: Mapping[str, Any]) -> bool:
    host = (variables.get("preflight_host") or {}).get("host")
    return bool(host) and not host.get("k3s_installed")


def preflight_udp(
    name: str,
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Iterable[str]],
    limit: Iterable[str],
    server_config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The port, 0 where there is none to try, and whom to ask."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.ports import POD_NETWORK, network
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import node_address

    ports = POD_NETWORK.get(network(dict(server_config or {})).backend, ())
    if not ports or not _is_new(hostvars[name]):
        return {"port": 0, "hosts": []}
    servers = list(groups.get("control_plane", ()))
    others = servers if name not in servers else [*servers, *groups.get("agent", ())]
    running = set(limit)
    hosts = [node_address(hostvars[other]) or str(other) for other in others if other != name and other in running and _is_new(hostvars[other])]
    return {"port": ports[0], "hosts": hosts}


class FilterModule:
    """Filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"preflight_udp": preflight_udp}
