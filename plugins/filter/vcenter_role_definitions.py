# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vCenter roles that have to be made."""
from __future__ import annotations

DOCUMENTATION = r"""
name: vcenter_role_definitions
short_description: The vCenter roles of the service account with their privileges
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Lists the roles that vCenter does not have by itself, from the same table that the preflight checks.
options:
  _input:
    description: Names of roles to leave out.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the roles
  ansible.builtin.debug:
    msg: "{{ [] | cht.k3s.vcenter_role_definitions }}"
"""

RETURN = r"""
_value:
  description: Roles.
  type: list
  elements: dict
  sample:
    - name: CNS-DATASTORE
      privileges: [Datastore.FileManagement]
"""

from collections.abc import Callable, Iterable
from typing import Any


BUILT_IN = ("ReadOnly",)


def vcenter_role_definitions(without: Iterable[str]) -> list[dict[str, Any]]:
    """The roles to make."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.vsphere.privileges import ROLES

    skip = {*without, *BUILT_IN}
    return [{"name": name, "privileges": list(privileges)} for name, (privileges, _where) in ROLES.items() if name not in skip]


class FilterModule:
    """Filter plugin."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"vcenter_role_definitions": vcenter_role_definitions}
