# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which silent agent is fenced without a person, and that everything in doubt is left to one."""

from __future__ import annotations

import datetime
import typing as t
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.cht.k3s.plugins.module_utils.kube.watch import OUT_OF_SERVICE, Policy, decide, permission

ROOT = Path(__file__).resolve().parents[5]
NOW = datetime.datetime(2026, 1, 1, 12, 0, tzinfo=datetime.timezone.utc)
AUTO = Policy("when_off")


def node(name: str, silent: int | None = None, server: bool = False, fenced: bool = False, status: str = "Unknown") -> dict[str, t.Any]:
    """C(silent): for so many seconds."""
    since = (NOW - datetime.timedelta(seconds=silent or 0)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True" if silent is None else status, "lastTransitionTime": since}
    return {
        "metadata": {"name": name, "labels": {"node-role.kubernetes.io/control-plane": "true"} if server else {}},
        "spec": {"taints": [{"key": OUT_OF_SERVICE}] if fenced else []}, "status": {"conditions": [{"type": "MemoryPressure", "status": "Unknown"}, ready]},
    }


def cluster(*special: dict[str, t.Any], agents: int = 9) -> list[dict[str, t.Any]]:
    names = {entry["metadata"]["name"] for entry in special}
    rest = [node(f"control-plane-{number}", server=True) for number in (1, 2, 3)] + [node(f"agent-{number + 1}") for number in range(agents)]
    return [entry for entry in rest if entry["metadata"]["name"] not in names] + list(special)


def run(*special: dict[str, t.Any], policy: Policy = AUTO, agents: int = 9, hosts: dict[str, str] | None = None) -> tuple[str, dict[str, str]]:
    known = {f"agent-{number + 1}": f"agent-{number + 1}" for number in range(agents)} if hosts is None else hosts
    found = decide(cluster(*special, agents=agents), known, NOW, policy)
    return found.host, {entry["what"]: entry["text"] for entry in found.findings}


def test_an_agent_that_is_silent_long_enough_is_fenced() -> None:
    host, said = run(node("agent-3", 240))
    assert host == "agent-3" and said == {"agent-3": "is silent since 2026-01-01 11:56:00 UTC; is fenced when vCenter shows its VM as off"}
    host, said = run(node("agent-3", 240), policy=Policy("power_off"))
    assert host == "agent-3" and "its VM is powered off" in said["agent-3"]
    assert run() == ("", {})


@pytest.mark.parametrize(("special", "policy", "what", "why"), [
    ([node("agent-3", 240)], Policy(), "agent-3", "k3s_fence_auto is off"),
    ([node("agent-3", 100)], AUTO, "agent-3", "is silent for less than 180 s"),
    ([node("agent-3", 240)], Policy("when_off", after=600), "agent-3", "is silent for less than 600 s"),
    ([node("control-plane-2", 9000, server=True)], Policy("power_off"), "control-plane-2", "is a server: never fenced"),
    ([node(f"agent-{number}", 240) for number in (1, 2, 3, 4)], AUTO, "agent-1", "4 of 9 agents are silent, more than 34 %: that is rather the network"),
    ([node("agent-1", 240), node("agent-2", 240)], Policy("when_off", share=20), "agent-2", "2 of 9 agents are silent, more than 20 %"),
    # Also when the other one is back and Ready: somebody has to look and release it first.
    ([node("agent-3", 240), node("agent-4", fenced=True)], AUTO, "agent-3", "agent-4 is fenced and not released yet"),
    ([node("agent-3", 240), node("agent-4", 9000, fenced=True)], AUTO, "agent-3", "agent-4 is fenced and not released yet"),
    ([node("agent-4", 9000, fenced=True)], AUTO, "agent-4", "is fenced already"),
    ([node("stranger", 240)], AUTO, "stranger", "is no host of the group agent"),
])
def test_what_is_in_doubt_is_left_to_a_person(special: list[dict[str, t.Any]], policy: Policy, what: str, why: str) -> None:
    host, said = run(*special, policy=policy)
    assert host == "" and why in said[what], said


def test_the_one_that_is_away_longest_comes_first_and_alone() -> None:
    host, said = run(node("agent-2", 240), node("agent-7", 900))
    assert host == "agent-7" and "agent-7 is fenced first, one at a time" in said["agent-2"]


def test_a_kubelet_that_says_itself_that_it_is_not_ready_still_writes() -> None:
    assert run(node("agent-3", 9000, status="False")) == ("", {})


def test_the_inventory_may_call_it_otherwise() -> None:
    host, said = run(node("agent-3", 240), hosts={"agent-3": "vm-0815"})
    found = decide(cluster(node("agent-3", 240)), {"agent-3": "vm-0815"}, NOW, Policy())
    assert host == "vm-0815" and found.findings[0]["next"] == "ansible-playbook cht.k3s.fence_node -e k3s_fence=vm-0815"


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 9999)), st.booleans()), min_size=1, max_size=12), st.lists(st.integers(0, 9999), max_size=3),
    st.sampled_from(["off", "when_off", "power_off"]), st.integers(0, 100),
)
def test_whatever_is_silent_no_rule_is_broken(agents: list[tuple[int | None, bool]], servers: list[int], auto: str, share: int) -> None:
    nodes = [node(f"agent-{number}", silent, fenced=fenced) for number, (silent, fenced) in enumerate(agents)]
    nodes += [node(f"server-{number}", silent, server=True) for number, silent in enumerate(servers)]
    found = decide(nodes, {entry["metadata"]["name"]: entry["metadata"]["name"] for entry in nodes}, NOW, Policy(auto, 180, share))
    silent = [number for number, (seconds, fenced) in enumerate(agents) if seconds is not None]
    assert len(found.findings) == len(silent) + len(servers), "each silent node is spoken of"
    assert all(entry["next"] for entry in found.findings)
    if found.node:
        seconds, fenced = agents[int(found.node.removeprefix("agent-"))]
        assert auto != "off" and seconds is not None and seconds >= 180 and not fenced
        assert not any(fenced for dummy, fenced in agents) and len(silent) * 100 <= len(agents) * share


@pytest.mark.parametrize(("text", "meant"), [("off", "off"), ("False", "off"), ("", "off"), ("when_off", "when_off"), ("Power_off", "power_off")])
def test_what_is_permitted_is_read_as_people_write_it(text: str, meant: str) -> None:
    assert permission(text) == meant
    with pytest.raises(ValueError, match="may be off, when_off or power_off"):
        permission("true")


def test_the_playbook_acts_on_agents_alone_and_as_a_person_does() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/watch.yml").read_text(encoding="utf-8"))
    (acting,) = [play for play in plays if play.get("become")]
    assert acting["hosts"] == "agent"
    (block,) = acting["tasks"]
    assert block["when"] == "inventory_hostname == k3s_fence"
    assert block["block"][0]["ansible.builtin.include_role"] == {"name": "cht.k3s.k3s", "tasks_from": "fence"}
    defaults = yaml.safe_load((ROOT / "roles/k3s/defaults/main.yml").read_text(encoding="utf-8"))
    assert defaults["k3s_fence_auto"] == "off", "without a word nothing is done"
