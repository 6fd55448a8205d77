"""Joining, changing, losing and rebuilding machines: after each the cluster is the same and whole, or a message says what to do.

The tests follow one another on one cluster.
"""
from __future__ import annotations

import json
from pathlib import Path

from cht_lab import k3s as lab_k3s
from support.k3s import (
    NODES, RELEASES, SERVERS, Cluster, changed_hosts, cluster_id, joined, message, play, ready, services, site, until, voters,
)


def test_three_voters_and_every_node_is_ready(cluster: Cluster) -> None:
    lab = cluster.lab
    assert voters(lab) == SERVERS
    nodes = lab.kubectl("get", "nodes")["items"]
    assert sorted(n["metadata"]["name"] for n in nodes) == sorted(NODES)
    for node in nodes:
        assert node["spec"]["providerID"].startswith("vsphere://420e"), node["metadata"]["name"]
        assert not [taint for taint in node["spec"].get("taints") or [] if "uninitialized" in taint["key"]]


def test_the_first_server_names_a_peer_in_place_of_cluster_init(cluster: Cluster) -> None:
    """Otherwise it would begin a second cluster if it lost its data and started."""
    config = cluster.lab("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml")
    assert "server: https://198.18.0.12:6443" in config and "cluster-init" not in config


def test_a_second_run_changes_and_restarts_nothing(cluster: Cluster) -> None:
    lab = cluster.lab
    before = services(lab)
    assert site(lab, "second").expect().changed == []
    assert services(lab) == before


def test_no_secret_is_readable_or_on_a_command_line(cluster: Cluster) -> None:
    lab = cluster.lab
    password = lab("ssh", "control-plane-1", "sudo cat /var/lib/rancher/k3s/server/token").strip().rsplit(":", 1)[1]
    for node in NODES:
        assert password not in lab("ssh", node, "ps -eo args; cat /etc/systemd/system/k3s*.service"), node
        assert password not in lab("ssh", node, "sudo cat /etc/rancher/k3s/config.yaml /etc/systemd/system/k3s*.env; sudo journalctl --no-pager -o cat"), node
        readable = lab("ssh", node, "sudo find /etc/rancher /etc/systemd/system/*.service.env -type f -perm /077 -print")
        assert readable.strip() == "", node


def test_one_changed_variable_shows_exactly_that(cluster: Cluster) -> None:
    lab = cluster.lab
    before = services(lab)
    run = site(lab, "one-variable", "--check", "--diff", "-e", json.dumps({"agent_labels": {"county": "a"}})).expect()
    assert changed_hosts(run) == NODES[3:]
    for node in NODES[3:]:
        diff = joined(run)[node]["diff"]
        assert [entry["after_header"] for entry in diff if "config.yaml" in entry["after_header"]] == ["/etc/rancher/k3s/config.yaml"]
        assert diff[0]["after"].replace("node-label:\n  - county=a\n", "") == diff[0]["before"]
    assert services(lab) == before


def test_a_changed_server_restarts_alone_and_is_back_before_the_next(cluster: Cluster) -> None:
    lab, identity = cluster.lab, cluster.identity
    before = services(lab)
    run = site(lab, "one-server", "--limit", "control-plane-2,localhost", "-e", json.dumps({"control_plane_tls_san": ["k3s.example.org"]})).expect()
    after = services(lab)
    assert changed_hosts(run) == ["control-plane-2"]
    assert [node for node in NODES if after[node] != before[node]] == ["control-plane-2"]
    assert voters(lab) == SERVERS and cluster_id(lab) == identity
    site(lab, "one-server-back", "--limit", "control-plane-2,localhost").expect()


def test_a_typo_changes_nothing(cluster: Cluster) -> None:
    lab = cluster.lab
    before = services(lab)
    run = site(lab, "typo", "-e", json.dumps({"control_plane_config": {"tls-sna": ["x"]}})).expect(1)
    assert "did you mean 'tls-san'" in message(run, "control-plane-1")
    assert run.changed == [] and services(lab) == before


def test_what_the_cluster_is_built_on_is_not_changed(cluster: Cluster) -> None:
    lab = cluster.lab
    before = services(lab)
    run = site(lab, "built-on", "-e", json.dumps({"k3s_service_cidr": "198.18.128.0/17"})).expect(1)
    assert "service-cidr is 198." in message(run, "control-plane-1") and "Set the variables to what runs" in message(run, "control-plane-1")
    assert [line for line in run.changed if "Join" in line] == [] and services(lab) == before
    run = site(lab, "built-on-encrypted", "-e", json.dumps({"control_plane_secrets_encryption": False})).expect()
    assert "They stay encrypted" in " ".join(run.output.split()) and run.changed == [] and services(lab) == before
    assert site(lab, "built-on-after").expect().changed == []


def test_a_configuration_that_does_not_start_is_taken_back(cluster: Cluster) -> None:
    """Known to k3s, refused by the API server: only starting it tells."""
    lab, identity = cluster.lab, cluster.identity
    run = site(lab, "bad-config", "--limit", "control-plane-3,localhost", "-e",
               json.dumps({"control_plane_apiserver_args": ["no-such-flag=1"], "k3s_join_timeout": 45})).expect(1)
    assert "The last good configuration was put back, and the node is up with it" in message(run, "control-plane-3")
    assert "no-such-flag" not in lab("ssh", "control-plane-3", "sudo cat /etc/rancher/k3s/config.yaml")
    assert voters(lab) == SERVERS and cluster_id(lab) == identity
    assert site(lab, "bad-config-after").expect().changed == []


