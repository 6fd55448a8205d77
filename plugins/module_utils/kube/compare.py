# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an object in the cluster already is what we want, without asking the API server.

The API server keeps, for each field manager, the set of fields that it owns (metadata.managedFields). An object needs
nothing sent when

* every value we want is there with that value (whatever the server has added beside it), and
* the fields we own are exactly the fields we want: neither one that we no longer want, nor one that somebody else took.

Whenever this comparison is in doubt it says "different"; the object is then sent, and the server's answer (same
resourceVersion or not) decides whether anything changed. So doubt costs one request, never a wrong result.
"""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from typing import Any

# Fields of the object itself that no manager ever owns.
_IDENTITY = ("apiVersion", "kind")
_IDENTITY_METADATA = ("name", "namespace", "creationTimestamp", "uid", "resourceVersion", "generation", "managedFields", "selfLink")
# Maps of quantities: "1000m" and "1" are the same there, and the server writes them its own way.
_QUANTITY_PARENTS = frozenset(("requests", "limits", "hard", "default", "defaultRequest", "max", "min", "capacity"))
_SUFFIX = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": Decimal(10) ** 3, "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9, "T": Decimal(10) ** 12, "P": Decimal(10) ** 15, "E": Decimal(10) ** 18, "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40, "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}
_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([numkMGTPE]?|[KMGTPE]i)$")
# Keys of list items that the server fills in when they are left out.
_KEY_DEFAULTS = {"protocol": "TCP"}


def quantity(value: Any) -> Decimal | None:
    """The number that a Kubernetes quantity stands for, or None if it is none."""
    match = _QUANTITY.match(str(value))
    return Decimal(match.group(1)) * _SUFFIX[match.group(2)] if match else None


def normalise(document: dict[str, Any]) -> dict[str, Any]:
    """The object as it will be sent: nulls left out, a Secret's stringData turned into data, no server-set fields."""
    result = _without_nulls(document)
    metadata = result.get("metadata") or {}
    for key in _IDENTITY_METADATA[2:]:
        metadata.pop(key, None)
    result.pop("status", None)
    if result.get("kind") == "Secret" and result.get("apiVersion") == "v1" and "stringData" in result:
        data = dict(result.get("data") or {})
        for key, value in result.pop("stringData").items():
            data[key] = base64.b64encode(str(value).encode()).decode()
        result["data"] = data
    return result


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_nulls(item) for item in value]
    return value


def owned(live: dict[str, Any], manager: str) -> dict[str, Any] | None:
    """The set of fields that C(manager) owns by server-side apply, or None when it never applied this object."""
    for entry in (live.get("metadata") or {}).get("managedFields") or []:
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            if entry.get("apiVersion") != live.get("apiVersion"):
                return None
            return entry.get("fieldsV1") or {}
    return None


def same(wanted: dict[str, Any], live: dict[str, Any], manager: str) -> bool:
    """Whether C(live) needs nothing sent to be C(wanted), a normalised object."""
    body = {key: value for key, value in wanted.items() if key not in _IDENTITY}
    body["metadata"] = {key: value for key, value in (wanted.get("metadata") or {}).items() if key not in _IDENTITY_METADATA}
    if not body["metadata"]:
        body.pop("metadata")
    fields = owned(live, manager)
    if fields is None:
        # Nothing wanted but that it exists: then there is nothing to own either.
        return not body
    return _same_map(body, live, fields, "")


def _same_map(wanted: dict[str, Any], live: Any, fields: dict[str, Any], parent: str) -> bool:
    if not isinstance(live, dict):
        return False
    for key, value in wanted.items():
        field = fields.get(f"f:{key}")
        if field is None:
            # The server forgets empty values; they are the same as being absent.
            if value in ({}, [], "") and not live.get(key):
                continue
            return False
        if not _same_value(value, live.get(key), field, parent, key):
            return False
    return all(key == "." or key[2:] in wanted for key in fields)


def _same_value(wanted: Any, live: Any, fields: dict[str, Any], parent: str, key: str) -> bool:
    inner = [name for name in fields if name != "."]
    if isinstance(wanted, dict):
        if inner:
            return _same_map(wanted, live, fields, key)
        return _covers(wanted, live, parent, key)
    if isinstance(wanted, list):
        if not inner:
            return _covers(wanted, live, parent, key)
        if not isinstance(live, list):
            return False
        if all(name.startswith("k:") for name in inner):
            return _same_keyed(wanted, live, fields, key)
        if all(name.startswith("v:") for name in inner):
            return {name[2:] for name in inner} == {json.dumps(item) for item in wanted} and all(item in live for item in wanted)
        return False
    return not inner and _equal(wanted, live, parent)


def _same_keyed(wanted: list[Any], live: list[Any], fields: dict[str, Any], parent: str) -> bool:
    """A list whose items are told apart by keys, such as containers by name."""
    seen = 0
    for name, owned_fields in fields.items():
        if name == ".":
            continue
        try:
            keys = json.loads(name[2:])
        except ValueError:
            return False
        ours = _by_key(wanted, keys)
        theirs = _by_key(live, keys)
        if ours is None or theirs is None:
            return False
        # A key may be owned although it was left out and filled in by its default.
        tolerated = {f"f:{key}" for key in keys if key not in ours}
        item_fields = {field: value for field, value in owned_fields.items() if field not in tolerated}
        if not _same_map(ours, theirs, item_fields, parent):
            return False
        seen += 1
    return seen == len(wanted)


def _by_key(items: list[Any], keys: dict[str, Any]) -> dict[str, Any] | None:
    found = [
        item for item in items
        if isinstance(item, dict) and all(item.get(key, _KEY_DEFAULTS.get(key)) == value for key, value in keys.items())
    ]
    return found[0] if len(found) == 1 else None


def _covers(wanted: Any, live: Any, parent: str, key: str) -> bool:
    """A value that is owned as a whole: all we want is there; more can only be the server's defaults, as we own it."""
    if isinstance(wanted, dict):
        if not wanted:
            return live is None or live == {}
        return isinstance(live, dict) and all(_covers(value, live.get(name), key, name) for name, value in wanted.items())
    if isinstance(wanted, list):
        if not wanted:
            return live is None or live == []
        return (
            isinstance(live, list) and len(live) == len(wanted)
            and all(_covers(ours, theirs, parent, key) for ours, theirs in zip(wanted, live))
        )
    return _equal(wanted, live, parent)


def _equal(wanted: Any, live: Any, parent: str) -> bool:
    if isinstance(wanted, bool) or isinstance(live, bool):
        return wanted is live
    if wanted == live:
        return type(wanted) is type(live) or (isinstance(wanted, (int, float, str)) and isinstance(live, (int, float, str)))
    if parent in _QUANTITY_PARENTS:
        number = quantity(wanted)
        return number is not None and number == quantity(live)
    return False
