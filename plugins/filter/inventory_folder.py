# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: inventory_folder
short_description: The folder where relative paths of an inventory's variables start
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Returns the folder of the first inventory source that is a file or a folder, else C(fallback).
  - Ansible's own C(inventory_dir) knows no folder for a localhost that is in no inventory.
positional: _input, fallback
options:
  _input:
    description: The sources, C(ansible_inventory_sources).
    type: list
    elements: str
    required: true
  fallback:
    description: The folder when no source has one.
    type: str
    default: .
"""

EXAMPLES = r"""
- name: Where files of the inventory are
  ansible.builtin.debug:
    msg: "{{ ansible_inventory_sources | cht.k3s.inventory_folder }}"
"""

RETURN = r"""
_value:
  description: The folder.
  type: str
  sample: /home/ops/inventories/example
"""


def inventory_folder(sources: Any, fallback: str = ".") -> str:
    """The folder of the inventory."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.inputs import folder_of

    return folder_of(sources or [], fallback)


class FilterModule:
    """The filter inventory_folder."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"inventory_folder": inventory_folder}
