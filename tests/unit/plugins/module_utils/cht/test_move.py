# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a move must not stop, and that everything that was stopped for a move or a backup comes up again."""

from __future__ import annotations

import copy
import json
import os
import signal
import time
import typing as t
from collections.abc import Iterator
from unittest import mock

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import move
from ansible_collections.cht.k3s.plugins.module_utils.cht.move import MOVING, MoveError, Mover, interrupted_move, is_stale
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import OPERATION
from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import PAUSED, Pause
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.modules import cht_project_move

SPACE = "/api/v1/namespaces/nairobi"
DEPLOYMENTS = "/apis/apps/v1/namespaces/nairobi/deployments"
SERVICES = ("api", "couchdb-1", "couchdb-2")


class Cluster:
    """Objects by their paths, changed by merge patches; some of those can be made to fail."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, t.Any]] = {}
        self.failing: t.Callable[[str, dict[str, t.Any]], bool] = lambda path, body: False

    def find(self, path: str) -> dict[str, t.Any] | None:
        return copy.deepcopy(self.objects.get(path))

    def get(self, path: str) -> dict[str, t.Any]:
        found = self.find(path)
        if found is None:
            raise ApiError(404, f"{path} not found")
        return found

    def items(self, path: str, query: t.Any = None) -> Iterator[dict[str, t.Any]]:
        return iter([copy.deepcopy(item) for place, item in self.objects.items() if place.rpartition("/")[0] == path])

    def json(self, method: str, path: str, query: t.Any = None, body: t.Any = None, content_type: str = "") -> dict[str, t.Any]:
        if self.failing(path, body):
            raise ApiError(500, f"{path} can't be written")
        _merge(self.objects[path], body)
        return self.objects[path]

    @property
    def replicas(self) -> dict[str, int]:
        return {path.rpartition("/")[2]: item["spec"]["replicas"] for path, item in self.objects.items() if path.startswith(DEPLOYMENTS)}

    @property
    def notes(self) -> dict[str, str]:
        return {key: value for key, value in (self.objects[SPACE]["metadata"].get("annotations") or {}).items() if value is not None}


def _merge(old: dict[str, t.Any], new: dict[str, t.Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            _merge(old[key], value)
        elif value is None:
            old.pop(key, None)
        else:
            old[key] = copy.deepcopy(value)


@pytest.fixture(name="cluster")
def fixture_cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The county nairobi on agent-1, and an empty agent-2."""
    cluster = Cluster()
    cluster.objects[SPACE] = {"metadata": {"name": "nairobi", "annotations": {}}}
    cluster.objects["/api/v1/nodes/agent-2"] = {"metadata": {"name": "agent-2"}}
    for service in SERVICES:
        cluster.objects[f"{DEPLOYMENTS}/cht-{service}"] = {
            "metadata": {"name": f"cht-{service}", "labels": {"cht.service": service}, "annotations": {}, "resourceVersion": "1"},
            "spec": {"replicas": 1, "template": {"spec": {}}},
        }
    monkeypatch.setattr(Mover, "_look", lambda self, agent: None)
    monkeypatch.setattr(move.time, "sleep", lambda seconds: None)
    return cluster


def mover(cluster: Cluster, timeout: float = 0) -> Mover:
    return Mover(cluster, "nairobi", "nairobi", timeout)  # type: ignore[arg-type]


def pod(cluster: Cluster, phase: str) -> None:
    cluster.objects[f"{SPACE}/pods/cht-api-x"] = {"metadata": {"name": "cht-api-x", "labels": {"cht.service": "api"}}, "status": {"phase": phase}}


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_was_evicted_is_not_waited_for(cluster: Cluster, phase: str) -> None:
    pod(cluster, phase)
    mover(cluster).run("agent-2")
    assert set(cluster.replicas.values()) == {1} and cluster.notes == {}
    assert all(move.home_of(cluster.objects[f"{DEPLOYMENTS}/cht-{service}"]) == "agent-2" for service in SERVICES)


def test_a_pod_that_does_not_end_is_waited_for_and_the_county_started(cluster: Cluster) -> None:
    pod(cluster, "Running")
    with pytest.raises(MoveError, match="its pods are still ending .cht-api-x.*It was started again"):
        mover(cluster).run("agent-2")
    assert set(cluster.replicas.values()) == {1} and cluster.notes == {}


def test_what_another_run_works_on_is_left_alone(cluster: Cluster) -> None:
    note = {"id": "other", "what": "backup", "set": "", "place": "another-host", "pid": 1, "born": "1", "since": time.time(), "seen": time.time()}
    cluster.objects[SPACE]["metadata"]["annotations"][OPERATION] = json.dumps(note)
    before = copy.deepcopy(cluster.objects)
    with pytest.raises(MoveError, match="not moved to agent-2: another run works on the namespace nairobi .backup since"):
        mover(cluster).run("agent-2")
    assert cluster.objects == before


def test_a_half_restored_county_is_not_moved(cluster: Cluster) -> None:
    cluster.objects[SPACE]["metadata"]["annotations"]["cht.k3s/restoring"] = '{"set": "nairobi-1", "volumes": {"couchdb-1-claim0": "pv-x"}}'
    with pytest.raises(MoveError, match="a restore of the set nairobi-1 is half done: finish it with restore_project first; nothing was changed"):
        mover(cluster).run("agent-2")
    assert set(cluster.notes) == {"cht.k3s/restoring"}


