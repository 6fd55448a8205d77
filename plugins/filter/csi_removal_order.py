# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: csi_removal_order
short_description: The objects of the vSphere CSI driver in the order in which they can be deleted
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Classes first, so that no new volume is asked for, then the node plugin, the controller, and what both used.
positional: _input, snapshot_classes
options:
  _input:
    description: The StorageClasses of the cluster.
    type: list
    elements: dict
    required: true
  snapshot_classes:
    description: Its VolumeSnapshotClasses.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Remove the driver
  cht.k3s.kube_absent:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    objects: "{{ cluster.objects.classes | cht.k3s.csi_removal_order(cluster.objects.snapshot_classes) }}"
"""

RETURN = r"""
_value:
  description: The objects, as M(cht.k3s.kube_absent) takes them.
  type: list
  elements: dict
"""


def csi_removal_order(classes: list[dict[str, Any]], snapshot_classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects to delete."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import removal

    return removal.order(list(classes), list(snapshot_classes))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"csi_removal_order": csi_removal_order}
