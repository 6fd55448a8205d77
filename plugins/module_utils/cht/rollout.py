# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far the pods of a county are, and what stands in their way."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import larger_quantity
from ansible_collections.cht.k3s.plugins.module_utils.kube.status import has_ended

Object = dict[str, t.Any]

# Reasons of a waiting container that don't go away by waiting; a county shows them at once.
_STUCK = (
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)


# How the obstacle of a county begins whose API indexes or migrates: that takes its time, and is no failure.
UPGRADING = "upgrading: "


@dataclass(frozen=True)
class Progress:
    """The state of one county's Deployments."""

    ready: int
    total: int
    obstacle: str = ""

    @property
    def done(self) -> bool:
        return self.total > 0 and self.ready == self.total and not self.obstacle

    @property
    def upgrading(self) -> bool:
        return self.obstacle.startswith(UPGRADING)


def deployment_ready(deployment: Object) -> bool:
    """Tell whether every pod of a Deployment is of its present template, ready, and none of an older one is left.

    A Deployment that is scaled to zero is not: nobody gets an answer from it.
    """
    status, wanted = deployment.get("status") or {}, (deployment.get("spec") or {}).get("replicas", 1)
    if not wanted:
        return False
    if (status.get("observedGeneration") or 0) < (deployment["metadata"].get("generation") or 0):
        return False
    counts = [status.get(key) or 0 for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    return all(count == wanted for count in counts)


def _short(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _deployment_obstacle(deployment: Object) -> str:
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return f"{deployment['metadata']['name']}: {condition.get('message') or condition.get('reason')}"
    return ""


def _pod_obstacle(pod: Object) -> tuple[int, str]:
    """Return how telling an obstacle is (lower tells more) and its text."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            return 0, f"pod {name}, container {container['name']}: {waiting['reason']}: {waiting.get('message', '')} (image {container.get('image', '?')})"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            message = str(condition.get("message") or condition.get("reason"))
            # What keeps the claim waiting tells more.
            return 3 if "PersistentVolumeClaim" in message else 1, f"pod {name} has no agent: {message}"
    for container in status.get("containerStatuses") or []:
        if not container.get("ready"):
            restarts = container.get("restartCount") or 0
            again = f", restarted {restarts} times" if restarts else ""
            return 3, f"pod {name}, container {container['name']} is not ready{again}"
    return 4, f"pod {name} is {status.get('phase', 'unknown')}"


def judge(
    deployments: list[Object], pods: t.Iterable[Object] = (), claims: t.Iterable[Object] = (), total: int | None = None,
    events: t.Iterable[Object] = (),
) -> Progress:
    """Return the progress of one county; `pods`, `claims` and the claims' `events` only serve to name the obstacle."""
    ready = sum(1 for deployment in deployments if deployment_ready(deployment))
    count = max(len(deployments), total or 0)
    if ready == count and count:
        return Progress(ready, count)
    obstacles: list[tuple[int, str]] = []
    for claim in claims:
        if (claim.get("status") or {}).get("phase") == "Pending":
            storage_class = claim.get("spec", {}).get("storageClassName", "")
            said = _last_said(events, claim["metadata"]["name"])
            obstacles.append((2, f"claim {claim['metadata']['name']} is Pending (StorageClass {storage_class}){f': {said}' if said else ''}"))
    for deployment in deployments:
        text = _deployment_obstacle(deployment)
        if text:
            obstacles.append((0, text))
    stopped = sorted(item["metadata"]["name"] for item in deployments if (item.get("spec") or {}).get("replicas", 1) == 0)
    if stopped:
        obstacles.append((1, f"stopped (scaled to zero): {', '.join(stopped)}"))
    # What failed for good stays as it is and says nothing of the pod that took its place.
    unready = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and not _pod_ready(pod) and not has_ended(pod)]
    obstacles.extend(_pod_obstacle(pod) for pod in unready)
    if not obstacles:
        names = sorted(item["metadata"]["name"] for item in deployments if not deployment_ready(item))
        obstacles.append((9, f"not ready yet: {', '.join(names) or 'no Deployment is there'}"))
    return Progress(ready, count, _short(min(obstacles)[1]))


def real_size(claim: Object) -> str:
    """Return the size of a claim's volume; what is asked for while it has none."""
    there = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    return str(there or claim["spec"]["resources"]["requests"]["storage"])


def ungrown(claim: Object, wanted: str = "") -> str:
    """Say of a bound claim that its volume is smaller than what it asks for, or is about to ask for; empty where it is not."""
    asked, there = claim["spec"]["resources"]["requests"]["storage"], real_size(claim)
    wish = larger_quantity(asked, wanted or asked)
    if (claim.get("status") or {}).get("phase") != "Bound" or larger_quantity(there, wish) == there:
        return ""
    times = [
        entry.get("time") or "" for entry in claim["metadata"].get("managedFields") or []
        if ((entry.get("fieldsV1") or {}).get("f:spec") or {}).get("f:resources") is not None
    ]
    since = f" since {max(times)}" if times and wish == asked else ""
    said = [
        f"{item['type']}{': ' + item['message'] if item.get('message') else ''}" for item in (claim.get("status") or {}).get("conditions") or []
        if item.get("status") == "True"
    ]
    return f"claim {claim['metadata']['name']} has {there}, and {wish} are wanted{since}{f' ({_short(said[0])})' if said else ''}"


def _last_said(events: t.Iterable[Object], name: str) -> str:
    """Return what was said last of an object, complaints before news."""
    own = [event for event in events if event["involvedObject"].get("name") == name and event.get("message")]
    return str(max(own, key=lambda event: (event.get("type") == "Warning", event.get("lastTimestamp") or ""))["message"]) if own else ""


def _pod_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
