# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waves: order, gate, threshold; and the health of one county."""

from __future__ import annotations

import base64
import copy
import json
import time
import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import SECRET_NAME
from ansible_collections.cht.k3s.plugins.module_utils.cht.health import info_problem, judge_health, membership_problem
from ansible_collections.cht.k3s.plugins.module_utils.cht.plan import Live, plan_county
from ansible_collections.cht.k3s.plugins.module_utils.cht.run import Settings, at_rest, deploy, ran
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import read_counties
from ansible_collections.cht.k3s.plugins.module_utils.cht.waves import Policy, Rollout, hold_back, merge
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError


def row(name: str, state: str = "waiting", ready: int = 6, version: str = "4.22.0") -> dict[str, t.Any]:
    return {"name": name, "state": state, "ready": ready, "total": 6, "version": version, "remark": ""}


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def walk(rollout: Rollout, unwell: dict[str, str] | None = None) -> list[list[str]]:
    seen = []
    while (wave := rollout.next()) is not None:
        seen.append(wave[1])
        rollout.finish({name: "why" for name in wave[1] if name in (unwell or {})})
    return seen


def test_the_first_held_county_is_the_canary() -> None:
    held = names(6)
    assert walk(Rollout([row(name) for name in held], held, Policy(3, 0))) == [["c0"], ["c1", "c2", "c3"], ["c4", "c5"]]


def test_a_named_canary_goes_first_and_unknown_names_do_not_matter() -> None:
    held = names(3)
    assert walk(Rollout([row(name) for name in held], held, Policy(5, 0, ("c2", "nobody")))) == [["c2"], ["c0", "c1"]]


@pytest.mark.parametrize(("limit", "waves"), [(0, 2), (1, 4), (9, 4)])
def test_the_threshold(limit: int, waves: int) -> None:
    held = names(4)
    rollout = Rollout([row(name) for name in held], held, Policy(1, limit))
    assert len(walk(rollout, {"c1": "why"})) == waves
    assert bool(rollout.stopped) is (limit == 0)
    assert rollout.left() == held[waves:]


def test_counties_that_an_outage_stopped_come_last_and_are_no_canary() -> None:
    held = names(4)
    rows = [row("c0", ready=0), row("c1"), row("c2", ready=5), row("c3")]
    assert walk(Rollout(rows, held, Policy(1, 9))) == [["c1"], ["c3"], ["c0"], ["c2"]]
    assert walk(Rollout(rows[:1], held[:1], Policy(1, 9))) == [["c0"]], "alone it is changed all the same: that may be its repair"


@pytest.mark.parametrize(("reason", "generation", "replicas", "answer"), [
    ("NewReplicaSetAvailable", 2, 1, True), ("ReplicaSetUpdated", 2, 1, False), ("ProgressDeadlineExceeded", 2, 1, False),
    ("NewReplicaSetAvailable", 3, 1, False), ("NewReplicaSetAvailable", 2, 0, False),
])
def test_a_county_that_ran_has_something_to_lose_though_it_is_down(reason: str, generation: int, replicas: int, answer: bool) -> None:
    conditions = [{"type": "Available", "status": "False"}, {"type": "Progressing", "status": "True", "reason": reason}]
    came_up = {"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": {
        "observedGeneration": 2, "conditions": [{"type": "Progressing", "reason": "NewReplicaSetAvailable"}]}}
    down = {"metadata": {"generation": generation}, "spec": {"replicas": replicas}, "status": {"observedGeneration": 2, "conditions": conditions}}
    assert ran([came_up, down]) is answer
    assert not ran([]) and not ran([{"metadata": {}, "spec": {}}])


def at_rest_county(marks: dict[str, str], annotations: dict[str, str]) -> tuple[dict[str, t.Any], list[dict[str, t.Any]]]:
    up = {"metadata": {"name": "cht-haproxy", "namespace": "nairobi"}, "spec": {"replicas": 1}}
    down = {"metadata": {"name": "cht-api", "namespace": "nairobi", "annotations": annotations}, "spec": {"replicas": 0}}
    return {"metadata": {"name": "nairobi", "annotations": marks}}, [up, down]


