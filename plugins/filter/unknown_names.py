# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: unknown_names
short_description: Which names that people gave are not known
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Compares names with those that are known, and gives the nearest one for each that is not.
positional: _input, known
options:
  _input:
    description: Lists of names, or texts of names with commas, by the variable that has them.
    type: dict
    required: true
  known:
    description: The names that are known.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse a machine that is not in the inventory
  ansible.builtin.assert:
    that: wrong | length == 0
    fail_msg: "{{ wrong | join('; ') }}"
  vars:
    wrong: "{{ {'k3s_fence': k3s_fence} | cht.k3s.unknown_names(groups['all']) }}"
"""

RETURN = r"""
_value:
  description: A message for each name that is not known.
  type: list
  elements: str
  sample: ["k3s_fence: 'agnet-3' is not known; did you mean 'agent-3'?"]
"""


def unknown_names(given: dict[str, Any], known: list[str]) -> list[str]:
    """The messages."""
    from ansible_collections.cht.k3s.plugins.module_utils import names

    return names.unknown(given, [str(name) for name in known])


class FilterModule:
    """Filters about names."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"unknown_names": unknown_names}
