"""The table of complaints in docs/k3s.md names tests that exist."""
from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "k3s.md").read_text(encoding="utf-8")


def test_every_named_test_exists() -> None:
    defined = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        defined |= set(re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert named and not named - defined


def test_every_complaint_has_a_row_with_a_test() -> None:
    rows = re.findall(r"^\| (\d+)\. .*\|(.*)\|$", TEXT, re.MULTILINE)
    assert [int(number) for number, dummy in rows] == list(range(1, 16))
    assert all("`test_" in tests for dummy, tests in rows)
