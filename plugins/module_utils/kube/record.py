# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection keeps about a cluster in the cluster itself: one ConfigMap, each entry of it written by what it belongs to."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import CONFIGMAPS

# k3s/state.py reads the same place on the servers, where none of this is at hand.
NAME, NAMESPACE = "cht-k3s", "kube-system"
ENTRIES = ("cluster", "told", "watch")


def read(client: Client) -> dict[str, Any]:
    """All entries; one that was never written, or that somebody broke, is not among them."""
    data = (client.find(CONFIGMAPS.path(NAME, NAMESPACE)) or {}).get("data") or {}
    found = {}
    for entry in ENTRIES:
        try:
            found[entry] = json.loads(data[entry])
        except (KeyError, ValueError):
            continue
    return found


def write(client: Client, entry: str, value: Any, dry_run: bool = False) -> None:
    """Put one entry in its place; the others belong to other field managers, and stay."""
    if entry not in ENTRIES:
        raise ValueError(f"no entry is called {entry}")
    body = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": "cht.k3s"}},
        "data": {entry: json.dumps(value, sort_keys=True)},
    }
    client.apply(CONFIGMAPS.path(NAME, NAMESPACE), body, f"cht.k3s.{entry}", force=True, dry_run=dry_run)
