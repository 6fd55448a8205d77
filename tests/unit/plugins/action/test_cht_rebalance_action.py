# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of a rebalance tells in check mode what the run would do."""

from __future__ import annotations

import typing as t
from unittest import mock

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.action.cht_rebalance import ActionModule

MOVE = {"county": "nairobi", "namespace": "nairobi", "from": "agent-1", "to": "agent-2", "why": "why"}


def act(monkeypatch: pytest.MonkeyPatch, check_mode: bool, **plan: t.Any) -> tuple[dict[str, t.Any], list[str]]:
    """Run the action with a plan; return its result and the modules that it called."""
    monkeypatch.setattr(ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
    called: list[str] = []

    def execute(self: ActionModule, module_name: str, **dummy: t.Any) -> dict[str, t.Any]:
        called.append(module_name)
        found = {"changed": False, "moves": [MOVE], "blocked": "", "stale": [], "table": [], **plan}
        return found if module_name == "cht.k3s.cht_rebalance" else {"changed": True, "seconds": 1.0}

    monkeypatch.setattr(ActionModule, "_execute_module", execute)
    task = mock.Mock(args={"move": True}, check_mode=check_mode)
    action = ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    action._display = mock.Mock()
    return action.run(task_vars={}), called


@pytest.mark.parametrize("check_mode", [False, True])
def test_what_is_blocked_fails_in_check_mode_too(monkeypatch: pytest.MonkeyPatch, check_mode: bool) -> None:
    result, called = act(monkeypatch, check_mode, blocked="kisumu is not well")
    assert result["failed"] and result["msg"] == "Nothing was moved: kisumu is not well." and not result["changed"]
    assert called == ["cht.k3s.cht_rebalance"]


def test_check_mode_moves_nothing_and_says_that_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    result, called = act(monkeypatch, True)
    assert result["changed"] and result["moved"] == [] and called == ["cht.k3s.cht_rebalance"]
    result, called = act(monkeypatch, True, moves=[])
    assert not result["changed"]
    result, called = act(monkeypatch, False)
    assert result["changed"] and result["moved"] == ["nairobi"] and called[1:] == ["cht.k3s.cht_project_move"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_note_that_is_taken_away_is_a_change(monkeypatch: pytest.MonkeyPatch, check_mode: bool) -> None:
    assert act(monkeypatch, check_mode, moves=[], stale=["nairobi"], changed=True)[0]["changed"]
