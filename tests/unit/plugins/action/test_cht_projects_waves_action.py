# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waves of counties whose next version takes hours to index, with a clock of their own."""

from __future__ import annotations

import typing as t
from unittest import mock

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.action.cht_projects_waves import ActionModule
from ansible_collections.cht.k3s.plugins.plugin_utils import wait

Row = dict[str, t.Any]
HOUR = 3600.0


class World:
    """Counties whose views take `hours`; those of `gone` have no builds server, and those of `slow` index after the restart."""

    def __init__(self, hours: float, gone: tuple[str, ...] = (), slow: tuple[str, ...] = ()) -> None:
        self.now = 0.0
        self.hours = hours
        self.gone = gone
        self.slow = slow
        self.begun: dict[str, float] = {}
        self.restarted: dict[str, float] = {}
        self.lines: list[str] = []
        self.met: list[str] = []
        self.closed: tuple[str, ...] = ()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def execute(self, module_name: str, module_args: Row, **dummy: t.Any) -> Row:
        return {"stage": self.stage, "wait": self.wait, "projects": self.apply, "smoke": self.smoke}[module_name.rpartition("_")[2]](module_args)

    def share(self, begun: float) -> float:
        return min(1.0, (self.now - begun) / (self.hours * HOUR))

    def stage(self, args: Row) -> Row:
        for name in args["begin"]:
            self.begun.setdefault(name, self.now)
        self.now += max(args["timeout"], 1)
        rows = []
        for entry in args["counties"]:
            share = self.share(self.begun[entry["name"]])
            state = "ended" if entry["name"] in self.gone else "staged" if share >= 1 else "staging"
            rows.append({"name": entry["name"], "state": state, "text": f"indexing {share:.0%}"})
        return {"counties": rows, "waiting": [row["name"] for row in rows if row["state"] == "staging"]}

    def apply(self, args: Row) -> Row:
        self.now += 60
        self.restarted.update(dict.fromkeys(args["only"], self.now))
        return {"changed": True, "counties": [row(name, "changed") for name in args["only"]]}

    def smoke(self, args: Row) -> Row:
        self.met += args["only"]
        return {"counties": [{"name": name, "problem": "users get 404" if name in self.closed else "", "untested": ""} for name in args["only"]]}

    def wait(self, args: Row) -> Row:
        self.now += max(args["timeout"], 1)
        rows = []
        for entry in args["counties"]:
            busy = entry["name"] in self.slow and self.share(self.restarted[entry["name"]]) < 1
            text = f"upgrading: Indexing {self.share(self.restarted[entry['name']]):.0%}; users see it" if busy else ""
            rows.append({"name": entry["name"], "ready": 8, "total": 8, "obstacle": text, "upgrading": busy})
        return {"counties": rows, "waiting": [row["name"] for row in rows if row["obstacle"]]}


def row(name: str, state: str = "waiting") -> Row:
    return {"name": name, "namespace": name, "version": "4.22.0", "upgrade_from": "4.21.0", "stage": True, "state": state, "ready": 8, "total": 8, "remark": ""}


def roll(monkeypatch: pytest.MonkeyPatch, world: World, names: list[str], **args: t.Any) -> Row:
    monkeypatch.setattr(ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
    monkeypatch.setattr(ActionModule, "_execute_module", lambda self, **call: world.execute(**call))
    monkeypatch.setattr(wait, "time", world)
    applied = {"counties": [row(name) for name in names], "held": names, "waiting": []}
    task = mock.Mock(args={"applied": applied, "apply": {"kubeconfig": "/k"}, "report_every": 300, **args}, check_mode=False)
    action = ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    action._display = mock.Mock(display=world.lines.append)
    return action.run(task_vars={})


NAMES = [f"county-{number:02d}" for number in range(12)]


def test_twelve_counties_of_two_hours_each(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(2)
    result = roll(monkeypatch, world, NAMES)
    assert result["stopped"] == "" and result["waited"]["waiting"] == [] and result["applied"]["held"] == []
    # A canary and three waves of up to five, each of which indexes for two hours with its users at work.
    assert [line for line in world.lines if line.startswith("wave")] == [
        "wave 1 of 4 (canary): county-00", f"wave 2 of 4: {', '.join(NAMES[1:6])}", f"wave 3 of 4: {', '.join(NAMES[6:11])}", "wave 4 of 4: county-11",
    ]
    assert 8 * HOUR <= world.now < 9.5 * HOUR
    assert all(world.restarted[name] - world.begun[name] >= 2 * HOUR for name in NAMES)
    assert any("county-01 indexing 50%" in line for line in world.lines)


def test_a_county_that_can_t_be_staged_is_not_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0.1, gone=("county-01",))
    result = roll(monkeypatch, world, NAMES[:3])
    assert sorted(world.restarted) == ["county-00", "county-02"] and not result["stopped"]
    rows = {entry["name"]: entry for entry in result["applied"]["counties"]}
    assert rows["county-01"]["state"] == "failed" and "API gave up 4 times" in rows["county-01"]["remark"]
    assert "cht_project_unstaged" in rows["county-01"]["remark"]


def test_a_canary_that_can_t_be_staged_stops_the_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0.1, gone=("county-00",))
    assert "the canary county-00 is not well: can't be staged" in roll(monkeypatch, world, NAMES[:3])["stopped"]
    assert not world.restarted


def test_indexing_after_the_restart_is_not_counted_as_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(2, slow=("county-00",))
    result = roll(monkeypatch, world, NAMES[:2])
    assert not result["stopped"] and result["waited"]["waiting"] == [] and any("upgrading: Indexing 50%" in line for line in world.lines)


def test_what_users_meet_after_an_upgrade_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(0.1)
    world.closed = ("county-00",)
    result = roll(monkeypatch, world, NAMES[:2])
    assert world.met == ["county-00"] and "the canary county-00 is not well: smoke test: users get 404" in result["stopped"]
    assert result["waited"]["waiting"] == ["county-00"]
    quiet = World(0.1)
    roll(monkeypatch, quiet, NAMES[:1], health=False)
    assert quiet.met == []


def test_staging_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(1000)
    result = roll(monkeypatch, world, NAMES[:1], stage_timeout=7200)
    assert "is not done in 7200 s (indexing 0%); the next run goes on" in result["stopped"] and not world.restarted
