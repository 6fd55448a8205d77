# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the servers of an inventory are one cluster, which is the odd one, and that every playbook asks."""
from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.filter.cluster_verdict import cluster_verdict
from ansible_collections.cht.k3s.plugins.module_utils.k3s.access import choose
from ansible_collections.cht.k3s.plugins.module_utils.k3s.clusters import judge, other_cluster

SERVERS = ["cp-1", "cp-2", "cp-3"]
PLAYBOOKS = Path(__file__).parents[5] / "playbooks"


def server(uid="", etcd_id="", kind="etcd", members=0, agents=0, since="", healthy=None):
    return {
        "datastore": True, "datastore_kind": kind, "healthy": bool(uid) if healthy is None else healthy, "kubeconfig": "k", "agents": agents,
        "cluster": {"uid": uid, "etcd_id": etcd_id, "ca_hash": "same", "since": since},
        "members": [{"name": f"m-{number}", "voter": True, "ready": True} for number in range(members)],
    }


GOOD = server("one", "e1", members=3, agents=9, since="2025-01-01T00:00:00Z")
OWN_SQLITE = server("two", kind="sqlite", since="2026-01-01T00:00:00Z")


def test_servers_that_agree_are_no_problem():
    verdict = judge({"cp-1": GOOD, "cp-2": GOOD, "cp-3": None}, SERVERS)
    assert (verdict.problem, verdict.note, verdict.odd, verdict.right) == ("", "", [], ["cp-1", "cp-2"])


def test_a_server_that_began_on_sqlite_is_the_odd_one():
    """What k3s does with a first server that lost its data and is not told of a token."""
    verdict = judge({"cp-1": OWN_SQLITE, "cp-2": GOOD, "cp-3": GOOD}, SERVERS)
    assert verdict.odd == ["cp-1"] and verdict.right == ["cp-2", "cp-3"]
    for text in ("cp-2, cp-3 (etcd, 3 etcd members, 9 agents, since 2025", "cp-1 (SQLite", "cp-1 is the odd one", "reset.yml with --limit cp-1",
                 "run site.yml, with which it joins the others", "Nothing was changed"):
        assert text in verdict.problem


@pytest.mark.parametrize(("answers", "odd"), [
    # The same namespace in two etcd clusters: a snapshot was restored on one of them alone.
    ({"cp-1": server("one", "e2", members=1), "cp-2": GOOD, "cp-3": GOOD}, ["cp-1"]),
    # Its API is silent, and its etcd is not.
    ({"cp-1": server("", "e2"), "cp-2": GOOD, "cp-3": GOOD}, ["cp-1"]),
    # One against one: the members decide, then the agents, then the age.
    ({"cp-1": OWN_SQLITE, "cp-2": GOOD, "cp-3": None}, ["cp-1"]),
    ({"cp-1": server("one", "e1", members=1, agents=2), "cp-2": server("two", "e2", members=1, agents=9)}, ["cp-1"]),
    ({"cp-1": server("one", "e1", members=1, since="2026-02-01"), "cp-2": server("two", "e2", members=1, since="2026-01-01")}, ["cp-1"]),
    # Its disk says it, whether it runs or not; and two SQLites never share anything.
    ({"cp-1": server(kind="sqlite"), "cp-2": GOOD}, ["cp-1"]),
    ({"cp-1": server(kind="sqlite"), "cp-2": server(kind="etcd"), "cp-3": server(kind="etcd")}, ["cp-1"]),
    ({"cp-1": server(kind="sqlite"), "cp-2": server(kind="sqlite", uid="x", since="2026")}, ["cp-1"]),
])
def test_which_is_the_odd_one(answers, odd):
    verdict = judge(answers, SERVERS)
    assert verdict.odd == odd and "is the odd one" in verdict.problem


def test_a_silent_server_is_no_evidence():
    down = server(etcd_id="", healthy=False)
    for answers in ({"cp-1": None, "cp-2": GOOD}, {"cp-1": down, "cp-2": GOOD}, {"cp-1": {"datastore": False, "healthy": False}, "cp-2": GOOD}, {}):
        assert judge(answers, SERVERS).problem == ""
    rotated = dict(down, cluster=dict(down["cluster"], ca_hash="another"))
    assert judge({"cp-1": rotated, "cp-2": GOOD}, SERVERS).problem == "", "authorities are rotated one server after the other"


def test_where_nothing_tells_nobody_is_blamed():
    verdict = judge({"cp-1": server("one", "e1", members=1), "cp-2": server("two", "e2", members=1)}, SERVERS)
    assert "Nothing tells which one is right" in verdict.problem and verdict.right == []


def test_a_lone_server_on_sqlite_is_allowed_and_said():
    verdict = judge({"cp-1": OWN_SQLITE}, ["cp-1"])
    assert verdict.problem == "" and "SQLite" in verdict.note and "no backup" in verdict.note


