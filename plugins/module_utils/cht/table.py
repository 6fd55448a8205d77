# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table that a run ends with: one row for each county."""

from __future__ import annotations

import typing as t

# In the order in which they are listed: what needs somebody's eye comes first.
STATES = ("failed", "waiting", "changed", "unchanged")
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
