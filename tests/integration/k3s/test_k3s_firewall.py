"""A real firewall, ufw, on a machine of the cluster: what k3s needs comes through, from whom it is expected, and nothing else."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from support.lab import Lab

ON, OFF = "ufw allow 22/tcp && ufw --force enable", "ufw --force reset"
AGENT = "198.18.0.21"
# What curl ends with: an answer, however it is meant, nobody listens, nothing comes back.
ANSWERS, REFUSED, SILENT = "0", "7", "28"


def asked_by(lab: Lab, port: int, *where: str) -> str:
    command = f"curl -sk -m 5 -o /dev/null https://{AGENT}:{port}/healthz; echo $?"
    return lab(*where, "sh", "-c", command, check=False).strip() if where[0] == "exec" else lab(*where, command, check=False).strip()


@pytest.fixture
def firewall(life: Lab) -> Iterator[None]:
    life("ssh", "agent-1", f"sudo sh -c '{ON}'")
    yield
    life("ssh", "agent-1", f"sudo sh -c '{OFF}'", check=False)


@pytest.mark.usefixtures("firewall")
def test_the_cluster_comes_through_ufw_and_nobody_else(life: Lab) -> None:
    server, stranger = ("ssh", "control-plane-1"), ("exec", "--")
    assert asked_by(life, 10250, *server) != ANSWERS, "the firewall has to be in the way first"
    argv = ("--tags", "node", "--limit", "agent-1,localhost")
    predicted = life.playbook(*argv, "--check", "--diff", name="firewall-predicted").expect()
    assert asked_by(life, 10250, *server) != ANSWERS and predicted.changed
    run = life.playbook(*argv, name="firewall").expect()
    assert run.changed == predicted.changed
    assert asked_by(life, 10250, *server) == ANSWERS
    assert asked_by(life, 10250, *stranger) in (REFUSED, SILENT), "kubelet is for the cluster only"
    assert asked_by(life, 443, *stranger) == ANSWERS, "everybody reaches Traefik"
    assert life.playbook(*argv, name="firewall-again").expect().changed == []

    # From the API to the pod through kubelet, and from the pod to the API through the Service.
    life("kubectl", "delete", "pod", "behind", "--ignore-not-found", "--now")
    spec = '{"spec": {"nodeName": "agent-1", "terminationGracePeriodSeconds": 1}}'
    life("kubectl", "run", "behind", "--image=lab/client:1", "--restart=Never", f"--overrides={spec}", "--command", "--", "sh", "-c",
         "curl -sk -m 10 -o /dev/null -w answer-%{http_code} https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/version")
    wait(lambda: "answer-" in life("kubectl", "logs", "behind", check=False))
    assert life("kubectl", "logs", "behind").strip() in ("answer-200", "answer-401", "answer-403")
    life("kubectl", "delete", "pod", "behind", "--now")


def wait(check: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(1)
