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


class RemovalError(Exception):
    """An object that does not go away, and why."""


def name_of(entry: dict[str, Any]) -> str:
    """'Deployment vmware-system-csi/vsphere-csi-controller'."""
    place = f"{entry['namespace']}/" if entry.get("namespace") else ""
    return f"{entry['kind']} {place}{entry['name']}"


class Removal:
    """One run; C(removed) names, also after a failure, what was there and is gone (in check mode: would go)."""

    def __init__(self, client: Client, timeout: float, check_mode: bool, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self.client = client
        self.timeout = timeout
        self.check_mode = check_mode
        self.clock = clock
        self.sleep = sleep
        self.resources = Resources(client)
        self.removed: list[str] = []

    def run(self, entries: list[dict[str, Any]]) -> None:
        """Delete the entries in their order; what is not there, or of an unknown kind, is done already."""
        for entry in entries:
            try:
                self._remove(entry)
            except ApiError as error:
                raise RemovalError(f"{name_of(entry)} can't be deleted: {error.message}") from error

    def _remove(self, entry: dict[str, Any]) -> None:
        resource = self.resources.of(entry["api_version"], entry["kind"])
        if resource is None:
            return
        path = resource.path(entry["name"], entry.get("namespace"))
        if self.client.find(path) is None:
            return
        if self.check_mode:
            self.removed.append(name_of(entry))
            return
        try:
            self.client.json("DELETE", path, {"propagationPolicy": "Foreground"})
        except ApiError as error:
            if error.status != 404:
                raise
        # Also one that is still there after the wait is on its way out.
        self.removed.append(name_of(entry))
        self._until_gone(path, entry)

    def _until_gone(self, path: str, entry: dict[str, Any]) -> None:
        deadline = self.clock() + self.timeout
        while True:
            found = self.client.find(path)
            if found is None:
                return
            if self.clock() > deadline:
                holders = ", ".join(found["metadata"].get("finalizers") or []) or "nothing that it names"
                raise RemovalError(f"{name_of(entry)} is still there after {self.timeout:.0f} s; it is held by {holders}")
            self.sleep(0.5)
