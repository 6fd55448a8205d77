# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: county_hosts
short_description: Lines for /etc/hosts or DNS, one for each county
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - The address and each county's host name.
positional: _input, address
options:
  _input:
    description: The counties.
    type: list
    elements: dict
    required: true
  address:
    description: The address that users reach.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ [{'name': 'nairobi', 'host': 'nairobi.health.example'}] | cht.k3s.county_hosts('192.0.2.10') }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def county_hosts(counties: list[dict[str, Any]], address: str) -> list[str]:
    """The lines."""
    from ansible_collections.cht.k3s.plugins.module_utils.cht import access

    try:
        return access.hosts_lines(list(counties), str(address))
    except access.AccessError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters about access to counties."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"county_hosts": county_hosts}
