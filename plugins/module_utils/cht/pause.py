# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A county at rest: what writes to its volumes is scaled to zero, and later to what it was.

How many replicas there were stands on each Deployment, so that whoever comes after an interrupted run can bring the county up again. The
counties' play does so, too: it owns the number of replicas, and puts it back as it does with any other drift.
"""

from __future__ import annotations

import copy
import time
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import FIELD_MANAGER
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import DEPLOYMENTS, PODS
from ansible_collections.cht.k3s.plugins.module_utils.kube.status import has_ended

Object = dict[str, t.Any]

MANAGER = f"{FIELD_MANAGER}-pause"
# The replicas that a Deployment had before it was scaled to zero.
PAUSED = "cht.k3s/paused-replicas"

_MERGE = "application/merge-patch+json"
_WRITERS = ("api", "sentinel")
_TRIES = 10


class PauseError(Exception):
    """A county does not come to rest; the message says why and what to do."""


def is_database(service: str) -> bool:
    """Tell whether a service is CouchDB."""
    return service == "couchdb" or service.startswith("couchdb-")


def service_of(item: Object) -> str:
    """Return what a Deployment or pod serves as."""
    return str((item["metadata"].get("labels") or {}).get(SERVICE_LABEL) or "")


def _affected(service: str) -> bool:
    return service in _WRITERS or is_database(service)


class Pause:
    """Stops and starts one county."""

    def __init__(self, client: Client, namespace: str, timeout: float, sleep: t.Callable[[float], None] = time.sleep) -> None:
        self.client = client
        self.namespace = namespace
        self.timeout = timeout
        self.sleep = sleep

    def deployments(self) -> list[Object]:
        """Return the Deployments that write to volumes."""
        query = {"labelSelector": SERVICE_LABEL}
        return [item for item in self.client.items(DEPLOYMENTS.collection(self.namespace), query) if _affected(service_of(item))]

    def pods(self, databases: bool = True) -> list[str]:
        """Return the pods that may write to volumes, those of CouchDB included or not."""
        query = {"labelSelector": SERVICE_LABEL}
        return [
            item["metadata"]["name"]
            for item in self.client.items(PODS.collection(self.namespace), query)
            if _affected(service_of(item))
            and (databases or not is_database(service_of(item)))
            and not has_ended(item)
        ]

    def paused(self) -> list[str]:
        """Return the Deployments that are at rest because we stopped them."""
        return [item["metadata"]["name"] for item in self.deployments() if _replicas(item) == 0 and _mark(item)]

    def at_rest(self) -> bool:
        """Tell whether all of them are at rest because we stopped them; pods may still end."""
        found = self.deployments()
        return bool(found) and all(_replicas(item) == 0 and _mark(item) for item in found)

    def runs(self) -> bool:
        """Tell whether anything may write to the volumes."""
        return any(_replicas(item) for item in self.deployments()) or bool(self.pods())

    def stop(self) -> None:
        """Stop what writes, then CouchDB, and wait for the last pod: its volume is unmounted by then."""
        for database in (False, True):
            for item in self.deployments():
                if is_database(service_of(item)) == database and _replicas(item):
                    body = {"metadata": {"annotations": {PAUSED: str(_replicas(item))}}, "spec": {"replicas": 0}}
                    self._patch(item["metadata"]["name"], body)
            self._wait(database)

    def _wait(self, databases: bool) -> None:
        deadline = time.monotonic() + self.timeout
        while True:
            pods = self.pods(databases)
            if not pods:
                return
            if time.monotonic() > deadline:
                raise PauseError(f"{', '.join(sorted(pods))} did not end within {self.timeout:.0f} s: look at its agent")
            self.sleep(0.5)

    def disturbed(self) -> str:
        """Return what runs although the county was stopped; empty when it is still at rest."""
        up = [item["metadata"]["name"] for item in self.deployments() if _replicas(item)]
        return ", ".join(sorted(up) or sorted(self.pods()))

    def start(self) -> list[str]:
        """Bring up what was stopped here; return its names."""
        started, marked = [], []
        errors: list[ApiError] = []
        for item in self.deployments():
            mark, name = _mark(item), item["metadata"]["name"]
            if not mark:
                continue
            marked.append(name)
            body: Object = {"metadata": {"annotations": {PAUSED: None}}}
            if _replicas(item) == 0:
                body["spec"] = {"replicas": int(mark)}
                started.append(name)
            self._try(errors, self._patch, name, body)
        # Only now what can fail for one of them: the county is up by then.
        for name in marked:
            self._try(errors, self._hand_back, name)
        if errors:
            raise errors[0]
        return started

    @staticmethod
    def _try(errors: list[ApiError], step: t.Callable[..., None], *arguments: t.Any) -> None:
        """Do one step, and keep its error for later: the other Deployments have to come up as well."""
        try:
            step(*arguments)
        except ApiError as error:
            errors.append(error)

    def _patch(self, name: str, body: Object) -> None:
        self.client.json("PATCH", DEPLOYMENTS.path(name, self.namespace), {"fieldManager": MANAGER}, body, _MERGE)

    def _hand_back(self, name: str) -> None:
        """Give the field back to the counties' play, for which the county otherwise would have changed."""
        path = DEPLOYMENTS.path(name, self.namespace)
        for attempt in range(_TRIES):
            metadata = self.client.get(path)["metadata"]
            entries = handed_back(metadata.get("managedFields") or [])
            if entries is None:
                return
            try:
                self.client.json("PATCH", path, body={"metadata": {"resourceVersion": metadata["resourceVersion"], "managedFields": entries}},
                                 content_type=_MERGE)
                return
            except ApiError as error:
                # The Deployment's controller writes it at the same moment.
                if error.status != 409 or attempt + 1 == _TRIES:
                    raise
                self.sleep(0.1)


def handed_back(entries: list[Object]) -> list[Object] | None:
    """Return managedFields with the replicas as the counties' play's; None when there is nothing to hand back."""
    if not any(entry.get("manager") == MANAGER for entry in entries):
        return None
    result = copy.deepcopy([entry for entry in entries if entry.get("manager") != MANAGER])
    for entry in result:
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            entry.setdefault("fieldsV1", {}).setdefault("f:spec", {})["f:replicas"] = {}
    return result


def _replicas(item: Object) -> int:
    return int((item.get("spec") or {}).get("replicas", 1))


def _mark(item: Object) -> str:
    mark = str((item["metadata"].get("annotations") or {}).get(PAUSED) or "")
    return mark if mark.isdigit() else ""
