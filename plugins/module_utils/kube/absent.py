# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete objects one after the other, each gone before the next."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import NODES, PODS, Resources


_SHOWN = 5


class RemovalError(Exception):
    """An object that does not go away, and why."""


def name_of(entry: dict[str, Any]) -> str:
    """'Deployment vmware-system-csi/vsphere-csi-controller'."""
    place = f"{entry['namespace']}/" if entry.get("namespace") else ""
    return f"{entry['kind']} {place}{entry['name']}"


class Removal:
    """One run; C(removed) names, also after a failure, what was there and is gone (in check mode: would go)."""

    def __init__(self, client: Client, timeout: float, check_mode: bool, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self.client = client
        self.timeout = timeout
        self.check_mode = check_mode
        self.clock = clock
        self.sleep = sleep
        self.resources = Resources(client)
        self.removed: list[str] = []

    def run(self, entries: list[dict[str, Any]]) -> None:
        """Delete the entries in their order; what is not there, or of an unknown kind, is done already."""
        for entry in entries:
            try:
                self._remove(entry)
            except ApiError as error:
                raise RemovalError(f"{name_of(entry)} can't be deleted: {error.message}") from error

    def _remove(self, entry: dict[str, Any]) -> None:
        resource = self.resources.of(entry["api_version"], entry["kind"])
        if resource is None:
            return
        path = resource.path(entry["name"], entry.get("namespace"))
        if self.client.find(path) is None:
            return
        if self.check_mode:
            self.removed.append(name_of(entry))
            return
        try:
            self.client.json("DELETE", path, {"propagationPolicy": "Foreground"})
        except ApiError as error:
            if error.status != 404:
                raise
        # Also one that is still there after the wait is on its way out.
        self.removed.append(name_of(entry))
        self._until_gone(path, entry)

    def _until_gone(self, path: str, entry: dict[str, Any]) -> None:
        deadline = self.clock() + self.timeout
        while True:
            found = self.client.find(path)
            if found is None:
                return
            if self.clock() > deadline:
                holders = ", ".join(found["metadata"].get("finalizers") or []) or "nothing that it names"
                raise RemovalError(f"{name_of(entry)} is still there after {self.timeout:.0f} s; it is held by {holders}{self._pods(found, entry)}")
            self.sleep(0.5)

    def _pods(self, found: dict[str, Any], entry: dict[str, Any]) -> str:
        """A workload goes after its pods, and a pod on a dead machine does not go: which ones, and what to do."""
        labels = ((found.get("spec") or {}).get("selector") or {}).get("matchLabels") if entry["api_version"] == "apps/v1" else None
        if not labels:
            return ""
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}
        try:
            pods = list(self.client.items(PODS.collection(entry.get("namespace")), query))
            dead = {node["metadata"]["name"] for node in self.client.items(NODES.collection()) if not _is_ready(node)}
        except ApiError:
            return ""
        if not pods:
            return ""
        where = {pod["metadata"]["name"]: str((pod.get("spec") or {}).get("nodeName") or "no node") for pod in pods}
        named = ", ".join(f"{pod} on {node}{' (not Ready)' if node in dead else ''}" for pod, node in sorted(where.items())[:_SHOWN])
        more = f" and {len(where) - _SHOWN} more" if len(where) > _SHOWN else ""
        text = f": its pods {named}{more} have not ended"
        if dead.intersection(where.values()):
            text += ". Start the machines that are not Ready again, or take them out of the cluster (playbook remove_node); then run again"
        return text


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)
