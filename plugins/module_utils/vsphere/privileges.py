# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The four vCenter roles of the service account: one table for the check and for the playbook that makes them."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession

# Role -> (privileges, the places where it belongs). The places of CNS-HOST-CONFIG-STORAGE are clusters with vSAN's file
# service. Only file volumes need it, which the projects do not use, so the preflight knows no such place.
DATASTORE_ROLE = "CNS-DATASTORE"
ROLES: dict[str, tuple[tuple[str, ...], str]] = {
    DATASTORE_ROLE: (("Datastore.FileManagement",), "datastores"),
    "CNS-HOST-CONFIG-STORAGE": (("Host.Config.Storage",), "file_clusters"),
    "CNS-VM": (("VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.AddRemoveDevice"), "vms"),
    "CNS-SEARCH-AND-SPBM": (("Cns.Searchable", "StorageProfile.View"), "root"),
    "ReadOnly": (("System.Read", "System.View"), "readable"),
}


@dataclass(frozen=True)
class Place:
    """An object on which privileges are needed."""

    kind: str
    moid: str
    path: str


@dataclass(frozen=True)
class Missing:
    """A privilege that the account does not have."""

    privilege: str
    role: str
    path: str


def missing_privileges(session: VsphereSession, places: Mapping[str, Sequence[Place]]) -> list[Missing]:
    """Ask vCenter, with one request for each role, what the account may not do. The CSI driver asks the same way."""
    manager = session.content.authorizationManager
    user = session.content.sessionManager.currentSession.userName
    result: list[Missing] = []
    for role, (privileges, where) in ROLES.items():
        by_moid = {place.moid: place for place in places.get(where, ())}
        if not by_moid:
            continue
        entities = [session.reference(place.kind, place.moid) for place in by_moid.values()]
        answer: Sequence[Any] = manager.HasUserPrivilegeOnEntities(entities, user, list(privileges)) or ()
        result.extend(
            Missing(item.privId, role, by_moid[entry.entity._moId].path)
            for entry in answer
            for item in entry.privAvailability
            if not item.isGranted
        )
    return result
