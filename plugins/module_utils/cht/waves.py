# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order running counties are changed, and when to stop."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

Row = dict[str, t.Any]


@dataclass(frozen=True)
class Policy:
    """How careful a rollout is."""

    size: int
    max_failures: int
    canary: tuple[str, ...] = ()


@dataclass
class Rollout:
    """The way through the held counties, wave by wave.

    Nothing of it is kept between runs: what was done is unchanged in the next one, and what was not is held again. Counties that
    already run a held county's version and are not ready are counted as failures of an earlier run, so that running again and again
    can't break one wave after the other.
    """

    rows: list[Row]
    held: list[str]
    policy: Policy
    failures: list[str] = field(default_factory=list)
    stopped: str = ""

    def __post_init__(self) -> None:
        by_name = {row["name"]: row for row in self.rows}
        # Those that an outage stopped come last: whether a new version is well is not seen at a county whose agent is lost.
        down = [name for name in self.held if by_name[name]["ready"] < by_name[name]["total"]]
        self.held = [name for name in self.held if name not in down] + down
        canary = [name for name in self.held if name in self.policy.canary] or self.held[:1]
        rest = [name for name in self.held if name not in canary]
        size = max(1, self.policy.size)
        self.waves = [wave for wave in (canary, *(rest[start : start + size] for start in range(0, len(rest), size))) if wave]
        self.total = len(self.waves)
        versions = {by_name[name]["version"] for name in self.held}
        self.failures = [
            row["name"] for row in self.rows
            if row["name"] not in self.held and row["state"] == "unchanged" and row["ready"] < row["total"] and row["version"] in versions
        ]
        self._judge()

    @property
    def canaries_there(self) -> list[str]:
        """Named canaries that have nothing to change any more: they must be well before others follow."""
        return [row["name"] for row in self.rows if row["name"] in self.policy.canary and row["name"] not in self.held and row["state"] != "failed"]

    def next(self) -> tuple[str, list[str]] | None:
        """The next wave with its title, or None at the end."""
        if self.stopped or not self.waves:
            return None
        number = self.total - len(self.waves) + 1
        return f"wave {number} of {self.total}{' (canary)' if number == 1 else ''}", self.waves[0]

    def finish(self, unwell: dict[str, str]) -> None:
        """Tell how the present wave ended: which of its counties are not well, and why."""
        first = len(self.waves) == self.total
        self.waves.pop(0)
        self.failures += list(unwell)
        if first and unwell:
            name, why = next(iter(unwell.items()))
            self.stop(f"the canary {name} is not well: {why}")
        self._judge()

    def stop(self, why: str) -> None:
        """End the rollout; the first reason counts."""
        self.stopped = self.stopped or why

    def _judge(self) -> None:
        if self.waves and len(self.failures) > self.policy.max_failures:
            self.stop(f"{len(self.failures)} counties with the new state are not well ({', '.join(self.failures)})")

    def left(self) -> list[str]:
        """Counties whose wave did not come."""
        return [name for wave in self.waves for name in wave]


def merge(rows: list[Row], new: list[Row]) -> list[Row]:
    """Put the rows of a wave in the place of those of the first pass."""
    by_name = {row["name"]: row for row in new}
    return [by_name.get(row["name"], row) for row in rows]


def hold_back(rows: list[Row], names: list[str], why: str) -> list[Row]:
    """Say of counties whose wave did not come why."""
    return [{**row, "state": "waiting", "remark": f"not rolled out: {why}"} if row["name"] in names else row for row in rows]
