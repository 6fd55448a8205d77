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


def word(value) -> str:
    """A value of a variable as a text of its own, as YAML and Kubernetes write it: true and not True, and nothing for null."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


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


def load(text: str):
    """What a file of block maps and lists says, scalars as strings; ValueError for any other YAML (flow maps, anchors, texts of several lines)."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#") and line.strip() != "---"]
    value, rest = _block(lines, 0)
    if rest:
        raise ValueError(f"no part of a block: {rest[0]!r}")
    return value


def _block(lines: list, indent: int) -> tuple:
    """(the map or list whose lines have this indent, the lines after it)."""
    found: dict = {}
    items: list = []
    while lines and _indent(lines[0]) >= indent:
        line, rest = lines[0].strip(), lines[1:]
        match = _PAIR.match(line)
        if _indent(lines[0]) != indent:
            raise ValueError(f"not indented like its neighbours: {line!r}")
        is_item = line == "-" or line.startswith("- ")
        if items and not is_item:
            # A list may stand as deep as its key; then the next key ends it.
            break
        if is_item:
            # An item is a block of its own, which begins after the dash.
            inner = line[1:].strip()
            if inner and not _is_pair(inner):
                items.append(_plain(inner))
                lines = rest
                continue
            deeper = indent + len(line) - len(inner) if inner else _indent(rest[0]) if rest else indent
            value, lines = _block(([" " * deeper + inner] if inner else []) + rest, deeper)
            items.append(value)
        elif match:
            key, text = str(match.group("key")).strip("\"'"), (match.group("value") or "").partition("#")[0] and match.group("value")
            lines = rest
            if text:
                found[key] = _plain(text)
            elif rest and (_indent(rest[0]) > indent or _indent(rest[0]) == indent and re.match(r"\s*-(\s|\Z)", rest[0])):
                found[key], lines = _block(rest, _indent(rest[0]))
            else:
                found[key] = ""
        else:
            raise ValueError(f"neither a key nor an item: {line!r}")
        if found and items:
            raise ValueError(f"a key among items: {line!r}")
    return items or found, lines


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _is_pair(text: str) -> bool:
    return bool(_PAIR.match(text)) and not text.startswith(("[", "{"))


def _plain(text: str):
    """A scalar, or a list in brackets."""
    text = _COMMENT.sub(r"\1", text).strip()
    if text in ("{}", "[]"):
        return {} if text == "{}" else []
    if text.startswith("[") and text.endswith("]") and not re.search(r"[\"'{}]", text):
        return [part.strip() for part in text[1:-1].split(",") if part.strip()]
    if text[:1] in "{[&*!|>%@`":
        raise ValueError(f"not read here: {text!r}")
    return top_level(f"x: {text}").get("x", text)


_PAIR = re.compile(r"""(?P<key>"[^"]*"|'[^']*'|[^\s"'\[{#&*!|>%@`-][^#]*?)\s*:(?:\s+(?P<value>.*))?\Z""")
# A scalar, in quotes or not, and the comment after it.
_COMMENT = re.compile(r"""\A("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^"'].*?)\s+#.*\Z""")
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
        value = _COMMENT.sub(r"\1", (match.group("value") or "").strip())
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
