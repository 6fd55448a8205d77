"""Real upgrades of Kubernetes: what is refused before it begins, what happens when the first server fails and when it stops half-way, how it ends, and on.

Each release runs its own build of Kubernetes. The cluster is taken away (reset.yml) and built again with the old one.
"""
from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cht_lab import k3s as lab_k3s
from support.k3s import NODES, SERVERS, Cluster, cluster_id, message, play, ready, said, services, site, until
from support.lab import Lab, Run, plain

OLD, NEW, NEXT = lab_k3s.releases().old, lab_k3s.releases().new, lab_k3s.releases().next
MINOR = int(plain(OLD or NEW).split(".")[1])
FAULTS = "/etc/lab-k3s/faults.json"
CGROUP_V1 = "Error: kubelet exited: failed to run Kubelet: kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported"
CIDR = ('E1126 05:00:00.000000       1 controllermanager.go:1] "Error starting controller" err="failed to mark cidr[10.42.0.0/24] at idx [0] as occupied for'
        ' node: control-plane-1: cidr 10.42.0.0/24 is out the range of cluster cidr 198.19.0.0/17" controller="node-ipam-controller"')
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
    if not OLD:
        pytest.skip("LAB_K3S is given, and LAB_K3S_OLD names no release to upgrade from")
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


def upgrade(
    cluster: Cluster, name: str, backup: Path, version: str = NEW, interrupt_after: str | None = None, limit: str = "", **variables: object,
) -> Run:
    given = {"k3s_version": version, "k3s_backup_dir": str(backup), **variables}
    return play(cluster.lab, "upgrade", name, given, *(["--limit", limit] if limit else []), interrupt_after=interrupt_after)


def fault(lab: Lab, node: str, faults: dict[str, object] | None) -> None:
    """What the stand-in's next starts do on a machine; None for nothing more."""
    if not lab_k3s.standin():
        pytest.skip("LAB_K3S is not the stand-in, and no other k3s fails as it is told to")
    script = f"rm -f {FAULTS}" if faults is None else f"mkdir -p /etc/lab-k3s; cat > {FAULTS} <<'END'\n{json.dumps(faults)}\nEND"
    lab("ssh", node, f"sudo sh -c {shlex.quote(script)}")


def took(run: Run, host: str) -> float:
    """Seconds that the join which failed on a host waited."""
    failed = next(task for task in run.tasks if task["host"] == host and task["status"] == "failed")
    return sum(step["seconds"] for step in failed["result"]["steps"])


def test_what_cannot_work_is_refused_before_anything_changes(old: Cluster, tmp_path: Path) -> None:
    before = services(old.lab)
    assert "set k3s_backup_dir" in said(play(old.lab, "upgrade", "upgrade-unsaved", {"k3s_version": NEW}).expect(1))
    refused = [
        (f"v1.{MINOR + 2}.2+k3s1", {}, "would skip a minor release"), ("v1.25.14+k3s1", {}, "k3s cannot go back"),
        (f"v1.{max(MINOR + 1, 35)}.1+k3s1", {"control_plane_kubelet_args": ["pod-infra-container-image=x"]}, "which Kubernetes 1.35 no longer takes")]
    for version, variables, text in refused:
        run = upgrade(old, "upgrade-refused", tmp_path, version, **variables).expect(1)
        assert text in message(run, "control-plane-1") and run.changed == []
    assert "run playbooks/upgrade.yml" in message(site(old.lab, "upgrade-by-site").expect(1), "control-plane-1")
    assert services(old.lab) == before and not list(tmp_path.iterdir())


def test_a_first_server_that_fails_is_told_soon_and_nothing_else_is_touched(old: Cluster, tmp_path: Path) -> None:
    """Each start of it fails after 4 s, among 30 lines a second, and is made again every 9 s."""
    lab, before = old.lab, services(old.lab)
    fault(lab, "control-plane-1", {"ends": {"before": 4, "says": CGROUP_V1, "noise": 30}})
    failed = upgrade(old, "upgrade-failed", tmp_path).expect(1)
    assert "Cause (cgroup-v1)" in message(failed, "control-plane-1") and took(failed, "control-plane-1") < 60
    assert {node: began for node, began in services(lab).items() if node != "control-plane-1"} == {
        node: began for node, began in before.items() if node != "control-plane-1"}
    until("the others see that it is down", lambda: "control-plane-1" not in ready(lab))
    refused = upgrade(old, "upgrade-without-it", tmp_path, limit="control-plane-2").expect(1)
    assert "control-plane-1 is not a healthy etcd voter" in message(refused, "control-plane-2") and refused.changed == []


