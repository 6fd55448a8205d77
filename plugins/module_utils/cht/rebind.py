# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that exist are bound to the claims of a county, so that CouchDB goes on with the data on them.

Kubernetes keeps a volume whose claim is gone, but gives it to nobody as long as it points to that claim. It is made to point to the
county's claim by name; the claim, when it is created, then gets this volume and no new one.

The claim that a volume points to is also the only proof of whose data it holds. CouchDB does not check it: on the volume of another of its
nodes, or of another namespace's, it makes empty shards beside the full ones and answers as if all were well. So a volume goes to its last
claim only, and which that was stays noted on it when it is bound again.
"""

from __future__ import annotations

import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.restore_mark import RESTORED_FROM
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import County
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import VOLUMES

Object = dict[str, t.Any]

# On a volume that was bound again: namespace/name of the claim whose data it holds.
DATA_OF = "cht.k3s/data-of"


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
    _refuse_foreign_data(county, wanted, volumes)
    return wanted


def data_of(volume: Object) -> tuple[str, str] | None:
    """Return namespace and name of the claim whose data a volume holds; None when it never had one."""
    noted = str((volume["metadata"].get("annotations") or {}).get(DATA_OF) or "")
    if noted.count("/") == 1:
        namespace, dummy, claim = noted.partition("/")
        return namespace, claim
    owner = volume["spec"].get("claimRef") or {}
    return (str(owner.get("namespace")), str(owner["name"])) if owner.get("name") else None


def unproven(county: County, wanted: dict[str, Object]) -> list[str]:
    """Return notes on volumes that are taken on the word of the definition."""
    notes = []
    for claim, volume in wanted.items():
        name, origin = volume["metadata"]["name"], data_of(volume)
        if origin is None:
            notes.append(f"couchdb.volumes: {name} never had a claim, so nothing but the definition says that it holds the data of {claim}")
        elif not _fits(county, claim, origin):
            notes.append(f"couchdb.volumes_unproven: {name} held the data of {'/'.join(origin)} and becomes {claim}, as the definition wants it")
    return notes


def _fits(county: County, claim: str, origin: tuple[str, str]) -> bool:
    """Tell whether data of a claim is found by the CouchDB node of another: nodes of a cluster have their namespace in their name."""
    return origin[1] == claim and (county["couchdb"]["mode"] == "single" or origin[0] == county.namespace)


def _refuse_foreign_data(county: County, wanted: dict[str, Object], volumes: dict[str, Object]) -> None:
    for claim, volume in wanted.items():
        name, origin = volume["metadata"]["name"], data_of(volume)
        if origin is None or _fits(county, claim, origin) or name in county["couchdb"]["volumes_unproven"]:
            continue
        if origin[1] == claim:
            remedy = (
                f"the nodes of a clustered CouchDB are named after their namespace and would not open it: set namespace: {origin[0]}"
            )
        else:
            mine = {data_of(volumes[item]): item for item in county["couchdb"]["volumes"] if item in volumes}
            order = [mine.get((origin[0], f"{service}-claim0"), "") for service in county.couchdb_services]
            remedy = "CouchDB would start with empty shards and look well: " + (
                f"name them in their order, [{', '.join(order)}]" if all(order) else
                f"name the volumes of the claims {', '.join(f'{service}-claim0' for service in county.couchdb_services)} (kubectl get pv)"
            )
        raise RebindError(
            f"couchdb.volumes: {name} holds the data of the claim {'/'.join(origin)}, not of {county.namespace}/{claim}, and {remedy}. "
            "Only if you know that its data is another's: name it in couchdb.volumes_unproven, too"
        )


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


def point(client: Client, volume: Object, namespace: str, claim: str, origin: tuple[str, str] | None) -> None:
    """Make a volume point to a claim that is still to be created, and note the claim whose data it holds where that is known."""
    owner = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim, "uid": None, "resourceVersion": None}
    metadata: Object = {"resourceVersion": volume["metadata"]["resourceVersion"]}
    if origin:
        metadata["annotations"] = {DATA_OF: "/".join(origin)}
    body = {"metadata": metadata, "spec": {"claimRef": owner}}
    client.json("PATCH", VOLUMES.path(volume["metadata"]["name"]), body=body, content_type="application/merge-patch+json")
