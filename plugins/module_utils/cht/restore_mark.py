# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a county's namespace says about a restore that is half done."""

from __future__ import annotations

import json
import typing as t

# On the namespace from the first claim that is replaced to the last: {"set": name, "volumes": {claim: volume}}.
RESTORING = "cht.k3s/restoring"


def mark_of(namespace: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return what is half done; empty when nothing is."""
    text = (namespace["metadata"].get("annotations") or {}).get(RESTORING)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("set") and isinstance(found.get("volumes"), dict) else {}
