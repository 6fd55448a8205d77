# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMs behind hosts."""
from __future__ import annotations

DOCUMENTATION = r"""
name: vm_names
short_description: Names of the VMs behind hosts
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Lists the VM name of every host, C(vsphere_name) where the inventory gives it, else the host's own name; or the
    inventory paths, of which another VM can't have the same.
positional: hostvars, search_by
options:
  _input:
    description: Names of hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
  search_by:
    description: V(name), or V(path) for C(vsphere_path), which every host has to have. P(cht.k3s.vm_search_by#filter) says which.
    type: str
    choices: [name, path]
    default: name
"""

EXAMPLES = r"""
- name: Show the VMs
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | cht.k3s.vm_names(hostvars) }}"
"""

RETURN = r"""
_value:
  description: Names of VMs.
  type: list
  elements: str
  sample: [agent-1]
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def vm_names(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], search_by: str = "name") -> list[str]:
    """What the VM of every host is looked up by."""
    if search_by == "path":
        return [str(hostvars[host]["vsphere_path"]) for host in hosts]
    return [str(hostvars[host].get("vsphere_name") or host) for host in hosts]


class FilterModule:
    """Filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"vm_names": vm_names}
