# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs have to be looked up."""
from __future__ import annotations

DOCUMENTATION = r"""
name: vms_without_uuid
short_description: Names of the VMs whose BIOS UUID the inventory does not give
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Lists the VM name (C(vsphere_name), or the host's name) of every host without C(vsphere_bios_uuid).
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
- name: Show the VMs to look up
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | cht.k3s.vms_without_uuid(hostvars) }}"
"""

RETURN = r"""
_value:
  description: Names of VMs.
  type: list
  elements: str
  sample: [agent-1]
"""

from typing import Any, Callable, Iterable, Mapping


def vms_without_uuid(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The VM names of the hosts without a BIOS UUID."""
    return [hostvars[host].get("vsphere_name", host) for host in hosts if not hostvars[host].get("vsphere_bios_uuid")]


class FilterModule:
    """Filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"vms_without_uuid": vms_without_uuid}
