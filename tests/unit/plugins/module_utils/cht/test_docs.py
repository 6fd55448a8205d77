# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/counties.md has every key that a county may have, with its default.

Run this file as a program to write the table anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import SCHEMA, Option

PAGE = Path(__file__).resolve().parents[5] / "docs" / "counties.md"
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->"


def keys(schema: dict[str, Option], prefix: str = "") -> Iterator[tuple[str, Option]]:
    for name, option in schema.items():
        if option.options:
            yield from keys(option.options, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", option


def shown(option: Option) -> str:
    if option.required:
        return "required"
    if option.default in (None, "", [], {}):
        return ""
    if isinstance(option.default, dict):
        return ", ".join(f"`{key}: {value}`" for key, value in option.default.items())
    return f"`{str(option.default).lower() if isinstance(option.default, bool) else option.default}`"


def table() -> str:
    lines = ["| key | default | |", "|---|---|---|"]
    for name, option in keys(SCHEMA):
        text = re.sub(r"[CV]\(((?:[^()]|\([^()]*\))*)\)", r"`\1`", option.help)
        if option.choices and not all(choice in text for choice in option.choices):
            text += " One of " + ", ".join(f"`{choice}`" for choice in option.choices) + "."
        lines.append(f"| `{name}` | {shown(option)} | {text} |")
    return "\n".join(lines) + "\n"


def test_the_page_has_every_key_as_the_schema_has_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.split(BEGIN)[1].split(END)[0] == table(), f"run python {__file__} to write the table anew"


if __name__ == "__main__":
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1], encoding="utf-8")
