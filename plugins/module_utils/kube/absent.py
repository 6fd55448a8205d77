# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete objects one after the other, each gone before the next."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import Resources


class StillThere(Exception):
    """An object that does not go away, with what holds it."""


def name_of(entry: dict[str, Any]) -> str:
    """'Deployment vmware-system-csi/vsphere-csi-controller'."""
    place = f"{entry['namespace']}/" if entry.get("namespace") else ""
    return f"{entry['kind']} {place}{entry['name']}"


def remove(client: Client, entries: list[dict[str, Any]], timeout: float, check_mode: bool, sleep: Callable[[float], None] = time.sleep) -> list[str]:
    """Delete the entries in their order; returns the names of those that were there."""
    resources = Resources(client)
    removed = []
    for entry in entries:
        resource = resources.of(entry["api_version"], entry["kind"])
        if resource is None:
            continue
        path = resource.path(entry["name"], entry.get("namespace"))
        if client.find(path) is None:
            continue
        removed.append(name_of(entry))
        if check_mode:
            continue
        try:
            client.json("DELETE", path, {"propagationPolicy": "Foreground"})
        except ApiError as error:
            if error.status != 404:
                raise
        _gone(client, path, name_of(entry), timeout, sleep)
    return removed


def _gone(client: Client, path: str, name: str, timeout: float, sleep: Callable[[float], None]) -> None:
    deadline = time.monotonic() + timeout
    while True:
        found = client.find(path)
        if found is None:
            return
        if time.monotonic() > deadline:
            holders = ", ".join(found["metadata"].get("finalizers") or []) or "nothing that it names"
            raise StillThere(f"{name} is still there after {timeout:.0f} s; it is held by {holders}")
        sleep(0.5)
