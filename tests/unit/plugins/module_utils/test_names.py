# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that people give, and where each of them is looked at."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.names import unknown

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(("names", "found"), [
    ([], []), ("", []), (None, []), (["nairobi"], []), ("nairobi, kisumu", []),
    ("nairobbi", ["v: 'nairobbi' is not known; did you mean 'nairobi'?"]),
    (["x", "kisumu"], ["v: 'x' is not known; known are: kisumu, nairobi"]),
])
def test_unknown_names(names: t.Any, found: list[str]) -> None:
    assert unknown({"v": names}, ["nairobi", "kisumu"]) == found


@pytest.mark.parametrize(("place", "variables"), [
    ("roles/cht_project/tasks/names.yml", ["cht_project_canary", "cht_project_downgrade", "cht_project_change_password", "cht_project_unstaged"]),
    ("playbooks/fence_node.yml", ["k3s_fence"]), ("playbooks/remove_node.yml", ["k3s_remove"]),
])
def test_where_names_are_compared(place: str, variables: list[str]) -> None:
    text = (ROOT / place).read_text()
    assert "cht.k3s.unknown_names" in text and all(f"'{name}': {name}" in text for name in variables)
