# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent is lost with a county on it: how long until the county answers again, and that its data came with it.

LOSS_LAB=keep uses the lab that runs and leaves it running, to work on a test. Seconds are written to tests/output/agent-loss.json.
"""

from __future__ import annotations

import json
import os
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import OUTPUT, Lab, Run, own_lab

HERE = Path(__file__).parent
KEEP = os.environ.get("LOSS_LAB") == "keep"
NAMES = ["loss-a", "loss-b", "loss-c"]
COUNTIES = [
    {
        "name": name, "host": f"{name}.lab.example", "version": "5.2.0", "couchdb": {"mode": "single", "storage": "1Gi"}, "ingress": {"tls_in_front": True},
    } for name in NAMES
]
# Pods leave a lost node soon, so that the test sees early that this alone does not help.
SETTINGS = {
    "cht_projects": COUNTIES, "control_plane_eviction_seconds": 20, "csi_verify": ["objects", "rollout", "csinode"], "csi_timeout": 300,
    "cht_project_wait_timeout": 600,
    # Counties on agents only, so that one that came back empty is the one to fill.
    "control_plane_taint": True,
}


class Cluster:
    """The lab with three counties."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def play(self, playbook: str, name: str, *argv: str, **variables: t.Any) -> Run:
        return self.lab.playbook("-e", json.dumps({**SETTINGS, **variables}), *argv, playbook=f"playbooks/{playbook}.yml", name=f"loss-{name}")

    def places(self, county: str) -> set[str]:
        """The agents of a county's pods, without those that are on their way out."""
        pods = self.lab.kubectl("get", "pods", "-n", county)["items"]
        return {pod["spec"].get("nodeName", "") for pod in pods if "deletionTimestamp" not in pod["metadata"]}

    def answers(self, county: str, node: str) -> bool:
        """Whether a county answers by its host name, asked at another node, and all its pods are ready."""
        address = self.lab.vms()[node]["ip"]
        ask = ("exec", "--", "curl", "-s", "-m", "3", "-H", f"Host: {county}.lab.example", f"http://{address}/api/v2/monitoring")
        if '"version"' not in self.lab(*ask, check=False):
            return False
        deployments = self.lab.kubectl("get", "deployments", "-n", county)["items"]
        return all(item["status"].get("readyReplicas") == 1 for item in deployments)

    def ready(self, node: str) -> bool:
        conditions = self.lab.kubectl("get", "node", node)["status"]["conditions"]
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def starts(self, county: str) -> int:
        """How often the database on this volume was started: it notes that on the volume."""
        lines = self.lab("kubectl", "logs", "-n", county, "deployment/cht-couchdb", "-c", "cht-couchdb")
        return max(int(line.split("data has ")[1].split()[0]) for line in lines.splitlines() if "data has " in line)


def until(what: str, check: t.Callable[[], bool], seconds: float, pause: float = 1) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(pause)


@pytest.fixture(scope="module", name="cluster")
def fixture_cluster() -> Iterator[Cluster]:
    with own_lab("counties", HERE / "cluster.yml", keep=KEEP) as lab:
        cluster = Cluster(lab)
        cluster.play("site", "site").expect()
        yield cluster


def test_a_lost_agent_s_county_answers_again_once_it_is_fenced(cluster: Cluster) -> None:
    lab = cluster.lab
    (victim,) = cluster.places("loss-a")
    witness = next(f"agent-{number}" for number in (1, 2, 3) if f"agent-{number}" != victim)
    until("the county answers", lambda: cluster.answers("loss-a", witness), 240)
    starts = cluster.starts("loss-a")
    seconds: dict[str, float] = {}
    begin = time.monotonic()

    def note(what: str) -> None:
        seconds[what] = round(time.monotonic() - begin, 1)

    lab("vm", "kill", victim, timeout=60)
    until("the loss is noticed", lambda: not cluster.ready(victim), 240)
    note("the cluster notices")
    until("its pods are replaced", lambda: victim not in cluster.places("loss-a"), 240)
    note("new pods elsewhere")
    # Kubernetes detaches after six minutes at most what a node that answers has let go, never what a silent one may still write to.
    time.sleep(30)
    assert not cluster.answers("loss-a", witness)
    events = lab.kubectl("get", "events", "-n", "loss-a")["items"]
    assert any("Multi-Attach error" in item["message"] for item in events), [item["message"] for item in events][-5:]
    fenced = time.monotonic()
    cluster.play("fence_node", "fence", k3s_fence=victim).expect()
    seconds["fence_node.yml runs for"] = round(time.monotonic() - fenced, 1)
    until("the county answers", lambda: cluster.answers("loss-a", witness), 240)
    seconds["answers after fencing began"] = round(time.monotonic() - fenced, 1)
    seconds["answers if fenced when noticed"] = round(seconds["the cluster notices"] + seconds["answers after fencing began"], 1)
    assert cluster.starts("loss-a") == starts + 1, "its data came with it"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "agent-loss.json").write_text(json.dumps(seconds, indent=2) + "\n")

    lab("vm", "start", victim, timeout=120)
    cluster.play("fence_node", "release", "--tags", "release", k3s_fence=victim).expect()
    until("the agent is back", lambda: cluster.ready(victim), 240)
    assert not any(victim in cluster.places(name) for name in NAMES)


def test_a_county_moves_back_with_its_attached_volume(cluster: Cluster) -> None:
    """The agent that came back is empty: the plan fills it again, and the volume goes with the county."""
    lab = cluster.lab
    plan = cluster.play("rebalance", "plan").expect()
    (planned,) = plan.results("cht_rebalance")
    moves = planned["moves"]
    assert moves and plan.changed == [] and planned["blocked"] == ""
    before = {move["county"]: cluster.starts(move["county"]) for move in moves}
    done = cluster.play("rebalance", "move", cht_project_rebalance="move").expect()
    assert done.results("cht_rebalance")[0]["moved"] == [move["county"] for move in moves]
    volumes = {item["metadata"]["name"]: item["spec"]["claimRef"]["namespace"] for item in lab.kubectl("get", "pv")["items"]}
    attached = {
        volumes[item["spec"]["source"]["persistentVolumeName"]]: item["spec"]["nodeName"] for item in lab.kubectl("get", "volumeattachments")["items"]
        if item["status"]["attached"]
    }
    for move in moves:
        assert cluster.places(move["county"]) == {move["to"]} and attached[move["county"]] == move["to"]
        assert cluster.starts(move["county"]) == before[move["county"]] + 1, "its data came with it"
    again = cluster.play("rebalance", "move-again", cht_project_rebalance="move").expect()
    assert again.changed == [] and again.results("cht_rebalance")[0]["moves"] == []
    assert cluster.play("projects", "after-move").expect().changed == []
