# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: storage_class_objects
short_description: StorageClasses of the vSphere CSI driver
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Makes the objects of the classes, sees to it that exactly one is the default, and explains a change that Kubernetes does not allow.
positional: _input, live, demote
options:
  _input:
    description: The classes wanted; see the role's variable C(storageclass_classes).
    type: list
    elements: dict
    required: true
  live:
    description: The StorageClasses of the cluster.
    type: list
    elements: dict
  demote:
    description: Names of other classes that lose their mark as default.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: One class that keeps data
  ansible.builtin.debug:
    msg: "{{ [{'name': 'vmware-sc', 'default': true}] | cht.k3s.storage_class_objects([], ['local-path']) }}"
"""

RETURN = r"""
_value:
  description: The objects to apply.
  type: list
"""


def storage_class_objects(classes: list[dict[str, Any]], live: list[dict[str, Any]], demote: list[str]) -> list[dict[str, Any]]:
    """The StorageClasses to apply."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import storage
    from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError

    try:
        return storage.objects(list(classes), list(live), list(demote))
    except SettingsError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"storage_class_objects": storage_class_objects}