def note(age: float) -> str:
    return json.dumps({"id": "x", "what": "backup", "place": "elsewhere", "pid": 1, "seen": time.time() - age})


@pytest.mark.parametrize(("marks", "annotations", "answer"), [
    ({}, {"cht.k3s/paused-replicas": "1"}, True), ({"cht.k3s/moving-to": "agent-1"}, {}, True), ({"cht.k3s/operation": note(5)}, {}, True),
    ({"cht.k3s/operation": note(700)}, {}, False), ({}, {}, False),
])
def test_a_county_that_was_stopped_for_a_while_is_at_rest(marks: dict[str, str], annotations: dict[str, str], answer: bool) -> None:
    assert at_rest(*at_rest_county(marks, annotations)) is answer
    assert at_rest({"metadata": {"name": "nairobi"}}, at_rest_county({}, {})[1][:1]) is False


class FakeApi:
    """An API server that has one county, which a backup has stopped, and takes everything."""

    requests = 0

    def __init__(self, version: str, replicas: int = 0) -> None:
        self.sent: list[str] = []
        self.county = read_counties([{"name": "nairobi", "host": "nairobi.health.example", "version": version}], None)[0]
        data = {key: base64.b64encode(f"{key}-value-0000000".encode()).decode() for key in (
            "COUCHDB_USER", "COUCHDB_PASSWORD", "COUCHDB_SECRET", "COUCHDB_UUID")}
        secret = {"metadata": {"name": SECRET_NAME, "namespace": "nairobi"}, "data": data}
        namespace = {"metadata": {"name": "nairobi"}}
        self.lists: dict[str, list[dict[str, t.Any]]] = {"namespaces": [namespace], "secrets": [secret]}
        objects = plan_county(self.county[0], Live.collect([secret], [], [], [namespace]), "keep", False, "/").objects
        self.lists["deployments"] = [self.live(item, replicas) for item in objects if item["kind"] == "Deployment"]
        self.lists["persistentvolumeclaims"] = [copy.deepcopy(item) for item in objects if item["kind"] == "PersistentVolumeClaim"]

    @staticmethod
    def live(item: dict[str, t.Any], replicas: int) -> dict[str, t.Any]:
        """As the server has it when all of it is ours, and what writes was paused."""
        live = copy.deepcopy(item)
        fields = {f"f:{key}": {} for key in live["spec"] if key != "replicas"}
        owned = {"f:spec": fields, "f:metadata": {f"f:{key}": {} for key in live["metadata"] if key not in ("name", "namespace")}}
        live["metadata"].update({"resourceVersion": "1", "managedFields": [
            {"manager": "cht.k3s", "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": owned}]})
        live["metadata"].setdefault("annotations", {})["cht.k3s/paused-replicas"] = "1"
        live["spec"]["replicas"] = replicas
        return live

    def items(self, path: str, query: t.Any = None) -> t.Iterator[dict[str, t.Any]]:
        yield from copy.deepcopy(self.lists.get(path.rpartition("/")[2], []))

    def find(self, path: str) -> None:
        return None

    def get(self, path: str, query: t.Any = None) -> dict[str, t.Any]:
        raise ApiError(404, path)

    def apply(self, path: str, body: dict[str, t.Any], *dummy: t.Any, **more: t.Any) -> tuple[bool, dict[str, t.Any]]:
        if body["kind"] == "Deployment":
            self.sent.append(body["metadata"]["name"])
        return False, {**body, "metadata": {**body["metadata"], "resourceVersion": "2"}}


