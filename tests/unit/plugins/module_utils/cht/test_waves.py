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

from ansible_collections.cht.k3s.plugins.module_utils.cht import run
from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import SECRET_NAME
from ansible_collections.cht.k3s.plugins.module_utils.cht.health import api_problem, database_problem, judge_health, membership_problem, startup_problem
from ansible_collections.cht.k3s.plugins.module_utils.cht.plan import Live, plan_county
from ansible_collections.cht.k3s.plugins.module_utils.cht.run import ListError, Settings, at_rest, deploy, ran
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import read_counties
from ansible_collections.cht.k3s.plugins.module_utils.cht.stage import Stage
from ansible_collections.cht.k3s.plugins.module_utils.cht.waves import Policy, Rollout, hold_back, merge
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Unreachable


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


def rollout_of(name: str, reason: str = "NewReplicaSetAvailable", generation: int = 2, replicas: int = 1) -> dict[str, t.Any]:
    conditions = [{"type": "Available", "status": "False"}, {"type": "Progressing", "status": "True", "reason": reason}]
    status = {"observedGeneration": 2, "conditions": conditions}
    return {"metadata": {"name": name, "generation": generation}, "spec": {"replicas": replicas}, "status": status}


@pytest.mark.parametrize(("reason", "generation", "replicas", "answer"), [
    ("NewReplicaSetAvailable", 2, 1, True), ("ReplicaSetUpdated", 2, 1, False), ("ProgressDeadlineExceeded", 2, 1, False),
    ("NewReplicaSetAvailable", 3, 1, False), ("NewReplicaSetAvailable", 2, 0, False),
])
def test_a_county_that_ran_has_something_to_lose_though_it_is_down(reason: str, generation: int, replicas: int, answer: bool) -> None:
    for vital, other in (("cht-api", "cht-couchdb-1"), ("cht-couchdb-2", "cht-api"), ("cht-couchdb", "cht-api")):
        assert ran([rollout_of(other), rollout_of("cht-couchdb-1"), rollout_of(vital, reason, generation, replicas)]) is answer
    # What users can do without does not say that a county has nothing to lose.
    assert ran([rollout_of("cht-api"), rollout_of("cht-couchdb"), rollout_of("upgrade-service", reason, generation, replicas)])
    assert not ran([]) and not ran([{"metadata": {}, "spec": {}}]) and not ran([rollout_of("cht-api")])


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
        self.deleted: list[str] = []
        self.stuck = "nothing"
        entry = {"name": "nairobi", "host": "nairobi.health.example", "version": version, "ingress": {"tls_in_front": True}}
        self.county = read_counties([entry], None)[0]
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

    def find(self, path: str) -> dict[str, t.Any] | None:
        kind, dummy, name = path.rpartition("/")
        found = [item for item in self.lists.get(kind.rpartition("/")[2], []) if item["metadata"]["name"] == name]
        return found[0] if found else None

    def json(self, method: str, path: str, *dummy: t.Any, **more: t.Any) -> dict[str, t.Any]:
        if path.endswith(self.stuck):
            raise ApiError(500, "as the test wants it")
        self.deleted.append("/".join(path.split("/")[-2:]))
        kind, dummy_, name = path.rpartition("/")
        items = self.lists[kind.rpartition("/")[2]]
        items[:] = [item for item in items if item["metadata"]["name"] != name]
        return {}

    def get(self, path: str, query: t.Any = None) -> dict[str, t.Any]:
        raise ApiError(404, path)

    def apply(self, path: str, body: dict[str, t.Any], *dummy: t.Any, **more: t.Any) -> tuple[bool, dict[str, t.Any]]:
        if body["kind"] == "Deployment":
            self.sent.append(body["metadata"]["name"])
        return False, {**body, "metadata": {**body["metadata"], "resourceVersion": "2"}}


