# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrades are staged: the API that runs loads the new version's views and indexes them, while its users work.

An API that starts with views that it does not know indexes all of them before it answers: hours or days on a county with data. One that finds those
of its own version staged renames them and goes on (cht-core, api/src/services/setup/check-install.js). So nothing else than the usual change of images
has to follow. CHT's own way to end it, C(/api/v1/upgrade/complete), lets the upgrade service set images as the builds server names them, whatever
the county's registry is, and all nodes of CouchDB at once; from 5.0 on there is none on Kubernetes.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.cht.k3s.plugins.module_utils.cht.inside import Api, InsideError
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import default_tag, parse_release

Object = dict[str, t.Any]

# The state of an upgrade and its indexers; what begins one (cht-core, api/src/routing.js). Both want can_configure, later can_upgrade.
_PROGRESS, _BEGIN = "/api/v2/upgrade", "/api/v1/upgrade/stage"
_MONITORING = "/api/v2/monitoring"
# States of the document upgrade_log (upgrade-log.js). What is final is not told by later versions.
_UNDER_WAY, _INDEXED = ("initiated", "staged", "indexing"), "indexed"
_ENDING = ("completing", "complete", "finalizing")

# How far a county is: nothing done, on its way, done, given up by API, impossible, or nobody answers.
NONE, STAGING, STAGED, ENDED, REFUSED, SILENT = "none", "staging", "staged", "ended", "refused", "silent"


@dataclass(frozen=True)
class Stage:
    """How far the staging of one county is, for people in C(text)."""

    state: str
    text: str = ""
    # Whether it was begun just now.
    begun: bool = False


@dataclass(frozen=True)
class Raise:
    """A county that runs and is to get a newer version."""

    live: str
    wanted: str
    # Why the wanted one can't be staged; empty when it can.
    obstacle: str = ""


def raised(live_tag: str, version: str, tag: str) -> Raise | None:
    """Return what a county is raised to; None when it is not, or when its images don't say."""
    live, wanted = parse_release(live_tag), parse_release(version)
    if live is None or wanted is None or live_tag == tag or wanted.sort_key() <= live.sort_key():
        return None
    obstacle = ""
    if live.major != wanted.major:
        obstacle = f"{live.major}.x can't stage {wanted.major}.x, whose search index it does not know"
    elif tag != default_tag(version):
        obstacle = f"the builds server has the views of {version}, and images.tag '{tag}' may have others"
    return Raise(live_tag, version, obstacle)


def look(api: Api, version: str) -> Stage:
    """Return how far the staging of a version is."""
    try:
        status, answer = api("GET", _PROGRESS, None)
    except InsideError as error:
        return Stage(SILENT, str(error))
    if status in (401, 403):
        return Stage(REFUSED, f"API answers {_PROGRESS} with {status}: does CouchDB have the administrator of the county's Secret?")
    if status != 200 or not isinstance(answer, dict):
        return Stage(SILENT, f"API answers {_PROGRESS} with {status}")
    document = answer.get("upgradeDoc") or {}
    target = str((document.get("to") or {}).get("version") or document.get("to_version") or "")
    state = str(document.get("state") or "")
    if state in (*_UNDER_WAY, _INDEXED, *_ENDING) and (target != version or state in _ENDING):
        return Stage(REFUSED, f"is brought to {target or 'another version'} by CHT's own page ({state}): let it end, or abort it there, then run again")
    if state == _INDEXED:
        return Stage(STAGED)
    if state in _UNDER_WAY:
        return Stage(STAGING, figure(state, answer.get("indexers") or []))
    return Stage(ENDED if state else NONE, state)


def figure(state: str, indexers: list[Object]) -> str:
    """Return how far the indexing is: all together, and the view that is behind the others."""
    if state != "indexing":
        return "loads the new views"
    measured = [(int(item.get("progress") or 0), f"{item.get('database')}/{item.get('ddoc')}") for item in indexers if isinstance(item, dict)]
    if not measured:
        return "indexing"
    least, name = min(measured)
    return f"indexing {sum(value for value, dummy in measured) // len(measured)}% ({name} {least}%)"


def begin(api: Api, version: str) -> Stage:
    """Stage a version unless that is done or under way, as by a run that was interrupted."""
    found = look(api, version)
    if found.state not in (NONE, ENDED):
        return found
    try:
        status, answer = api("POST", _BEGIN, {"build": {"namespace": "medic", "application": "medic", "version": version}})
    except InsideError as error:
        return Stage(SILENT, str(error))
    if status != 200:
        reason = answer.get("error") or answer.get("message") if isinstance(answer, dict) else ""
        return Stage(REFUSED, f"API answers {_BEGIN} with {status}{f' ({reason})' if reason else ''}")
    return Stage(STAGING, "loads the new views", True)


def documents(api: Api) -> int:
    """Return how many documents a county has; 0 when nobody tells."""
    try:
        status, answer = api("GET", _MONITORING, None)
        return int(answer["couchdb"]["medic"]["doc_count"]) if status == 200 else 0
    except (InsideError, KeyError, TypeError, ValueError):
        return 0


def absence(api: Api | None) -> str:
    """Say for people how long a county may be away whose upgrade is not staged."""
    count = documents(api) if api is not None else 0
    what = f"its {count:,} documents" if count else "all its documents"
    return f"API indexes {what} before it answers anybody: minutes for thousands, hours or days for millions"
