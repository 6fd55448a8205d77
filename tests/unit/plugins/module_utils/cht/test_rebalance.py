# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which counties are moved where: never worse, never overfull, never twice."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.cht.k3s.plugins.module_utils.cht.capacity import Amount
from ansible_collections.cht.k3s.plugins.module_utils.cht.move import MANAGER, home_of, preference, with_replicas
from ansible_collections.cht.k3s.plugins.module_utils.cht.rebalance import Move, Plan, Planner, Tenant
from ansible_collections.cht.k3s.plugins.module_utils.cht.scheduling import selected, tolerates

GI = 2.0**30
EACH = Amount(1, 4 * GI, 8, 3)
WIDE = Amount(1000, 1000 * GI, 1000, 59)


def tenant(name: str, agent: str, everywhere: t.Iterable[str], needs: Amount = EACH, **more: t.Any) -> Tenant:
    return Tenant(name, name, {agent: needs}, frozenset(everywhere), **more)


def cluster(counts: dict[str, int]) -> list[Tenant]:
    return [tenant(f"{agent}-county-{number}", agent, counts) for agent, count in counts.items() for number in range(count)]


def test_a_tenth_agent_gets_its_tenth() -> None:
    counts = {f"agent-{number}": 6 if number <= 5 else 5 for number in range(1, 10)} | {"agent-10": 0}
    planner = Planner(dict.fromkeys(counts, WIDE), cluster(counts))
    moves = planner.plan()
    assert len(moves) == 5 and {move.target for move in moves} == {"agent-10"}
    assert {move.source for move in moves} == {"agent-1", "agent-2", "agent-3", "agent-4", "agent-5"}, "the fullest give"
    assert set(planner.counts.values()) == {5}


def test_where_nothing_is_to_be_won_nothing_is_moved() -> None:
    counts = {"agent-1": 3, "agent-2": 2, "agent-3": 3}
    assert Planner(dict.fromkeys(counts, WIDE), cluster(counts)).plan() == []
    assert Planner({}, []).plan() == []


@pytest.mark.parametrize("short", [{"cpu": 0.5}, {"memory": 1.0}, {"pods": 7}, {"volumes": 2}])
def test_an_agent_without_room_gets_nothing(short: dict[str, float]) -> None:
    room = Amount(**{"cpu": 8.0, "memory": 64 * GI, "pods": 110, "volumes": 59, **short})
    counts = {"agent-1": 4, "agent-2": 0}
    assert Planner({"agent-1": Amount(), "agent-2": room}, cluster(counts)).plan() == []


def test_a_county_that_may_not_go_there_stays_and_another_goes() -> None:
    tenants = [tenant("a", "agent-1", ["agent-1"]), tenant("b", "agent-1", ["agent-1", "agent-2"], stays="it is not well"),
               tenant("c", "agent-1", ["agent-1", "agent-2"])]
    moves = Planner({"agent-1": WIDE, "agent-2": WIDE}, tenants).plan()
    assert [(move.county, move.target) for move in moves] == [("c", "agent-2")]


def test_an_agent_that_the_scheduler_would_not_take_gets_nothing() -> None:
    free = {"agent-1": WIDE, "agent-2": WIDE, "tiny": Amount(pods=4)}
    near = {"agent-1": 4, "agent-2": 2, "tiny": 0}
    assert [move.target for move in Planner(free, cluster(near)).plan()] == ["agent-2"]
    assert Planner(free, cluster({"agent-1": 5, "agent-2": 3, "tiny": 0})).plan() == [], "tiny draws the first pods"


def test_the_smallest_goes_first() -> None:
    both = ["agent-1", "agent-2"]
    tenants = [tenant("large", "agent-1", both, Amount(8, 32 * GI, 8, 3)), tenant("small", "agent-1", both, Amount(8, 32 * GI, 6, 1))]
    assert [move.county for move in Planner({"agent-1": WIDE, "agent-2": WIDE}, tenants).plan()] == ["small"]


def test_a_county_on_two_agents_is_brought_together_where_part_of_it_is() -> None:
    agents = ["agent-1", "agent-2", "agent-3"]
    split = Tenant("split", "split", {"agent-1": Amount(1, GI, 5, 2), "agent-2": Amount(1, GI, 3, 1)}, frozenset(agents))
    free = dict.fromkeys(agents, Amount(1, GI, 5, 2))
    assert [(move.source, move.target) for move in Planner(free, [split]).plan()] == [("agent-1", "agent-1")], "only the rest of it needs room"
    assert Planner(dict.fromkeys(agents, Amount()), [split]).plan() == []


def test_an_interrupted_move_comes_first_and_goes_elsewhere_when_its_agent_is_gone() -> None:
    agents = ["agent-1", "agent-2"]
    stopped = Tenant("stopped", "stopped", {}, frozenset(agents), moving="agent-2", size=EACH)
    assert Planner(dict.fromkeys(agents, WIDE), [stopped]).plan() == [Move("stopped", "stopped", "", "agent-2", "its move was interrupted")]
    gone = Tenant("stopped", "stopped", {}, frozenset(["agent-1"]), moving="agent-9", size=EACH)
    assert [move.target for move in Planner({"agent-1": WIDE}, [gone]).plan()] == ["agent-1"]


