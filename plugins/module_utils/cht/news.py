# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a report is to be told to somebody who is not looking: only what changed since it was told last, in the shapes that receivers take."""

from __future__ import annotations

import re
import typing as t
from urllib.parse import urlsplit

Object = dict[str, t.Any]

# Receivers cut a long text, some in the middle of a line.
_MOST = 20
# What a receiver answers when it took what was sent.
TAKEN = (200, 201, 202, 204)
_COLORS = {"bad": "Attention", "warning": "Warning"}
KINDS = ("slack", "teams", "ntfy", "json")


def key(problem: Object) -> str:
    """What makes a problem the same one tomorrow: not its numbers, which change from hour to hour."""
    what = problem["what"] if problem["what"] != "counties" else f"counties {problem['text']}"
    return f"{problem['level']} {what}: {re.sub(r'[0-9]+([.][0-9]+)?', '#', problem['text'])}"


def news(report: Object, told: t.Sequence[str] | None) -> Object:
    """What is new and what is gone against the keys that were told last; C(told) is None before the first time."""
    problems = {key(entry): entry for entry in report["problems"]}
    new = [entry for name, entry in problems.items() if name not in (told or [])]
    gone = [name for name in told or [] if name not in problems]
    # The first report of a cluster that is well is no news.
    found = {"changed": bool(new or gone), "new": new, "gone": gone, "told": sorted(problems), "level": _level(report["problems"])}
    return {**found, "subject": _subject(report, new, gone), "text": _text(report, new, gone)}


def _level(problems: list[Object]) -> str:
    levels = {entry["level"] for entry in problems}
    return "bad" if "bad" in levels else "warning" if levels else "good"


def _subject(report: Object, new: list[Object], gone: list[str]) -> str:
    if not report["problems"]:
        return f"{report['cluster']}: all is well again" if gone else f"{report['cluster']}: all is well"
    red = sum(entry["level"] == "bad" for entry in report["problems"])
    return f"{report['cluster']}: {len(new)} new, {len(gone)} gone; {red} red and {len(report['problems']) - red} yellow in all"


def _text(report: Object, new: list[Object], gone: list[str]) -> str:
    lines = []
    for entry in new[:_MOST]:
        lines.append(f"{'RED' if entry['level'] == 'bad' else 'YELLOW'} {entry['what']}: {entry['text']}")
        if entry.get("next"):
            lines.append(f"    next: {entry['next']}")
    lines += [f"... and {len(new) - _MOST} more"] if len(new) > _MOST else []
    lines += [f"GONE {name.split(' ', 1)[1]}" for name in gone[:_MOST]]
    lines += [f"... and {len(gone) - _MOST} more are gone"] if len(gone) > _MOST else []
    still = len(report["problems"]) - len(new)
    lines += [f"{still} that {'was' if still == 1 else 'were'} told before {'is' if still == 1 else 'are'} still there."] if still else []
    return "\n".join([*lines, f"Report of {report['cluster']}, {report['time']}."])


def payload(kind: str, told: Object, topic: str = "") -> Object:
    """The body of the request that a receiver takes."""
    if kind == "slack":
        return {"text": f"*{told['subject']}*\n```{told['text']}```"}
    if kind == "teams":
        blocks = [
            {"type": "TextBlock", "text": told["subject"], "weight": "Bolder", "wrap": True, "color": _COLORS.get(told["level"], "Good")},
            {"type": "TextBlock", "text": told["text"].replace("\n", "\n\n"), "wrap": True, "fontType": "Monospace"},
        ]
        card = {"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": blocks}
        return {"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}]}
    if kind == "ntfy":
        return {
            "topic": topic, "title": told["subject"], "message": told["text"], "priority": {"bad": 5, "warning": 3}.get(told["level"], 2),
            "tags": [{"bad": "rotating_light", "warning": "warning"}.get(told["level"], "white_check_mark")],
        }
    if kind == "json":
        return dict(told)
    raise ValueError(f"kind is {kind!r}, and may be {', '.join(KINDS)}")


def delivery(hooked: t.Sequence[Object], mailed: Object) -> Object:
    """Who has it and who has not, from the results of the requests and of the mail. An address may be a secret, so the host alone is named."""
    heard, deaf = [], []
    for result in hooked:
        item = result.get("item") or {}
        url = str(item.get("url") or "")
        who = f"{item.get('kind') or 'json'} at {urlsplit(url).hostname or '?'}"
        if result.get("status") in TAKEN:
            heard.append(who)
        elif not result.get("skipped"):
            why = str(result.get("msg") or "no answer").replace(url, "its address") if url else "url is empty"
            deaf.append(f"{who}: {why}")
    if mailed and not mailed.get("skipped"):
        # The module gives a return code only when it fails.
        if mailed.get("rc"):
            deaf.append(f"mail: {mailed.get('msg') or 'it failed'}")
        else:
            heard.append("mail")
    return {"heard": heard, "deaf": deaf}
