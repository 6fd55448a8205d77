# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a county's namespace says about a restore that is half done."""

from __future__ import annotations

import json
import typing as t

# On the namespace until a restore is done: {"set": name, "volumes": {claim: volume}}. There are no volumes in it yet as long as
# the new ones are being made and nothing of the county was touched.
RESTORING = "cht.k3s/restoring"
# On a volume: the set that it was made from, or that took its place.
RESTORED_FROM, REPLACED_BY = "cht.k3s/restored-from", "cht.k3s/replaced-by"


def mark_of(namespace: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return what is half done; empty when nothing of the county was touched."""
    found = _read(namespace)
    return found if found.get("set") and isinstance(found.get("volumes"), dict) and found["volumes"] else {}


def set_of(namespace: dict[str, t.Any]) -> str:
    """Return the set whose restore was begun, whether anything was touched or not."""
    return str(_read(namespace).get("set") or "")


def _read(namespace: dict[str, t.Any]) -> dict[str, t.Any]:
    text = (namespace["metadata"].get("annotations") or {}).get(RESTORING)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
