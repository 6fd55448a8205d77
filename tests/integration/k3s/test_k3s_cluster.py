"""Joining, changing, losing and rebuilding machines: after each the cluster is the same and whole, or a message says what to do.

The tests follow one another on one cluster.
"""
from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from support.lab import Lab, Run

SERVERS = ["control-plane-1", "control-plane-2", "control-plane-3"]
NODES = [*SERVERS, "agent-1", "agent-2"]
# The parts of site.yml that this folder is about.
TAGS = ("--tags", "node,control_plane,cpi,agent")
RELEASES = "http://198.18.0.2:8080/k3s"


def site(lab: Lab, name: str, *argv: str) -> Run:
    return lab.playbook(*TAGS, *argv, name=f"k3s-{name}")


def services(lab: Lab) -> dict[str, str]:
    """PID and start of k3s on every machine."""
    found = {}
    for node in NODES:
        unit = "k3s" if node in SERVERS else "k3s-agent"
        found[node] = lab("ssh", node, f"systemctl show {unit} -p MainPID -p ExecMainStartTimestampMonotonic").strip()
    return found


def cluster_id(lab: Lab) -> str:
    """What tells a cluster from another one."""
    return lab.kubectl("get", "namespace", "kube-system")["metadata"]["uid"]


def voters(lab: Lab) -> list[str]:
    nodes = lab.kubectl("get", "nodes")["items"]
    return sorted(n["metadata"]["name"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "EtcdIsVoter" and c["status"] == "True")


def changed_hosts(run: Run) -> list[str]:
    """The hosts on which anything changed."""
    return sorted({line.split(":", 1)[0] for line in run.changed}, key=NODES.index)


def joined(run: Run) -> dict[str, dict]:
    return {result["_host"]: result for result in run.results("k3s_join")}


def message(run: Run, host: str) -> str:
    """What the first failure on a host said."""
    failed = [task for task in run.tasks if task["host"] == host and task["status"] == "failed"]
    assert failed, run.output[-3000:]
    return failed[0]["result"]["msg"]


@pytest.fixture(scope="module")
def built(small_lab: Lab) -> tuple[Lab, str]:
    """The cluster, with the prediction of check mode compared on the way."""
    predicted = joined(site(small_lab, "predicted", "--check", "--diff").expect())
    written = {node: small_lab("ssh", node, "ls -d /etc/rancher/k3s /usr/local/bin/k3s /etc/systemd/system/k3s*.service 2>/dev/null || true") for node in NODES}
    assert set(written.values()) == {""}, written
    real = joined(site(small_lab, "built", "--diff").expect())
    assert set(real) == set(NODES)
    for node in NODES:
        assert predicted[node]["actions"] == real[node]["actions"], node
        assert predicted[node]["diff"] == real[node]["diff"], node
    return small_lab, cluster_id(small_lab)


def test_three_voters_and_every_node_is_ready(built: tuple[Lab, str]) -> None:
    lab, _identity = built
    assert voters(lab) == SERVERS
    nodes = lab.kubectl("get", "nodes")["items"]
    assert sorted(n["metadata"]["name"] for n in nodes) == sorted(NODES)
    for node in nodes:
        assert node["spec"]["providerID"].startswith("vsphere://420e"), node["metadata"]["name"]
        assert not [taint for taint in node["spec"].get("taints") or [] if "uninitialized" in taint["key"]]


def test_a_second_run_changes_and_restarts_nothing(built: tuple[Lab, str]) -> None:
    lab, _identity = built
    before = services(lab)
    assert site(lab, "second").expect().changed == []
    assert services(lab) == before


def test_no_secret_is_readable_or_on_a_command_line(built: tuple[Lab, str]) -> None:
    lab, _identity = built
    password = lab("ssh", "control-plane-1", "sudo cat /var/lib/rancher/k3s/server/token").strip().rsplit(":", 1)[1]
    for node in NODES:
        assert password not in lab("ssh", node, "ps -eo args; cat /etc/systemd/system/k3s*.service"), node
        assert password not in lab("ssh", node, "sudo cat /etc/rancher/k3s/config.yaml /etc/systemd/system/k3s*.env; sudo journalctl --no-pager -o cat"), node
        readable = lab("ssh", node, "sudo find /etc/rancher /etc/systemd/system/*.service.env -type f -perm /077 -print")
        assert readable.strip() == "", node


def test_one_changed_variable_shows_exactly_that(built: tuple[Lab, str]) -> None:
    lab, _identity = built
    before = services(lab)
    run = site(lab, "one-variable", "--check", "--diff", "-e", json.dumps({"agent_labels": {"county": "a"}})).expect()
    assert changed_hosts(run) == NODES[3:]
    for node in NODES[3:]:
        diff = joined(run)[node]["diff"]
        assert [entry["after_header"] for entry in diff if "config.yaml" in entry["after_header"]] == ["/etc/rancher/k3s/config.yaml"]
        assert diff[0]["after"].replace("node-label:\n  - county=a\n", "") == diff[0]["before"]
    assert services(lab) == before


def test_a_changed_server_restarts_alone_and_is_back_before_the_next(built: tuple[Lab, str]) -> None:
    lab, identity = built
    before = services(lab)
    run = site(lab, "one-server", "--limit", "control-plane-2,localhost", "-e", json.dumps({"control_plane_tls_san": ["k3s.example.org"]})).expect()
    after = services(lab)
    assert changed_hosts(run) == ["control-plane-2"]
    assert [node for node in NODES if after[node] != before[node]] == ["control-plane-2"]
    assert voters(lab) == SERVERS and cluster_id(lab) == identity
    site(lab, "one-server-back", "--limit", "control-plane-2,localhost").expect()


def test_a_typo_changes_nothing(built: tuple[Lab, str]) -> None:
    lab, _identity = built
    before = services(lab)
    run = site(lab, "typo", "-e", json.dumps({"control_plane_config": {"tls-sna": ["x"]}})).expect(1)
    assert "did you mean 'tls-san'" in message(run, "control-plane-1")
    assert run.changed == [] and services(lab) == before


def test_a_configuration_that_does_not_start_is_taken_back(built: tuple[Lab, str]) -> None:
    """Known to k3s, refused by the API server: only starting it tells."""
    lab, identity = built
    run = site(lab, "bad-config", "--limit", "control-plane-3,localhost", "-e",
               json.dumps({"control_plane_apiserver_args": ["no-such-flag=1"], "k3s_join_timeout": 45})).expect(1)
    assert "The last good configuration was put back, and the node is up with it" in message(run, "control-plane-3")
    assert "no-such-flag" not in lab("ssh", "control-plane-3", "sudo cat /etc/rancher/k3s/config.yaml")
    assert voters(lab) == SERVERS and cluster_id(lab) == identity
    assert site(lab, "bad-config-after").expect().changed == []


def test_a_wrong_token_is_named_and_cured(built: tuple[Lab, str]) -> None:
    lab, _identity = built
    arguments = {"state": "absent"}
    lab.playbook("-e", json.dumps({"target": "agent-2", "arguments": arguments}), playbook="tests/integration/k3s/join.yml", name="k3s-absent").expect()
    arguments = {"role": "agent", "version": "v1.34.4+k3s1", "release_url": RELEASES, "token": "another-cluster", "servers": ["https://198.18.0.11:6443"],
                 "config": {"node-ip": "198.18.0.22"}, "timeout": 120}
    run = lab.playbook("-e", json.dumps({"target": "agent-2", "arguments": arguments}), playbook="tests/integration/k3s/join.yml", name="k3s-token").expect(1)
    assert "Cause (wrong-token)" in message(run, "agent-2") and "Remedy: correct k3s_token" in message(run, "agent-2")
    assert run.seconds < 60, "a wrong token is not waited for"
    site(lab, "token-cured", "--limit", "agent-2,localhost").expect()
    assert site(lab, "token-after").expect().changed == []


def test_a_rebuilt_agent_comes_back(built: tuple[Lab, str]) -> None:
    """An empty disk under the old name: the cluster still has the old node and its password."""
    lab, _identity = built
    lab("vm", "wipe", "agent-1", timeout=120)
    site(lab, "rebuilt-agent", "--limit", "agent-1,localhost").expect()
    assert site(lab, "rebuilt-agent-after").expect().changed == []


def test_a_rebuilt_first_server_joins_the_others(built: tuple[Lab, str]) -> None:
    lab, identity = built
    lab("vm", "wipe", "control-plane-1", timeout=120)
    site(lab, "rebuilt-server").expect()
    assert cluster_id(lab) == identity and voters(lab) == SERVERS
    assert "server: https://" in lab("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml")
    assert site(lab, "rebuilt-server-after").expect().changed == []


def test_a_restart_that_costs_the_quorum_is_refused(built: tuple[Lab, str]) -> None:
    lab, identity = built
    lab("vm", "kill", "control-plane-2", timeout=60)
    deadline = time.monotonic() + 120
    while "control-plane-2" in voters(lab) or not _not_ready(lab, "control-plane-2"):
        assert time.monotonic() < deadline, "the dead server is still called healthy"
        time.sleep(3)
    run = lab.playbook("--tags", "control_plane", "--limit", "control-plane-1", "-e", json.dumps({"control_plane_tls_san": ["x.example.org"]}),
                       name="k3s-quorum").expect(1)
    assert "control-plane-2 is not a healthy etcd voter" in message(run, "control-plane-1")
    assert "x.example.org" not in lab("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml")
    lab("vm", "start", "control-plane-2", timeout=120)
    assert site(lab, "quorum-after").expect().stats
    assert voters(lab) == SERVERS and cluster_id(lab) == identity


def _not_ready(lab: Lab, name: str) -> bool:
    node = lab.kubectl("get", "node", name)
    return any(c["type"] == "Ready" and c["status"] != "True" for c in node["status"]["conditions"])


def test_a_server_killed_in_the_middle_of_joining(built: tuple[Lab, str]) -> None:
    lab, identity = built
    lab("vm", "wipe", "control-plane-3", timeout=120)
    run = lab.playbook("--tags", "control_plane", "--limit", "control-plane-3", name="k3s-killed", interrupt_after="Join the rebuilt server")
    assert run.code != 0
    lab("vm", "kill", "control-plane-3", timeout=60)
    lab("vm", "start", "control-plane-3", timeout=120)
    site(lab, "killed-healed").expect()
    assert cluster_id(lab) == identity and voters(lab) == SERVERS
    assert site(lab, "killed-after").expect().changed == []


def test_without_quorum_nobody_begins_a_second_cluster(built: tuple[Lab, str]) -> None:
    lab, identity = built
    lab("vm", "stop", "control-plane-2", timeout=120)
    lab("vm", "stop", "control-plane-3", timeout=120)
    lab("vm", "wipe", "control-plane-1", timeout=120)
    run = lab.playbook("--tags", "control_plane", "--limit", "control-plane-1", name="k3s-no-quorum").expect(1)
    assert "cannot be reached" in message(run, "control-plane-1")
    assert "k3s" not in lab("ssh", "control-plane-1", "ls /etc/systemd/system")
    lab("vm", "start", "control-plane-2", timeout=120)
    lab("vm", "start", "control-plane-3", timeout=120)
    site(lab, "no-quorum-healed").expect()
    assert cluster_id(lab) == identity and voters(lab) == SERVERS


def test_a_removed_agent_leaves_nothing_and_can_come_back(built: tuple[Lab, str]) -> None:
    lab, _identity = built
    lab.playbook("-e", json.dumps({"k3s_remove": ["agent-2"]}), playbook="playbooks/remove_node.yml", name="k3s-remove").expect()
    assert "agent-2" not in [n["metadata"]["name"] for n in lab.kubectl("get", "nodes")["items"]]
    left = lab("ssh", "agent-2", "ls -d /var/lib/rancher/k3s /etc/rancher/k3s /usr/local/bin/k3s /etc/systemd/system/k3s* 2>/dev/null || true")
    assert not [line for line in left.splitlines() if not line.endswith(".d")]
    site(lab, "back", "--limit", "agent-2,localhost").expect()
    assert site(lab, "back-after").expect().changed == []


def test_a_removed_server_leaves_etcd(built: tuple[Lab, str]) -> None:
    lab, identity = built
    lab.playbook("-e", json.dumps({"k3s_remove": ["control-plane-3"]}), playbook="playbooks/remove_node.yml", name="k3s-remove-server").expect()
    assert voters(lab) == SERVERS[:2]
    site(lab, "server-back").expect()
    assert voters(lab) == SERVERS and cluster_id(lab) == identity


def test_everything_comes_back_after_all_three_servers_are_lost(built: tuple[Lab, str], tmp_path: Path) -> None:
    lab, identity = built
    lab("kubectl", "create", "namespace", "before-backup")
    lab.playbook("-e", json.dumps({"k3s_backup_dir": str(tmp_path)}), playbook="playbooks/backup.yml", name="k3s-backup").expect()
    backup = next((tmp_path / "lab").iterdir())
    assert all(path.stat().st_mode & 0o077 == 0 for path in backup.iterdir())
    lab("kubectl", "create", "namespace", "after-backup")
    lab("vm", "wipe", *SERVERS, timeout=300)
    unconfirmed = lab.playbook("-e", json.dumps({"k3s_restore_from": str(backup)}), playbook="playbooks/restore.yml", name="k3s-unconfirmed").expect(1)
    assert unconfirmed.changed == []
    lab.playbook("-e", json.dumps({"k3s_restore_from": str(backup), "k3s_confirm": "lab"}), playbook="playbooks/restore.yml", name="k3s-restore").expect()
    names = [n["metadata"]["name"] for n in lab.kubectl("get", "namespaces")["items"]]
    assert "before-backup" in names and "after-backup" not in names
    assert cluster_id(lab) == identity and voters(lab) == SERVERS
    site(lab, "restored-after").expect()
    assert site(lab, "restored-again").expect().changed == []
