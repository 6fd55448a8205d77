# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: csi_obstacles
short_description: What still needs the vSphere CSI driver
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Volumes, attachments, snapshots and waiting claims that could never be detached, deleted or bound without the driver.
options:
  _input:
    description: Lists of objects under the keys volumes, attachments, snapshots, claims and classes.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse to remove a driver that is needed
  ansible.builtin.assert:
    that: cluster.objects | cht.k3s.csi_obstacles is falsy
"""

RETURN = r"""
_value:
  description: One entry for each kind of object, with names; empty when the driver can go.
  type: list
  elements: str
"""


def csi_obstacles(objects: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What is in the way."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import removal

    return removal.obstacles(*(list(objects[key]) for key in ("volumes", "attachments", "snapshots", "claims", "classes")))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"csi_obstacles": csi_obstacles}
