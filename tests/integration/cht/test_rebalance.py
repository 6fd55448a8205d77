# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tenth agent gets its tenth of the counties, placed by the real scheduler, one after the other.

An API server of its own, as the scheduler would also place what other tests left.
"""

from __future__ import annotations

import signal
import time
import typing as t
from collections import Counter
from collections.abc import Iterator

import pytest
from apiserver import ApiServer
from conftest import CONTROLLERS, Cluster, Play, county, run_program
from kubelet import Kubelet

AGENTS = [f"agent-{number}" for number in range(1, 10)]
COUNTIES = [county(f"c{number:02d}", version="5.2.0", couchdb={"mode": "single"}) for number in range(20)]
WAIT = {"cht_project_wait": True, "cht_project_wait_timeout": 120, "cht_project_wait_report_every": 5}


class Agents:
    """The cluster with its kubelets."""

    def __init__(self, cluster: Cluster, kubelet: Kubelet) -> None:
        self.cluster = cluster
        self.kubelet = kubelet
        self.entries = COUNTIES

    def places(self) -> dict[str, set[str]]:
        """Where the pods of each county are."""
        found: dict[str, set[str]] = {}
        for pod in self.cluster.items("/api/v1/pods"):
            found.setdefault(pod["metadata"]["namespace"], set()).add(pod["spec"].get("nodeName") or "")
        return found

    def counts(self) -> list[int]:
        """How many counties each agent has; every county is on one."""
        places = self.places()
        assert all(len(agents) == 1 for agents in places.values()), places
        counts = Counter(agent for agents in places.values() for agent in agents)
        return sorted(counts[agent] for agent in self.kubelet.nodes)

    def rebalance(self, *arguments: str, expect: int = 0, **variables: t.Any) -> Play:
        return self.cluster.play("rebalance", *arguments, expect=expect, **{"cht_project_rebalance_timeout": 60, **variables})

    def move(self, expect: int = 0, **variables: t.Any) -> Play:
        return self.rebalance(expect=expect, cht_project_rebalance="move", **variables)

    def identities(self) -> dict[str, str]:
        """Every pod, to see which were made anew."""
        return {pod["metadata"]["uid"]: pod["metadata"]["namespace"] for pod in self.cluster.items("/api/v1/pods")}


@pytest.fixture(scope="module", name="agents")
def fixture_agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    with ApiServer() as server:
        run_program(server, "kube-controller-manager", f"--controllers={CONTROLLERS}", f"--service-account-private-key-file={server.folder / 'sa.key'}")
        run_program(server, "kube-scheduler")
        with Kubelet(server, AGENTS) as kubelet:
            cluster = Cluster(server, tmp_path_factory.mktemp("play"))
            cluster.counties(*COUNTIES, **WAIT)
            yield Agents(cluster, kubelet)
            cluster.client.close()


def test_a_tenth_agent_gets_its_tenth(agents: Agents) -> None:
    # Twenty counties at once are placed before the scheduler knows them all; what it left uneven is put right first.
    agents.move()
    assert set(agents.counts()) == {2, 3}
    assert agents.move().changed == 0
    before = agents.cluster.resource_versions("c00")
    agents.kubelet.join("agent-10")
    shown = agents.rebalance()
    assert shown.changed == 0 and "2 moves" in shown.text and "agent-10 0 -> 2" in shown.text
    predicted = agents.rebalance("--check", cht_project_rebalance="move")
    assert predicted.changed == 1 and "2 moves" in predicted.text
    assert agents.counts()[0] == 0 and agents.cluster.resource_versions("c00") == before, "only shown"
    pods, claims = agents.identities(), {item["metadata"]["uid"] for item in agents.cluster.items("/api/v1/persistentvolumeclaims")}
    run = agents.move()
    assert run.changed == 1 and "move 2 of 2: " in run.text
    assert agents.counts() == [2] * 10
    moved = {name for name, places in agents.places().items() if places == {"agent-10"}}
    assert {pods[uid] for uid in set(pods) - set(agents.identities())} == moved, "no other county restarted"
    assert {item["metadata"]["uid"] for item in agents.cluster.items("/api/v1/persistentvolumeclaims")} == claims
    assert agents.move().changed == 0
    assert agents.cluster.counties(*COUNTIES, **WAIT).changed == 0, "deploying finds nothing that is not its own"


def test_a_new_version_finds_the_county_where_it_was_moved(agents: Agents) -> None:
    name = next(name for name, places in agents.places().items() if places == {"agent-10"})
    agents.entries = [{**entry, "version": "5.3.0"} if entry["name"] == name else entry for entry in agents.entries]
    agents.cluster.counties(*agents.entries, **WAIT)
    assert agents.places()[name] == {"agent-10"}
    assert agents.move().changed == 0


def test_it_stops_at_a_county_that_does_not_come_back(agents: Agents) -> None:
    cluster, kubelet = agents.cluster, agents.kubelet
    cluster.patch("/api/v1/nodes/agent-1", {"spec": {"unschedulable": True}})
    assert "stays: agent-1 takes no pods (not ready, or cordoned)" in agents.rebalance().text
    cluster.patch("/api/v1/nodes/agent-1", {"spec": {"unschedulable": None}})
    kubelet.join("agent-11", pods="4")
    kubelet.join("agent-12")
    kubelet.join("agent-13")
    kubelet.obstacle = lambda pod: "CrashLoopBackOff" if pod["spec"].get("nodeName") == "agent-12" and "api" in pod["metadata"]["name"] else ""
    run = agents.move(expect=2, cht_project_rebalance_timeout=10)
    assert "does not come back after its move to agent-12" in run.text and "CrashLoopBackOff" in run.text
    assert "1 further moves were not begun" in run.text
    again = agents.move(expect=2)
    assert "which was moved before, is not well" in again.text and "move 1 of" not in again.text
    kubelet.obstacle = lambda pod: ""
    deadline = time.monotonic() + 30
    while "which was moved before" in agents.rebalance().text:
        assert time.monotonic() < deadline
    agents.move()
    assert agents.move().changed == 0
    assert Counter(agents.counts()) == {0: 1, 1: 4, 2: 8}, "agent-11 has no room for five pods"


def test_pods_that_do_not_end_leave_the_county_where_it_is(agents: Agents) -> None:
    agents.kubelet.join("agent-14")
    agents.kubelet.ends_pods = False
    run = agents.move(expect=2, cht_project_rebalance_timeout=3)
    agents.kubelet.ends_pods = True
    assert "its pods are still ending" in run.text and "It was started again; run again to go on" in run.text
    assert "its move was interrupted" in agents.move().text
    assert agents.move().changed == 0
    assert agents.cluster.counties(*agents.entries, **WAIT).changed == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_move_is_finished_by_the_next_run(agents: Agents, how: signal.Signals) -> None:
    cluster, kubelet = agents.cluster, agents.kubelet
    kubelet.join(f"agent-{how + 100}")
    kubelet.ends_pods = False
    process = cluster.start("rebalance", cht_project_rebalance="move", cht_project_rebalance_timeout=60)
    deadline = time.monotonic() + 60
    marked: list[str] = []
    while not marked:
        assert time.monotonic() < deadline and process.poll() is None
        spaces = cluster.items("/api/v1/namespaces")
        marked = [item["metadata"]["name"] for item in spaces if (item["metadata"].get("annotations") or {}).get("cht.k3s/moving-to")]
    time.sleep(2)
    cluster.kill(process, how)
    kubelet.ends_pods = True
    replicas = {item["spec"]["replicas"] for item in cluster.items(f"/apis/apps/v1/namespaces/{marked[0]}/deployments")}
    assert replicas == {0 if how == signal.SIGKILL else 1}
    if how == signal.SIGKILL:
        # Deploying brings the county back to life, too; where it then is, is for the next move.
        assert "5 objects updated" in cluster.counties(*agents.entries, **WAIT).row(marked[0])
    run = agents.move()
    assert "its move was interrupted" in run.text
    assert agents.move().changed == 0
    assert Counter(agents.counts())[0] == 1, "all agents but the small one have counties"
