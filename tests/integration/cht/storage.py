# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands for a CSI driver with its sidecars: volumes and snapshots are texts. The snapshot-controller before it is the real one."""

from __future__ import annotations

import sys
import threading
import time
import typing as t
from pathlib import Path

import yaml
from apiserver import ApiServer

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "lab"))

from cht_lab import tools  # noqa: E402

DRIVER = "csi.vsphere.vmware.com"
CLASS, SNAPSHOT_CLASS = "vmware-sc", "vmware-snapshots"
SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1"
FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_MERGE = "application/merge-patch+json"


class Storage:
    """A disk array: data by the handle of a volume, snapshots by theirs."""

    def __init__(self, server: ApiServer) -> None:
        self.client = Client.from_kubeconfig(str(server.kubeconfig))
        self.data: dict[str, str] = {}
        self.snapshots: dict[str, str] = {}
        # Pods of CouchDB that were there when a snapshot was taken; the most snapshots that a volume had at once.
        self.pods_at_snapshots: list[str] = []
        self.most = 0
        # Take no snapshots, make no volumes.
        self.stalled = self.out_of_space = False
        self._number = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    @staticmethod
    def install(server: ApiServer, client: Client) -> None:
        """CRDs, classes and the real snapshot-controller."""
        folder = tools.module("snapshotter", "github.com/kubernetes-csi/external-snapshotter/client/v8") / "config" / "crd"
        names = [f"snapshot.storage.k8s.io_volumesnapshot{part}.yaml" for part in ("classes", "contents", "s")]
        for name in names:
            client.json("POST", CRDS, body=yaml.safe_load((folder / name).read_text()))
        deadline = time.monotonic() + 30
        while True:
            try:
                client.get(f"{SNAPSHOTS}/volumesnapshots")
                client.get(f"{SNAPSHOTS}/volumesnapshotcontents")
                client.json("POST", f"{SNAPSHOTS}/volumesnapshotclasses", body={
                    "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "driver": DRIVER, "deletionPolicy": "Delete",
                    "metadata": {"name": SNAPSHOT_CLASS, "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"}},
                })
                break
            except ApiError as error:
                assert error.status == 404 and time.monotonic() < deadline, error
                time.sleep(0.2)
        for name, mode in ((CLASS, "Immediate"), ("late", "WaitForFirstConsumer")):
            client.json("POST", "/apis/storage.k8s.io/v1/storageclasses", body={
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}, "provisioner": DRIVER,
                "reclaimPolicy": "Delete", "volumeBindingMode": mode,
            })
        server.run("snapshot-controller", [str(tools.program("snapshot-controller")), f"--kubeconfig={server.kubeconfig}", "--leader-election=false"])

    def __enter__(self) -> Storage:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end.set()
        self._thread.join(10)
        self.client.close()

    def handle(self, namespace: str, claim: str) -> str:
        """The handle of a claim's volume."""
        name = self.client.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")["spec"]["volumeName"]
        return str(self.client.get(f"/api/v1/persistentvolumes/{name}")["spec"]["csi"]["volumeHandle"])

    def read(self, namespace: str) -> list[str]:
        """What is on the volumes of a county, in their order."""
        claims = [
            item["metadata"]["name"] for item in self.client.items(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
            if item["metadata"]["name"].startswith("couchdb")
        ]
        return [self.data[self.handle(namespace, claim)] for claim in sorted(claims)]

    def write(self, namespace: str, text: str) -> None:
        """Put something on each volume of a county."""
        for item in self.client.items(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"):
            claim = item["metadata"]["name"]
            self.data[self.handle(namespace, claim)] = f"{text} of {claim}"

    def _loop(self) -> None:
        while not self._end.wait(0.2):
            try:
                for content in self.client.items(f"{SNAPSHOTS}/volumesnapshotcontents"):
                    self._snapshot(content)
                if not self.out_of_space:
                    for claim in self.client.items("/api/v1/persistentvolumeclaims"):
                        self._provision(claim)
                for volume in self.client.items("/api/v1/persistentvolumes"):
                    self._reclaim(volume)
            except (ApiError, OSError):
                continue

    def _snapshot(self, content: dict[str, t.Any]) -> None:
        path = f"{SNAPSHOTS}/volumesnapshotcontents/{content['metadata']['name']}"
        handle, finalizers = (content.get("status") or {}).get("snapshotHandle"), content["metadata"].get("finalizers") or []
        if content["metadata"].get("deletionTimestamp"):
            if FINALIZER in finalizers:
                if handle and content["spec"]["deletionPolicy"] == "Delete":
                    self.snapshots.pop(handle, None)
                left = [entry for entry in finalizers if entry != FINALIZER]
                self.client.json("PATCH", path, body={"metadata": {"finalizers": left}}, content_type=_MERGE)
            return
        if handle or self.stalled:
            return
        source = content["spec"]["source"]
        handle = source.get("snapshotHandle")
        if handle is None:
            volume = source["volumeHandle"]
            self.pods_at_snapshots += [
                item["metadata"]["name"] for item in self.client.items(f"/api/v1/namespaces/{content['spec']['volumeSnapshotRef']['namespace']}/pods")
                if item["metadata"]["name"].startswith(("cht-couchdb", "cht-api", "cht-sentinel"))
            ]
            self._number += 1
            handle = f"{volume}+{self._number:08d}"
            self.snapshots[handle] = self.data.get(volume, "")
            self.most = max(self.most, sum(1 for name in self.snapshots if name.startswith(f"{volume}+")))
        if handle in self.snapshots:
            status = {"snapshotHandle": handle, "readyToUse": True, "restoreSize": 4 << 30, "creationTime": time.time_ns()}
            self.client.json("PATCH", f"{path}/status", body={"status": status}, content_type=_MERGE)

    def _provision(self, claim: dict[str, t.Any]) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        name = f"pvc-{metadata['uid']}"
        if spec.get("volumeName") or metadata.get("deletionTimestamp") or spec.get("storageClassName") != CLASS:
            return
        # A volume that waits for this claim is taken by the controller that binds them.
        if any((item["spec"].get("claimRef") or {}).get("name") == metadata["name"] and item["spec"]["claimRef"].get("namespace") == metadata["namespace"]
               for item in self.client.items("/api/v1/persistentvolumes")):
            return
        data = ""
        if spec.get("dataSource"):
            snapshot = self.client.find(f"{SNAPSHOTS}/namespaces/{metadata['namespace']}/volumesnapshots/{spec['dataSource']['name']}") or {}
            bound = (snapshot.get("status") or {}).get("boundVolumeSnapshotContentName")
            if not bound or not snapshot["status"].get("readyToUse"):
                return
            handle = self.client.get(f"{SNAPSHOTS}/volumesnapshotcontents/{bound}")["status"]["snapshotHandle"]
            data = self.snapshots[handle]
        self.client.json("POST", "/api/v1/persistentvolumes", body={
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]}, "accessModes": spec["accessModes"], "storageClassName": CLASS,
                "persistentVolumeReclaimPolicy": "Delete", "csi": {"driver": DRIVER, "volumeHandle": metadata["uid"]},
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **{key: metadata[key] for key in ("namespace", "name", "uid")}},
            },
        })
        self.data[metadata["uid"]] = data

    def _reclaim(self, volume: dict[str, t.Any]) -> None:
        released = (volume.get("status") or {}).get("phase") == "Released" and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        handle = (volume["spec"].get("csi") or {}).get("volumeHandle", "")
        # vSphere deletes no volume that has snapshots.
        if released and handle and not any(name.startswith(f"{handle}+") for name in self.snapshots):
            self.client.json("DELETE", f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
            self.data.pop(handle, None)