def roll_out(api: FakeApi, version: str, entry: dict[str, t.Any] | None = None, hide: t.Any = lambda values: None, **more: t.Any) -> dict[str, t.Any]:
    wanted = {"name": "nairobi", "host": "nairobi.health.example", "version": version, "ingress": {"tls_in_front": True}, **(entry or {})}
    counties, problems = read_counties([wanted], None)
    usual = {"check_mode": False, "with_diff": False, "on_newer": "keep", "adopt": False, "base_dir": "/", "field_manager": "cht.k3s",
             "force_conflicts": False, "parallel": 1, "hold_restarts": True}
    settings = Settings(**{**usual, **more})
    return deploy(api, counties, problems, settings, hide)  # type: ignore[arg-type]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_claim_without_a_volume_makes_way_for_the_one_that_is_wanted(check_mode: bool) -> None:
    api = FakeApi("4.22.0")
    for item in api.lists["persistentvolumeclaims"]:
        item["metadata"].update(uid="u", resourceVersion="1")
        item["spec"]["storageClassName"] = "wrong"
        item["status"] = {"phase": "Pending"}
    names = {item["metadata"]["name"] for item in api.lists["persistentvolumeclaims"]}
    done = roll_out(api, "4.22.0", check_mode=check_mode)
    assert done["changed"] and "never got a volume" in done["counties"][0]["remark"], done["counties"]
    assert {path.rpartition("/")[2] for path in api.deleted if "claim0" in path} == (set() if check_mode else names)
    assert ("there is no StorageClass 'vmware-sc'" in done["counties"][0]["remark"]) is check_mode


@pytest.mark.parametrize(("there", "shrink", "refused"), [
    (["nairobi"], 0, False), (["nairobi", "kisumu"], 50, False), (["nairobi", "kisumu", "mombasa"], 50, True), (["kisumu"], 50, True),
    (["kisumu"], 100, False), ([], 0, False),
])
def test_a_list_that_lacks_most_of_the_cluster_s_counties_is_refused_before_anything_changes(there: list[str], shrink: int, refused: bool) -> None:
    api = FakeApi("4.21.0")
    api.lists["namespaces"] = [{"metadata": {"name": name, "labels": {"cht.k3s/county": name}}} for name in there]
    if refused:
        with pytest.raises(ListError, match=r"kisumu.*cht_project_expect=1\. Nothing was changed"):
            roll_out(api, "4.22.0", shrink=shrink)
        assert api.sent == []
    else:
        roll_out(api, "4.22.0", shrink=shrink)
    # A wave brings a part of the list.
    roll_out(api, "4.22.0", shrink=0, only=frozenset({"nairobi"}))


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


def at_work(version: str) -> FakeApi:
    """A county that runs."""
    api = FakeApi(version, replicas=1)
    for item in api.lists["deployments"]:
        item["metadata"]["generation"] = 2
        item["status"] = rollout_of("any")["status"]
    return api


@pytest.mark.parametrize(("found", "sends", "told"), [
    (Stage("staged"), True, ""), (Stage("staging", "indexing 7%"), False, "4.22.0 is not staged (indexing 7%): API indexes"),
    (Stage("none"), False, "name the county in cht_project_unstaged"),
])
def test_a_version_is_raised_when_it_is_staged(monkeypatch: pytest.MonkeyPatch, found: Stage, sends: bool, told: str) -> None:
    monkeypatch.setattr(run, "_stage_of", lambda client, plan: found)
    api = at_work("4.21.0")
    row = roll_out(api, "4.22.0", hold_restarts=False)["counties"][0]
    assert ("cht-api" in api.sent) is sends and told in row["remark"] and row["upgrade_from"] == ("4.21.0" if sends else "")


def test_the_wave_is_told_what_to_stage_and_a_word_does_without() -> None:
    held = roll_out(at_work("4.21.0"), "4.22.0")["counties"][0]
    assert (held["state"], held["upgrade_from"], held["stage"]) == ("waiting", "4.21.0", True)
    assert roll_out(at_work("4.22.0"), "4.22.0", {"node_env": "test"})["counties"][0]["upgrade_from"] == ""
    assert "4.22.0 would be staged first" in roll_out(at_work("4.21.0"), "4.22.0", check_mode=True)["counties"][0]["remark"]
    for word in ("nairobi", "all"):
        api = at_work("4.21.0")
        row = roll_out(api, "4.22.0", hold_restarts=False, unstaged=frozenset({word}))["counties"][0]
        assert "cht-api" in api.sent and "not staged, as it was asked for" in row["remark"] and (row["upgrade_from"], row["stage"]) == ("4.21.0", False)


