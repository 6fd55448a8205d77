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
  - Lists the VM name of every host, C(vsphere_name) where the inventory gives it, else the host's own name.
positional: hostvars
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


def vm_names(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The VM name of every host."""
    return [str(hostvars[host].get("vsphere_name") or host) for host in hosts]


class FilterModule:
    """Filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"vm_names": vm_names}
