"""A machine that is lost with a claim on it: fenced only when vCenter says that it is off, and taken back when it returns."""
from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from support.lab import Lab

TAINT = "node.kubernetes.io/out-of-service"
# A claim whose disk is a folder, and a pod that need not run: it is the pod of a StatefulSet that only moves when the old one is gone.
OBJECTS = {
    "apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "data"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand", "hostPath": {"path": "/var/tmp"}}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "default"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand", "resources": {"requests": {"storage": "1Gi"}}}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"}, "spec": {
            "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": {
                "metadata": {"labels": {"app": "db"}}, "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "tolerations": [{"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
                                    for why in ("not-ready", "unreachable")],
                    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 100, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["agent-1"]}]}}]}},
                    "containers": [{"name": "db", "image": "registry.k8s.io/pause:3.10", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}}}},
    ],
}


def until(what: str, test: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < deadline, what
        time.sleep(3)


def place(lab: Lab) -> tuple[str, bool]:
    """Where the pod is, and whether it is on its way out."""
    pods = lab.kubectl("get", "pods", "-l", "app=db")["items"]
    return (pods[0]["spec"].get("nodeName", ""), "deletionTimestamp" in pods[0]["metadata"]) if pods else ("", False)


def ready(lab: Lab, name: str) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in lab.kubectl("get", "node", name)["status"]["conditions"])


def taints(lab: Lab, name: str) -> list[str]:
    return [taint["key"] for taint in lab.kubectl("get", "node", name)["spec"].get("taints") or []]


def fence(lab: Lab, name: str, *argv: str, host: str = "agent-1"):
    return lab.playbook("-e", f"k3s_fence={host}", "-e", "k3s_cloud_provider=none", *argv, playbook="playbooks/fence_node.yml", name=f"life-fence-{name}")


@pytest.fixture
def lost(life: Lab, tmp_path) -> Lab:
    (tmp_path / "objects.json").write_text(json.dumps(OBJECTS))
    life("kubectl", "apply", "-f", str(tmp_path / "objects.json"))
    until("the pod is on agent-1", lambda: place(life) == ("agent-1", False))
    return life


def test_a_machine_is_fenced_only_when_it_is_off(lost: Lab) -> None:
    assert "must name one host" in fence(lost, "unknown", host="agent-9").expect(1).output
    healthy = fence(lost, "healthy").expect(1)
    assert "is Ready: it runs and writes" in healthy.output and healthy.changed == []

    # It hangs: silent, but vCenter shows it as on.
    lost("vm", "pause", "agent-1", timeout=60)
    until("agent-1 is silent", lambda: not ready(lost, "agent-1"), 180)
    hanging = fence(lost, "hanging").expect(1)
    assert "These VMs are not off" in hanging.output and hanging.changed == [] and TAINT not in taints(lost, "agent-1")

    # Left alone, the pod is stuck for ever.
    until("the pod is asked to leave", lambda: place(lost) == ("agent-1", True))
    lost("vm", "resume", "agent-1", timeout=60)
    lost("vm", "kill", "agent-1", timeout=60)
    until("agent-1 is silent", lambda: not ready(lost, "agent-1"), 180)
    off = fence(lost, "off").expect()
    assert TAINT in taints(lost, "agent-1") and len(off.changed) == 1
    until("the pod has another place", lambda: place(lost)[0] not in ("", "agent-1"))
    assert fence(lost, "off-again").expect().changed == []

    waiting = fence(lost, "too-early", "--tags", "release", "-e", "k3s_fence_timeout=5").expect(1)
    assert "is not Ready after 5 s" in waiting.output and TAINT in taints(lost, "agent-1")
    lost("vm", "start", "agent-1", timeout=120)
    fence(lost, "back", "--tags", "release").expect()
    assert TAINT not in taints(lost, "agent-1") and ready(lost, "agent-1")
    assert fence(lost, "back-again", "--tags", "release").expect().changed == []
