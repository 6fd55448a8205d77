# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until the pods of counties are ready, and say what the others wait for."""

from __future__ import annotations

import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ansible_collections.cht.k3s.plugins.module_utils.cht import healthcheck
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import Progress, judge, ungrown
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import CLAIMS, DEPLOYMENTS, EVENTS, PODS

Objects = dict[str, list[dict[str, t.Any]]]
Check = t.Callable[[str], str]

# From the server's cache: a progress a second old is good enough and costs etcd nothing.
_CACHED = {"resourceVersion": "0"}
# Seconds in which counties may be asked even if nobody wants to wait.
_LEAST = 5.0


@dataclass(frozen=True)
class Target:
    """A county whose pods are waited for."""

    name: str
    namespace: str


def by_namespace(items: t.Iterable[dict[str, t.Any]]) -> Objects:
    """Sort listed objects by their namespace."""
    found: Objects = {}
    for item in items:
        found.setdefault(item["metadata"]["namespace"], []).append(item)
    return found


def _read(client: Client, resource: t.Any, targets: list[Target], cached: bool) -> Objects:
    """List one kind of CHT's objects: of one namespace when only one is asked for, else of all at once."""
    namespace = targets[0].namespace if len(targets) == 1 else None
    query = {"labelSelector": SERVICE_LABEL, **(_CACHED if cached else {})}
    return by_namespace(client.items(resource.collection(namespace), query))


def look(client: Client, targets: list[Target], cached: bool = True) -> dict[str, Progress]:
    """Return how far each county is, without naming obstacles."""
    deployments = _read(client, DEPLOYMENTS, targets, cached)
    return {target.name: judge(deployments.get(target.namespace, [])) for target in targets}


def explain(client: Client, targets: list[Target], ask: bool = False) -> dict[str, Progress]:
    """Return how far each county is, and what stands in its way; C(ask) the counties themselves where their pods don't tell."""
    deployments, pods, claims = (_read(client, resource, targets, False) for resource in (DEPLOYMENTS, PODS, CLAIMS))
    spaces = {target.namespace for target in targets}
    pending = [item for space in spaces for item in claims.get(space, []) if (item.get("status") or {}).get("phase") == "Pending"]
    events: Objects = {}
    if pending:
        space = targets[0].namespace if len(targets) == 1 else None
        events = by_namespace(client.items(EVENTS.collection(space), {"fieldSelector": "involvedObject.kind=PersistentVolumeClaim"}))
    progress = {
        target.name: judge(*(found.get(target.namespace, []) for found in (deployments, pods, claims)), events=events.get(target.namespace, []))
        for target in targets
    }
    for target in targets if ask else []:
        if healthcheck.suspicious(deployments.get(target.namespace, [])) and healthcheck.hanging(client, target.namespace):
            progress[target.name] = replace(progress[target.name], obstacle=f"{healthcheck.TEXT}: the next run restarts it")
    return progress


def growing(client: Client, namespace: str) -> str:
    """Return which claims of a county have not the size yet that they ask for."""
    return "; ".join(text for item in client.items(CLAIMS.collection(namespace), {"labelSelector": SERVICE_LABEL}) if (text := ungrown(item)))


def _checked(progress: dict[str, Progress], targets: list[Target], check: Check | None, until: float) -> dict[str, Progress]:
    """Look closer at the counties whose pods are ready; none is asked any more after `until`."""
    ready = [target for target in targets if progress[target.name].done]
    if check is None or not ready:
        return progress

    def ask(target: Target) -> str:
        # Each answer that does not come takes seconds; fifty of them would take the time of the next run.
        return check(target.namespace) if time.monotonic() < until else "there was no time left to ask whether it works"

    with ThreadPoolExecutor(max_workers=min(8, len(ready))) as pool:
        for target, problem in zip(ready, pool.map(ask, ready)):
            if problem:
                progress[target.name] = replace(progress[target.name], obstacle=problem)
    return progress


def wait(
    client: Client, targets: list[Target], timeout: float, interval: float = 2.0, check: Check | None = None, ask: bool | None = None,
) -> dict[str, Progress]:
    """Wait until all counties are ready or the time is over; obstacles are named for those that are not.

    C(check) says of a namespace whose pods are ready what is still wrong with it. Only one that was begun in time is waited for. C(ask) tells
    whether counties are asked themselves; left out, they are where there is a check.
    """
    deadline = time.monotonic() + timeout
    until = max(deadline, time.monotonic() + _LEAST)
    progress = _checked(look(client, targets, cached=False), targets, check, until)
    while True:
        pending = [target for target in targets if not progress[target.name].done]
        left = deadline - time.monotonic()
        if not pending or left <= 0:
            break
        time.sleep(min(interval, left))
        progress.update(_checked(look(client, pending), pending, check, until))
    if pending:
        for name, found in explain(client, pending, check is not None if ask is None else ask).items():
            # Whether it works was asked a moment ago, if its pods were ready then.
            before = progress[name]
            unasked = "its pods just became ready, and it was not asked yet whether it works" if check else ""
            progress[name] = replace(found, obstacle=before.obstacle if before.ready == before.total else unasked) if found.done else found
    return progress
