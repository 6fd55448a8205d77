# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that people give: known, or told with the nearest one."""

from __future__ import annotations

import difflib
import typing as t

_MOST = 30


def did_you_mean(name: str, known: t.Iterable[str]) -> str:
    """Return which known name somebody meant, or what the known ones are."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(choices[:_MOST]) or 'none'}{' and more' if len(choices) > _MOST else ''}"


def unknown(given: dict[str, t.Any], known: t.Iterable[str]) -> list[str]:
    """Return a message for each name that is not known; C(given) are names, or texts of them with commas, by the variable that has them."""
    choices = set(known)
    return [
        f"{variable}: '{name}' is not known; {did_you_mean(name, choices)}"
        for variable, names in given.items()
        for name in ([item.strip() for item in names.split(",")] if isinstance(names, str) else map(str, names or []))
        if name and name not in choices
    ]
