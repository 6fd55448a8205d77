"""What the tests of the k3s cluster ask: who runs since when, who votes, is anything lost."""
from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from .lab import Lab, Run

SERVERS = ["control-plane-1", "control-plane-2", "control-plane-3"]
AGENTS = ["agent-1", "agent-2"]
NODES = [*SERVERS, *AGENTS]
# The parts of site.yml that the folder is about.
TAGS = ("--tags", "node,control_plane,cpi,agent")
RELEASES = "http://198.18.0.2:8080/k3s"


def site(lab: Lab, name: str, *argv: str, interrupt_after: str | None = None) -> Run:
    return lab.playbook(*TAGS, *argv, name=f"k3s-{name}", interrupt_after=interrupt_after)


def play(lab: Lab, playbook: str, name: str, variables: dict[str, object], *argv: str, interrupt_after: str | None = None) -> Run:
    """A playbook of the project with extra variables."""
    return lab.playbook("-e", json.dumps(variables), *argv, playbook=f"playbooks/{playbook}.yml", name=f"k3s-{name}", interrupt_after=interrupt_after)


def unit(node: str) -> str:
    return "k3s" if node in SERVERS else "k3s-agent"


def services(lab: Lab) -> dict[str, str]:
    """PID and start of k3s on every machine."""
    return {node: lab("ssh", node, f"systemctl show {unit(node)} -p MainPID -p ExecMainStartTimestampMonotonic").strip() for node in NODES}


def cluster_id(lab: Lab) -> str:
    """What tells a cluster from another one."""
    return lab.kubectl("get", "namespace", "kube-system")["metadata"]["uid"]


def voters(lab: Lab) -> list[str]:
    nodes = lab.kubectl("get", "nodes")["items"]
    return sorted(n["metadata"]["name"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "EtcdIsVoter" and c["status"] == "True")


def ready(lab: Lab) -> list[str]:
    nodes = lab.kubectl("get", "nodes")["items"]
    return sorted(n["metadata"]["name"] for n in nodes for c in n["status"]["conditions"] if c["type"] == "Ready" and c["status"] == "True")


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


def said(run: Run) -> str:
    """Every failure's message; the output breaks them into lines."""
    return "\n".join(str(task["result"].get("msg", "")) for task in run.tasks if task["status"] in ("failed", "unreachable"))


def until(what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a fact; the API may be silent meanwhile."""
    deadline = time.monotonic() + seconds * (2 if os.environ.get("LAB_K3S") else 1)
    while True:
        try:
            if condition():
                return
        except AssertionError:
            pass
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(2)


@dataclass
class Cluster:
    """The running cluster, with what must never change."""

    lab: Lab
    identity: str

    def mark(self, name: str) -> None:
        """Write an object before a fault."""
        self.lab("kubectl", "delete", "configmap", name, "--ignore-not-found")
        self.lab("kubectl", "create", "configmap", name, f"--from-literal=written={name}")

    def healthy(self, *marks: str) -> None:
        """The same cluster, whole, with everything that was written."""
        until("three voters and all nodes Ready", lambda: voters(self.lab) == SERVERS and ready(self.lab) == sorted(NODES))
        assert cluster_id(self.lab) == self.identity
        for name in marks:
            assert self.lab.kubectl("get", "configmap", name)["data"] == {"written": name}

    def heals(self, name: str, *marks: str) -> None:
        """After a fault: one run makes it whole, the next changes nothing, nothing is lost."""
        site(self.lab, name).expect()
        self.healthy(*marks)
        assert site(self.lab, f"{name}-again").expect().changed == []
