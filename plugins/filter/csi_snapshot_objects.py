# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: csi_snapshot_objects
short_description: The snapshot-controller's manifests with our settings in them
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Patches the objects of the official manifests by their structure, refuses manifests that are not built as expected, and adds a
    VolumeSnapshotClass for the vSphere driver.
positional: _input, settings
options:
  _input:
    description: The objects of the manifests, as M(cht.k3s.manifest_info) returns them.
    type: list
    elements: dict
    required: true
  settings:
    description: "What to put in: image, image_registry, replicas, class_name and deletion_policy."
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Patch the manifests
  ansible.builtin.set_fact:
    patched: "{{ manifests.documents | cht.k3s.csi_snapshot_objects({'replicas': 2}) }}"
"""

RETURN = r"""
_value:
  description: The objects to apply.
  type: list
  elements: dict
"""


def csi_snapshot_objects(documents: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The patched objects."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import snapshots
    from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError
    from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError

    try:
        return snapshots.objects(list(documents), dict(settings))
    except (ManifestError, SettingsError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"csi_snapshot_objects": csi_snapshot_objects}