def test_a_wrong_token_is_named_and_cured(cluster: Cluster) -> None:
    lab = cluster.lab
    arguments = {"state": "absent"}
    lab.playbook("-e", json.dumps({"target": "agent-2", "arguments": arguments}), playbook="tests/integration/k3s/join.yml", name="k3s-absent").expect()
    arguments = {"role": "agent", "version": lab_k3s.releases().new, "release_url": RELEASES, "token": "another-cluster",
                 "servers": ["https://198.18.0.11:6443"],
                 "config": {"node-ip": "198.18.0.22", "kubelet-arg": ["fail-cgroupv1=false"]}, "timeout": 120}
    run = lab.playbook("-e", json.dumps({"target": "agent-2", "arguments": arguments}), playbook="tests/integration/k3s/join.yml", name="k3s-token").expect(1)
    assert "Cause (wrong-token)" in message(run, "agent-2") and "Remedy: correct k3s_token" in message(run, "agent-2")
    assert run.seconds < 60, "a wrong token is not waited for"
    site(lab, "token-cured", "--limit", "agent-2,localhost").expect()
    assert site(lab, "token-after").expect().changed == []


def test_a_rebuilt_agent_comes_back(cluster: Cluster) -> None:
    """An empty disk under the old name: the cluster still has the old node and its password."""
    lab = cluster.lab
    lab("vm", "wipe", "agent-1", timeout=120)
    site(lab, "rebuilt-agent", "--limit", "agent-1,localhost").expect()
    assert site(lab, "rebuilt-agent-after").expect().changed == []


def test_a_first_server_that_lost_its_data_begins_no_second_cluster(cluster: Cluster) -> None:
    """k3s by itself joins or fails; site.yml makes it whole."""
    lab = cluster.lab
    cluster.mark("before-data-loss")
    lab("ssh", "control-plane-1", "sudo sh -c 'systemctl stop k3s; rm -rf /var/lib/rancher/k3s/server/db; systemctl start --no-block k3s; sleep 20'")
    assert lab("ssh", "control-plane-1", "sudo ls /var/lib/rancher/k3s/server/db/etcd/member/wal 2>/dev/null || true").strip() == ""
    cluster.heals("data-loss", "before-data-loss")


def test_a_rebuilt_first_server_joins_the_others(cluster: Cluster, tmp_path: Path) -> None:
    lab, identity = cluster.lab, cluster.identity
    lab("vm", "wipe", "control-plane-1", timeout=120)
    site(lab, "rebuilt-server").expect()
    assert cluster_id(lab) == identity and voters(lab) == SERVERS
    assert "server: https://" in lab("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml")
    assert site(lab, "rebuilt-server-after").expect().changed == []
    # Its configuration names another server, by which it joined, and it is asked first for a snapshot.
    play(lab, "backup", "rebuilt-backup", {"k3s_backup_dir": str(tmp_path)}).expect()
    assert next((tmp_path / "lab").iterdir()).name.startswith("backup-control-plane-1-")


def test_a_restart_that_costs_the_quorum_is_refused(cluster: Cluster) -> None:
    lab, identity = cluster.lab, cluster.identity
    lab("vm", "kill", "control-plane-2", timeout=60)
    until("the dead server is called sick", lambda: "control-plane-2" not in ready(lab))
    run = lab.playbook("--tags", "control_plane", "--limit", "control-plane-1", "-e", json.dumps({"control_plane_tls_san": ["x.example.org"]}),
                       name="k3s-quorum").expect(1)
    assert "control-plane-2 is not a healthy etcd voter" in message(run, "control-plane-1")
    assert "x.example.org" not in lab("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml")
    lab("vm", "start", "control-plane-2", timeout=120)
    assert site(lab, "quorum-after").expect().stats
    assert voters(lab) == SERVERS and cluster_id(lab) == identity


def test_a_server_killed_in_the_middle_of_joining(cluster: Cluster) -> None:
    lab, identity = cluster.lab, cluster.identity
    lab("vm", "wipe", "control-plane-3", timeout=120)
    run = lab.playbook("--tags", "control_plane", "--limit", "control-plane-3", name="k3s-killed", interrupt_after="Join the rebuilt server")
    assert run.code != 0
    lab("vm", "kill", "control-plane-3", timeout=60)
    lab("vm", "start", "control-plane-3", timeout=120)
    site(lab, "killed-healed").expect()
    assert cluster_id(lab) == identity and voters(lab) == SERVERS
    assert site(lab, "killed-after").expect().changed == []


def test_without_quorum_nobody_begins_a_second_cluster(cluster: Cluster) -> None:
    lab, identity = cluster.lab, cluster.identity
    lab("vm", "stop", "control-plane-2", timeout=120)
    lab("vm", "stop", "control-plane-3", timeout=120)
    lab("vm", "wipe", "control-plane-1", timeout=120)
    run = lab.playbook("--tags", "control_plane", "--limit", "control-plane-1", name="k3s-no-quorum").expect(1)
    assert "cannot be reached" in message(run, "control-plane-1")
    assert not {"k3s.service", "config.yaml"} & set(lab("ssh", "control-plane-1", "ls /etc/systemd/system /etc/rancher/k3s 2>/dev/null || true").split())
    lab("vm", "start", "control-plane-2", timeout=120)
    lab("vm", "start", "control-plane-3", timeout=120)
    site(lab, "no-quorum-healed").expect()
    assert cluster_id(lab) == identity and voters(lab) == SERVERS
