"""A real upgrade from Kubernetes 1.34.2 to 1.34.4: what is refused before it begins, what happens when it stops half-way, how it ends.

Both releases run their own build of Kubernetes. The cluster is taken away (reset.yml) and built again with the old one.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.k3s import NODES, SERVERS, Cluster, cluster_id, message, play, said, services, site, until
from support.lab import Lab

OLD, NEW = "v1.34.2+k3s1", "v1.34.4+k3s1"
WEB = {
    "apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
         "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
             "metadata": {"labels": {"app": "web"}},
             "spec": {"containers": [{"name": "pause", "image": "rancher/mirrored-pause:3.6"}], "terminationGracePeriodSeconds": 0}}}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", "namespace": "default"},
         "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}}]}


def releases(lab: Lab) -> dict[str, str]:
    """What every kubelet says that it is; the stamp is in the program, so it tells which build runs."""
    return {node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"] for node in lab.kubectl("get", "nodes")["items"]}


def available(lab: Lab) -> int:
    return lab.kubectl("get", "deployment", "web")["status"].get("availableReplicas", 0)


@pytest.fixture(scope="module")
def old(small_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster with the old release and a workload with a disruption budget."""
    lab = small_lab
    if "k3s.service" in lab("ssh", "control-plane-1", "ls /etc/systemd/system"):
        refused = play(lab, "reset", "reset-refused", {"k3s_confirm": "another"}).expect(1)
        assert refused.changed == [] and "Give its name" in said(refused)
        play(lab, "reset", "reset", {"k3s_confirm": "lab"}).expect()
        for node in NODES:
            left = lab("ssh", node, "ls -d /var/lib/rancher/k3s /etc/rancher/k3s /usr/local/bin/k3s /etc/systemd/system/k3s*.service 2>/dev/null || true")
            assert left == "", f"{node}: {left}"
    site(lab, "old", "-e", f"k3s_version={OLD}").expect()
    assert releases(lab) == dict.fromkeys(NODES, OLD)
    assert lab.kubectl("version")["serverVersion"]["gitVersion"] == OLD
    manifest = tmp_path_factory.mktemp("web") / "web.json"
    manifest.write_text(json.dumps(WEB))
    lab("kubectl", "apply", "-f", str(manifest))
    until("the workload runs", lambda: available(lab) == 2)
    yield Cluster(lab, cluster_id(lab))


def upgrade(cluster: Cluster, name: str, backup: Path, version: str = NEW, interrupt_after: str | None = None, **variables: object):
    return play(cluster.lab, "upgrade", name, {"k3s_version": version, "k3s_backup_dir": str(backup), **variables}, interrupt_after=interrupt_after)


def test_what_cannot_work_is_refused_before_anything_changes(old: Cluster, tmp_path: Path) -> None:
    before = services(old.lab)
    assert "set k3s_backup_dir" in said(play(old.lab, "upgrade", "upgrade-unsaved", {"k3s_version": NEW}).expect(1))
    for version, variables, text in (
            ("v1.36.2+k3s1", {}, "would skip a minor release"),
            ("v1.25.14+k3s1", {}, "k3s cannot go back"),
            ("v1.35.1+k3s1", {"control_plane_kubelet_args": ["pod-infra-container-image=x"]}, "which Kubernetes 1.35 no longer takes")):
        run = upgrade(old, "upgrade-refused", tmp_path, version, **variables).expect(1)
        assert text in message(run, "control-plane-1") and run.changed == []
    assert "run playbooks/upgrade.yml" in message(site(old.lab, "upgrade-by-site").expect(1), "control-plane-1")
    assert services(old.lab) == before and not list(tmp_path.iterdir())


def test_an_interrupted_upgrade_goes_on_from_there(old: Cluster, tmp_path: Path) -> None:
    lab = old.lab
    old.mark("before-upgrade")
    cut = upgrade(old, "upgrade-cut", tmp_path, interrupt_after="Take the node back into use")
    assert cut.code != 0
    snapshot = next((tmp_path / "lab").iterdir())
    assert snapshot.name.startswith("before-upgrade") and (snapshot / "token").exists()
    half = releases(lab)
    assert half["control-plane-1"] == NEW and half["agent-1"] == half["agent-2"] == OLD, half
    begun = services(lab)
    run = upgrade(old, "upgrade", tmp_path).expect()
    assert services(lab)["control-plane-1"] == begun["control-plane-1"], "what was upgraded is not restarted again"
    assert releases(lab) == dict.fromkeys(NODES, NEW)
    assert lab.kubectl("version")["serverVersion"]["gitVersion"] == NEW
    for node in NODES:
        assert "/opt/lab/k8s/1.34.4/kubelet" in lab("ssh", node, "ps -eo args"), node
    assert not [node["metadata"]["name"] for node in lab.kubectl("get", "nodes")["items"] if node["spec"].get("unschedulable")]
    drained = [result["_host"] for result in run.results("k3s_drain") if result.get("evicted") is not None]
    assert set(SERVERS[1:]) <= set(drained)
    old.heals("upgraded", "before-upgrade")
    until("the workload is whole again", lambda: available(lab) == 2)
