# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings for people and for machines."""
from __future__ import annotations

import html
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

Finding = Mapping[str, Any]

_WIDTH = 110
_MANY = 6


def label(finding: Finding) -> str:
    """How bad it is, in one word."""
    return "accepted" if finding["accepted"] else str(finding["severity"])


def grouped(findings: Sequence[Finding]) -> list[tuple[Finding, list[str]]]:
    """The same thing on many hosts is one entry: 200 findings must still be readable."""
    groups: dict[tuple[str, ...], tuple[Finding, list[str]]] = {}
    for finding in findings:
        key = (label(finding), finding["id"], finding["message"], finding["remedy"])
        groups.setdefault(key, (finding, []))[1].append(str(finding["object"]))
    return list(groups.values())


def headline(counts: Mapping[str, int], hosts: int) -> str:
    """The result in one line."""
    parts = [
        f"{counts[key]} {name}{'' if counts[key] == 1 else 's'}"
        for key, name in (("error", "error"), ("warning", "warning"))
    ]
    parts.append(f"{counts['accepted']} accepted")
    return f"Preflight of {hosts} host{'' if hosts == 1 else 's'}: {', '.join(parts)}"


def _objects(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MANY])
    return shown if len(names) <= _MANY else f"{shown} and {len(names) - _MANY} more"


def table(findings: Sequence[Finding], counts: Mapping[str, int], hosts: int) -> list[str]:
    """Lines of text."""
    lines = [headline(counts, hosts)]
    for finding, names in grouped(findings):
        lines.append("")
        lines.append(f"{label(finding).upper():9} {finding['id']}  {_objects(names)}")
        lines += textwrap.wrap(finding["message"], _WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10)
        advice = finding["remedy"]
        if finding["playbook"]:
            advice += f" The playbook {finding['playbook']} does this."
        lines += textwrap.wrap(f"-> {advice}", _WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 13)
    return lines


def failure(findings: Sequence[Finding], counts: Mapping[str, int]) -> str:
    """The one sentence that a failed run ends with."""
    ids: dict[str, set[str]] = {}
    for finding in findings:
        if label(finding) == "error":
            ids.setdefault(finding["id"], set()).add(finding["object"])
    listed = ", ".join(f"{check} ({_objects(sorted(names))})" for check, names in ids.items())
    count = counts["error"]
    return (
        f"The preflight found {count} error{'' if count == 1 else 's'}; nothing was changed: {listed}. "
        "Correct them as the table above says, or accept one knowingly by its id in preflight_accept."
    )


def as_json(findings: Sequence[Finding], counts: Mapping[str, int], facts: Mapping[str, Any]) -> str:
    """For machines."""
    return json.dumps({**facts, "counts": counts, "findings": list(findings)}, indent=2, ensure_ascii=False) + "\n"


_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.5rem .6rem;border-bottom:1px solid #8886}
.error{color:#c62828;font-weight:600}.warning{color:#b26a00;font-weight:600}.accepted{color:#607d8b}
code{font-size:.9em}small{color:#777}
"""


def as_html(findings: Sequence[Finding], counts: Mapping[str, int], facts: Mapping[str, Any]) -> str:
    """One page that needs nothing else, to be mailed or kept."""
    hosts = int(facts.get("hosts", 0))
    rows = "\n".join(_row(finding, names) for finding, names in grouped(findings))
    body = (
        f"<table><thead><tr><th>Severity</th><th>Check</th><th>Where</th><th>Found</th><th>What to do</th></tr></thead>"
        f"<tbody>\n{rows}\n</tbody></table>"
        if rows
        else "<p>Nothing was found: every check passed.</p>"
    )
    details = " &middot; ".join(f"{html.escape(key)}: {html.escape(str(value))}" for key, value in facts.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Preflight</title><style>{_STYLE}</style></head>\n<body><h1>{html.escape(headline(counts, hosts))}</h1>"
        f"<p><small>{details}</small></p>\n{body}\n</body></html>\n"
    )


def _row(finding: Finding, names: Sequence[str]) -> str:
    kind = label(finding)
    playbook = f"<br>Playbook <code>{html.escape(finding['playbook'])}</code>" if finding["playbook"] else ""
    return (
        f'<tr><td class="{kind}">{kind}</td><td><code>{html.escape(finding["id"])}</code></td>'
        f"<td>{html.escape(', '.join(names))}</td><td>{html.escape(finding['message'])}</td>"
        f"<td>{html.escape(finding['remedy'])}{playbook}</td></tr>"
    )
