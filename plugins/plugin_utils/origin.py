# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a value was written: Ansible keeps it with what it reads from YAML, each release in its own way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # before ansible-core 2.19
    Origin = None

_TOKEN = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_.]*[A-Za-z0-9_])?")


def place_of(value: Any) -> str:
    """FILE:LINE:COLUMN, as editors take it; empty where nobody knows."""
    if value is None:
        return ""
    found = value if hasattr(value, "line_num") else Origin.get_tag(value) if Origin is not None else None
    if found is not None:
        path, line, column = getattr(found, "path", None), getattr(found, "line_num", None), getattr(found, "col_num", None)
    else:
        path, line, column = getattr(value, "ansible_pos", (None, None, None))
    return ":".join(str(part) for part in (path, line, column) if part) if path else ""


def place_in(entry: Any, text: str) -> str:
    """The place of what a message about a mapping speaks of, by the keys that it names; else where the mapping begins."""
    if not isinstance(entry, Mapping):
        return place_of(entry)
    for token in _TOKEN.findall(text):
        place, inner = "", entry
        for part in token.split("."):
            key = next((key for key in inner if str(key) == part), None) if isinstance(inner, Mapping) else None
            if key is None:
                # The deepest key that is there: what is missing belongs below it.
                break
            place, inner = place_of(key) or place, inner[key]
        if place:
            return place
    return next((place for place in map(place_of, entry) if place), "")
