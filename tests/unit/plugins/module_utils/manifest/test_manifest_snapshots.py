"""The snapshot-controller's manifests with our settings in them."""
from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils import versions
from ansible_collections.cht.k3s.plugins.module_utils.manifest import snapshots
from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError
from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError

CONTAINER = {"name": "snapshot-controller", "image": "registry.k8s.io/sig-storage/snapshot-controller:v8.0.1", "args": ["--leader-election=true"]}


def manifest() -> list[dict[str, Any]]:
    """As upstream has it, with no more than what is looked at."""
    found: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": kind, "metadata": {"name": name}} for kind, name in snapshots.EXPECTED]
    for document in found:
        if document["kind"] == "Deployment":
            document["spec"] = {"replicas": 2, "template": {"spec": {"containers": [copy.deepcopy(CONTAINER)]}}}
    return found


def deployment(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return next(item for item in objects if item["kind"] == "Deployment")


def test_image_replicas_place_and_class() -> None:
    before = manifest()
    found = snapshots.objects(before, {
        "image": "registry.k8s.io/sig-storage/snapshot-controller:v8.2.0", "image_registry": "registry.example.org/k8s", "replicas": 1,
        "class_name": "snap", "deletion_policy": "Retain",
    })
    spec = deployment(found)["spec"]
    assert spec["replicas"] == 1
    assert spec["template"]["spec"]["containers"][0]["image"] == "registry.example.org/k8s/sig-storage/snapshot-controller:v8.2.0"
    assert {entry["key"] for entry in spec["template"]["spec"]["tolerations"]} == {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd"}
    assert found[-1] == {
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "driver": "csi.vsphere.vmware.com", "deletionPolicy": "Retain",
        "metadata": {"name": "snap", "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"}},
    }
    assert before == manifest(), "the input stays as it is"
    assert [item for item in found[:-1] if item["kind"] != "Deployment"] == [item for item in before if item["kind"] != "Deployment"]


def test_another_shape_is_refused() -> None:
    with pytest.raises(ManifestError, match="missing: Deployment snapshot-controller"):
        snapshots.objects([item for item in manifest() if item["kind"] != "Deployment"], {})
    with pytest.raises(ManifestError, match="unknown: Job extra"):
        snapshots.objects([*manifest(), {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "extra"}}], {})
    renamed = manifest()
    deployment(renamed)["spec"]["template"]["spec"]["containers"][0]["name"] = "other"
    with pytest.raises(ManifestError, match="no container snapshot-controller"):
        snapshots.objects(renamed, {})


def test_bad_settings_are_named() -> None:
    with pytest.raises(SettingsError, match="no setting imgae"):
        snapshots.objects(manifest(), {"imgae": "x"})
    with pytest.raises(SettingsError, match="has to be Delete or Retain"):
        snapshots.objects(manifest(), {"deletion_policy": "Keep"})


def live(name: str, mark: str = "true", driver: str = "csi.vsphere.vmware.com") -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {snapshots.DEFAULT: mark}}, "driver": driver}


def test_a_second_default_class_of_the_driver_is_refused() -> None:
    """As after csi_snapshot_class was renamed: the snapshot-controller takes none of two."""
    fine = [live("snap"), live("old", "false"), live("other", driver="other.example.org"), {"metadata": {"name": "plain"}, "driver": "csi.vsphere.vmware.com"}]
    assert snapshots.objects(manifest(), {"class_name": "snap", "live_classes": fine})[-1]["metadata"]["name"] == "snap"
    words = "VolumeSnapshotClass old is the default .* too.* csi_snapshot_class to old.*kubectl annotate volumesnapshotclass old"
    with pytest.raises(SettingsError, match=words):
        snapshots.objects(manifest(), {"class_name": "snap", "live_classes": [live("snap"), live("old")]})


def test_files_of_a_version() -> None:
    known, other = versions.snapshot_manifests(), versions.snapshot_manifests("v8.99.0")
    assert len(known) == 5 and all(len(entry["sha256"]) == 64 for entry in known)
    assert [entry["sha256"] for entry in other] == [""] * 5
    assert other[-1]["path"] == "v8.99.0/deploy/kubernetes/snapshot-controller/setup-snapshot-controller.yaml"
    assert versions.describe("v1.30.1+k3s1", snapshotter="8.4.0")["snapshot_image"].endswith(":v8.4.0")
