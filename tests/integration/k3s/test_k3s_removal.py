"""Machines leave the cluster and come back: nothing of them stays, nobody else restarts, and quorum is never given away."""
from __future__ import annotations

from support.k3s import SERVERS, Cluster, message, play, ready, services, until, voters

LEFT = "ls -d /var/lib/rancher/k3s /etc/rancher/k3s /usr/local/bin/k3s /etc/systemd/system/k3s* 2>/dev/null || true"


def test_an_interrupted_removal_is_finished_by_the_next_and_the_agent_can_come_back(cluster: Cluster) -> None:
    lab = cluster.lab
    cluster.mark("before-removal")
    remove = {"k3s_remove": ["agent-2"]}
    assert play(lab, "remove_node", "remove-cut", remove, interrupt_after="cht.k3s.k3s : Forget the node]").code != 0
    play(lab, "remove_node", "remove", remove).expect()
    assert "agent-2" not in [node["metadata"]["name"] for node in lab.kubectl("get", "nodes")["items"]]
    secrets = [item["metadata"]["name"] for item in lab.kubectl("get", "secrets", "-n", "kube-system")["items"]]
    assert "agent-2.node-password.k3s" not in secrets and "agent-1.node-password.k3s" in secrets
    assert not [line for line in lab("ssh", "agent-2", LEFT).splitlines() if not line.endswith(".d")]
    before = services(lab)
    cluster.heals("back", "before-removal")
    after = services(lab)
    assert [node for node in after if after[node] != before[node]] == ["agent-2"], "nobody else restarts for a new agent"


def test_a_removed_server_leaves_etcd_and_can_come_back(cluster: Cluster) -> None:
    lab = cluster.lab
    cluster.mark("before-server-removal")
    # The inventory calls its Node otherwise: then the machine says under which name it joined.
    play(lab, "remove_node", "remove-server", {"k3s_remove": ["control-plane-3"], "k3s_node_name": "no-such-node"}).expect()
    assert voters(lab) == SERVERS[:2]
    cluster.heals("server-back", "before-server-removal")


def test_a_removal_that_would_break_the_quorum_is_refused(cluster: Cluster) -> None:
    """One of three is gone: the next would stop etcd, so it is not even drained."""
    lab = cluster.lab
    lab("vm", "kill", "control-plane-3", timeout=60)
    # Its condition EtcdIsVoter stays: only the node itself writes it.
    until("the dead server is called sick", lambda: "control-plane-3" not in ready(lab))
    run = play(lab, "remove_node", "remove-quorum", {"k3s_remove": ["control-plane-2"]}).expect(1)
    assert "control-plane-3 is not healthy, so etcd would lose its quorum" in message(run, "control-plane-2")
    assert run.changed == [] and not lab.kubectl("get", "node", "control-plane-2")["spec"].get("unschedulable")
    lab("vm", "start", "control-plane-3", timeout=120)
    cluster.healthy()


def test_a_machine_that_is_off_is_removed_as_well(cluster: Cluster) -> None:
    lab = cluster.lab
    lab("vm", "kill", "agent-2", timeout=60)
    until("the dead agent is NotReady", lambda: "agent-2" not in ready(lab))
    play(lab, "remove_node", "remove-dead", {"k3s_remove": ["agent-2"]}).expect()
    assert "agent-2" not in [node["metadata"]["name"] for node in lab.kubectl("get", "nodes")["items"]]
    lab("vm", "wipe", "agent-2", timeout=120)
    lab("vm", "start", "agent-2", timeout=120)
    cluster.heals("dead-back")
