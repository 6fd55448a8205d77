# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an object stands in vCenter's inventory: paths, datacenters and clusters, worked out from one listing."""
from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Callable, Iterable

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError

CLUSTER_KINDS = ("ClusterComputeResource", "ComputeResource")
POOL_KINDS = ("ResourcePool", "VirtualApp")

# What is listed to build the tree: everything that can stand between the root folder and a VM.
TREE_PROPERTIES = {
    "Folder": ("name", "parent"),
    "Datacenter": ("name", "parent"),
    "ComputeResource": ("name", "parent"),
    "HostSystem": ("name", "parent"),
    "ResourcePool": ("name", "parent"),
}

_ESCAPED = {"%2f": "/", "%5c": "\\", "%25": "%"}
_ESCAPES = re.compile("|".join(_ESCAPED), re.IGNORECASE)


def plain_name(name: str) -> str:
    """vCenter escapes exactly three characters in names; anything else that looks escaped is meant literally."""
    return _ESCAPES.sub(lambda match: _ESCAPED[match.group(0).lower()], name)


@dataclass(frozen=True)
class Node:
    """A container in the inventory. The name is as vCenter stores it, so that '/' always separates levels."""

    moid: str
    kind: str
    name: str
    parent: str | None


class Tree:
    """All containers of a vCenter that the account can see."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = {node.moid: node for node in nodes}
        self._paths: dict[str, str] = {}

    def get(self, moid: str | None) -> Node | None:
        """The container, or None if the account cannot see it."""
        return self._nodes.get(moid) if moid else None

    def nodes(self, kind: str) -> list[Node]:
        """All containers of a kind."""
        return [node for node in self._nodes.values() if node.kind == kind]

    def ancestors(self, moid: str) -> list[Node]:
        """Everything above an object that the account can see, nearest first."""
        result = []
        node = self.get(moid)
        while node is not None and (node := self.get(node.parent)) is not None:
            result.append(node)
        return result

    def _ancestor(self, moid: str | None, kinds: tuple[str, ...]) -> Node | None:
        node = self.get(moid)
        while node is not None and node.kind not in kinds:
            node = self.get(node.parent)
        return node

    def datacenter(self, moid: str | None) -> Node | None:
        """The datacenter that holds the object."""
        return self._ancestor(moid, ("Datacenter",))

    def cluster(self, moid: str | None) -> Node | None:
        """The cluster (or stand-alone host) that holds the object."""
        return self._ancestor(moid, CLUSTER_KINDS)

    def path(self, moid: str | None) -> str:
        """The inventory path, as in /DC0/vm/cht. The root folder itself has no name in it."""
        if not moid or moid not in self._nodes:
            return ""
        if moid not in self._paths:
            node = self._nodes[moid]
            self._paths[moid] = f"{self.path(node.parent)}/{node.name}"
        return self._paths[moid]

    def one(self, kinds: tuple[str, ...], wanted: str, what: str) -> Node:
        """The container of this id, path, name or end of a path. None, and several of a name, are errors that help."""
        candidates = [node for node in self._nodes.values() if node.kind in kinds]
        matches = [node for node in candidates if node.moid == wanted] or [node for node in candidates if self._matcher(wanted)(node)]
        if len(matches) > 1:
            places = " and ".join(sorted(f"{self.path(node.moid)} ({node.moid})" for node in matches))
            raise VsphereError("container-ambiguous", f"The {what} '{wanted}' stands for {places}.", "Give the whole path or the id of the one that is meant.")
        if matches:
            return matches[0]
        known = sorted(self.path(node.moid) for node in candidates)
        close = difflib.get_close_matches(wanted, known + [plain_name(node.name) for node in candidates], n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"It has: {', '.join(known[:20]) or 'none'}."
        raise VsphereError(
            "container-missing",
            f"vCenter has no {what} '{wanted}' that this account can see.",
            f"{hint} Check the spelling and the account's read right there.",
        )

    def _matcher(self, wanted: str) -> Callable[[Node], bool]:
        path = wanted.rstrip("/")
        if path.startswith("/"):
            return lambda node: self.path(node.moid) == path or plain_name(self.path(node.moid)) == path
        return lambda node: (
            plain_name(node.name) == path or node.name == path or self.path(node.moid).endswith(f"/{path}")
        )
