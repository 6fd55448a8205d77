# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring many objects into a cluster with few requests: list, compare, send what differs by server-side apply."""

from __future__ import annotations

import copy
import fnmatch
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube import compare, handover
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client, Unreachable
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import Resource, Resources, crd_resources, wave

FIELD_MANAGER = "cht.k3s"
# People's tools. A value that one of them left on a field of ours is a hand edit, and is put back without asking.
# A controller or an operator that owns a field of ours is not: that is a conflict to be decided.
# What our own other managers left (cht/move.py, interrupted) is put right as well.
TAKE_OVER = ("kubectl*", "before-first-apply", "k9s", "Mozilla", "Lens*", "node-fetch", "OpenAPI-Generator", "python-requests", f"{FIELD_MANAGER}-*")

_MASK = "********"
_SERVER_METADATA = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_CONFLICT_MANAGER = re.compile(r'conflict with "([^"]*)"')
_CONFLICT_TRIES = 4


class ObjectError(Exception):
    """An object that can't be sent, with the reason."""


@dataclass
class Item:
    """One object on its way into the cluster."""

    group: str
    body: dict[str, Any]
    resource: Resource | None
    wave: int
    live: dict[str, Any] | None = None
    result: str = "pending"
    error: str = ""
    taken_from: list[str] = field(default_factory=list)
    answer: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def api_version(self) -> str:
        return str(self.body["apiVersion"])

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"].get("namespace") or "")

    def describe(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    def fail(self, message: str) -> None:
        self.result = "failed"
        self.error = f"{self.describe()}: {message}"

    def report(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "kind": self.kind, "namespace": self.namespace, "name": self.name, "group": self.group, "result": self.result,
        }
        if self.error:
            entry["error"] = self.error
        if self.taken_from:
            entry["taken_from"] = self.taken_from
        return entry


# Given the items of one kind and what sends one of them, the jobs that send all.
Arrange = Callable[[list[Item], Callable[[Item], None]], list[Callable[[], None]]]


@dataclass
class Outcome:
    """What became of all objects."""

    items: list[Item]
    group_errors: dict[str, list[str]]
    requests: int = 0

    @property
    def changed(self) -> bool:
        return any(item.result in ("created", "updated") for item in self.items)

    @property
    def failed(self) -> bool:
        return bool(self.group_errors)

    def count(self, result: str) -> int:
        return sum(1 for item in self.items if item.result == result)

    def objects(self) -> list[dict[str, Any]]:
        return [item.report() for item in self.items]

    def failed_groups(self) -> list[dict[str, Any]]:
        return [{"name": name, "errors": errors} for name, errors in self.group_errors.items()]

    def message(self) -> str:
        errors = [error for found in self.group_errors.values() for error in found]
        shown = "\n".join(f"- {error}" for error in errors[:20])
        more = f"\n- and {len(errors) - 20} more" if len(errors) > 20 else ""
        return f"{len(errors)} of {len(self.items)} objects could not be applied:\n{shown}{more}"

    def diff(self) -> list[dict[str, str]]:
        """One entry per object that changed, in the form that Ansible shows; values of Secrets are never in it."""
        import yaml  # only when a diff was asked for

        entries = []
        for item in self.items:
            if item.result not in ("created", "updated"):
                continue
            before, after = (None, item.body) if item.result == "created" else (item.live, item.answer or item.body)
            shown_before, shown_after = masked(before, after)
            entries.append({
                "before_header": item.describe() + (" (not there)" if item.result == "created" else ""),
                "after_header": item.describe(),
                "before": yaml.safe_dump(shown_before, sort_keys=True) if shown_before else "",
                "after": yaml.safe_dump(shown_after, sort_keys=True),
            })
        return entries


def masked(before: dict[str, Any] | None, after: dict[str, Any] | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Both states without what the server keeps for itself, and without any value of a Secret."""
    pair = [None if state is None else _shown(state) for state in (before, after)]
    if (after or before or {}).get("kind") == "Secret":
        old, new = ((state or {}).get("data") or {} for state in pair)
        hidden_old = {key: _MASK for key in old}
        hidden_new = {key: _MASK if key not in old or old[key] == value else f"{_MASK} (changed)" for key, value in new.items()}
        for state, hidden in zip(pair, (hidden_old, hidden_new)):
            if state is not None and hidden:
                state["data"] = hidden
                state.pop("stringData", None)
    return pair[0], pair[1]


def _shown(state: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy({key: value for key, value in state.items() if key != "status"})
    metadata = result.get("metadata") or {}
    for key in _SERVER_METADATA:
        metadata.pop(key, None)
    annotations = metadata.get("annotations") or {}
    if annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None) is not None and not annotations:
        metadata.pop("annotations")
    return result


class Live:
    """What is in the cluster, read by few list calls; may be filled once and shared between reading and applying."""

    def __init__(self, client: Client, parallel: int = 8) -> None:
        self._client = client
        self._parallel = parallel
        self._complete: dict[Resource, dict[tuple[str, str], dict[str, Any]]] = {}
        self._objects: dict[Resource, dict[tuple[str, str], dict[str, Any]]] = {}

    def list(self, resource: Resource) -> list[dict[str, Any]]:
        """All objects of a kind in all namespaces; asked of the API once."""
        if resource not in self._complete:
            self._complete[resource] = {_place(item): item for item in self._read(resource, resource.collection())}
        return list(self._complete[resource].values())

    def load(self, wanted: dict[Resource, set[tuple[str, str]]]) -> None:
        """Read the objects at these places, by whichever requests are fewest."""
        jobs: list[tuple[Resource, set[tuple[str, str]]]] = [
            (resource, places) for resource, places in wanted.items() if resource not in self._complete
        ]
        if not jobs:
            return
        with ThreadPoolExecutor(max_workers=min(self._parallel, len(jobs))) as pool:
            for resource, found in pool.map(lambda job: (job[0], self._fetch(*job)), jobs):
                self._objects.setdefault(resource, {}).update(found)

    def forget(self, resource: Resource, namespace: str, name: str) -> None:
        """An object was taken away."""
        for known in (self._complete, self._objects):
            known.get(resource, {}).pop((namespace if resource.namespaced else "", name), None)

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        place = (namespace if resource.namespaced else "", name)
        if resource in self._complete:
            return self._complete[resource].get(place)
        return self._objects.get(resource, {}).get(place)

    def _fetch(self, resource: Resource, places: set[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        namespaces = {namespace for namespace, name in places}
        if len(places) > 3:
            collections = [resource.collection()]
            if resource.namespaced and len(namespaces) <= 3:
                collections = [resource.collection(namespace) for namespace in sorted(namespaces)]
            try:
                return {
                    _place(item): item for collection in collections for item in self._read(resource, collection) if _place(item) in places
                }
            except ApiError as error:
                if error.status != 403:
                    raise
        found = {}
        for namespace, name in places:
            item = self._client.find(resource.path(name, namespace or None))
            if item is not None:
                found[(namespace, name)] = item
        return found

    def _read(self, resource: Resource, collection: str) -> Iterable[dict[str, Any]]:
        try:
            for item in self._client.items(collection):
                # Items of a list come without these two.
                item["apiVersion"], item["kind"] = resource.api_version, resource.kind
                yield item
        except ApiError as error:
            if error.status != 404:
                raise


def _place(item: dict[str, Any]) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def connect(kubeconfig: str, context: str | None = None, timeout: float = 30.0) -> Client:
    """A client for the cluster of this kubeconfig."""
    return Client.from_kubeconfig(kubeconfig, context, timeout, patience=timeout)


def apply_groups(
    client: Client | None,
    groups: list[dict[str, Any]],
    *,
    check_mode: bool = False,
    field_manager: str = FIELD_MANAGER,
    force_conflicts: bool = False,
    take_over: Iterable[str] = TAKE_OVER,
    parallel: int = 8,
    crd_timeout: float = 60.0,
    live: Live | None = None,
    progress: Callable[[str], None] | None = None,
    hold: Callable[[list[Item]], set[str]] | None = None,
    adopt: bool = False,
    arrange: Arrange | None = None,
) -> Outcome:
    """Apply the objects of all groups; an error stays within its group.

    C(hold) is shown all items after they were compared, and names the groups of which nothing is to be sent now.

    C(arrange) is shown those of one kind that are to be sent, and how one is sent, and returns what sends them all: what it puts into one job
    follows one after the other. Not asked in check mode.

    C(adopt) makes whole objects ours that people made with kubectl: what is not given here goes.

    Without a client (check mode before a cluster exists) everything is predicted to be created.
    """
    return _Run(client, check_mode, field_manager, force_conflicts, tuple(take_over), parallel, crd_timeout, live, progress, hold, adopt, arrange).run(groups)


class _Run:
    def __init__(
        self, client: Client | None, check_mode: bool, manager: str, force: bool, take_over: tuple[str, ...], parallel: int,
        crd_timeout: float, live: Live | None, progress: Callable[[str], None] | None, hold: Callable[[list[Item]], set[str]] | None,
        adopt: bool = False, arrange: Arrange | None = None,
    ) -> None:
        self.client = client
        self.check_mode = check_mode
        self.manager = manager
        self.force = force
        self.take_over = take_over
        self.parallel = max(1, parallel)
        self.crd_timeout = crd_timeout
        self.live = live or (Live(client, parallel) if client is not None else None)
        self.progress = progress
        self.hold = hold
        self.adopt = adopt
        self.arrange = arrange
        self.resources = Resources(client)
        self.promised: dict[tuple[str, str], Resource] = {}
        self.new_namespaces: set[str] = set()
        self.lock = threading.Lock()
        # Why the API server is out of reach, once it was not for as long as a request is patient.
        self.lost = ""

    def run(self, groups: list[dict[str, Any]]) -> Outcome:
        items = self._prepare(groups)
        if self.client is None or self.live is None:
            for item in items:
                if item.result == "pending":
                    item.result = "created"
            return self._outcome(items, 0)
        self._compare(items, self.live)
        held = self.hold(items) if self.hold else set()
        for item in items:
            if item.result == "pending" and item.group in held:
                item.result = "held"
        client = self.client
        numbers = sorted({item.wave for item in items if item.result == "pending"})
        with ThreadPoolExecutor(max_workers=self.parallel) as pool:
            for number in numbers:
                broken = {item.group for item in items if item.result == "failed"}
                ready = []
                for item in items:
                    if item.wave != number or item.result != "pending":
                        continue
                    if item.group in broken:
                        item.result = "skipped"
                    else:
                        ready.append(item)
                list(pool.map(lambda job: job(), self._jobs(client, ready)))
                self._await_crds(client, [item for item in ready if item.kind == "CustomResourceDefinition" and item.result == "created"])
                if self.progress and ready:
                    self.progress(f"{ready[0].kind}: {len(ready)} sent")
        return self._outcome(items, self.client.requests)

    def _jobs(self, client: Client, items: list[Item]) -> list[Callable[[], None]]:
        """What sends the items, each by itself unless they were arranged."""
        def send(item: Item) -> None:
            self._send(client, item)

        if self.arrange is not None and not self.check_mode:
            return self.arrange(items, send)
        return [partial(send, item) for item in items]

    def _outcome(self, items: list[Item], requests: int) -> Outcome:
        errors: dict[str, list[str]] = {}
        for item in items:
            if item.result == "failed":
                errors.setdefault(item.group, []).append(item.error)
        return Outcome(items, errors, requests)

    # --- before anything is sent -------------------------------------------------------------------------------------

    def _prepare(self, groups: list[dict[str, Any]]) -> list[Item]:
        items: list[Item] = []
        seen: dict[tuple[str, str, str, str], Item] = {}
        for number, group in enumerate(groups):
            name = str(group.get("name") or f"group {number + 1}")
            for position, document in enumerate(group.get("objects") or []):
                problem = shape_problem(document)
                if problem:
                    broken = Item(name, _placeholder(document, position), None, -1)
                    broken.fail(problem)
                    items.append(broken)
                    continue
                item = Item(name, compare.normalise(document), None, wave(str(document["kind"])))
                identity = (item.api_version.partition("/")[0], item.kind, item.namespace, item.name)
                if identity in seen:
                    item.fail(f"is given twice, in {seen[identity].group} and in {name}")
                seen.setdefault(identity, item)
                items.append(item)
                if item.kind == "CustomResourceDefinition":
                    self.promised.update(crd_resources(item.body))
        for item in items:
            if item.result == "pending":
                self._resolve(item)
        return items

    def _resolve(self, item: Item) -> None:
        try:
            item.resource = self.resources.of(item.api_version, item.kind)
        except ApiError as error:
            item.fail(error.message)
            return
        if item.resource is None:
            item.resource = self.promised.get((item.api_version, item.kind))
        if item.resource is None:
            if self.client is not None:
                item.fail(
                    f"the API server knows no kind {item.kind} in {item.api_version}; "
                    "apply the CustomResourceDefinition that brings it first, or correct apiVersion"
                )
            return
        if item.resource.namespaced and not item.namespace:
            item.fail("needs metadata.namespace")
        elif not item.resource.namespaced and item.namespace:
            # kubectl ignores it as well; keeping it would make the path and the body differ.
            item.body["metadata"].pop("namespace", None)

    def _compare(self, items: list[Item], live: Live) -> None:
        pending = [item for item in items if item.result == "pending" and item.resource is not None]
        wanted: dict[Resource, set[tuple[str, str]]] = {}
        for item in pending:
            wanted.setdefault(item.resource, set()).add((item.namespace, item.name))  # type: ignore[arg-type]
        live.load(wanted)
        for item in pending:
            item.live = live.get(item.resource, item.namespace, item.name)  # type: ignore[arg-type]
            if item.live is None:
                if item.kind == "Namespace":
                    self.new_namespaces.add(item.name)
            elif compare.same(item.body, item.live, self.manager) and not self._left(item):
                item.result = "unchanged"

    def _left(self, item: Item) -> bool:
        """Whether kubectl owns fields of an object that is to be ours as a whole."""
        return self.adopt and item.live is not None and bool(handover.left_by_kubectl(item.live, self.manager))

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send(self, client: Client, item: Item) -> None:
        if self.lost:
            # Each of hundreds of objects would wait just as long again.
            item.fail(self.lost)
            return
        try:
            if self.check_mode and item.live is None and self._only_predictable(item):
                item.result = "created"
                return
            self._apply(client, item)
        except Unreachable as error:
            self.lost = error.message
            item.fail(error.message)
        except ApiError as error:
            item.fail(self._explain(error))

    def _only_predictable(self, item: Item) -> bool:
        """Whether a dry run would fail only because what the object needs is itself still to be created."""
        known = self.resources.of(item.api_version, item.kind)
        return item.namespace in self.new_namespaces or known is None

    def _apply(self, client: Client, item: Item) -> None:
        if item.resource is None:
            item.resource = self.resources.of(item.api_version, item.kind)
        if item.resource is None:
            item.fail(f"the API server does not serve {item.kind} in {item.api_version} yet")
            return
        path = item.resource.path(item.name, item.namespace or None)
        left = self._left(item)
        if left and item.live is not None and not self.check_mode:
            handover.hand_over(client, path, item.live, self.manager)
        force = self.force
        for attempt in range(_CONFLICT_TRIES):
            try:
                created, answer = client.apply(path, item.body, self.manager, force, self.check_mode)
                break
            except ApiError as error:
                managers = conflicting_managers(error)
                if managers and not force and all(self._is_taken_over(manager) for manager in managers):
                    item.taken_from = sorted(managers)
                    force = True
                elif error.status == 409 and not managers and attempt + 1 < _CONFLICT_TRIES:
                    time.sleep(0.1 * 2**attempt)  # somebody wrote the object at the same moment
                else:
                    raise
        if self.adopt and not self.check_mode and handover.left_by_kubectl(answer, self.manager):
            # Of an object without a record of who owns what, the server keeps one from its first apply on.
            handover.hand_over(client, path, answer, self.manager)
            answer = client.apply(path, item.body, self.manager, force)[1]
        item.answer = answer
        if created or (self.check_mode and item.live is None):
            item.result = "created"
        elif item.live is None:
            item.result = "updated"  # it came into being since we looked
        else:
            # A dry run can't show the handover that would come before.
            item.result = "unchanged" if not left and self._is_same(item.live, answer) else "updated"

    def _is_taken_over(self, manager: str) -> bool:
        return any(fnmatch.fnmatchcase(manager, pattern) for pattern in self.take_over)

    def _is_same(self, before: dict[str, Any], after: dict[str, Any]) -> bool:
        if not self.check_mode:
            return before["metadata"].get("resourceVersion") == after["metadata"].get("resourceVersion")
        # A dry run keeps the resourceVersion, so look at what it would write.
        return _written(before) == _written(after)

    def _explain(self, error: ApiError) -> str:
        managers = conflicting_managers(error)
        if managers:
            fields = ", ".join(str(cause.get("field") or "?") for cause in error.causes) or "a field"
            return (
                f"{fields} belongs to {', '.join(sorted(managers))}, which set another value; "
                "let it keep the field (leave it out here), or set force_conflicts to take it over"
            )
        return error.message

    # --- custom resources --------------------------------------------------------------------------------------------

    def _await_crds(self, client: Client, items: list[Item]) -> None:
        """A CRD is served only some moments after it was created; its objects come later in the same run."""
        if self.check_mode or not items:
            return
        deadline = time.monotonic() + self.crd_timeout
        for item in items:
            while not _established(client.find(item.resource.path(item.name)) or {}):  # type: ignore[union-attr]
                if time.monotonic() > deadline:
                    item.fail(f"is not served {self.crd_timeout:.0f} s after it was created; look at its status.conditions")
                    break
                time.sleep(0.1)
            for api_version, _kind in crd_resources(item.body):
                self.resources.forget(api_version)


def _established(crd: dict[str, Any]) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(condition.get("type") == "Established" and condition.get("status") == "True" for condition in conditions)


def _written(state: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy({key: value for key, value in state.items() if key not in ("status", "apiVersion", "kind")})
    metadata = result["metadata"]
    for key in ("resourceVersion", "generation"):
        metadata.pop(key, None)
    for entry in metadata.get("managedFields") or []:
        entry.pop("time", None)
    metadata["managedFields"] = sorted(
        metadata.get("managedFields") or [], key=lambda entry: (entry.get("manager", ""), entry.get("operation", ""), entry.get("subresource", ""))
    )
    return result


def conflicting_managers(error: ApiError) -> set[str]:
    """The other managers of a conflict of server-side apply; empty for any other error."""
    if error.status != 409:
        return set()
    found = set()
    for cause in error.causes:
        if cause.get("reason") == "FieldManagerConflict" or cause.get("type") == "FieldManagerConflict":
            match = _CONFLICT_MANAGER.search(str(cause.get("message") or ""))
            found.add(match.group(1) if match else "another manager")
    return found


def shape_problem(document: Any) -> str:
    """Why this is not a Kubernetes object; empty when it is one."""
    if not isinstance(document, dict):
        return f"expected an object (a mapping), got {type(document).__name__}"
    for key in ("apiVersion", "kind"):
        if not isinstance(document.get(key), str) or not document[key]:
            return f"{key} is missing"
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        return "metadata.name is missing"
    return ""


def _placeholder(document: Any, position: int) -> dict[str, Any]:
    kind = str(document.get("kind") or "object") if isinstance(document, dict) else "object"
    return {"apiVersion": "", "kind": kind, "metadata": {"name": f"number {position + 1}"}}


def secret_values(objects: Iterable[Any]) -> set[str]:
    """Values of Secrets that must not be seen in any output, plain and in base64; short words are left out."""
    import base64

    found: set[str] = set()
    for document in objects:
        if not isinstance(document, dict) or document.get("kind") != "Secret":
            continue
        for value in (document.get("stringData") or {}).values():
            found.add(str(value))
        for value in (document.get("data") or {}).values():
            found.add(str(value))
            try:
                found.add(base64.b64decode(str(value)).decode())
            except ValueError:
                pass
    return {value for value in found if len(value) >= 8}
