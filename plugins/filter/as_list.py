# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: as_list
short_description: A list that may have been given as text
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - C(-e NAME=VALUE), the surveys of AWX and INI inventories give text only. Returns the list that is meant.
  - Text of several lines is one item a line. Text of one line is separated at commas, as Ansible separates the list options of modules, or is a list as
    JSON writes it. Blanks around the items are dropped, and empty text is an empty list.
positional: _input
options:
  _input:
    description: The value of the variable.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: More names of the servers' certificates
  ansible.builtin.debug:
    msg: "{{ control_plane_tls_san | cht.k3s.as_list }}"
"""

RETURN = r"""
_value:
  description: The list.
  type: list
  sample: [max-pods=100]
"""


def as_list(value: Any) -> list[Any]:
    """The list that is meant."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils import given

    try:
        return given.as_list(value)
    except TypeError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter as_list."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"as_list": as_list}
