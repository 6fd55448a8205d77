# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By what the VMs behind hosts can be looked up."""
from __future__ import annotations

DOCUMENTATION = r"""
name: vm_search_by
short_description: By what the VMs behind hosts are looked up
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Says V(path) if the inventory gives C(vsphere_path) for all hosts, else V(name), for the option C(search_by) of modules.
  - Names are not unique in vCenter. Managed object IDs are, but another vCenter has the same ones for other VMs. Give it
    all hosts of the cluster, so that plays with a part of them get the same answer.
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
- name: Show how VMs are looked up
  ansible.builtin.debug:
    msg: "{{ groups['agent'] | cht.k3s.vm_search_by(hostvars) }}"
"""

RETURN = r"""
_value:
  description: V(path) or V(name).
  type: str
  sample: path
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def vm_search_by(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    """'path' if all hosts have one."""
    return "path" if all(hostvars[host].get("vsphere_path") for host in hosts) else "name"


class FilterModule:
    """Filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"vm_search_by": vm_search_by}
