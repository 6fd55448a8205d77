"""Faults of machines, network and disk: the cluster answers or a message says what to do, the next run heals, nothing is lost.

Not run here: a wrong clock, as all machines share the host's; tests/unit reads k3s' own journal lines of it instead.
"""
from __future__ import annotations

import json
import time

import pytest
from support.k3s import AGENTS, NODES, SERVERS, Cluster, message, play, ready, said, services, site, until, voters

DB = "/var/lib/rancher/k3s/server/db"
HOSTNAME = "sudo sh -c 'hostname {name} && echo {name} > /etc/hostname'"


def test_a_server_that_froze_for_a_minute(cluster: Cluster) -> None:
    lab = cluster.lab
    cluster.mark("before-pause")
    lab("vm", "pause", "control-plane-2")
    try:
        begin = time.monotonic()
        cluster.mark("during-pause")
        time.sleep(max(0.0, 60 - (time.monotonic() - begin)))
    finally:
        lab("vm", "resume", "control-plane-2")
    until("three voters", lambda: voters(lab) == SERVERS and ready(lab) == sorted(NODES))
    cluster.heals("paused", "before-pause", "during-pause")


def test_servers_that_do_not_reach_each_other(cluster: Cluster) -> None:
    """Between two of three: etcd goes on through the third, whichever leads."""
    lab = cluster.lab
    lab("net", "cut", "control-plane-1", "control-plane-2")
    try:
        time.sleep(20)
        until("the cluster takes writes", lambda: lab("kubectl", "create", "configmap", "during-cut", "--from-literal=written=during-cut") != "", 90)
    finally:
        lab("net", "heal", "control-plane-1", "control-plane-2")
    cluster.heals("cut", "during-cut")


def test_a_server_without_the_network(cluster: Cluster) -> None:
    lab = cluster.lab
    lab("net", "cut", "control-plane-3")
    try:
        run = site(lab, "off-network").expect(1)
        assert run.stats["control-plane-3"]["unreachable"]
        cluster.mark("off-network")
    finally:
        lab("net", "heal", "control-plane-3")
    cluster.heals("on-network", "off-network")


def test_two_of_three_servers_down(cluster: Cluster) -> None:
    """No quorum: a run says who has the data and who does not answer; with one back etcd answers by itself."""
    lab = cluster.lab
    cluster.mark("before-two-down")
    lab("vm", "kill", "control-plane-2", timeout=60)
    lab("vm", "kill", "control-plane-3", timeout=60)
    run = lab.playbook("--tags", "agent", "--limit", "agent-1", name="k3s-two-down").expect(1)
    assert "control-plane-2" in said(run) and run.changed == []
    lab("vm", "start", "control-plane-2", timeout=120)
    lab("vm", "start", "control-plane-3", timeout=120)
    cluster.heals("two-down", "before-two-down")


def test_a_run_right_after_power_on_waits_for_the_servers(cluster: Cluster) -> None:
    """No API answers for a while; what is on its way is waited for, and said."""
    lab = cluster.lab
    cluster.mark("before-power-off")
    for name in SERVERS:
        lab("vm", "stop", name, timeout=120)
    for name in SERVERS:
        lab("vm", "start", name, timeout=120)
    # The first alone has no quorum, and is on its way until another comes.
    for name in SERVERS[1:]:
        lab("ssh", name, "sudo sh -c 'systemctl stop k3s; systemd-run -q --on-active=45 systemctl start k3s'", timeout=180)
    lab("ssh", SERVERS[0], "sudo systemctl restart --no-block k3s")
    run = lab.playbook("--tags", "agent", name="k3s-power-on").expect()
    assert "Waiting up to 300 s for" in run.output and run.changed == []
    cluster.heals("power-on", "before-power-off")


@pytest.mark.parametrize("datastore", ["SQLite", "etcd"])
def test_a_second_cluster_ends_every_playbook(cluster: Cluster, datastore: str) -> None:
    """A server that lost its data and is told of no token begins one on SQLite, with cluster-init one on etcd: same authority, same token."""
    lab = cluster.lab
    cluster.mark(f"before-second-{datastore.lower()}")
    told = "/^token-file:/d" if datastore == "SQLite" else "s/^server:.*/cluster-init: true/"
    begin = f"systemctl stop k3s; rm -rf {DB}; sed -i '{told}' /etc/rancher/k3s/config.yaml; systemctl start k3s"
    lab("ssh", "control-plane-1", f'sudo sh -c "{begin}"', timeout=180)
    for playbook, variables in (("site", {}), ("projects", {}), ("backup", {"k3s_backup_dir": "/tmp/x"}), ("remove_node", {"k3s_remove": ["agent-1"]})):
        run = play(lab, playbook, f"second-{datastore}-{playbook}", variables).expect(1)
        assert "control-plane-1 is the odd one" in said(run) and f"control-plane-1 ({datastore}" in said(run), said(run)
        assert run.changed == [], playbook
    run = play(lab, "report", f"second-{datastore}-report", {"cht_project_report_fail_on": "never"}).expect()
    assert "control-plane-1 is the odd one" in run.output
    play(lab, "reset", f"second-{datastore}-reset", {"k3s_confirm": "lab"}, "--limit", "control-plane-1").expect()
    cluster.heals(f"second-{datastore}", f"before-second-{datastore.lower()}")


def test_a_full_disk_under_a_server(cluster: Cluster) -> None:
    """A new, small disk below etcd: the server can't join, the message says why; with room it joins."""
    lab = cluster.lab
    cluster.mark("before-full")
    play(lab, "remove_node", "full-removed", {"k3s_remove": ["control-plane-3"]}).expect()
    lab("ssh", "control-plane-3", f"sudo mkdir -p {DB} && sudo mount -t tmpfs -o size=20m tmpfs {DB}")
    run = site(lab, "full", "-e", json.dumps({"k3s_join_timeout": 90})).expect(1)
    assert "Cause (disk-full)" in message(run, "control-plane-3") and "make room below /var/lib/rancher/k3s" in message(run, "control-plane-3")
    assert cluster.lab.kubectl("get", "configmap", "before-full"), "the others go on"
    lab("ssh", "control-plane-3", f"sudo systemctl stop k3s; sudo umount -l {DB}")
    cluster.heals("roomy", "before-full")


def test_two_machines_with_one_host_name(cluster: Cluster) -> None:
    lab = cluster.lab
    play(lab, "remove_node", "twin-removed", {"k3s_remove": ["agent-2"]}).expect()
    lab("vm", "wipe", "agent-2", timeout=120)
    lab("ssh", "agent-2", HOSTNAME.format(name="agent-1"))
    run = site(lab, "twin", "--limit", "agent-2,localhost").expect(1)
    assert "Two machines have one host name" in message(run, "agent-2") or "Two machines have one host name" in said(run)
    assert "agent-1" in ready(lab)
    lab("ssh", "agent-2", HOSTNAME.format(name="agent-2"))
    cluster.heals("twin-renamed")


def test_agents_that_join_at_once(cluster: Cluster) -> None:
    lab = cluster.lab
    for name in AGENTS:
        lab("vm", "wipe", name, timeout=120)
    before = services(lab)
    cluster.heals("at-once")
    after = services(lab)
    assert [node for node in NODES if after[node] != before[node]] == AGENTS
