# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/run.py: what becomes of a scenario that takes too long."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[1] / "run.py"
SLOW = """
import pathlib, time
import pytest

@pytest.fixture
def lab():
    yield
    pathlib.Path("away").touch()

def test_slow(lab):
    pathlib.Path("up").touch()
    time.sleep(300)
"""


def test_a_scenario_that_takes_too_long_fails_and_takes_its_lab_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("scenarios", RUN)
    scenarios = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "scenarios", scenarios)
    spec.loader.exec_module(scenarios)
    monkeypatch.setattr(scenarios, "OUTPUT", tmp_path)
    (tmp_path / "test_slow.py").write_text(SLOW)
    command = ("pytest", "-q", "-p", "no:xdist", "--rootdir", str(tmp_path), "test_slow.py")
    outcome = scenarios.run(scenarios.Scenario("slow", "", command, limit=20, cwd=tmp_path, beside=1), quiet=True)
    assert (tmp_path / "up").exists(), "the machine is too slow for this test's limit"
    assert outcome.result == "failed" and outcome.failed and (tmp_path / "away").exists() and outcome.seconds < 140, "ended by Ctrl-C, not killed after it"
