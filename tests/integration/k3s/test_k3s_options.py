"""Options of servers and agents: each is seen where it acts, and restarts only what reads it."""
from __future__ import annotations

import base64
import json
import stat
import time
from pathlib import Path

from support.lab import Lab

NODES = {"control-plane-1": "k3s", "agent-1": "k3s-agent", "agent-2": "k3s-agent"}
SCHEDULED = "sudo sh -c 'cd /var/lib/rancher/k3s/server/db/snapshots && ls -d etcd-snapshot-*' 2>/dev/null || true"
BASE = {"k3s_cloud_provider": "none"}


def pids(lab: Lab) -> dict[str, str]:
    return {node: lab("ssh", node, f"systemctl show -p MainPID {unit}").strip() for node, unit in NODES.items()}


def site(lab: Lab, name: str, **variables: object):
    config = lab("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml")
    given = {**BASE, "control_plane_secrets_encryption": "secrets-encryption: true" in config, **variables}
    return lab.playbook("--tags", "node,control_plane,agent", "-e", json.dumps(given), name=f"life-{name}").expect()


def restarted(lab: Lab, before: dict[str, str]) -> list[str]:
    after = pids(lab)
    return [node for node in NODES if before[node] != after[node]]


def test_each_change_restarts_only_what_reads_it(life: Lab) -> None:
    site(life, "options-base")
    before = pids(life)
    site(life, "options-server", control_plane_audit_log=True, control_plane_eviction_seconds=60, control_plane_node_grace_seconds=40)
    assert restarted(life, before) == ["control-plane-1"]
    log = life("ssh", "control-plane-1", "sudo tail -n 1 /var/lib/rancher/k3s/server/logs/audit.log; sudo stat -c %a /etc/rancher/k3s/audit-policy.yaml")
    assert '"kind":"Event"' in log and log.strip().endswith("600")
    life("kubectl", "run", "evicted", "--image=registry.k8s.io/pause:3.10")
    tolerated = {t["key"]: t.get("tolerationSeconds") for t in life.kubectl("get", "pod", "evicted")["spec"]["tolerations"]}
    assert tolerated["node.kubernetes.io/unreachable"] == 60
    life("kubectl", "delete", "pod", "evicted", "--now")

    before = pids(life)
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "None"}]}
    same = {"control_plane_audit_log": True, "control_plane_eviction_seconds": 60, "control_plane_node_grace_seconds": 40, "control_plane_audit_policy": policy}
    site(life, "options-policy", **same)
    assert restarted(life, before) == ["control-plane-1"], "a changed policy is read at a start only"
    before = pids(life)
    same |= {"agent_labels": {"room": "cellar"}, "agent_kubelet_args": ["fail-cgroupv1=false", "max-pods=55"]}
    site(life, "options-agent", **same)
    assert restarted(life, before) == ["agent-1", "agent-2"]
    node = life.kubectl("get", "node", "agent-1")
    assert node["metadata"]["labels"]["room"] == "cellar" and node["status"]["allocatable"]["pods"] == "55"
    before = pids(life)
    proxy = {"k3s_environment": {"HTTPS_PROXY": "http://user:hidden-word@198.18.0.2:3128", "NO_PROXY": "198.18.0.0/15,.svc,.cluster.local"},
             "k3s_registries": {"mirrors": {"docker.io": {"endpoint": ["http://198.18.0.2:5000"]}}}}
    run = site(life, "options-proxy", **same, **proxy)
    assert restarted(life, before) == list(NODES) and "hidden-word" not in run.output
    assert site(life, "options-again", **same, **proxy).changed == []
    assert "http://198.18.0.2:5000" in life("ssh", "agent-1", "sudo cat /etc/rancher/k3s/registries.yaml")


def test_snapshots_are_made_on_schedule_and_kept_in_number(life: Lab) -> None:
    """Of those every minute two are kept."""
    site(life, "options-snapshots", control_plane_snapshot_cron="* * * * *", control_plane_snapshot_retention=2)
    seen: set[str] = set()
    end = time.monotonic() + 420
    while len(seen) < 3 and time.monotonic() < end:
        seen |= set(life("ssh", "control-plane-1", SCHEDULED).split())
        time.sleep(5)
    assert len(seen) >= 3, seen
    time.sleep(10)
    assert len(set(life("ssh", "control-plane-1", SCHEDULED).split())) <= 2
    site(life, "options-no-snapshots", control_plane_snapshot_cron="0 3 * * *")


def test_an_added_agent_gets_all_from_the_controller_and_restarts_nobody(life: Lab, tmp_path: Path) -> None:
    """It reaches no release site, and finds its images on its own disk."""
    binary, images = tmp_path / "k3s", tmp_path / "k3s-airgap-images.tar"
    binary.write_bytes(base64.b64decode(life("ssh", "agent-1", "base64 -w0 /usr/local/bin/k3s")))
    images.write_bytes(b"")
    life("vm", "wipe", "agent-2", timeout=120)
    before = pids(life)
    config = life("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml")
    given = {**BASE, "control_plane_secrets_encryption": "secrets-encryption: true" in config, "k3s_binary": str(binary),
             "k3s_release_url": "http://198.18.0.2:9/nothing", "k3s_image_bundles": [str(images)]}
    argv = ("--tags", "node,control_plane,agent", "-e", json.dumps(given))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(binary.read_bytes()[:1000])
    wrong = ("--tags", "node,control_plane,agent", "-e", json.dumps({**given, "k3s_binary": str(damaged)}))
    run = life.playbook(*wrong, "--limit", "agent-1,localhost", name="life-airgap-damaged").expect(1)
    assert "The file of k3s_binary is not k3s" in " ".join(run.output.split()) and restarted(life, before) == []
    life.playbook(*argv, "--limit", "agent-2,localhost", name="life-airgap").expect()
    assert restarted(life, before) == ["agent-2"]
    assert "k3s-airgap-images.tar" in life("ssh", "agent-2", "sudo ls /var/lib/rancher/k3s/agent/images")
    life.playbook(*argv, "--limit", "agent-1,localhost", name="life-airgap-cured").expect()
    assert restarted(life, before) == ["agent-2"], "the right file is the one that agent-1 runs"
    assert "controller" not in life("ssh", "agent-1", "ls -A /usr/local/bin") + life("ssh", "agent-2", "ls -A /usr/local/bin")


def test_a_kubeconfig_for_people_is_written_once(life: Lab, tmp_path: Path) -> None:
    place = tmp_path / "access"
    first = site(life, "kubeconfig", k3s_kubeconfig_dir=str(place))
    file = place / "lab.yaml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and "https://198.18.0.11:6443" in file.read_text()
    assert "client-key-data" not in first.output
    file.write_text("somebody's own\n")
    again = site(life, "kubeconfig-again", k3s_kubeconfig_dir=str(place))
    assert file.read_text() == "somebody's own\n" and not [line for line in again.changed if "kubeconfig" in line]
