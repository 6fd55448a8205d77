# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: rotation_baseline
short_description: Objects with the configuration hashes of the workloads that run
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - The hash on a pod template follows the password. With the hash of what runs in its place, applying the objects in check mode shows
    everything else that would change.
positional: _input, live
options:
  _input:
    description: The objects to apply.
    type: list
    elements: dict
    required: true
  live:
    description: The workloads in the cluster; an empty mapping stands for one that does not exist.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: See what would change beside the password
  cht.k3s.kube_apply:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    objects: "{{ objects_with_the_password_in_use | cht.k3s.rotation_baseline(cluster.objects.values()) }}"
  check_mode: true
"""

RETURN = r"""
_value:
  description: The objects.
  type: list
  elements: dict
"""


def rotation_baseline(objects: list[dict[str, Any]], live: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import rotation

    return rotation.baseline(list(objects), list(live))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"rotation_baseline": rotation_baseline}
