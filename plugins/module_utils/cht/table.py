# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table that a run ends with: one row for each county."""

from __future__ import annotations

import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import UPGRADING

# In the order in which they are listed: what needs somebody's eye comes first.
STATES = ("failed", "waiting", "upgrading", "changed", "unchanged")
_COLUMNS = ("county", "state", "version", "host", "remark")


def table(rows: list[dict[str, t.Any]]) -> list[str]:
    """Return the lines of the table, unhealthy counties first, and a line that counts them."""
    if not rows:
        return ["no counties"]
    ordered = sorted(rows, key=lambda row: (STATES.index(row["state"]), row["name"]))
    cells = [[column.upper() for column in _COLUMNS]]
    for row in ordered:
        cells.append([row["name"], row["state"], row["version"], row["host"], row.get("remark") or ""])
    widths = [max(len(line[index]) for line in cells) for index in range(len(_COLUMNS) - 1)]
    lines = ["  ".join([text.ljust(width) for text, width in zip(line, widths)] + line[-1:]).rstrip() for line in cells]
    counts = {state: sum(1 for row in rows if row["state"] == state) for state in STATES}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return [*lines, f"{len(rows)} {'county' if len(rows) == 1 else 'counties'}: {summary}"]


def final_rows(applied: list[dict[str, t.Any]], waited: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """Return the rows of the last table: what applying said, and what waiting added to it."""
    progress = {entry["name"]: entry for entry in waited}
    rows = []
    for row in applied:
        found = progress.get(row["name"])
        if found and found["obstacle"] and row["state"] != "failed":
            upgrading = found.get("upgrading")
            text = found["obstacle"].removeprefix(UPGRADING) if upgrading else f"{found['ready']} of {found['total']} Deployments ready; {found['obstacle']}"
            row = {**row, "state": "upgrading" if upgrading else "waiting", "remark": text}
        rows.append(row)
    return rows


def progress_line(counties: list[dict[str, t.Any]], waiting: list[str]) -> str:
    """Return one line for people who watch: how many are ready, and what the next one waits for."""
    done = len(counties) - len(waiting)
    first = next((entry for entry in counties if entry["name"] in waiting), None)
    obstacle = f"; {first['name']} ({first['ready']}/{first['total']}): {first['obstacle']}" if first else ""
    return f"counties ready: {done} of {len(counties)}{obstacle}"
