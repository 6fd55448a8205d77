# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: expected_nodes
short_description: What the nodes of hosts of the inventory should look like in the cluster
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Turns hosts of the inventory into the option O(cht.k3s.kube_nodes#module:nodes) of M(cht.k3s.kube_nodes).
positional: _input, hostvars
options:
  _input:
    description: Host names.
    type: list
    elements: str
    required: true
  hostvars:
    description: The magic variable C(hostvars).
    type: dict
"""

EXAMPLES = r"""
- name: Show the nodes wanted
  ansible.builtin.debug:
    msg: "{{ groups['agent'] | cht.k3s.expected_nodes(hostvars) }}"
"""

RETURN = r"""
_value:
  description: Name, providerID and address of each node; empty where the inventory does not say.
  type: list
"""


def expected_nodes(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name, providerID and address of each node, as far as the inventory knows them."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import node_name

    found = []
    for host in hosts:
        variables = hostvars[host]
        uuid = str(variables.get("vsphere_bios_uuid") or "").lower()
        found.append({
            "name": node_name(variables.get("k3s_node_name") or host),
            "provider_id": str(variables.get("k3s_provider_id") or (f"vsphere://{uuid}" if uuid else "")),
            "ip": str(variables.get("k3s_node_ip") or ""),
        })
    return found


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"expected_nodes": expected_nodes}
