# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: watchdog_targets
short_description: The counties as cht-watchdog's cht-instances.yml lists them
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - CHT Watchdog asks every instance from outside for C(/api/v2/monitoring); this is the list of them.
positional: _input
options:
  _input:
    description: The counties.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ [{'name': 'nairobi', 'host': 'nairobi.health.example'}] | cht.k3s.watchdog_targets | to_nice_yaml }}"
"""

RETURN = r"""
_value:
  description: The content of the file.
  type: list
  elements: dict
"""


def watchdog_targets(counties: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content of the file."""
    from ansible_collections.cht.k3s.plugins.module_utils.cht import access

    try:
        return access.watchdog_targets(list(counties))
    except access.AccessError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters about access to counties."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"watchdog_targets": watchdog_targets}
