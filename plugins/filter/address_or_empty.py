# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: address_or_empty
short_description: A value if it is an IP address
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Returns the value when it is an IP address and an empty string otherwise.
positional: _input
options:
  _input:
    description: A host name or address.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Address of this host
  ansible.builtin.debug:
    msg: "{{ ansible_host | cht.k3s.address_or_empty }}"
"""

RETURN = r"""
_value:
  description: The address or nothing.
  type: str
  sample: 198.18.0.11
"""


def address_or_empty(value: Any) -> str:
    """The address or nothing."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s import settings

    return settings.address_or_empty(value)


class FilterModule:
    """The filter address_or_empty."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"address_or_empty": address_or_empty}
