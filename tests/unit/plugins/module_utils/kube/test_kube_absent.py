"""Objects go one after the other, and what went is told, whatever comes then."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.kube.absent import Removal, RemovalError
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Unreachable
from kube_clock import Clock

ENTRIES = [
    {"api_version": "apps/v1", "kind": "Deployment", "namespace": "n", "name": "a"},
    {"api_version": "storage.k8s.io/v1", "kind": "CSIDriver", "namespace": None, "name": "b"},
    {"api_version": "v1", "kind": "Namespace", "namespace": None, "name": "n"},
]
DEPLOYMENT, DRIVER, NAMESPACE = "/apis/apps/v1/namespaces/n/deployments/a", "/apis/storage.k8s.io/v1/csidrivers/b", "/api/v1/namespaces/n"
NAMES = ["Deployment n/a", "CSIDriver b", "Namespace n"]


class Cluster:
    """An API server; C(slow) objects stay for some looks after they were deleted, C(held) ones for ever."""

    def __init__(self, slow: dict[str, int] | None = None, held: str = "", error: ApiError | None = None) -> None:
        self.objects: dict[str, dict[str, Any]] = {path: {"metadata": {}} for path in (DEPLOYMENT, DRIVER, NAMESPACE)}
        self.slow = slow or {}
        self.held = held
        self.error = error
        self.deleting: set[str] = set()
        self.deleted: list[str] = []
        self.pods: dict[str, str] = {}
        self.dead: tuple[str, ...] = ()

    def items(self, path: str, query: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
        if path == "/api/v1/nodes":
            for name in sorted(set(self.pods.values())):
                state = "Unknown" if name in self.dead else "True"
                yield {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": state}]}}
        else:
            assert (path, query) == ("/api/v1/namespaces/n/pods", {"labelSelector": "app=a"})
            yield from ({"metadata": {"name": name}, "spec": {"nodeName": node}} for name, node in self.pods.items())

    def find(self, path: str) -> dict[str, Any] | None:
        if path in self.deleting and path != self.held:
            self.slow[path] = self.slow.get(path, 0) - 1
            if self.slow[path] < 0:
                self.objects.pop(path, None)
        return self.objects.get(path)

    def get(self, path: str) -> dict[str, Any]:
        raise ApiError(404, f"no group {path}")

    def json(self, method: str, path: str, query: dict[str, str]) -> dict[str, Any]:
        if self.error and path == DRIVER:
            raise self.error
        assert (method, query) == ("DELETE", {"propagationPolicy": "Foreground"})
        self.deleting.add(path)
        self.deleted.append(path)
        if path == self.held:
            self.objects[path]["metadata"]["finalizers"] = ["kubernetes.io/pv-protection"]
        return {}


def removal(cluster: Cluster, check_mode: bool = False, timeout: float = 5) -> Removal:
    clock = Clock()
    return Removal(cluster, timeout, check_mode, clock, clock.sleep)  # type: ignore[arg-type]


def test_each_is_gone_before_the_next_is_touched() -> None:
    cluster = Cluster({DEPLOYMENT: 4})
    found = removal(cluster)
    found.run(ENTRIES)
    assert found.removed == NAMES and cluster.objects == {} and cluster.deleted == [DEPLOYMENT, DRIVER, NAMESPACE]
    again = removal(cluster)
    again.run(ENTRIES)
    assert again.removed == [] and len(cluster.deleted) == 3


def test_check_mode_names_and_deletes_nothing() -> None:
    cluster = Cluster()
    found = removal(cluster, check_mode=True)
    found.run(ENTRIES)
    assert found.removed == NAMES and cluster.deleted == []


def test_what_went_before_a_failure_is_told() -> None:
    cluster = Cluster(held=DRIVER)
    found = removal(cluster)
    with pytest.raises(RemovalError, match="CSIDriver b is still there after 5 s; it is held by kubernetes.io/pv-protection"):
        found.run(ENTRIES)
    assert found.removed == NAMES[:2] and NAMESPACE in cluster.objects, "what is held is on its way out, and nothing behind it is touched"


@pytest.mark.parametrize(("error", "words"), [
    (ApiError(403, "forbidden: no right to delete"), "CSIDriver b can't be deleted: forbidden"),
    (Unreachable("https://192.0.2.1:6443 does not answer"), "CSIDriver b can't be deleted: https://192.0.2.1:6443 does not answer"),
])
def test_the_object_at_which_the_server_refused_is_named(error: ApiError, words: str) -> None:
    found = removal(Cluster(error=error))
    with pytest.raises(RemovalError, match=words):
        found.run(ENTRIES)
    assert found.removed == NAMES[:1]


def test_who_deletes_at_the_same_moment_does_no_harm() -> None:
    cluster = Cluster(error=ApiError(404, "not found"))
    cluster.deleting.add(DRIVER)
    cluster.slow[DRIVER] = 1
    found = removal(cluster)
    found.run(ENTRIES)
    assert found.removed == NAMES


def test_a_kind_that_the_cluster_does_not_know_is_done() -> None:
    found = removal(Cluster())
    found.run([{"api_version": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "namespace": None, "name": "c"}])
    assert found.removed == []


@pytest.mark.parametrize(("pods", "dead", "words"), [
    ({"a-1": "agent-1", "a-2": "agent-2"}, ("agent-2",), (
        "it is held by kubernetes.io/pv-protection: its pods a-1 on agent-1, a-2 on agent-2 (not Ready) have not ended. "
        "Start the machines that are not Ready again, or take them out of the cluster (playbook remove_node); then run again"
    )),
    ({"a-1": "agent-1"}, (), "pv-protection: its pods a-1 on agent-1 have not ended"),
    ({f"a-{number}": "agent-1" for number in range(7)}, (), "a-4 on agent-1 and 2 more have not ended"),
    ({}, (), "it is held by kubernetes.io/pv-protection"),
])
def test_pods_that_do_not_end_are_named_with_their_nodes(pods: dict[str, str], dead: tuple[str, ...], words: str) -> None:
    """A workload is deleted after its pods, and one on a machine that died never ends."""
    cluster = Cluster(held=DEPLOYMENT)
    cluster.objects[DEPLOYMENT]["spec"] = {"selector": {"matchLabels": {"app": "a"}}}
    cluster.pods, cluster.dead = pods, dead
    with pytest.raises(RemovalError) as caught:
        removal(cluster).run(ENTRIES)
    assert str(caught.value).endswith(words)