@pytest.mark.parametrize("more", [{}, {"check_mode": True}, {"hold_restarts": False}])
def test_what_can_t_be_staged_is_refused_before_its_wave(more: dict[str, t.Any]) -> None:
    api = at_work("4.22.0")
    row = roll_out(api, "5.2.0", **more)["counties"][0]
    assert row["state"] == "failed" and row["remark"].startswith("4.x can't stage 5.x") and "cht_project_unstaged" in row["remark"] and not api.sent
    # What has nothing to lose has nothing to stage.
    assert roll_out(FakeApi("4.22.0", replicas=1), "5.2.0")["counties"][0]["state"] == "changed"


def limited() -> FakeApi:
    """A county whose quota, LimitRange and policies are there, and some that somebody else made."""
    api = FakeApi("4.22.0", replicas=1)
    ours = {"app.kubernetes.io/part-of": "cht", "app.kubernetes.io/managed-by": "cht.k3s"}

    def item(name: str, labels: dict[str, str], namespace: str = "nairobi") -> dict[str, t.Any]:
        return {"metadata": {"name": name, "namespace": namespace, "labels": labels}}

    api.lists["resourcequotas"] = [item("cht", ours), item("cht", ours, "kisumu")]
    api.lists["limitranges"] = [item("cht", {"app.kubernetes.io/managed-by": "somebody"})]
    api.lists["networkpolicies"] = [item("own-namespace-only", ours), item("ingress-to-api", ours), item("of-somebody", ours)]
    return api


def test_what_is_switched_off_does_not_stay_in_force() -> None:
    api = limited()
    row = roll_out(api, "4.22.0", {"quota": {"pods": "20"}})["counties"][0]
    assert (row["removed"], api.deleted) == (0, [])
    seen = roll_out(api, "4.22.0", {"network_policy": False}, check_mode=True)
    assert (seen["counties"][0]["removed"], seen["changed"], api.deleted) == (3, True, [])
    row = roll_out(api, "4.22.0", {"network_policy": False})["counties"][0]
    assert row["removed"] == 3 and "3 objects removed" in row["remark"]
    assert api.deleted == ["resourcequotas/cht", "networkpolicies/ingress-to-api", "networkpolicies/own-namespace-only"]
    assert roll_out(api, "4.22.0", {"network_policy": False})["counties"][0]["removed"] == 0


def test_viewers_and_settings_that_are_taken_back_go() -> None:
    api = limited()
    ours = api.lists["resourcequotas"][0]["metadata"]["labels"]
    for kind, name in (("roles", "county-viewer"), ("rolebindings", "county-viewer"), ("configmaps", "couchdb-settings")):
        api.lists[kind] = [{"metadata": {"name": name, "namespace": "nairobi", "labels": ours}}]
    setting = {"couchdb": {"settings": [{"section": "smoosh", "key": "x", "value": "1"}]}}
    assert roll_out(api, "4.22.0", {"viewers": ["a"], "quota": {"pods": "20"}, **setting})["counties"][0]["removed"] == 0
    assert roll_out(api, "4.22.0", {"quota": {"pods": "20"}})["counties"][0]["removed"] == 3
    assert sorted(api.deleted) == ["configmaps/couchdb-settings", "rolebindings/county-viewer", "roles/county-viewer"]


def test_pods_that_an_agent_left_behind_are_removed_and_told() -> None:
    api = FakeApi("4.22.0", replicas=1)

    def left(name: str, namespace: str = "nairobi", **more: t.Any) -> dict[str, t.Any]:
        metadata = {"name": name, "namespace": namespace, "labels": {"cht.service": "api"}, "ownerReferences": [{"kind": "ReplicaSet"}], **more}
        return {"metadata": metadata, "status": {"phase": "Failed", "reason": "Evicted"}}

    api.lists["pods"] = [left("cht-api-1"), left("going", deletionTimestamp="now"), left("of-nobody", ownerReferences=[]), left("x", "kisumu")]
    seen = roll_out(api, "4.22.0", check_mode=True)
    assert "pod cht-api-1 (Evicted), which an agent left behind, would be removed" in seen["counties"][0]["remark"] and not api.deleted
    row = roll_out(api, "4.22.0")["counties"][0]
    assert (api.deleted, row["removed"]) == (["pods/cht-api-1"], 1) and "cht-api-1 (Evicted), which an agent left behind, removed" in row["remark"]
    assert roll_out(api, "4.22.0")["counties"][0]["removed"] == 0