@pytest.mark.parametrize(("kind", "text"), [
    ("sqlite", "keeps the cluster's data in SQLite, which no other server can join"), ("external", "datastore-endpoint"),
])
def test_several_servers_need_etcd(kind, text):
    verdict = judge({"cp-1": server("two", kind=kind), "cp-2": {"datastore": False}}, SERVERS)
    assert text in verdict.problem and verdict.odd == ["cp-1"]


def test_access_never_comes_from_the_odd_one():
    answers = [dict(OWN_SQLITE, item="cp-1"), dict(GOOD, item="cp-2"), dict(GOOD, item="cp-3")]
    chosen, dummy, problem = choose(answers, SERVERS)
    assert chosen is None and "cp-1 is the odd one" in problem.message and problem.exists
    chosen, dummy, problem = choose(answers, SERVERS, way_out=True)
    assert chosen == "cp-2" and "cp-1 is the odd one" in problem.message, "a report is of the right one, and says it"
    assert cluster_verdict(answers, SERVERS)["odd"] == ["cp-1"]


# -- the name that the collection keeps in the cluster -------------------------------------------------

NAMED = {**GOOD, "cluster": {**GOOD["cluster"], "name": "north"}}


@pytest.mark.parametrize(("name", "rename", "foreign"), [
    ("north", "", False), ("south", "", True), ("cht", "", True), ("south", "north", False), ("south", "west", True), ("", "", False),
])
def test_the_inventory_of_one_cluster_is_refused_on_another(name, rename, foreign):
    verdict = judge({"cp-1": None, "cp-2": NAMED}, SERVERS, name, rename)
    assert verdict.foreign == foreign == bool(verdict.problem)
    if foreign:
        assert f"'{name}' (k3s_cluster_name), and cp-2 is of the cluster 'north'" in verdict.problem
        assert "-e k3s_cluster_rename=north" in verdict.problem and "Nothing was changed" in verdict.problem
    assert cluster_verdict([dict(NAMED, item="cp-2")], SERVERS, name, rename)["foreign"] == foreign


def test_a_cluster_that_was_never_named_is_anybodys():
    assert judge({"cp-1": GOOD, "cp-2": GOOD}, SERVERS, "south").problem == ""


@pytest.mark.parametrize(("uid", "uids", "nodes", "machines", "problem"), [
    ("one", ["one"], ["A"], ["b"], ""),
    ("two", ["one"], [], [], "another cluster (two) than the servers of the inventory are of (one)"),
    # No server said anything: the VMs do.
    ("two", [], ["42AB"], ["42ab", "42cd"], ""),
    ("two", [], ["42ef"], ["42ab", "42cd"], "none of its nodes is a VM of the inventory"),
    # Nodes without a cloud provider, or an inventory without UUIDs, tell nothing.
    ("two", [], [], ["42ab"], ""), ("two", [], ["42ef"], [], ""),
])
def test_two_clusters_of_one_name_are_told_apart(uid, uids, nodes, machines, problem):
    found = other_cluster(uid, uids, nodes, machines)
    assert problem in found and bool(found) == bool(problem)


def test_from_another_cluster_there_is_no_way_out():
    tasks = yaml.safe_load((PLAYBOOKS.parent / "roles/k3s/tasks/one_cluster.yml").read_text(encoding="utf-8"))
    (refused,) = [task for task in tasks if task["name"] == "Refuse servers of different clusters"]
    assert refused["ignore_errors"] == "{{ __k3s_way_out | default(false) and not __k3s_verdict.foreign }}"


# -- every playbook ----------------------------------------------------------------------------------

# They make something in AWX, machines or roles in vCenter, or check the inputs: no server is asked for anything.
WITHOUT_A_CLUSTER = {"awx", "inventory_snapshot", "provision_vms", "vcenter_roles", "validate", "preflight", "one_cluster"}
WAY_OUT = {"reset", "restore", "report", "adopt", "migrate_datastore"}


@pytest.mark.parametrize("path", sorted(PLAYBOOKS.glob("*.yml")), ids=lambda path: path.stem)
def test_every_playbook_asks_whether_it_is_one_cluster_before_it_changes_anything(path):
    plays = yaml.safe_load(path.read_text(encoding="utf-8"))
    imports = [play.get("ansible.builtin.import_playbook") for play in plays]
    if path.stem in WITHOUT_A_CLUSTER:
        assert "one_cluster.yml" not in imports
        return
    place = imports.index("one_cluster.yml")
    assert set(imports[:place]) <= {"validate.yml", "preflight.yml"}, "nothing that changes anything comes before"
    assert bool((plays[place].get("vars") or {}).get("__k3s_way_out")) == (path.stem in WAY_OUT)
