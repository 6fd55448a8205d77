# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tenth agent gets its tenth of the counties, placed by the real scheduler, one after the other.

An API server of its own, as the scheduler would also place what other tests left.
"""

from __future__ import annotations

import typing as t
from collections import Counter
from collections.abc import Iterator

import pytest
from apiserver import ApiServer
from conftest import CONTROLLERS, Cluster, Play, county, run_program
from kubelet import Kubelet

from ansible_collections.cht.k3s.plugins.module_utils.cht.health import check
from ansible_collections.cht.k3s.plugins.module_utils.cht.move import MoveError, Mover, moving_to
from ansible_collections.cht.k3s.plugins.module_utils.cht.rebalance import make_plan
from ansible_collections.cht.k3s.plugins.module_utils.cht.run import Settings, deploy
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import read_counties
from ansible_collections.cht.k3s.plugins.module_utils.cht.wait import Target, wait
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import FIELD_MANAGER
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client

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
        return sorted(counts[agent] for agent in set(self.kubelet.nodes))

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
    agents.entries = [{**entry, "version": "5.2.1"} if entry["name"] == name else entry for entry in agents.entries]
    agents.cluster.counties(*agents.entries, **WAIT)
    assert agents.places()[name] == {"agent-10"}
    assert agents.move().changed == 0


class Small:
    """Four counties on two agents, moved without Ansible, which is not what the tests below are about."""

    def __init__(self, server: ApiServer, kubelet: Kubelet) -> None:
        self.kubelet = kubelet
        self.client = Client.from_kubeconfig(str(server.kubeconfig))
        self.counties = read_counties([county(f"s{number}", version="5.2.0", couchdb={"mode": "single"}) for number in range(4)], {})[0]

    def deploy(self) -> bool:
        """What projects.yml does; returns whether it changed anything."""
        settings = Settings(check_mode=False, with_diff=False, on_newer="keep", adopt=False, base_dir=".", field_manager=FIELD_MANAGER,
                            force_conflicts=False, parallel=4)
        found = deploy(self.client, self.counties, [], settings, lambda values: None)
        assert not [row["errors"] for row in found["counties"] if row["errors"]]
        return bool(found["changed"])

    def wait(self) -> None:
        progress = wait(self.client, [Target(entry.name, entry.namespace) for entry in self.counties], 120, 0.5)
        assert all(found.done for found in progress.values()), progress

    def mover(self, name: str, timeout: float = 60) -> Mover:
        return Mover(self.client, name, name, timeout, lambda namespace: check(self.client, namespace))

    def move_all(self) -> list[str]:
        moves = make_plan(self.client).moves
        for move in moves:
            self.mover(move.county).run(move.target)
        return [move.why for move in moves]

    def places(self, name: str) -> set[str]:
        return {pod["spec"].get("nodeName") or "" for pod in self.client.items(f"/api/v1/namespaces/{name}/pods")}

    def noted(self, name: str) -> str:
        """The agent of a move that has no end yet."""
        return moving_to(self.client.get(f"/api/v1/namespaces/{name}"))

    def replicas(self, name: str) -> set[int]:
        return {item["spec"]["replicas"] for item in self.client.items(f"/apis/apps/v1/namespaces/{name}/deployments")}


@pytest.fixture(scope="module", name="small")
def fixture_small() -> Iterator[Small]:
    with ApiServer() as server:
        run_program(server, "kube-controller-manager", f"--controllers={CONTROLLERS}", f"--service-account-private-key-file={server.folder / 'sa.key'}")
        run_program(server, "kube-scheduler")
        with Kubelet(server, ["one", "two"]) as kubelet:
            found = Small(server, kubelet)
            found.deploy()
            found.wait()
            found.move_all()
            yield found
            found.client.close()


def test_what_takes_no_pods_or_has_no_room_gets_nothing(small: Small) -> None:
    small.kubelet.join("tiny", pods="4")
    assert make_plan(small.client).moves == []
    small.kubelet.join("three")
    assert [move.target for move in make_plan(small.client).moves] == ["three"]
    cordon(small, "one", True)
    cordon(small, "three", True)
    plan = make_plan(small.client)
    assert plan.moves == [] and "one takes no pods (not ready, or cordoned)" in plan.stays.values()
    cordon(small, "one", False)
    cordon(small, "three", False)


def cordon(small: Small, name: str, wanted: bool) -> None:
    body = {"spec": {"unschedulable": wanted}}
    small.client.json("PATCH", f"/api/v1/nodes/{name}", body=body, content_type="application/merge-patch+json")


def test_a_county_that_does_not_come_back_stops_all_moves(small: Small) -> None:
    small.kubelet.obstacle = lambda pod: "CrashLoopBackOff" if pod["spec"].get("nodeName") == "three" and "api" in pod["metadata"]["name"] else ""
    (move,) = make_plan(small.client).moves
    with pytest.raises(MoveError, match="does not come back after its move to three: .*CrashLoopBackOff"):
        small.mover(move.county, 20).run(move.target)
    small.kubelet.join("four")
    plan = make_plan(small.client)
    assert plan.moves and f"{move.county}, which was moved before, is not well" in plan.blocked
    small.kubelet.obstacle = lambda pod: ""
    small.wait()
    assert not make_plan(small.client).blocked and small.places(move.county) == {"three"}


def test_pods_that_do_not_end_leave_the_county_running(small: Small) -> None:
    (move,) = make_plan(small.client).moves
    small.kubelet.ends_pods = False
    with pytest.raises(MoveError, match="its pods are still ending .* It was started again; run again to go on"):
        small.mover(move.county, 3).run(move.target)
    assert small.replicas(move.county) == {1}
    assert not small.noted(move.county)
    small.kubelet.ends_pods = True
    small.wait()
    assert "its move was interrupted" not in small.move_all()
    assert small.places(move.county) == {"four"} and make_plan(small.client).moves == []
    assert not small.deploy(), "deploying finds nothing that is not its own"


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("by_deploying", [False, True])
def test_a_killed_move_is_finished_by_the_next_run_or_ended_by_deploying(small: Small, monkeypatch: pytest.MonkeyPatch, by_deploying: bool) -> None:
    target = f"new-{by_deploying}".lower()
    small.kubelet.join(target)

    def killed(*dummy: t.Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Mover, "_until_free", killed)
        patch.setattr(Mover, "_give_back", killed)
        stop = Mover._patch
        patch.setattr(Mover, "_patch", lambda self, deployment, spec: stop(self, deployment, spec) if spec["replicas"] == 0 else killed())
        with pytest.raises(Killed):
            small.mover("s0").run(target)
    assert small.replicas("s0") == {0} and small.noted("s0") == target
    if by_deploying:
        assert small.deploy()
        small.wait()
        plan = make_plan(small.client)
        assert plan.stale == ["s0"] and "its move was interrupted" not in [move.why for move in plan.moves]
        plan.tidy(small.client)
        small.move_all()
    else:
        assert "its move was interrupted" in small.move_all()
        assert small.places("s0") == {target}
    assert not small.noted("s0") and make_plan(small.client).stale == []
    assert not small.deploy()


def test_ctrl_c_does_not_leave_a_county_stopped(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*dummy: t.Any) -> str:
        raise KeyboardInterrupt

    target = "another"
    small.kubelet.join(target)
    with monkeypatch.context() as patch:
        patch.setattr(Mover, "_until_free", interrupted)
        with pytest.raises(KeyboardInterrupt):
            small.mover("s0").run(target)
    assert small.replicas("s0") == {1} and not small.noted("s0"), "an ordinary county again, for the next plan"