def test_an_interrupted_end_of_4x_is_gone_on_with() -> None:
    api = FakeApi("4.22.0", replicas=1)
    for kind, name in (("rolebindings", "deployment-manager-cht"), ("roles", "deployment-manager"), ("serviceaccounts", "cht-upgrade-service-user"),
                       ("services", "upgrade-service")):
        api.lists[kind] = [{"metadata": {"name": name, "namespace": "nairobi"}}]
    api.stuck = "roles/deployment-manager"
    failed = roll_out(api, "5.2.0", hold_restarts=False)["counties"][0]
    assert failed["state"] == "failed" and api.deleted == ["rolebindings/deployment-manager-cht"]
    api.stuck = "nothing"
    assert roll_out(api, "5.2.0", hold_restarts=False)["counties"][0]["removed"] == 4
    assert api.deleted[-1] == "deployments/upgrade-service"


def test_nouveau_of_the_first_chart_of_5_is_retired() -> None:
    api = FakeApi("5.2.0", replicas=1)
    apart = copy.deepcopy(next(item for item in api.lists["deployments"] if item["metadata"]["name"] == "cht-couchdb-1"))
    pod = apart["spec"]["template"]["spec"]
    apart["metadata"]["name"] = "cht-couchdb-nouveau"
    pod["containers"] = [item for item in pod["containers"] if item["name"] == "cht-couchdb-nouveau"]
    api.lists["deployments"].append(apart)
    assert roll_out(api, "5.2.0", check_mode=True)["counties"][0]["removed"] == 1 and not api.deleted
    assert roll_out(api, "5.2.0")["counties"][0]["removed"] == 1
    assert api.deleted == ["deployments/cht-couchdb-nouveau"]


@pytest.mark.parametrize(("password", "hidden"), [("nairobi", False), ("nairobi.health", False), ("short", False), ("a-good-password", True)])
def test_a_weak_password_does_not_hide_the_county_s_name(password: str, hidden: bool) -> None:
    api, told = FakeApi("4.22.0", replicas=1), []
    api.lists["secrets"][0]["data"]["COUCHDB_PASSWORD"] = base64.b64encode(password.encode()).decode()
    row = roll_out(api, "4.22.0", hide=told.extend)["counties"][0]
    assert (password in told) is hidden and "COUCHDB_SECRET-value-0000000" in told
    assert any("its password is short" in note for note in row["notes"]) is not hidden


class Lost(FakeApi):
    """An API server that goes away with the first object that is sent."""

    def apply(self, path: str, body: dict[str, t.Any], *dummy: t.Any, **more: t.Any) -> tuple[bool, dict[str, t.Any]]:
        self.sent.append(body["metadata"]["name"])
        raise Unreachable("https://192.0.2.1:6443 does not answer")


def test_an_api_server_that_goes_away_is_waited_for_once_and_the_table_is_shown() -> None:
    api = Lost("4.22.0", replicas=1)
    result = roll_out(api, "4.22.0")
    assert len(api.sent) == 1 and result["counties"][0]["state"] == "failed" and "does not answer" in result["table"][1]


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
        (200, nodes(4, 3), "connected and not in its cluster: c3"),
        (200, nodes(2, 2), "has 2 of 3 nodes"),
        (200, nodes(4, 4), "none of this county's (c3)"),
        (200, json.dumps({"all_nodes": ["c0", "c1", "x"], "cluster_nodes": ["c0", "c1", "x"]}).encode(), "none of this county's (x)"),
        (401, b"{}", "with 401"),
        (200, b"<html>", "something else"),
    ],
)
def test_membership(status: int, body: bytes, problem: str) -> None:
    found = membership_problem(status, body, {"c0", "c1", "c2"})
    assert problem in found and bool(problem) == bool(found)


def test_a_lone_couchdb_may_call_itself_what_it_likes() -> None:
    alone = json.dumps({"all_nodes": ["couchdb@127.0.0.1"], "cluster_nodes": ["couchdb@127.0.0.1"]}).encode()
    assert membership_problem(200, alone, {"couchdb@couchdb.nairobi.svc.cluster.local"}) == ""


