# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Empty a node before work on it, and take it back into use.

A node that people cordoned themselves stays cordoned: only what was cordoned here is taken back, told by an annotation.
"""

from __future__ import annotations

import urllib.parse

from . import state
from .api import Api, ApiError, is_true
from .system import NodeError, System

ANNOTATION = "k3s.cht/cordoned-by"
MERGE = "application/merge-patch+json"
# A node whose kubelet is silent for this long ends no pod by itself: they are told to go, and nothing more is waited for.
SILENT = 60.0


class Drainer:
    """Runs on a healthy server."""

    def __init__(self, system: System, check_mode: bool = False) -> None:
        self.system = system
        self.check_mode = check_mode

    def run(self, name: str, wanted: str, timeout: int, grace: int, reason: str, detach: bool = False) -> dict:
        """`wanted` is drained, cordoned or uncordoned."""
        try:
            api = state.server_api(self.system, timeout=15)
            try:
                return self._run(api, name, wanted, timeout, grace, reason, detach)
            finally:
                api.close()
        except ApiError as error:
            raise NodeError(f"Node {name} was not {wanted}: {error}") from error

    def _run(self, api: Api, name: str, wanted: str, timeout: int, grace: int, reason: str, detach: bool) -> dict:
        node = api.node(name)
        if node is None:
            if wanted == "uncordoned":
                raise NodeError(f"There is no Node {name}. See `kubectl get nodes`; k3s_node_name may differ from the host's name.")
            return {"changed": False, "evicted": []}
        path = "/api/v1/nodes/" + urllib.parse.quote(name)
        cordoned = bool((node.get("spec") or {}).get("unschedulable"))
        ours = (node["metadata"].get("annotations") or {}).get(ANNOTATION)
        if wanted == "uncordoned":
            if not ours:
                return {"changed": False, "evicted": []}
            if not self.check_mode:
                api.request("PATCH", path, {"spec": {"unschedulable": None}, "metadata": {"annotations": {ANNOTATION: None}}}, MERGE)
            return {"changed": True, "evicted": []}
        if not cordoned and not self.check_mode:
            api.request("PATCH", path, {"spec": {"unschedulable": True}, "metadata": {"annotations": {ANNOTATION: reason}}}, MERGE)
        evicted = []
        if wanted == "drained":
            evicted = [_label(pod) for pod in pods_to_leave(api, name)]
            if not self.check_mode:
                left = self._evict(api, name, timeout, grace)
                if left:
                    return {"changed": not cordoned or bool(evicted), "evicted": evicted, "left": left}
                if detach:
                    self._wait_detached(api, name, timeout)
        return {"changed": not cordoned or bool(evicted), "evicted": evicted}

    def _evict(self, api: Api, name: str, timeout: int, grace: int) -> list:
        """Ask again and again for what a disruption budget holds back, until all are gone or time is up.

        Gives the pods that are left: where the node is silent none ends before its machine is cured, which this must not forbid.
        """
        deadline = self.system.now() + timeout
        held: dict = {}
        reported = self.system.now()
        while True:
            pods = pods_to_leave(api, name)
            if not pods:
                return []
            if is_true(api.node(name) or {}, "Ready"):
                reported = self.system.now()
            if self.system.now() - reported >= SILENT and all(pod["metadata"].get("deletionTimestamp") for pod in pods):
                return [_label(pod) for pod in pods]
            if self.system.now() >= deadline:
                waiting = "; ".join(f"{_label(pod)} ({held.get(_label(pod)) or 'is still ending'})" for pod in pods)
                raise NodeError(
                    f"Node {name} is not empty after {timeout} s: {waiting}. It stays cordoned and nothing else was done to it."
                    " Give the pod's disruption budget room (more replicas), or a longer time, and run again."
                )
            for pod in pods:
                if not pod["metadata"].get("deletionTimestamp"):
                    held[_label(pod)] = self._evict_one(api, pod, grace)
            self.system.sleep(2)

    def _wait_detached(self, api: Api, name: str, timeout: int) -> None:
        """Until no volume is attached: one that is left behind could not be used elsewhere."""
        deadline = self.system.now() + timeout
        while True:
            items = api.get("/apis/storage.k8s.io/v1/volumeattachments").get("items") or []
            left = [((item["spec"].get("source") or {}).get("persistentVolumeName") or item["metadata"]["name"])
                    for item in items if item["spec"].get("nodeName") == name]
            if not left:
                return
            if self.system.now() >= deadline:
                raise NodeError(
                    f"Node {name} is empty, but after {timeout} s these volumes are still attached to it: {', '.join(sorted(left))}."
                    " See the logs of the vsphere-csi-controller; detach them before the machine goes."
                )
            self.system.sleep(2)

    def _evict_one(self, api: Api, pod: dict, grace: int) -> str:
        meta = pod["metadata"]
        options: dict = {"preconditions": {"uid": meta["uid"]}}
        if grace >= 0:
            options["gracePeriodSeconds"] = grace
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": meta["name"], "namespace": meta["namespace"]}, "deleteOptions": options}
        try:
            api.request("POST", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction", body)
        except ApiError as error:
            if error.status == 429:
                return "a disruption budget allows no eviction now"
            if error.status not in (404, 409):
                raise
        return ""


def pods_to_leave(api: Api, name: str) -> list:
    """The pods that have to go: not those of DaemonSets, which would come back, nor static or finished ones."""
    query = urllib.parse.urlencode({"fieldSelector": f"spec.nodeName={name}"})
    found = []
    for pod in api.get(f"/api/v1/pods?{query}").get("items") or []:
        meta = pod["metadata"]
        owners = {owner.get("kind") for owner in meta.get("ownerReferences") or [] if owner.get("controller")}
        static = "kubernetes.io/config.mirror" in (meta.get("annotations") or {})
        finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if "DaemonSet" not in owners and not static and not finished:
            found.append(pod)
    return found


def busy_pods(api: Api, name: str) -> list:
    """The names of these."""
    return [_label(pod) for pod in pods_to_leave(api, name)]


def _label(pod: dict) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
