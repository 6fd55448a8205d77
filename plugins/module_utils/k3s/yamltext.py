# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the YAML that k3s reads, and read back single keys of it, without a YAML library.

Nodes have Python's standard library only. What is written is a subset that every YAML parser reads alike.
"""

from __future__ import annotations

import json
import re

# Words a YAML 1.1 parser would not take as strings.
_SPECIAL = {"", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*(?:[=:][A-Za-z0-9_./@+%-]+)*\Z")


def scalar(value) -> str:
    """One value as YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return str(value)
    text = str(value)
    if text.lower() not in _SPECIAL and _PLAIN.match(text):
        return text
    # A JSON string is a YAML double-quoted scalar, but for characters that JSON writes as two halves.
    return "".join(json.dumps(part)[1:-1] if ord(part) < 0x10000 else f"\\U{ord(part):08x}" for part in text).join('""')


def dump(value, indent: int = 0) -> str:
    """Nested dicts and lists as block YAML, in the given order of the keys."""
    pad = "  " * indent
    lines = []
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append(f"{pad}{scalar(key)}:")
                lines.append(dump(item, indent + 1).rstrip("\n"))
            else:
                lines.append(f"{pad}{scalar(key)}: {_empty(item)}")
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)) and item:
                nested = dump(item, indent + 1).rstrip("\n")
                lines.append(f"{pad}- {nested[len(pad) + 2:]}")
            else:
                lines.append(f"{pad}- {_empty(item)}")
    else:
        lines.append(f"{pad}{scalar(value)}")
    return "\n".join(lines) + "\n"


def _empty(value) -> str:
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    return scalar(value)


_TOP_LEVEL = re.compile(r"""(?P<key>[A-Za-z0-9_.-]+|"[^"]*"|'[^']*')\s*:(?:\s+(?P<value>.*?))?\s*\Z""")


def items(text: str | None, key: str) -> list:
    """The strings under a top-level key: one for a scalar, several for a list in either form or with commas; [] when it is not there."""
    found: list = []
    inside = False
    for line in (text or "").splitlines():
        item = re.match(r"\s*-\s+(?P<item>.+)\Z", line)
        if item and inside:
            found.append(top_level(f"x: {item.group('item')}").get("x", ""))
        elif _TOP_LEVEL.match(line):
            pairs = top_level(line)
            inside = key in pairs
            if inside:
                found = [top_level(f"x: {part.strip()}").get("x", "") for part in pairs[key].strip("[]").split(",")]
    return [part for value in found for part in value.split(",") if part]


def top_level(text: str | None) -> dict:
    """The top-level scalars of a YAML file as strings (lists and maps as ''): enough to see what a node was told to be."""
    found = {}
    for line in (text or "").splitlines():
        match = _TOP_LEVEL.match(line)
        if not match:
            continue
        value = (match.group("value") or "").strip()
        if value.startswith('"') and value.endswith('"') and len(value) > 1:
            try:
                value = json.loads(value)
            except ValueError:
                value = value[1:-1]
        elif value.startswith("'") and value.endswith("'") and len(value) > 1:
            value = value[1:-1].replace("''", "'")
        else:
            value = value.split(" #", 1)[0].strip()
        found[match.group("key").strip("\"'")] = value
    return found