def test_a_database_that_does_not_open_is_told_with_its_reason() -> None:
    assert database_problem(200, b"{}", "medic") == database_problem(404, b"{}", "medic") == ""
    found = database_problem(500, b'{"error":"internal_server_error","reason":"No DB shards could be opened."}', "medic")
    assert "/medic with 500 (No DB shards could be opened.)" in found
    assert "/medic with 502:" in database_problem(502, b"<html>", "medic")


def test_api_answers_with_the_version_of_cht() -> None:
    assert api_problem(200, b'{"version": {"app": "4.22.0"}}') == ""
    assert api_problem(503, b"") == "API answers /api/v2/monitoring with 503"
    # What 4.22's /api/info answers, and monitoring where the database does not.
    assert "without CHT's version" in api_problem(200, b'{"version": "0.1.0"}')
    assert "without CHT's version" in api_problem(200, b'{"version": {"app": ""}}')
    answer = b'{"version": {"app": "4.21.1"}}'
    assert api_problem(200, answer, "4.21.1-4.21.1") == api_problem(200, answer, "my-branch") == ""
    assert "says that it is CHT 4.21.1, and its image is 4.22.0" in api_problem(200, answer, "4.22.0")


@pytest.mark.parametrize(("status", "body", "told"), [
    (200, [{"id": "check", "translation": "Running installation checks", "started": True, "completed": True},
           {"id": "index", "translation": "Indexing data", "started": True}, {"id": "migrate", "translation": "Migrating data"}], "upgrading: Indexing data;"),
    # What 4.22 answers.
    (200, {"completed": False, "actions": {
        "checks": {"translation": "api.startup.checks", "text": "Running installation checks", "display": True, "started": True, "completed": True},
        "index": {"translation": "api.startup.index", "text": "Indexing data", "display": True, "started": True},
        "migrate": {"translation": "api.startup.migrate", "text": "Migrating data", "display": True},
    }}, "upgrading: Indexing data;"),
    (200, {"completed": False, "actions": {"checks": {"translation": "api.startup.checks", "display": True, "started": True}}},
     "API is starting: api.startup.checks;"),
    (200, [{"id": "index", "translation": "Indexing", "started": True, "progress": 41}], "upgrading: Indexing 41%"),
    (200, [{"id": "check", "translation": "Running installation checks", "started": True}], "API is starting: Running installation checks"),
    (200, {"completed": True}, "API is starting: it does not say"), (503, [], "API is starting: it does not say"),
    (200, ["x"], "API is starting: it does not say"),
])
def test_an_api_that_indexes_is_starting_and_says_what_it_does(status: int, body: t.Any, told: str) -> None:
    assert startup_problem(status, json.dumps(body).encode()).startswith(told)


def test_the_first_database_and_api_are_asked() -> None:
    def pod(service: str) -> dict[str, t.Any]:
        return {"metadata": {"name": f"{service}-x", "labels": {"cht.service": service}}}

    asked, starting = [], False

    def ask(name: str, port: int, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        asked.append((name, port, path, headers.get("Authorization", "")))
        members = [f"couchdb@couchdb-{number}.nairobi.svc.cluster.local" for number in (1, 2)]
        answers = {
            "/_membership": {"all_nodes": members, "cluster_nodes": members}, "/medic": {"db_name": "medic"},
            "/api/v2/monitoring": {"version": {"app": "1"}},
            "/api/v1/startup-progress": [{"translation": "Migrating data", "started": True}],
        }
        return (503, b"<html>") if starting and path == "/api/v2/monitoring" else (200, json.dumps(answers[path]).encode())

    pods = [pod("couchdb-2"), pod("couchdb-1"), pod("api"), pod("haproxy")]
    held = {"COUCHDB_USER": "a", "COUCHDB_PASSWORD": "b", "COUCH_URL": "http://a:b@haproxy.nairobi.svc.cluster.local:5984/medic"}
    assert judge_health(pods, held, ask, "nairobi") == ""
    assert asked == [
        ("couchdb-1-x", 5984, "/_membership", "Basic YTpi"), ("couchdb-1-x", 5984, "/medic", "Basic YTpi"), ("api-x", 5988, "/api/v2/monitoring", ""),
    ]
    assert judge_health(pods[:2], {}, ask, "nairobi") == "its pods are gone"
    starting = True
    assert judge_health(pods, held, ask, "nairobi").startswith("upgrading: Migrating data;")
