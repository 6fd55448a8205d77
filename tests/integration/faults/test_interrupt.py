"""Runs that are interrupted in the middle of joining, and another: one healthy cluster."""
from __future__ import annotations

from support.lab import NODES, SERVERS, Lab

JOIN = "TASK [cht.k3s.control_plane : Join the server]"


def test_ctrl_c_in_the_middle_of_every_join(lab: Lab) -> None:
    lab.renew()
    # In the n-th run the first n-1 servers stand, so that Ctrl-C comes while the n-th joins: the first while it makes the
    # cluster, the others while etcd admits a member.
    for count, server in enumerate(SERVERS, start=1):
        run = lab.playbook(name=f"interrupted-{count}", interrupt_after=JOIN, nth=count, pause=3)
        assert run.code != 0, f"the run ended before {server} could be interrupted"
        assert not [r for r in run.results("k3s_join") if r["_host"] == server], f"{server} had joined before Ctrl-C"
    lab.playbook(name="interrupted-healed").expect()
    nodes = lab.kubectl("get", "nodes")["items"]
    assert sorted(n["metadata"]["name"] for n in nodes) == sorted(NODES)
    voters = [n["metadata"]["name"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "EtcdIsVoter" and c["status"] == "True"]
    assert sorted(voters) == SERVERS
    assert lab.playbook(name="interrupted-again").expect().changed == []