@pytest.mark.parametrize("paused", [False, True])
def test_a_county_that_was_stopped_after_the_plan_was_made_stays_so(cluster: Cluster, paused: bool) -> None:
    item = cluster.objects[f"{DEPLOYMENTS}/cht-couchdb-1"]
    item["spec"]["replicas"] = 0
    if paused:
        item["metadata"]["annotations"][PAUSED] = "1"
        # Also with the note of a move before: it was somebody else who stopped it last.
        cluster.objects[SPACE]["metadata"]["annotations"][MOVING] = "agent-2"
    with pytest.raises(MoveError, match="is stopped now .cht-couchdb-1 scaled to zero.*nothing was changed"):
        mover(cluster).run("agent-2")
    assert cluster.replicas["cht-couchdb-1"] == 0


def test_a_killed_move_is_gone_on_with(cluster: Cluster) -> None:
    cluster.objects[SPACE]["metadata"]["annotations"][MOVING] = "agent-2"
    cluster.objects[f"{DEPLOYMENTS}/cht-api"]["spec"]["replicas"] = 0
    mover(cluster).run("agent-2")
    assert set(cluster.replicas.values()) == {1} and cluster.notes == {}


def test_the_note_of_a_move_counts_only_while_the_county_is_stopped() -> None:
    space = {"metadata": {"name": "nairobi", "annotations": {MOVING: "agent-2"}}}
    running: list[dict[str, t.Any]] = [{"metadata": {"name": "cht-api"}, "spec": {"replicas": 1}}]
    halted: list[dict[str, t.Any]] = [*running, {"metadata": {"name": "cht-couchdb"}, "spec": {"replicas": 0}}]
    assert interrupted_move(space, halted) == "agent-2" and not is_stale(space, halted)
    assert interrupted_move(space, running) == "" and is_stale(space, running)
    halted[1]["metadata"]["annotations"] = {PAUSED: "1"}
    assert interrupted_move(space, halted) == "", "a backup stopped it"
    # A move that has only just begun.
    space["metadata"]["annotations"][OPERATION] = json.dumps({"id": "x", "place": "another-host", "seen": time.time()})  # type: ignore[index]
    assert not is_stale(space, running)


def test_an_error_with_one_deployment_does_not_leave_the_others_stopped(cluster: Cluster) -> None:
    # Who owns the replicas can't be written for the first; the second can't be started at all.
    cluster.failing = lambda path, body: (path.endswith("cht-api") and "metadata" in body) or (
        path.endswith("cht-couchdb-1") and body.get("spec") == {"replicas": 1})
    with pytest.raises(MoveError, match="cht-couchdb-1 can't be written"):
        mover(cluster).run("agent-2")
    assert cluster.replicas == {"cht-api": 1, "cht-couchdb-1": 0, "cht-couchdb-2": 1}
    assert cluster.notes == {MOVING: "agent-2"}, "the next run goes on with it"


def test_a_move_that_is_asked_to_end_starts_the_county_first(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def asked(*dummy: t.Any) -> str:
        assert set(cluster.replicas.values()) == {0}
        assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, before)
        os.kill(os.getpid(), signal.SIGTERM)
        time.monotonic()
        raise AssertionError("goes on")

    monkeypatch.setattr(Mover, "_until_free", asked)
    # A second signal comes while the county is started.
    start = Mover._start
    monkeypatch.setattr(Mover, "_start", lambda self, items: (os.kill(os.getpid(), signal.SIGTERM), start(self, items)))
    params = {"county": "nairobi", "namespace": "nairobi", "agent": "agent-2", "timeout": 1, "health": False}
    monkeypatch.setattr(cht_project_move, "AnsibleModule", lambda **dummy: mock.Mock(params=params, check_mode=False))
    monkeypatch.setattr(cht_project_move, "open_client", lambda module: cluster)
    cluster.close = lambda: None  # type: ignore[attr-defined]
    try:
        with pytest.raises(KeyboardInterrupt):
            cht_project_move.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert set(cluster.replicas.values()) == {1} and cluster.notes == {}


def test_a_pause_ends_for_all_that_can_be_started(cluster: Cluster) -> None:
    for service in SERVICES:
        item = cluster.objects[f"{DEPLOYMENTS}/cht-{service}"]
        item["spec"]["replicas"] = 0
        item["metadata"].update(annotations={PAUSED: "1"}, managedFields=[{"manager": "cht.k3s-pause"}])
    cluster.failing = lambda path, body: path.endswith("cht-api") and "managedFields" in body["metadata"]
    with pytest.raises(ApiError, match="cht-api can't be written"):
        Pause(cluster, "nairobi", 0).start()  # type: ignore[arg-type]
    assert set(cluster.replicas.values()) == {1}
    handed_back = [service for service in SERVICES if not cluster.objects[f"{DEPLOYMENTS}/cht-{service}"]["metadata"]["managedFields"]]
    assert handed_back == ["couchdb-1", "couchdb-2"]
