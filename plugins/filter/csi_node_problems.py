# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: csi_node_problems
short_description: Why the vSphere CSI driver is not usable on every node
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Compares the CSINodes and CSINodeTopologies of a cluster with its nodes.
positional: _input, nodes, topologies
options:
  _input:
    description: The CSINodes.
    type: list
    elements: dict
    required: true
  nodes:
    description: The Nodes.
    type: list
    elements: dict
  topologies:
    description: The CSINodeTopologies; not looked at when left out.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Show what is missing
  ansible.builtin.debug:
    msg: "{{ csinodes | cht.k3s.csi_node_problems(nodes) }}"
"""

RETURN = r"""
_value:
  description: One sentence per node that is not usable.
  type: list
"""


def csi_node_problems(csi_nodes: list[dict[str, Any]], nodes: list[dict[str, Any]], topologies: list[dict[str, Any]] | None = None) -> list[str]:
    """Problems, one per node."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import storage

    return storage.csi_node_problems(list(csi_nodes), list(nodes), None if topologies is None else list(topologies))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"csi_node_problems": csi_node_problems}