def test_one_moment_of_ready_is_not_up(old: Cluster, tmp_path: Path) -> None:
    """It is READY at each start and ends 3 s later; its API answers meanwhile."""
    lab = old.lab
    fault(lab, "control-plane-1", {"ends": {"after": 3, "says": CIDR}})
    failed = upgrade(old, "upgrade-looping", tmp_path).expect(1)
    assert "Cause (cluster-cidr)" in message(failed, "control-plane-1") and took(failed, "control-plane-1") < 90
    saved = play(lab, "backup", "backup-looping", {"k3s_backup_dir": str(tmp_path)}).expect()
    assert saved.results("k3s_snapshot")[0]["snapshot"]["name"].startswith(("backup-control-plane-2", "backup-control-plane-3")), "from one that is well"


def test_an_interrupted_upgrade_goes_on_from_there(old: Cluster, tmp_path: Path) -> None:
    """The first run begins with the server that failed before."""
    lab = old.lab
    fault(lab, "control-plane-1", None)
    # Else systemd may have it up again before the run asks.
    lab("ssh", "control-plane-1", "sudo systemctl stop k3s")
    old.mark("before-upgrade")
    cut = upgrade(old, "upgrade-cut", tmp_path, interrupt_after="Take the node back into use")
    assert cut.code != 0
    repaired = [result for result in cut.results("k3s_join") if "steps" in result and any(step["name"] == "service" for step in result["steps"])]
    assert repaired and repaired[0]["_host"] == "control-plane-1"
    snapshot = next((tmp_path / "lab").iterdir())
    assert snapshot.name.startswith("before-upgrade") and (snapshot / "token").exists()
    half = releases(lab)
    assert half["control-plane-1"] == NEW and half["agent-1"] == half["agent-2"] == OLD, half
    begun = services(lab)
    # About one start of an agent in thirty says READY minutes late.
    fault(lab, "agent-1", {"late": 600})
    run = upgrade(old, "upgrade", tmp_path).expect()
    late = [result for result in run.results("k3s_join") if result["_host"] == "agent-1"][-1]
    assert late["actions"][-1] == "restart k3s-agent.service (the node is Ready, but the start does not end)", late
    assert "k3s-agent.service on agent-1 was started anew" in " ".join(run.output.split())
    assert services(lab)["control-plane-1"] == begun["control-plane-1"], "what was upgraded is not restarted again"
    assert releases(lab) == dict.fromkeys(NODES, NEW)
    assert lab.kubectl("version")["serverVersion"]["gitVersion"] == NEW
    for node in NODES:
        assert f"/opt/lab/k8s/{plain(NEW)}/kubelet" in lab("ssh", node, "ps -eo args"), node
    assert not [node["metadata"]["name"] for node in lab.kubectl("get", "nodes")["items"] if node["spec"].get("unschedulable")]
    drained = [result["_host"] for result in run.results("k3s_drain") if result.get("evicted") is not None]
    assert set(SERVERS[1:]) <= set(drained)
    old.heals("upgraded", "before-upgrade")
    until("the workload is whole again", lambda: available(lab) == 2)


def test_the_next_minor_follows(old: Cluster, tmp_path: Path) -> None:
    if not NEXT:
        pytest.skip("no third release was given")
    lab = old.lab
    upgrade(old, "upgrade-next", tmp_path, NEXT).expect()
    assert releases(lab) == dict.fromkeys(NODES, NEXT)
    assert lab.kubectl("version")["serverVersion"]["gitVersion"] == NEXT
    for node in NODES:
        assert f"/opt/lab/k8s/{plain(NEXT)}/kubelet" in lab("ssh", node, "ps -eo args"), node
    assert site(lab, "upgrade-next-again", "-e", f"k3s_version={NEXT}").expect().changed == []
    until("the workload is whole again", lambda: available(lab) == 2)
