"""The driver goes last, and not while something needs it."""
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.manifest import csi, removal


def pv(number: int = 1, driver: str = csi.DRIVER) -> dict[str, Any]:
    return {
        "metadata": {"name": f"pvc-{number}"}, "status": {"phase": "Bound"},
        "spec": {"csi": {"driver": driver}, "claimRef": {"namespace": "county-a", "name": "data"}},
    }


CLASS = {"metadata": {"name": "vmware-sc"}, "provisioner": csi.DRIVER}
ATTACHMENT = {"metadata": {"name": "csi-1"}, "spec": {"attacher": csi.DRIVER, "nodeName": "agent-1", "source": {"persistentVolumeName": "pvc-1"}}}
CONTENT = {"metadata": {"name": "content-1"}, "spec": {"driver": csi.DRIVER}}
CLAIM = {"metadata": {"namespace": "county-a", "name": "waiting"}, "spec": {"storageClassName": "vmware-sc"}}


@pytest.mark.parametrize(("position", "item", "text"), [
    (0, pv(), "1 PersistentVolume (pvc-1 of county-a/data, Bound)"),
    (0, {"metadata": {"name": "old"}, "spec": {"vsphereVolume": {"volumePath": "[ds] old.vmdk"}}}, "1 PersistentVolume (old, unknown)"),
    (1, ATTACHMENT, "1 VolumeAttachment (pvc-1 on agent-1)"),
    (2, CONTENT, "1 VolumeSnapshotContent (content-1)"),
    (3, CLAIM, "1 unbound PersistentVolumeClaim (county-a/waiting)"),
])
def test_what_needs_the_driver_is_named(position: int, item: dict[str, Any], text: str) -> None:
    lists: list[list[dict[str, Any]]] = [[], [], [], [], [CLASS]]
    lists[position] = [item]
    assert removal.obstacles(*lists) == [text]


def test_what_belongs_to_others_is_no_obstacle() -> None:
    other = {"metadata": {"name": "csi-2"}, "spec": {"attacher": "other", "nodeName": "agent-1", "source": {}}}
    local = {"metadata": {"name": "local"}, "spec": {"hostPath": {"path": "/data"}}}
    bound = {"metadata": CLAIM["metadata"], "spec": {**CLAIM["spec"], "volumeName": "pvc-1"}}  # type: ignore[dict-item]
    foreign = {"metadata": CLAIM["metadata"], "spec": {"storageClassName": "local-path"}}
    assert removal.obstacles([pv(driver="other"), local], [other], [], [bound, foreign], [CLASS]) == []


def test_many_are_counted() -> None:
    assert removal.obstacles([pv(number) for number in range(9)], [], [], [], [])[0].startswith("9 PersistentVolumes (pvc-0")
    assert removal.obstacles([pv(number) for number in range(9)], [], [], [], [])[0].endswith("; and 4 more)")


def test_classes_first_then_nodes_then_controller_then_the_rest() -> None:
    found = removal.order([CLASS, {"metadata": {"name": "local-path"}, "provisioner": "rancher.io/local-path"}],
                          [{"metadata": {"name": "s"}, "driver": csi.DRIVER}])
    kinds = [entry["kind"] for entry in found]
    assert kinds[:4] == ["StorageClass", "VolumeSnapshotClass", "DaemonSet", "DaemonSet"] and kinds[4] == "Deployment"
    assert kinds[-1] == "Namespace" and "local-path" not in [entry["name"] for entry in found]
    assert {(entry["kind"], entry["name"]) for entry in found} >= set(csi.EXPECTED) | {("Secret", csi.SECRET)}
