"""A run that is interrupted in the middle of joining, and another: one healthy cluster."""
from __future__ import annotations

from support.lab import NODES, SERVERS, Lab


def test_ctrl_c_in_the_middle_of_joining(lab: Lab) -> None:
    lab.renew()
    run = lab.playbook(name="interrupted", interrupt_after="Join the servers")
    assert run.code != 0
    healed = lab.playbook(name="interrupted-again").expect()
    assert healed.stats
    nodes = lab.kubectl("get", "nodes")["items"]
    assert sorted(n["metadata"]["name"] for n in nodes) == sorted(NODES)
    voters = [n["metadata"]["name"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "EtcdIsVoter" and c["status"] == "True"]
    assert sorted(voters) == SERVERS
    assert lab.playbook(name="interrupted-third").expect().changed == []
