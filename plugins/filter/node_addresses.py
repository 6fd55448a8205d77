# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: node_addresses
short_description: Addresses of all nodes, by what they are
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Gives the addresses of servers and agents, for the option C(firewall) of M(cht.k3s.k3s_node).
positional: _input, hostvars, server_group
options:
  _input:
    description: The groups of the inventory.
    type: dict
    required: true
  hostvars:
    description: Variables of all hosts.
    type: dict
    required: true
  server_group:
    description: Group with the servers.
    type: str
    default: control_plane
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ groups | cht.k3s.node_addresses(hostvars) }}"
"""

RETURN = r"""
_value:
  description: Addresses by C(control_plane) and C(agent).
  type: dict
  sample: {"control_plane": ["198.18.0.11"], "agent": ["198.18.0.21"]}
"""


def node_addresses(groups: Mapping[str, list[str]], hostvars: Mapping[str, Any], server_group: str = "control_plane") -> dict[str, list[str]]:
    """Addresses by what the node is. A name is resolved, and one that can't be is refused: a firewall without the node's rules would keep it out."""
    found = {}
    for kind, group in (("control_plane", server_group), ("agent", "agent")):
        found[kind] = [address for host in groups.get(group) or [] for address in _addresses(str(host), hostvars[host])]
    return found


def _addresses(host: str, variables: Mapping[str, Any]) -> list[str]:
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import address_or_empty, node_address
    from ansible_collections.cht.k3s.plugins.module_utils.dns import of_others

    given = node_address(variables) or host
    found = []
    for part in given.split(","):
        address = address_or_empty(part) or of_others(part.strip())
        if not address:
            raise AnsibleFilterError(
                f"{host}: its address {part.strip()!r} is a name that the controller can't resolve, so no firewall can let the node in. Set k3s_node_ip or"
                " ansible_host to its address, or correct the name in DNS."
            )
        found.append(address)
    return found


class FilterModule:
    """The filter node_addresses."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"node_addresses": node_addresses}
