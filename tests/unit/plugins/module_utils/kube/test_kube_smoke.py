"""The smoke test leaves nothing, whatever happens in it."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.kube import smoke
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.smoke import SmokeTest, SmokeTestError
from kube_clock import Clock


CONTENT = f"{smoke._CONTENTS}/snapcontent-1"


class Cluster:
    """An API server with a driver that works, as far as C(broken) does not say otherwise."""

    def __init__(self, broken: str = "", snapshot_policy: str = "Delete") -> None:
        self.broken = broken
        self.snapshot_policy = snapshot_policy
        self.objects: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []

    def find(self, path: str) -> dict[str, Any] | None:
        return self.objects.get(path)

    def get(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise ApiError(404, f"{path} not found")
        return self.objects[path]

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        if path.endswith("/events"):
            yield {"type": "Warning", "reason": "ProvisioningFailed", "message": "no datastore"}
        if path == smoke._CONTENTS and not self.snapshot_policy:
            raise ApiError(404, "no such API")
        yield from [item for key, item in self.objects.items() if key.rpartition("/")[0] == path]

    def json(self, method: str, path: str, body: Any = None, content_type: str = "") -> dict[str, Any]:
        if method == "POST":
            raise AssertionError("the client repeats requests, which no POST survives")
        if method == "PATCH":
            self.get(path)["spec"].update(body["spec"])
        elif path in self.objects:
            self.deleted.append(path.rpartition("/")[2] if "volumes/" in path else path.split("/")[-2])
            item = self.objects.pop(path)
            volume = f"/api/v1/persistentvolumes/{item.get('spec', {}).get('volumeName')}"
            content = self.objects.get(CONTENT)
            if item.get("kind") == "VolumeSnapshot" and content and content["spec"]["deletionPolicy"] == "Delete":
                del self.objects[CONTENT]
            # vCenter deletes no volume that has a snapshot.
            policy = self.objects.get(volume, {}).get("spec", {}).get("persistentVolumeReclaimPolicy")
            if CONTENT not in self.objects and policy == "Delete" and self.broken != "delete":
                del self.objects[volume]
        return {}

    def apply(self, path: str, body: dict[str, Any], manager: str, force: bool = False) -> None:
        """As the server does it: the same object twice is the same object."""
        if path not in self.objects:
            self._made(path, body)

    def _made(self, path: str, body: dict[str, Any]) -> None:
        self.objects[path] = body
        if body["kind"] == "PersistentVolumeClaim" and self.broken != "bind":
            body["spec"]["volumeName"], body["status"] = "pvc-1", {"phase": "Bound"}
            self.objects["/api/v1/persistentvolumes/pvc-1"] = {
                "metadata": {"name": "pvc-1"},
                "spec": {"claimRef": {"namespace": smoke.NAME}, "persistentVolumeReclaimPolicy": "Retain", "csi": {"volumeHandle": "handle-1"}},
            }
        if body["kind"] == "Pod":
            body["status"] = {"phase": "Failed" if self.broken == "write" else "Succeeded"}
        if body["kind"] == "VolumeSnapshot":
            body["status"] = {"readyToUse": self.broken != "snapshot"}
            self.objects[CONTENT] = {
                "metadata": {"name": "snapcontent-1"}, "spec": {"volumeSnapshotRef": {"namespace": smoke.NAME}, "deletionPolicy": self.snapshot_policy},
            }


@pytest.fixture
def test_of() -> Callable[[Cluster], SmokeTest]:
    clock = Clock()

    def make(cluster: Cluster) -> SmokeTest:
        return SmokeTest(cluster, "vmware-sc", "busybox", True, 5, clock, clock.sleep)  # type: ignore[arg-type]

    return make


def test_every_step_and_nothing_left(test_of: Callable[[Cluster], SmokeTest]) -> None:
    cluster = Cluster()
    test = test_of(cluster)
    test.run()
    assert list(test.steps) == ["bound", "written", "snapshot", "deleted"] and (test.volume, test.handle) == ("pvc-1", "handle-1")
    assert cluster.objects == {} and cluster.deleted == ["volumesnapshots", "pods", "persistentvolumeclaims", "namespaces"]


@pytest.mark.parametrize(("broken", "words"), [
    ("bind", "the claim is not bound after 5 s .*no datastore"), ("write", "could not write"), ("snapshot", "the snapshot is not ready"),
])
def test_a_failed_step_is_named_and_leaves_nothing(test_of: Callable[[Cluster], SmokeTest], broken: str, words: str) -> None:
    cluster = Cluster(broken)
    with pytest.raises(SmokeTestError, match=words):
        test_of(cluster).run()
    assert cluster.objects == {}


def test_a_volume_that_stays_is_named(test_of: Callable[[Cluster], SmokeTest]) -> None:
    with pytest.raises(SmokeTestError, match="PersistentVolume pvc-1 is still there"):
        test_of(Cluster("delete")).run()


def test_leftovers_of_an_interrupted_run_go_first(test_of: Callable[[Cluster], SmokeTest]) -> None:
    cluster = Cluster()
    test = test_of(cluster)
    test._make()
    test.run()
    assert cluster.objects == {}


def test_a_class_that_retains_snapshots_leaves_none_of_ours(test_of: Callable[[Cluster], SmokeTest]) -> None:
    cluster = Cluster(snapshot_policy="Retain")
    test_of(cluster).run()
    assert cluster.objects == {}


def test_a_retained_snapshot_of_an_earlier_run_goes_and_those_of_others_stay(test_of: Callable[[Cluster], SmokeTest]) -> None:
    cluster = Cluster(snapshot_policy="Retain")
    test = test_of(cluster)
    test._make()
    cluster.apply(f"{smoke._SNAPSHOTS}/{smoke.NAME}", test._snapshot(), "")
    cluster.json("DELETE", f"{smoke._SNAPSHOTS}/{smoke.NAME}")
    other = {"metadata": {"name": "other"}, "spec": {"volumeSnapshotRef": {"namespace": "county-a"}, "deletionPolicy": "Retain"}}
    cluster.objects[f"{smoke._CONTENTS}/other"] = other
    assert CONTENT in cluster.objects, "as an earlier run left it"
    test.run()
    assert cluster.objects == {f"{smoke._CONTENTS}/other": other} and other["spec"]["deletionPolicy"] == "Retain"


def test_a_cluster_without_snapshots(test_of: Callable[[Cluster], SmokeTest]) -> None:
    cluster = Cluster(snapshot_policy="")
    test = test_of(cluster)
    test.snapshots = False
    test.run()
    assert cluster.objects == {}
