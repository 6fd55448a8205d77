# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster needs besides running, for the report: versions that fit together, backups that are young, and the counties that are meant."""

from __future__ import annotations

import datetime
import json
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.cht.k3s.plugins.module_utils import versions
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import COMPLETE, NAMESPACE, BackupSet, Store
from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import parse_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import image_tag
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import NODES
from ansible_collections.cht.k3s.plugins.module_utils.kube.status import workload_path
from ansible_collections.cht.k3s.plugins.module_utils.manifest import cpi, csi

Object = dict[str, t.Any]

_PARALLEL, _PATIENCE = 8, 2.0
_SNAPSHOTS = "/apis/k3s.cattle.io/v1/etcdsnapshotfiles"


def parts(client: Client, k3s: list[str]) -> Object:
    """Return the versions of CPI and CSI that run, those of the table's row for the k3s that runs, and why they don't fit; empty where there is none."""

    def version(kind: str, namespace: str, name: str, container: str) -> str:
        pod = ((client.find(workload_path(kind, namespace, name)) or {}).get("spec") or {}).get("template", {}).get("spec", {})
        image = next((item.get("image", "") for item in pod.get("containers") or [] if item["name"] == container), "")
        return versions.plain(image_tag(image))

    found = {
        "cpi": version("DaemonSet", cpi.NAMESPACE, cpi.DAEMON_SET, cpi.CONTAINER),
        "csi": version("Deployment", csi.NAMESPACE, csi.CONTROLLER, csi.CONTROLLER),
    }
    newest = max(k3s, key=_numbers, default="")
    try:
        row = versions.row_of(newest) if newest else None
        wrong = versions.conflicts(newest, found["cpi"], found["csi"]) if newest and all(found.values()) else {}
    except versions.VersionError:
        # What somebody built is in no table.
        row, wrong = None, {}
    return {**found, "table": {"k3s": row.k3s, "cpi": row.cpi, "csi": row.csi} if row else {}, "conflicts": wrong}


def _numbers(version: str) -> list[int]:
    return [int(part) for part in versions.plain(version).split(".") if part.isdigit()]


def volume_use(client: Client, nodes: t.Iterable[str]) -> dict[tuple[str, str], float]:
    """Return which share of each claim's volume is used, as the kubelets of these nodes tell; of one that does not answer nothing is known."""

    def ask(name: str) -> Object:
        try:
            return dict(json.loads(client.raw("GET", f"{NODES.path(name)}/proxy/stats/summary", patience=_PATIENCE)))
        except (ApiError, ValueError, TypeError):
            return {}

    names = list(nodes)
    if not names:
        return {}
    with ThreadPoolExecutor(max_workers=min(_PARALLEL, len(names))) as pool:
        mounted = [volume for answer in pool.map(ask, names) for pod in answer.get("pods") or [] for volume in pod.get("volume") or []]
    return {
        (claim["namespace"], claim["name"]): volume["usedBytes"] / volume["capacityBytes"]
        for volume in mounted if (claim := volume.get("pvcRef")) and volume.get("capacityBytes") and volume.get("usedBytes") is not None
    }


def days_since(text: str, now: datetime.datetime) -> float:
    """Return how many days ago a time of Kubernetes was."""
    return (now - datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))).total_seconds() / 86400


def backups(client: Client, now: datetime.datetime, namespace: str = NAMESPACE) -> dict[str, Object]:
    """Return the newest complete backup set of each county."""
    newest: dict[str, BackupSet] = {}
    for item in Store(client, namespace).all():
        if item.state == COMPLETE:
            newest[item.county] = item
    return {
        county: {
            "set": item.name, "taken": item.taken, "days": round(days_since(item.taken, now), 1),
            "size": float(sum(parse_quantity(volume.size) for volume in item.volumes)),
        }
        for county, item in newest.items()
    }


def snapshot(client: Client, now: datetime.datetime) -> Object | None:
    """Return the newest snapshot of etcd that is whole; empty where there is none, None where k3s does not list them."""
    try:
        found = [item for item in client.items(_SNAPSHOTS) if (item.get("status") or {}).get("readyToUse")]
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    if not found:
        return {}
    item = max(found, key=lambda item: str(item["status"]["creationTime"]))
    status, spec = item["status"], item.get("spec") or {}
    return {
        "name": spec.get("snapshotName") or item["metadata"]["name"], "node": spec.get("nodeName") or "", "taken": status["creationTime"],
        "days": round(days_since(status["creationTime"], now), 1), "size": float(parse_quantity(status.get("size") or 0)),
    }
