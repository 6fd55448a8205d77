# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: rotation_problems
short_description: What else than a password would change
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Compares the workloads to apply with those in the cluster, and looks at what applying them with the password in use would change,
    so that a change of the password does not become an upgrade or bring other settings with it.
positional: _input, live, predicted
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
  predicted:
    description: RV(cht.k3s.kube_apply#module:objects) of a run in check mode with the password in use.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Refuse to change more than the password
  ansible.builtin.assert:
    that: objects | cht.k3s.rotation_problems(cluster.objects.values(), prediction.objects) is falsy
"""

RETURN = r"""
_value:
  description: One sentence for each difference; empty when only the password changes.
  type: list
  elements: str
"""


def rotation_problems(objects: list[dict[str, Any]], live: list[dict[str, Any]], predicted: list[dict[str, Any]] | None = None) -> list[str]:
    """The differences."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import rotation

    return rotation.problems(list(objects), list(live), list(predicted or []))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"rotation_problems": rotation_problems}
