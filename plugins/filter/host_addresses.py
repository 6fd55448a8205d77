# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: host_addresses
short_description: By which addresses other machines reach hosts of the inventory
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Gives C(k3s_node_ip) of each host where it is set, else C(ansible_host), else its name.
  - Names are not resolved.
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
    required: true
"""

EXAMPLES = r"""
- name: Addresses of the servers
  ansible.builtin.debug:
    msg: "{{ groups['control_plane'] | cht.k3s.host_addresses(hostvars) }}"
"""

RETURN = r"""
_value:
  description: One for each host.
  type: list
  elements: str
  sample: [198.18.0.11]
"""


def host_addresses(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> list[str]:
    """The address of each host."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import node_address

    return [node_address(hostvars[host]) or str(host) for host in hosts]


class FilterModule:
    """The filter host_addresses."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"host_addresses": host_addresses}
