# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which vCenter role belongs where."""
from __future__ import annotations

DOCUMENTATION = r"""
name: vcenter_role_places
short_description: Which vCenter role the service account needs on which object
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Makes an entry for every object that is given, with the role that belongs there.
options:
  _input:
    description: Names of objects under C(root), C(datastores), C(file_clusters),
      C(vms) (folders) and C(readable) (datacenters).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is assigned
  ansible.builtin.debug:
    msg: "{{ {'root': ['rootFolder'], 'vms': ['k3s']} | cht.k3s.vcenter_role_places }}"
"""

RETURN = r"""
_value:
  description: One entry for each object.
  type: list
  elements: dict
  sample:
    - role: CNS-VM
      type: Folder
      name: k3s
      recursive: true
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


# Place -> (kind of object, whether all below it is meant too)
KINDS = {
    "root": ("Folder", False),
    "datastores": ("Datastore", False),
    "file_clusters": ("ClusterComputeResource", True),
    "vms": ("Folder", True),
    "readable": ("Datacenter", True),
}


def vcenter_role_places(places: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """One entry for each object."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.vsphere.privileges import ROLES

    return [
        {"role": role, "type": KINDS[where][0], "name": name, "recursive": KINDS[where][1]}
        for role, (_privileges, where) in ROLES.items()
        for name in places.get(where, ())
    ]


class FilterModule:
    """Filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"vcenter_role_places": vcenter_role_places}
