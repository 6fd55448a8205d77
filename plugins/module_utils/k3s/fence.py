# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that is lost with volumes attached to it: let the cluster use them elsewhere.

Kubernetes does not detach the volumes of a node that is silent, as it may still write to them. The taint out-of-service says that
it does not: then pods are deleted by force and volumes detached at once. That is only true while the VM is off.
"""

from __future__ import annotations

import urllib.parse

from . import state
from .api import Api, ApiError, is_true
from .drain import MERGE
from .system import NodeError, System

TAINT = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


class Fencer:
    """Runs on a healthy server."""

    def __init__(self, system: System, check_mode: bool = False) -> None:
        self.system = system
        self.check_mode = check_mode

    def run(self, name: str, wanted: str, timeout: int) -> dict:
        """`wanted` is silent (only looked at), fenced or released."""
        try:
            api = state.server_api(self.system, timeout=15)
            try:
                node = api.node(name)
                if node is None:
                    raise NodeError(f"There is no Node {name}, so nothing of it holds a volume. See `kubectl get nodes`.")
                return {"silent": self._silent, "fenced": self._fence, "released": self._release}[wanted](api, name, node, timeout)
            finally:
                api.close()
        except ApiError as error:
            raise NodeError(f"Node {name} was not {wanted}: {error}") from error

    def _silent(self, api: Api, name: str, node: dict, dummy: int) -> dict:
        if is_true(node, "Ready"):
            raise NodeError(
                f"Node {name} is Ready: it runs and writes to its volumes, so it is not fenced. Nothing was changed."
                " If its machine was lost just now, wait a minute until the cluster has noticed."
            )
        return {"changed": False, "attached": self._attached(api, name), "pods": self._pods(api, name)}

    def _fence(self, api: Api, name: str, node: dict, timeout: int) -> dict:
        before = self._silent(api, name, node, timeout)
        changed = self._taint(api, name, node, True)
        if not self.check_mode:
            self._wait_free(api, name, timeout)
        return dict(before, changed=changed)

    def _release(self, api: Api, name: str, node: dict, timeout: int) -> dict:
        if not _tainted(node):
            return {"changed": False}
        deadline = self.system.now() + timeout
        while not is_true(node, "Ready") and not self.check_mode:
            if self.system.now() >= deadline:
                raise NodeError(
                    f"Node {name} is not Ready after {timeout} s, so it keeps the taint {TAINT['key']}. Start its machine, or remove the node"
                    " (playbooks/remove_node.yml) if it never comes back."
                )
            self.system.sleep(2)
            node = api.node(name) or node
        return {"changed": self._taint(api, name, node, False)}

    def _taint(self, api: Api, name: str, node: dict, wanted: bool) -> bool:
        if _tainted(node) == wanted:
            return False
        taints = [taint for taint in node["spec"].get("taints") or [] if taint.get("key") != TAINT["key"]]
        body = {"metadata": {"resourceVersion": node["metadata"].get("resourceVersion")}, "spec": {"taints": taints + [TAINT] if wanted else taints}}
        if not self.check_mode:
            api.request("PATCH", "/api/v1/nodes/" + urllib.parse.quote(name), body, MERGE)
        return True

    def _attached(self, api: Api, name: str) -> list:
        items = api.get("/apis/storage.k8s.io/v1/volumeattachments").get("items") or []
        return sorted(
            (item["spec"].get("source") or {}).get("persistentVolumeName") or item["metadata"]["name"]
            for item in items if item["spec"].get("nodeName") == name
        )

    def _pods(self, api: Api, name: str) -> list:
        """Pods with claims: a new one elsewhere waits until the old one is gone."""
        query = urllib.parse.urlencode({"fieldSelector": f"spec.nodeName={name}"})
        return sorted(
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in api.get(f"/api/v1/pods?{query}").get("items") or []
            if any("persistentVolumeClaim" in volume for volume in pod["spec"].get("volumes") or [])
        )

    def _wait_free(self, api: Api, name: str, timeout: int) -> None:
        deadline = self.system.now() + timeout
        while True:
            pods, attached = self._pods(api, name), self._attached(api, name)
            if not pods and not attached:
                return
            if self.system.now() >= deadline:
                raise NodeError(
                    f"Node {name} has the taint {TAINT['key']}, but after {timeout} s it still holds "
                    + "; ".join(part for part in (
                        f"the pods {', '.join(pods)}" if pods else "", f"the volumes {', '.join(attached)}" if attached else "",
                    ) if part)
                    + ". See the logs of the vsphere-csi-controller, and run again."
                )
            self.system.sleep(2)


def _tainted(node: dict) -> bool:
    return any(taint.get("key") == TAINT["key"] for taint in (node.get("spec") or {}).get("taints") or [])
