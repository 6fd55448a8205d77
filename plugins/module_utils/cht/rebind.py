# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that exist are bound to the claims of a county, so that CouchDB goes on with the data on them.

Kubernetes keeps a volume whose claim is gone, but gives it to nobody as long as it points to that claim. It is made to point to the
county's claim by name; the claim, when it is created, then gets this volume and no new one.
"""

from __future__ import annotations

import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.restore_mark import RESTORED_FROM
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import County
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import VOLUMES

Object = dict[str, t.Any]


class RebindError(Exception):
    """A volume can't be had; the message says why and what to do."""


def find(county: County, volumes: dict[str, Object], claims: dict[str, dict[str, Object]]) -> dict[str, Object]:
    """Return claim -> volume to be bound for a county; empty when all its claims are there."""
    wanted: dict[str, Object] = {}
    for service, name in zip(county.couchdb_services, county["couchdb"]["volumes"]):
        claim = f"{service}-claim0"
        there = claims.get(county.namespace, {}).get(claim)
        if there is not None:
            bound = (there.get("spec") or {}).get("volumeName")
            if bound and bound != name and not _restored(volumes.get(bound)):
                raise RebindError(f"couchdb.volumes: claim {claim} is bound to the volume {bound}, not {name}: a claim keeps its volume")
            continue
        volume = volumes.get(name)
        if volume is None:
            raise RebindError(f"couchdb.volumes: there is no PersistentVolume {name}; see kubectl get pv")
        owner = volume["spec"].get("claimRef") or {}
        place = (owner.get("namespace"), owner.get("name"))
        if owner and place != (county.namespace, claim) and claims.get(str(place[0]), {}).get(str(place[1])) is not None:
            raise RebindError(f"couchdb.volumes: {name} belongs to the claim {place[0]}/{place[1]}, which is still there: remove that county first")
        if volume["metadata"].get("deletionTimestamp"):
            raise RebindError(f"couchdb.volumes: {name} is being deleted")
        wanted[claim] = volume
    return wanted


def outdated(county: County, volumes: dict[str, Object], claims: dict[str, dict[str, Object]]) -> list[str]:
    """Return notes on claims that have other volumes than the definition names because a restore gave them those."""
    notes = []
    for service, name in zip(county.couchdb_services, county["couchdb"]["volumes"]):
        claim = f"{service}-claim0"
        bound = ((claims.get(county.namespace, {}).get(claim) or {}).get("spec") or {}).get("volumeName")
        if bound and bound != name and _restored(volumes.get(bound)):
            notes.append(f"couchdb.volumes: since a restore claim {claim} has the volume {bound}, not {name}: take couchdb.volumes out of the definition")
    return notes


def _restored(volume: Object | None) -> bool:
    return RESTORED_FROM in ((volume or {}).get("metadata", {}).get("annotations") or {})


def point(client: Client, volume: Object, namespace: str, claim: str) -> None:
    """Make a volume point to a claim that is still to be created."""
    owner = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim, "uid": None, "resourceVersion": None}
    metadata = {"resourceVersion": volume["metadata"]["resourceVersion"]}
    body = {"metadata": metadata, "spec": {"claimRef": owner}}
    client.json("PATCH", VOLUMES.path(volume["metadata"]["name"]), body=body, content_type="application/merge-patch+json")
