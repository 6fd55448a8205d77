# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection keeps about a cluster in the cluster itself: one ConfigMap, each entry of it written by what it belongs to."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.cht import upkeep
from ansible_collections.cht.k3s.plugins.module_utils.cht.cluster import describe
from ansible_collections.cht.k3s.plugins.module_utils.k3s.clusters import other_cluster, wrong_name
from ansible_collections.cht.k3s.plugins.module_utils.k3s.datastore import RECORD_NAME as NAME
from ansible_collections.cht.k3s.plugins.module_utils.k3s.datastore import RECORD_NAMESPACE as NAMESPACE
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import CONFIGMAPS, NAMESPACES, NODES

ENTRIES = ("cluster", "told", "watch")
# What the cloud provider writes before a VM's UUID.
_VSPHERE = "vsphere://"


def read(client: Client) -> dict[str, Any]:
    """All entries; one that was never written, or that somebody broke, is not among them."""
    data = (client.find(CONFIGMAPS.path(NAME, NAMESPACE)) or {}).get("data") or {}
    found = {}
    for entry in ENTRIES:
        try:
            found[entry] = json.loads(data[entry])
        except (KeyError, ValueError):
            continue
    return found


def write(client: Client, entry: str, value: Any) -> None:
    """Put one entry in its place; the others belong to other field managers, and stay."""
    if entry not in ENTRIES:
        raise ValueError(f"no entry is called {entry}")
    body = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": "cht.k3s"}},
        "data": {entry: json.dumps(value, sort_keys=True)},
    }
    client.apply(CONFIGMAPS.path(NAME, NAMESPACE), body, f"cht.k3s.{entry}", force=True)


def judged(client: Client, before: dict[str, Any], name: str, rename: str, uids: list[str], machines: list[str]) -> str:
    """Why the cluster that the client reaches is not the inventory's; empty where it is."""
    recorded = str((before.get("cluster") or {}).get("name") or "")
    nodes = [str((node.get("spec") or {}).get("providerID") or "") for node in client.items(NODES.collection())] if machines else []
    ids = [entry.removeprefix(_VSPHERE) for entry in nodes if entry.startswith(_VSPHERE)]
    return wrong_name(recorded, name, rename) or other_cluster(cluster_id(client), uids, ids, machines)


def cluster_id(client: Client) -> str:
    """The UID of the namespace kube-system, which no other cluster has."""
    return str((client.get(NAMESPACES.path(NAMESPACE)).get("metadata") or {}).get("uid") or "")


def described(client: Client, before: dict[str, Any], name: str, whole: bool, now: str) -> dict[str, Any]:
    """What the entry of the cluster is to say: its name and id, and, when C(whole), what runs in it and since when.

    C(changed) is the run after which versions, nodes or counties were other ones than before; one that changed nothing leaves everything as it stands.
    """
    last = before.get("cluster") or {}
    found = {**last, "name": name, "id": cluster_id(client)}
    if whole:
        nodes = list(client.items(NODES.collection()))
        running = upkeep.parts(client, [])
        found["versions"] = {
            "k3s": sorted({((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion") or "" for node in nodes}),
            "cpi": running["cpi"], "csi": running["csi"],
            "counties": {county["name"]: " and ".join(county["versions"]) for county in describe(client)},
        }
        found["nodes"] = {node["metadata"]["name"]: str((node.get("spec") or {}).get("providerID") or "") for node in nodes}
        if found != last:
            found["changed"] = now
    return found
