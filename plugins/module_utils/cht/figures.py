# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counties say of themselves in C(/api/v2/monitoring): version, documents, users and queues (cht-core, api/src/services/monitoring.js)."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.cht.k3s.plugins.module_utils.cht.inside import Api, InsideError, api_of
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client

Object = dict[str, t.Any]

_MONITORING = "/api/v2/monitoring"
# Where each figure is; what API could not count it gives as an empty text or -1.
_PLACES = {
    "documents": ("couchdb", "medic", "doc_count"),
    "users": ("connected_users", "count"),
    "sentinel": ("sentinel", "backlog"),
    "outbound": ("outbound_push", "backlog"),
    "messages": ("messaging", "outgoing", "total", "due"),
    "conflicts": ("conflict", "count"),
    "feedback": ("feedback", "count"),
}
_PARALLEL = 8


def figures(api: Api) -> Object:
    """Return the figures of a county, None for each that it does not tell; with C(silent) where it tells nothing, and why."""
    try:
        status, answer = api("GET", _MONITORING, None)
    except InsideError as error:
        return _silent(str(error))
    if status != 200 or not isinstance(answer, dict):
        return _silent(f"API answers {_MONITORING} with {status}")
    found = {name: _number(_at(answer, place)) for name, place in _PLACES.items()}
    return {"version": _at(answer, ("version", "app")) or None, **found, "silent": ""}


def of_all(client: Client, namespaces: t.Iterable[str]) -> dict[str, Object]:
    """Return the figures of several counties by their namespaces."""

    def one(namespace: str) -> tuple[str, Object]:
        try:
            return namespace, figures(api_of(client, namespace))
        except InsideError as error:
            return namespace, _silent(str(error))

    spaces = list(namespaces)
    if not spaces:
        return {}
    with ThreadPoolExecutor(max_workers=min(_PARALLEL, len(spaces))) as pool:
        return dict(pool.map(one, spaces))


def _silent(why: str) -> Object:
    return {"version": None, **dict.fromkeys(_PLACES), "silent": why}


def _at(answer: t.Any, place: tuple[str, ...]) -> t.Any:
    for key in place:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer


def _number(value: t.Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