def roll_out(api: FakeApi, version: str, **more: t.Any) -> dict[str, t.Any]:
    counties, problems = read_counties([{"name": "nairobi", "host": "nairobi.health.example", "version": version}], None)
    settings = Settings(False, False, "keep", False, "/", "cht.k3s", False, 1, **{"hold_restarts": True, **more})
    return deploy(api, counties, problems, settings, lambda values: None)  # type: ignore[arg-type]


def test_a_county_that_a_backup_stopped_waits_for_its_wave_with_a_new_version() -> None:
    api = FakeApi("4.21.0")
    assert roll_out(api, "4.22.0")["held"] == ["nairobi"] and api.sent == []


def test_a_county_that_a_killed_backup_left_stopped_is_started_at_once() -> None:
    api = FakeApi("4.22.0")
    assert roll_out(api, "4.22.0")["held"] == [] and "cht-api" in api.sent


def test_a_version_that_never_started_is_taken_back_for_the_named_county_alone() -> None:
    named, other = (roll_out(FakeApi("4.23.0", replicas=1), "4.22.0", downgrade=frozenset({name}))["counties"][0]["remark"] for name in ("nairobi", "kisumu"))
    assert "downgraded from 4.23.0 to 4.22.0" in named
    assert "runs 4.23.0, newer than the wanted 4.22.0: kept" in other


def test_a_canary_that_fails_stops_whatever_the_threshold() -> None:
    held = names(3)
    rollout = Rollout([row(name) for name in held], held, Policy(1, 9))
    assert walk(rollout, {"c0": "why"}) == [["c0"]]
    assert "the canary c0 is not well: why" in rollout.stopped


def test_what_an_earlier_run_broke_counts() -> None:
    rows = [row("broken", "unchanged", ready=5), row("other", "unchanged", ready=5, version="4.1.0"), row("c0"), row("c1")]
    assert Rollout(rows, ["c0", "c1"], Policy(1, 0)).next() is None
    assert Rollout(rows, ["c0", "c1"], Policy(1, 1)).next() is not None


def test_rows_are_merged_and_held_back() -> None:
    rows = hold_back(merge([row("a"), row("b")], [row("a", "changed")]), ["b"], "why")
    assert [(entry["name"], entry["state"], entry["remark"]) for entry in rows] == [("a", "changed", ""), ("b", "waiting", "not rolled out: why")]


def nodes(known: int, members: int) -> bytes:
    return json.dumps({"all_nodes": names(known), "cluster_nodes": names(members)}).encode()


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, nodes(3, 3), ""),
        (200, nodes(2, 3), "not connected: c2"),
        (200, nodes(2, 2), "has 2 of 3 nodes"),
        (401, b"{}", "with 401"),
        (200, b"<html>", "something else"),
    ],
)
def test_membership(status: int, body: bytes, problem: str) -> None:
    found = membership_problem(status, body, 3)
    assert problem in found and bool(problem) == bool(found)


def test_info() -> None:
    assert info_problem(200, b'{"version": "4.22.0"}') == ""
    assert info_problem(503, b"") == "API answers /api/info with 503"
    assert info_problem(200, b"{}") == "API answers /api/info without a version"


def test_the_first_database_and_api_are_asked() -> None:
    def pod(service: str) -> dict[str, t.Any]:
        return {"metadata": {"name": f"{service}-x", "labels": {"cht.service": service}}}

    asked = []

    def ask(name: str, port: int, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        asked.append((name, port, path, headers.get("Authorization", "")))
        return (200, nodes(2, 2)) if path == "/_membership" else (200, b'{"version": "1"}')

    pods = [pod("couchdb-2"), pod("couchdb-1"), pod("api"), pod("haproxy")]
    assert judge_health(pods, {"COUCHDB_USER": "a", "COUCHDB_PASSWORD": "b"}, ask) == ""
    assert asked == [("couchdb-1-x", 5984, "/_membership", "Basic YTpi"), ("api-x", 5988, "/api/info", "")]
    assert judge_health(pods[:2], {}, ask) == "its pods are gone"
