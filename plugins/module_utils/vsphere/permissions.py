# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles of an account on objects of vCenter. Every object is found before the first role is given."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import CLUSTER_KINDS, Tree
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.vms import VmReader

try:
    from pyVmomi import vim
except ImportError:
    vim = None

ROOT = "rootFolder"
# What a role is given on -> the kinds of vCenter, and the word for people.
KINDS = {
    "Folder": (("Folder",), "folder"),
    "Datacenter": (("Datacenter",), "datacenter"),
    "ClusterComputeResource": (CLUSTER_KINDS, "cluster"),
    "Datastore": (("Datastore",), "datastore"),
}


@dataclass(frozen=True)
class Place:
    """One object, and the role that belongs there."""

    moid: str
    kind: str
    path: str
    role: str
    recursive: bool


def places(tree: Tree, root: str, wanted: Sequence[Mapping[str, Any]]) -> list[Place]:
    """All objects, or an error that names every one that is missing or stands for several."""
    found, wrong = [], []
    for entry in wanted:
        if (entry["type"], entry["name"]) == ("Folder", ROOT):
            found.append(Place(root, "Folder", "/", entry["role"], entry["recursive"]))
            continue
        kinds, what = KINDS[entry["type"]]
        try:
            node = tree.one(kinds, entry["name"], what)
        except VsphereError as exc:
            wrong.append(str(exc))
        else:
            found.append(Place(node.moid, node.kind, tree.path(node.moid), entry["role"], entry["recursive"]))
    if wrong:
        raise VsphereError("container", " ".join(wrong), "Nothing was changed.")
    return found


def ensure(session: VsphereSession, principal: str, wanted: Sequence[Mapping[str, Any]], check_mode: bool) -> list[str]:
    """Give the account its roles; say on which objects that changed something."""
    return session.run(lambda: _ensure(session, principal, wanted, check_mode))


def _ensure(session: VsphereSession, principal: str, wanted: Sequence[Mapping[str, Any]], check_mode: bool) -> list[str]:
    root = session.content.rootFolder
    tree = VmReader(session).read_tree({"Datastore": ("name", "parent")})
    manager = session.content.authorizationManager
    ids = {role.name: role.roleId for role in manager.roleList}
    changed = []
    for place in places(tree, root._moId, wanted):
        if place.role not in ids and not check_mode:
            raise VsphereError("role-missing", f"vCenter has no role '{place.role}'.", "Make it first.")
        entity = session.reference(place.kind, place.moid)
        now = [given for given in manager.RetrieveEntityPermissions(entity, False) if _same(given.principal, principal) and not given.group]
        if [(given.roleId, given.propagate) for given in now] == [(ids.get(place.role), place.recursive)]:
            continue
        changed.append(f"{place.role} on {place.path}")
        if not check_mode:
            permission = vim.AuthorizationManager.Permission(entity=entity, principal=principal, group=False, roleId=ids[place.role], propagate=place.recursive)
            manager.SetEntityPermissions(entity, [permission])
    return changed


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()
