# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A claim from its first day to its last: bound, written to, snapshotted, deleted, and nothing of it left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client, segment

NAME = "csi-smoke-test"
_MANAGER = "cht.k3s"
_NAMESPACE = f"/api/v1/namespaces/{NAME}"
_CLAIM = f"{_NAMESPACE}/persistentvolumeclaims/{NAME}"
_POD = f"{_NAMESPACE}/pods/{NAME}"
_VOLUMES = "/api/v1/persistentvolumes"
_SNAPSHOTS = f"/apis/snapshot.storage.k8s.io/v1/namespaces/{NAME}/volumesnapshots"
_CONTENTS = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents"


class SmokeTestError(Exception):
    """A step that did not end well, with what the cluster says about it."""


class SmokeTest:
    """One run; C(steps) holds the seconds of each step that was done."""

    def __init__(self, client: Client, storage_class: str, image: str, snapshots: bool, timeout: float,
                 clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self.client = client
        self.storage_class = storage_class
        self.image = image
        self.snapshots = snapshots
        self.timeout = timeout
        self.clock = clock
        self.sleep = sleep
        self.steps: dict[str, float] = {}
        self.volume = ""
        self.handle = ""

    def run(self) -> None:
        """All steps. What was made is taken away again, also after a failure and after a run that was interrupted."""
        self.clean()
        failure: SmokeTestError | None = None
        try:
            self._make()
            self._step("bound", self._bound, "the claim is not bound")
            self._step("written", self._written, "the pod did not write to the volume")
            if self.snapshots:
                self._create(_SNAPSHOTS, self._snapshot())
                self._step("snapshot", self._snapshotted, "the snapshot is not ready to use")
        except SmokeTestError as error:
            failure = error
        except ApiError as error:
            failure = SmokeTestError(f"the API server refused an object: {error.message}")
        begin = self.clock()
        try:
            self.clean()
        except SmokeTestError as error:
            raise SmokeTestError(f"{failure}; and {error}" if failure else str(error)) from error
        if failure:
            raise failure
        self.steps["deleted"] = round(self.clock() - begin, 1)

    def clean(self) -> None:
        """Take everything away, in the order in which nothing waits for what is gone already: the driver has to do its part each time."""
        found = self._own_volumes()
        for name in found:
            # The class may retain volumes; this one holds nothing.
            self.client.json("PATCH", f"{_VOLUMES}/{segment(name)}", body={"spec": {"persistentVolumeReclaimPolicy": "Delete"}},
                             content_type="application/merge-patch+json")
        # So may the class of snapshots. One that stays holds its volume in vCenter, which then can't be deleted.
        self._give_up_contents()
        self._delete(f"{_SNAPSHOTS}/{NAME}")
        for name in self._give_up_contents():
            self._delete(f"{_CONTENTS}/{segment(name)}")
        for path in (_POD, _CLAIM):
            self._delete(path)
        self._until(lambda: not self._own_volumes(), f"PersistentVolume {', '.join(found)} is still there after its claim was deleted")
        self._delete(_NAMESPACE)

    def _make(self) -> None:
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        self._create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME, "labels": labels}})
        self._create(f"{_NAMESPACE}/persistentvolumeclaims", {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": NAME},
            "spec": {"storageClassName": self.storage_class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        })
        self._create(f"{_NAMESPACE}/pods", self._pod())

    def _create(self, collection: str, body: dict[str, Any]) -> None:
        # Applied, not posted: the client repeats a request whose answer was lost, and a second POST would find its own object in the way.
        self.client.apply(f"{collection}/{NAME}", body, _MANAGER, force=True)

    def _pod(self) -> dict[str, Any]:
        container = {
            "name": "write", "image": self.image, "command": ["sh", "-c", "echo written > /data/file && sync && grep -q written /data/file"],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        return {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME},
            "spec": {
                "restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container],
                "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": NAME}}],
            },
        }

    def _snapshot(self) -> dict[str, Any]:
        return {
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": NAME},
            "spec": {"source": {"persistentVolumeClaimName": NAME}},
        }

    def _bound(self) -> bool:
        claim = self.client.get(_CLAIM)
        if (claim.get("status") or {}).get("phase") != "Bound":
            return False
        self.volume = claim["spec"]["volumeName"]
        self.handle = (self.client.get(f"{_VOLUMES}/{segment(self.volume)}")["spec"].get("csi") or {}).get("volumeHandle", "")
        return True

    def _written(self) -> bool:
        phase = (self.client.get(_POD).get("status") or {}).get("phase")
        if phase == "Failed":
            raise SmokeTestError(f"the pod could not write to the volume{self._events()}")
        return phase == "Succeeded"

    def _snapshotted(self) -> bool:
        return bool((self.client.get(f"{_SNAPSHOTS}/{NAME}").get("status") or {}).get("readyToUse"))

    def _step(self, name: str, done: Callable[[], bool], trouble: str) -> None:
        begin = self.clock()
        self._until(done, trouble)
        self.steps[name] = round(self.clock() - begin, 1)

    def _until(self, done: Callable[[], bool], trouble: str) -> None:
        deadline = self.clock() + self.timeout
        while not done():
            if self.clock() > deadline:
                raise SmokeTestError(f"{trouble} after {self.timeout:.0f} s{self._events()}")
            self.sleep(0.5)

    def _delete(self, path: str) -> None:
        if self.client.find(path) is None:
            return
        try:
            self.client.json("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise
        kind, name = path.split("/")[-2:]
        self._until(lambda: self.client.find(path) is None, f"{kind} {name} is still there")

    def _own_volumes(self) -> list[str]:
        """Volumes whose claim is or was ours; a VolumeAttachment or snapshot keeps its volume, so they are covered."""
        return [
            item["metadata"]["name"] for item in self.client.items(_VOLUMES)
            if ((item.get("spec") or {}).get("claimRef") or {}).get("namespace") == NAME
        ]

    def _give_up_contents(self) -> list[str]:
        """Contents whose snapshot is or was ours; from now on what they stand for in vCenter goes with them."""
        found = []
        try:
            for item in self.client.items(_CONTENTS):
                if ((item.get("spec") or {}).get("volumeSnapshotRef") or {}).get("namespace") == NAME:
                    found.append(item["metadata"]["name"])
        except ApiError as error:
            if error.status != 404:  # no snapshots in this cluster
                raise
        for name in found:
            try:
                self.client.json("PATCH", f"{_CONTENTS}/{segment(name)}", body={"spec": {"deletionPolicy": "Delete"}},
                                 content_type="application/merge-patch+json")
            except ApiError as error:
                if error.status != 404:
                    raise
        return found

    def _events(self) -> str:
        """The last warnings about our objects."""
        try:
            events = [item for item in self.client.items(f"{_NAMESPACE}/events") if item.get("type") != "Normal" or "Provisioning" in str(item.get("reason"))]
        except ApiError:
            return ""
        texts = list(dict.fromkeys(f"{item.get('reason')}: {item.get('message')}" for item in events))[-3:]
        return f" ({'; '.join(texts)})" if texts else ""
