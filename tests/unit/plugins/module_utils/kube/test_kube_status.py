"""Reasons, in words, why something is not ready."""
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.kube import status


def workload(kind: str, generation: int = 2, wanted: int | None = None, **state: int) -> dict[str, Any]:
    spec = {} if wanted is None else {"replicas": wanted}
    return {"kind": kind, "metadata": {"generation": generation}, "spec": spec, "status": {"observedGeneration": 2, **state}}


@pytest.mark.parametrize(("live", "words"), [
    (None, "does not exist"),
    (workload("Deployment", 3), "not yet seen by its controller"),
    (workload("Deployment", 2, 3, updatedReplicas=3, availableReplicas=3, replicas=3), ""),
    (workload("Deployment", 2, 3, updatedReplicas=2, availableReplicas=3, replicas=3), "has 2 of 3 pods up to date"),
    (workload("Deployment", 2, 3, updatedReplicas=3, availableReplicas=1, replicas=3), "has 1 of 3 pods ready"),
    (workload("Deployment", 2, 3, updatedReplicas=3, availableReplicas=3, replicas=4), "still has 1 old pods"),
    (workload("Deployment", 2, 0), ""),
    (workload("DaemonSet"), "finds no node to run on"),
    (workload("DaemonSet", desiredNumberScheduled=3, updatedNumberScheduled=3, numberAvailable=3), ""),
    (workload("DaemonSet", desiredNumberScheduled=3, updatedNumberScheduled=1, numberAvailable=3), "has 1 of 3 pods up to date"),
    (workload("DaemonSet", desiredNumberScheduled=3, updatedNumberScheduled=3, numberAvailable=2), "has 2 of 3 pods ready"),
])
def test_rollouts(live: dict[str, Any] | None, words: str) -> None:
    found = status.rollout_obstacle(live)
    assert found == "" if not words else words in found


def pod(state: dict[str, Any], last: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"status": {"containerStatuses": [{"name": "c", "image": "example.org/x:1", "state": state, "lastState": last or {}, **more}]}}


@pytest.mark.parametrize(("live", "words"), [
    (pod({"waiting": {"reason": "ImagePullBackOff"}}), "the image example.org/x:1 of container c can't be pulled"),
    (pod({"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"exitCode": 2, "message": "no login"}}), "CrashLoopBackOff, exit code 2: no login"),
    (pod({"waiting": {"reason": "ContainerCreating"}}), "is being created"),
    (pod({"running": {}}, ready=False), "runs but is not ready"),
    ({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]}}, "can't be placed on a node: 0/3 nodes"),
])
def test_pods(live: dict[str, Any], words: str) -> None:
    assert words in "; ".join(status.pod_causes(live))


def test_a_ready_pod_has_no_causes() -> None:
    assert status.pod_causes(pod({"running": {}}, ready=True)) == []


def node(provider: str = "vsphere://a", taint: str = "", ip: str = "192.0.2.1") -> dict[str, Any]:
    return status.node_facts({
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "true"}},
        "spec": {"providerID": provider, "taints": [{"key": taint}] if taint else []},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}] if ip else [], "conditions": [{"type": "Ready", "status": "True"}]},
    })


@pytest.mark.parametrize(("facts", "identity", "ip", "words"), [
    (node(), "", "", ""), (node(), "VSPHERE://A", "192.0.2.1", ""), (None, "", "", "is not in the cluster"),
    (node(provider=""), "", "", "has no providerID"), (node(), "vsphere://b", "", "wanted vsphere://b"),
    (node(taint=status.UNINITIALIZED), "", "", "still has the taint"), (node(taint="other"), "", "", ""),
    (node(ip=""), "", "", "has no InternalIP"), (node(), "", "192.0.2.9", "internal_network_subnet_cidr"),
    ({**node(), "internal_ips": ["2001:db8::21"]}, "", "2001:0DB8:0::21", ""),
    ({**node(), "internal_ips": ["2001:db8::21"]}, "", "2001:db8::22", "wanted 2001:db8::22"),
])
def test_nodes(facts: dict[str, Any] | None, identity: str, ip: str, words: str) -> None:
    found = status.node_obstacle(facts, identity, ip)
    assert found == "" if not words else words in found


def test_facts() -> None:
    assert node() == {"name": "n", "provider_id": "vsphere://a", "initialized": True, "ready": True, "internal_ips": ["192.0.2.1"], "control_plane": True}


def test_a_conflict_only_with_an_id_that_is_there() -> None:
    assert status.provider_conflict(node(provider=""), "vsphere://b") == ""
    assert "BIOS UUID" in status.provider_conflict(node(), "vsphere://b")


def test_waiting_ends_at_once_or_in_time() -> None:
    answers = iter([{"a": "not yet"}, {}])
    assert status.wait_for(lambda: next(answers), 5, pause=0) == {}
    assert status.wait_for(lambda: {"a": "never"}, 0) == {"a": "never"}
