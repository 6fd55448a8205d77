"""StorageClasses."""
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.manifest import storage
from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError

CLASSES = [{"name": "vmware-sc", "default": True}]


def live(name: str = "vmware-sc", default: bool = True, **changes: Any) -> dict[str, Any]:
    document = storage.objects([{"name": name, "default": True}], [], [])[0]
    document["metadata"]["annotations"][storage.DEFAULT] = "true" if default else "false"
    return {**document, **changes}


def test_the_default_keeps_data_and_can_grow() -> None:
    found = storage.objects(CLASSES, [], [])
    assert found == [{
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "vmware-sc", "annotations": {storage.DEFAULT: "true"}},
        "provisioner": "csi.vsphere.vmware.com", "parameters": {"csi.storage.k8s.io/fstype": "ext4"},
        "reclaimPolicy": "Retain", "volumeBindingMode": "Immediate", "allowVolumeExpansion": True,
    }]


def test_parameters_are_said_as_yaml_says_them() -> None:
    found = storage.objects([{"name": "a", "default": True, "parameters": {"migrate": True, "count": 3}}], [], [])
    assert {key: found[0]["parameters"][key] for key in ("migrate", "count")} == {"migrate": "true", "count": "3"}


def test_policy_datastore_and_several_classes() -> None:
    found = storage.objects([
        *CLASSES, {"name": "fast", "storage_policy": "Gold", "datastore_url": "ds:///vmfs/volumes/1/", "fstype": "xfs", "reclaim_policy": "Delete"},
    ], [], [])
    assert found[1]["parameters"] == {"csi.storage.k8s.io/fstype": "xfs", "storagepolicyname": "Gold", "datastoreurl": "ds:///vmfs/volumes/1/"}
    assert found[1]["metadata"]["annotations"][storage.DEFAULT] == "false"


def test_another_default_is_demoted_or_named() -> None:
    local = {"metadata": {"name": "local-path", "annotations": {storage.DEFAULT: "true"}}, "provisioner": "rancher.io/local-path"}
    found = storage.objects(CLASSES, [local], ["local-path"])
    assert found[0]["metadata"] == {"name": "local-path", "annotations": {storage.DEFAULT: "false"}}
    with pytest.raises(SettingsError, match="local-path is marked as default too"):
        storage.objects(CLASSES, [local], [])
    assert len(storage.objects(CLASSES, [{**local, "metadata": {"name": "local-path"}}], [])) == 1


@pytest.mark.parametrize("changes", [
    {"reclaimPolicy": "Delete"}, {"parameters": {"csi.storage.k8s.io/fstype": "xfs"}}, {"provisioner": "other"}, {"volumeBindingMode": "WaitForFirstConsumer"},
    {"parameters": None},
])
def test_what_can_not_change_is_explained(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="does not let anyone change") as caught:
        storage.objects(CLASSES, [live(**changes)], [])
    assert next(iter(changes)) in str(caught.value)


def test_what_can_change_is_applied() -> None:
    assert storage.objects(CLASSES, [live(allowVolumeExpansion=False)], [])[0]["allowVolumeExpansion"] is True
    assert storage.objects([{"name": "a", "default": True}, {"name": "vmware-sc"}], [live()], [])


@pytest.mark.parametrize(("classes", "words"), [
    ([], "exactly one class"), ([{"name": "a"}], "it has: none"), ([{"name": "a", "default": True}, {"name": "b", "default": True}], "it has: a, b"),
    ([{"name": "a", "default": True}, {"name": "a"}], "a twice"), ([{"name": "A_b", "default": True}], "is no name"),
    ([{"name": "a", "fs": "ext4"}], "unknown key fs"),
    ([{"name": "a", "fstype": "btrfs"}], "has to be one of"), ([{"name": "a", "reclaim_policy": "Recycle"}], "Retain or Delete"),
    ([{"name": "a", "datastore_url": "datastore1"}], "ds:///"), ([{"name": "a", "datastore_url": "ds:///vmfs/volumes/1"}], "final slash"),
    ([{"name": "a", "binding_mode": "Later"}], "WaitForFirstConsumer"),
])
def test_bad_classes_are_named(classes: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        storage.objects(classes, [], [])


def csi_node(name: str, identity: str = "") -> dict[str, Any]:
    drivers = [{"name": "csi.vsphere.vmware.com", "nodeID": identity}] if identity else []
    return {"metadata": {"name": name}, "spec": {"drivers": drivers}}


def node(name: str, uuid: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"providerID": f"vsphere://{uuid}"}}


def test_nodes_without_the_driver_are_named() -> None:
    nodes = [node("a", "1"), node("b", "2"), node("c", "3")]
    problems = storage.csi_node_problems([csi_node("a", "1"), csi_node("b", "9"), csi_node("c")], nodes, None)
    assert [problem.partition(":")[0] for problem in problems] == ["b", "c"]
    topologies = [{"metadata": {"name": "a"}, "status": {"status": "Error", "errorMessage": "no tag"}}]
    problems = storage.csi_node_problems([csi_node(name, uuid) for name, uuid in zip("abc", "123")], nodes, topologies)
    assert "no tag" in problems[0] and "has no CSINodeTopology" in problems[1]
    assert storage.csi_node_problems([csi_node("a", "1")], [node("a", "1")], [{"metadata": {"name": "a"}, "status": {"status": "Success"}}]) == []
