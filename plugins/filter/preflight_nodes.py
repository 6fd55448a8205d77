# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a run, as the preflight wants them."""
from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_nodes
short_description: Nodes for M(cht.k3s.vsphere_preflight)
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Makes an entry for every host of the groups C(control_plane) and C(agent) from its variables and from the result
    of M(cht.k3s.host_facts) that was registered as C(preflight_host).
  - Hosts outside the run (O(limit)) are included, so that duplicates are seen, but marked as not to be checked.
positional: groups, hostvars, limit
options:
  _input:
    description: The variable C(groups).
    type: dict
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
  limit:
    description: The hosts of this run.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the nodes
  ansible.builtin.debug:
    msg: "{{ groups | cht.k3s.preflight_nodes(hostvars, ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: Nodes.
  type: list
  elements: dict
  sample:
    - name: agent-1
      node_name: ''
      vm: agent-1
      moid: vm-121
      vcenter: vcenter.example.org
      role: agent
      address: 192.0.2.21
      cpi_ip_family: [ipv4]
      checked: true
      udp: {}
      opens_ports: true
      host: {}
      host_error: ''
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def _host_part(registered: Mapping[str, Any]) -> dict[str, Any]:
    host = registered.get("host")
    if host:
        return {"host": host, "host_error": ""}
    reason = str(registered.get("msg") or "it was not read")
    # When sudo refuses, only the raw output says so.
    output = str(registered.get("module_stderr") or registered.get("module_stdout") or "").strip()
    return {"host": {}, "host_error": f"{reason} {output.splitlines()[0]}" if output else reason}


def _kubelet_args(role: str, variables: Mapping[str, Any]) -> list[str]:
    """As the roles hand them to k3s: by the variable of their own, and by the settings that are given as k3s names them."""
    from ansible_collections.cht.k3s.plugins.module_utils.given import as_dict, as_list

    more = as_dict(variables.get(f"{role}_config")).get("kubelet-arg") or []
    return [str(word) for word in [*as_list(variables.get(f"{role}_kubelet_args")), *([more] if isinstance(more, str) else more)]]


def _on(value: Any) -> bool:
    """A switch, which -e and an INI inventory give as text."""
    return str(value).strip().lower() in ("true", "yes", "on", "1", "t", "y")


def preflight_nodes(
    groups: Mapping[str, Iterable[str]], hostvars: Mapping[str, Mapping[str, Any]], limit: Iterable[str]
) -> list[dict[str, Any]]:
    """All nodes of the cluster."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.given import as_dict, as_list
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import node_address, node_name
    from ansible_collections.cht.k3s.plugins.module_utils.preflight.cpi_address import DEFAULT_FAMILY

    checked = set(limit)
    nodes = []
    for role in ("control_plane", "agent"):
        for name in groups.get(role, ()):
            variables = hostvars[name]
            nodes.append(
                {
                    "name": name,
                    "node_name": node_name(variables.get("k3s_node_name") or ""),
                    "vm": str(variables.get("vsphere_name") or name),
                    "moid": str(variables.get("vsphere_moid") or ""),
                    "vcenter": str(variables.get("vsphere_vcenter") or ""),
                    "role": role,
                    "address": node_address({key: variables.get(key) for key in ("k3s_node_ip", "ansible_host")}),
                    "checked": name in checked,
                    "cpi_nodes": dict(as_dict(variables.get("cpi_nodes"))),
                    "cpi_ip_family": as_list(variables.get("cpi_ip_family")) or [DEFAULT_FAMILY],
                    "kubelet_args": _kubelet_args(role, variables),
                    "udp": dict((variables.get("preflight_udp_answers") or {}).get("answers") or {}),
                    "opens_ports": _on(variables.get("node_firewall", True)),
                    **_host_part(variables.get("preflight_host") or {}),
                }
            )
    return nodes


class FilterModule:
    """Filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"preflight_nodes": preflight_nodes}
