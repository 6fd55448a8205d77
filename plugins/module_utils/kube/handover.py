# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take over whole objects that people made with kubectl.

Server-side apply leaves a field alone that only another manager owns. On a cluster that was built by hand, a nodeSelector, a
container or a key of a Secret that we do not want would stay for ever. So kubectl's fields are first made ours; applying
then removes those that we do not give.
"""

from __future__ import annotations

import copy
import fnmatch
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client

Object = dict[str, Any]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# What sends whole objects. Once an object is ours, only these can mean that somebody put an old manifest over it.
_WHOLE = ("kubectl-client-side-apply", "before-first-apply")
_PEOPLE = ("kubectl*", "before-first-apply")
# A label or annotation that somebody added beside the manifest is no part of it.
_BESIDE = ("kubectl-label", "kubectl-annotate")
_TRIES = 4


def left_by_kubectl(live: Object, manager: str) -> list[Object]:
    """The entries of managedFields whose fields have to become ours before the object is applied."""
    metadata = live.get("metadata") or {}
    entries = [entry for entry in metadata.get("managedFields") or [] if not entry.get("subresource")]
    ours = any(is_ours(entry, manager) for entry in entries)
    # A version of the API that is no longer the one in use has other fields; the server keeps such an entry to itself.
    return [
        entry for entry in entries
        if matches(entry, _WHOLE if ours else _PEOPLE) and not matches(entry, _BESIDE) and entry.get("apiVersion") == live.get("apiVersion")
    ]


def handed_over(live: Object, manager: str) -> list[Object]:
    """The object's managedFields with what kubectl owned as ours; nothing else of it changes."""
    left = left_by_kubectl(live, manager)
    entries = (live.get("metadata") or {}).get("managedFields") or []
    same = [entry for entry in entries if is_ours(entry, manager) and entry.get("apiVersion") == live.get("apiVersion")]
    ours = entry_of([*same, *left], manager, live["apiVersion"])
    annotations = (ours["fieldsV1"].get("f:metadata") or {}).get("f:annotations") or {}
    annotations.pop(f"f:{LAST_APPLIED}", None)
    return [entry for entry in entries if entry not in left and entry not in same] + [ours]


def hand_over(client: Client, path: str, live: Object, manager: str) -> bool:
    """Make kubectl's fields of one object ours, and take away its copy of the object, which in a Secret holds old passwords."""
    current: Object | None = live
    for attempt in range(_TRIES):
        if current is None or not left_by_kubectl(current, manager):
            return attempt > 0
        metadata: Object = {"resourceVersion": current["metadata"]["resourceVersion"], "managedFields": handed_over(current, manager)}
        if LAST_APPLIED in (current["metadata"].get("annotations") or {}):
            metadata["annotations"] = {LAST_APPLIED: None}
        try:
            client.json("PATCH", path, body={"metadata": metadata}, content_type="application/merge-patch+json")
            return True
        except ApiError as error:
            if error.status != 409 or attempt + 1 == _TRIES:
                raise
        current = client.find(path)
    return False


def entry_of(entries: list[Object], manager: str, api_version: str) -> Object:
    """One entry of managedFields, ours, with the fields of all these."""
    fields: Object = {}
    for entry in entries:
        fields = union(fields, entry.get("fieldsV1") or {})
    return {"manager": manager, "operation": "Apply", "apiVersion": api_version, "fieldsType": "FieldsV1", "fieldsV1": fields}


def union(first: Object, second: Object) -> Object:
    """Two sets of fields as one."""
    result = copy.deepcopy(first)
    for key, value in second.items():
        result[key] = union(result.get(key) or {}, value or {})
    return result


def is_ours(entry: Object, manager: str) -> bool:
    """Whether an entry is of what we applied."""
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")


def matches(entry: Object, patterns: tuple[str, ...]) -> bool:
    """Whether an entry is of a manager with a name like these."""
    return any(fnmatch.fnmatchcase(str(entry.get("manager") or ""), pattern) for pattern in patterns)
