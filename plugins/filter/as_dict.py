# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: as_dict
short_description: A mapping that may have been given as text
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - C(-e NAME=VALUE), the surveys of AWX and INI inventories give text only. Returns the mapping that is meant.
  - Text is read as Ansible reads the mapping options of modules, as JSON or as C(key=value) pairs. Empty text is an empty mapping.
positional: _input
options:
  _input:
    description: The value of the variable.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Labels of this agent
  ansible.builtin.debug:
    msg: "{{ agent_labels | cht.k3s.as_dict }}"
"""

RETURN = r"""
_value:
  description: The mapping.
  type: dict
  sample: {disk: ssd}
"""


def as_dict(value: Any) -> dict[str, Any]:
    """The mapping that is meant."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils import given

    try:
        return given.as_dict(value)
    except TypeError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter as_dict."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"as_dict": as_dict}