@st.composite
def clusters(draw: st.DrawFn) -> tuple[dict[str, Amount], list[Tenant]]:
    """Agents of any room, counties of any size on them, some that must not go everywhere or not at all."""
    agents = [f"agent-{number}" for number in range(draw(st.integers(1, 6)))]
    free = {
        agent: Amount(draw(st.integers(0, 12)), draw(st.integers(0, 12)) * GI, draw(st.integers(0, 40)), draw(st.integers(0, 12))) for agent in agents
    }
    tenants = []
    for number in range(draw(st.integers(0, 24))):
        at = {
            agent: Amount(draw(st.integers(0, 4)), draw(st.integers(0, 4)) * GI, draw(st.integers(1, 8)), draw(st.integers(0, 3)))
            for agent in draw(st.lists(st.sampled_from(agents), min_size=1, max_size=2, unique=True))
        }
        allowed = frozenset(draw(st.lists(st.sampled_from(agents), unique=True)))
        tenants.append(Tenant(f"c{number}", f"c{number}", at, allowed, draw(st.sampled_from(["", "", "", "why"]))))
    return free, tenants


@settings(deadline=None)
@given(clusters())
def test_a_plan_never_overfills_never_unbalances_and_moves_a_county_once(given_cluster: tuple[dict[str, Amount], list[Tenant]]) -> None:
    free, tenants = given_cluster
    planner = Planner(free, tenants)
    moves = planner.plan()
    by_name = {entry.name: entry for entry in tenants}
    assert len({move.county for move in moves}) == len(moves)
    room = dict(free)
    for move in moves:
        entry = by_name[move.county]
        assert move.target in entry.allowed and not entry.stays
        before = dict(room)
        for agent, amount in entry.at.items():
            room[agent] = room[agent] + amount
        room[move.target] = room[move.target] - entry.needs
        for had, left in zip(before[move.target].tuple(), room[move.target].tuple()):
            assert left >= min(0, had) - 1e-6, "every step fits without the later ones"
    spread = [move for move in moves if len(by_name[move.county].at) == 1]
    if len(spread) == len(moves):
        squares = [sum(count**2 for count in counts.values()) for counts in (planner.before, planner.counts)]
        assert squares[1] + 2 * len(moves) <= squares[0], "each move makes it better"
        assert max(planner.counts.values(), default=0) <= max(planner.before.values(), default=0)
        assert min(planner.counts.values(), default=0) >= min(planner.before.values(), default=0)
    assert sum(planner.counts.values()) == sum(planner.before.values())


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=10))
def test_after_the_plan_there_is_nothing_left_to_plan(sizes: list[int]) -> None:
    counts = {f"agent-{number}": count for number, count in enumerate(sizes)}
    planner = Planner(dict.fromkeys(counts, WIDE), cluster(counts))
    targets = {move.county: move.target for move in planner.plan()}
    assert max(planner.counts.values()) - min(planner.counts.values()) <= 1
    assert len(targets) == sum(max(0, before - planner.counts[agent]) for agent, before in counts.items()), "no move more than needed"
    after = [tenant(entry.name, targets.get(entry.name, entry.home), counts) for entry in cluster(counts)]
    assert Planner(planner.free, after).plan() == []


def test_the_plan_for_people() -> None:
    plan = Plan([Move("nairobi", "nairobi", "agent-1", "agent-10", "why")], {"agent-1": 2, "agent-10": 0}, {"agent-1": 1, "agent-10": 1},
                {"kisumu": "it is stopped"}, "x is not well")
    assert plan.lines() == [
        "nairobi  agent-1 -> agent-10  (why)", "kisumu stays: it is stopped", "counties on agents: agent-1 2 -> 1, agent-10 0 -> 1", "1 move",
        "nothing is moved: x is not well",
    ]
    assert plan.as_dict()["moves"] == [{"county": "nairobi", "namespace": "nairobi", "from": "agent-1", "to": "agent-10", "why": "why"}]


TAINT = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}


@pytest.mark.parametrize(("tolerations", "answer"), [
    ([], False),
    ([{"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule"}], True),
    ([{"key": "dedicated", "value": "web"}], False),
    ([{"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}], False),
    ([{"operator": "Exists"}], True),
])
def test_tolerations(tolerations: list[dict[str, str]], answer: bool) -> None:
    assert tolerates(tolerations, TAINT) is answer


@pytest.mark.parametrize(("operator", "values", "answer"), [
    ("In", ["a", "b"], True), ("In", ["c"], False), ("NotIn", ["c"], True), ("Exists", None, True), ("DoesNotExist", None, False), ("Gt", ["1"], False),
])
def test_where_a_volume_can_be_reached(operator: str, values: list[str] | None, answer: bool) -> None:
    expression = {"key": "zone", "operator": operator, **({"values": values} if values else {})}
    assert selected([{"matchExpressions": [expression]}], {"zone": "a"}) is answer


def test_a_home_is_read_as_it_was_written() -> None:
    assert home_of({"spec": {"template": {"spec": {"affinity": {"nodeAffinity": preference("agent-10")}}}}}) == "agent-10"
    assert home_of({"spec": {"template": {"spec": {"affinity": {"podAffinity": {}}}}}}) == ""


def test_replicas_are_the_county_s_again() -> None:
    entries = [
        {"manager": "cht.k3s", "operation": "Apply", "fieldsV1": {"f:spec": {"f:strategy": {}}}},
        {"manager": MANAGER, "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}}},
        {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}},
    ]
    ours, theirs, status = with_replicas(entries)
    assert ours["fieldsV1"]["f:spec"] == {"f:strategy": {}, "f:replicas": {}}
    assert theirs["fieldsV1"]["f:spec"] == {"f:template": {}}
    assert status == entries[2] and "f:replicas" in entries[1]["fieldsV1"]["f:spec"], "what was given is not changed"
