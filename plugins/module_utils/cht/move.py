# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move one whole county to another agent: stop it, let its volumes go, start it there, look whether it works.

Pods are stopped first, since those that still end would draw the new ones back to their agent. The new home is a preference on the
Deployments, of a field manager of its own: cht.k3s never sends that field, so that deploying the county again leaves it there.
"""

from __future__ import annotations

import copy
import time
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import OperationError, alive, note_of, taken
from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import PAUSED
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore_mark import mark_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.wait import Check, Target, wait
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import FIELD_MANAGER
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import ATTACHMENTS, DEPLOYMENTS, NAMESPACES, NODES, PODS, VOLUMES
from ansible_collections.cht.k3s.plugins.module_utils.kube.status import has_ended

Object = dict[str, t.Any]

# Known to kube/apply.py as ours: what an interrupted move left is put right by the next run of projects.yml, too.
MANAGER = f"{FIELD_MANAGER}-rebalance"
# On the namespace while the county is stopped for a move.
MOVING = "cht.k3s/moving-to"
_HOSTNAME = "kubernetes.io/hostname"
_MERGE = "application/merge-patch+json"


class MoveError(Exception):
    """A county was not moved; the message says how it stands and what to do."""


def preference(agent: str) -> Object:
    """A node affinity for one agent that is weaker than the county's wish to stay together.

    The scheduler scales the best node to 100, so one term would weigh as much as all other pods of the county, and a pod that is
    replaced while its county is elsewhere could part from it. The first term, which all nodes meet, makes the difference 70.
    """
    return {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 30, "preference": {"matchExpressions": [{"key": _HOSTNAME, "operator": "Exists"}]}},
        {"weight": 70, "preference": {"matchExpressions": [{"key": _HOSTNAME, "operator": "In", "values": [agent]}]}},
    ]}


def home_of(deployment: Object) -> str:
    """The host name that an earlier move gave a Deployment; empty when it was never moved."""
    affinity = (deployment["spec"]["template"]["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []:
        for expression in (term.get("preference") or {}).get("matchExpressions") or []:
            if expression.get("key") == _HOSTNAME and expression.get("operator") == "In" and expression.get("values"):
                return str(expression["values"][0])
    return ""


def moving_to(namespace: Object) -> str:
    """The agent of a move that was begun and not ended."""
    return str((namespace["metadata"].get("annotations") or {}).get(MOVING) or "")


def stopped(deployments: list[Object]) -> list[str]:
    """The Deployments that are scaled to zero."""
    return sorted(item["metadata"]["name"] for item in deployments if item["spec"].get("replicas", 1) == 0)


def interrupted_move(namespace: Object, deployments: list[Object]) -> str:
    """The agent to which a county was on its way when the move died; empty when it was started again meanwhile, by whomever."""
    down = set(stopped(deployments))
    by_others = any((item["metadata"].get("annotations") or {}).get(PAUSED) for item in deployments if item["metadata"]["name"] in down)
    return moving_to(namespace) if down and not by_others else ""


def is_stale(namespace: Object, deployments: list[Object]) -> bool:
    """Tell whether a move was begun of which nothing is left to be done."""
    return bool(moving_to(namespace)) and not stopped(deployments) and not alive(note_of(namespace), time.time())


def mark(client: Client, namespace: str, agent: str | None) -> None:
    """Note on a namespace where its county is going; None takes the note away."""
    client.json("PATCH", NAMESPACES.path(namespace), {"fieldManager": MANAGER}, {"metadata": {"annotations": {MOVING: agent}}}, _MERGE)


def with_replicas(entries: list[Object]) -> list[Object]:
    """Return managedFields in which C(spec.replicas) is the county's again, and no longer this module's."""
    result = copy.deepcopy(entries)
    for entry in result:
        spec = (entry.get("fieldsV1") or {}).get("f:spec")
        if entry.get("subresource") or spec is None:
            continue
        if entry.get("manager") == MANAGER:
            spec.pop("f:replicas", None)
        elif entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply":
            spec["f:replicas"] = {}
    return result


class Mover:
    """Moves one county. C(check) asks a namespace whose pods are ready whether it works."""

    def __init__(self, client: Client, county: str, namespace: str, timeout: float, check: Check | None = None) -> None:
        self.client = client
        self.county = county
        self.namespace = namespace
        self.timeout = timeout
        self.check = check

    def run(self, agent: str) -> None:
        """Move it; MoveError when it is not there and well in the end."""
        try:
            self._run(agent)
        except ApiError as error:
            raise MoveError(f"county '{self.county}' was not moved to {agent}: {error.message}; run again to go on") from error

    def _run(self, agent: str) -> None:
        node = self.client.find(NODES.path(agent))
        if node is None:
            raise MoveError(f"county '{self.county}': there is no node {agent}; nothing was changed")
        host = (node["metadata"].get("labels") or {}).get(_HOSTNAME, agent)
        try:
            with taken(self.client, self.namespace, "move") as operation:
                # As it is now: the plan may be old by the time that this county's turn comes.
                deployments = self._deployments()
                mark(self.client, self.namespace, agent)
                operation.hold()
                left = self._carry(deployments, agent, host)
                if left:
                    raise MoveError(
                        f"county '{self.county}' was not moved to {agent}: after {self.timeout:.0f} s {left}. It was started again; run again to go on"
                    )
                self._look(agent)
        except OperationError as error:
            raise MoveError(f"county '{self.county}' was not moved to {agent}: {error}") from error

    def _deployments(self) -> list[Object]:
        """The county's Deployments; MoveError when it must not be stopped and started now."""
        deployments = list(self.client.items(DEPLOYMENTS.collection(self.namespace), {"labelSelector": SERVICE_LABEL}))
        if not deployments:
            raise MoveError(f"county '{self.county}': there are no Deployments in namespace {self.namespace}; nothing was changed")
        namespace = self.client.get(NAMESPACES.path(self.namespace))
        restoring = mark_of(namespace)
        if restoring:
            raise MoveError(
                f"county '{self.county}': a restore of the set {restoring['set']} is half done: finish it with restore_project first; nothing was changed"
            )
        if stopped(deployments) and not interrupted_move(namespace, deployments):
            raise MoveError(
                f"county '{self.county}' is stopped now ({', '.join(stopped(deployments))} scaled to zero): a move would start it. Bring it up with "
                "projects.yml, then run again for a new plan; nothing was changed"
            )
        return deployments

    def _carry(self, deployments: list[Object], agent: str, host: str) -> str:
        """Stop it, wait until it is free, start it; return what was still in the way when the time was over."""
        try:
            for deployment in deployments:
                self._patch(deployment, {"replicas": 0, "template": {"spec": {"affinity": {"nodeAffinity": preference(host)}}}})
            return self._until_free(agent)
        finally:
            # Also when this was interrupted or did not get free: a county must not stay stopped.
            self._start(deployments)
            mark(self.client, self.namespace, None)

    def _start(self, deployments: list[Object]) -> None:
        """Bring all up before anything that can fail for one of them; raise the first error when all was tried."""
        errors: list[ApiError] = []
        for step in (lambda item: self._patch(item, {"replicas": 1}), self._give_back):
            for deployment in deployments:
                try:
                    step(deployment)
                except ApiError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def _path(self, deployment: Object) -> str:
        return DEPLOYMENTS.path(deployment["metadata"]["name"], self.namespace)

    def _patch(self, deployment: Object, spec: Object) -> None:
        self.client.json("PATCH", self._path(deployment), {"fieldManager": MANAGER}, {"spec": spec}, _MERGE)

    def _give_back(self, deployment: Object) -> None:
        """Who writes a field owns it; without this the next run of projects.yml would find replicas taken."""
        for dummy in range(5):
            live = self.client.get(self._path(deployment))
            entries = live["metadata"].get("managedFields") or []
            body = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"], "managedFields": with_replicas(entries)}}
            try:
                self.client.json("PATCH", self._path(deployment), {"fieldManager": MANAGER}, body, _MERGE)
                return
            except ApiError as error:
                if error.status != 409:
                    raise
        # The Deployment's controller wrote five times in between; the next run of projects.yml claims the field, and nothing restarts.

    def _until_free(self, agent: str) -> str:
        """Wait until the county's pods are gone and its volumes let go; return what is left when the time is over."""
        deadline = time.monotonic() + self.timeout
        volumes = {
            item["metadata"]["name"] for item in self.client.items(VOLUMES.collection())
            if (item["spec"].get("claimRef") or {}).get("namespace") == self.namespace
        }
        while True:
            pods = [
                item["metadata"]["name"] for item in self.client.items(PODS.collection(self.namespace), {"labelSelector": SERVICE_LABEL})
                if not has_ended(item)
            ]
            held = [] if pods else [
                f"{item['spec']['source']['persistentVolumeName']} on {item['spec']['nodeName']}" for item in self.client.items(ATTACHMENTS.collection())
                if item["spec"]["source"].get("persistentVolumeName") in volumes and item["spec"]["nodeName"] != agent
            ]
            if not pods and not held:
                return ""
            if time.monotonic() >= deadline:
                return f"its pods are still ending ({', '.join(pods)})" if pods else f"its volumes are still attached ({', '.join(held)})"
            time.sleep(1)

    def _look(self, agent: str) -> None:
        """The health gate, and whether the scheduler took the agent."""
        progress = wait(self.client, [Target(self.county, self.namespace)], self.timeout, check=self.check)[self.county]
        if not progress.done:
            raise MoveError(f"county '{self.county}' does not come back after its move to {agent}: {progress.obstacle}. Repair it, then run again")
        elsewhere = sorted({
            item["spec"].get("nodeName") or "" for item in self.client.items(PODS.collection(self.namespace), {"labelSelector": SERVICE_LABEL})
            if not item["metadata"].get("deletionTimestamp") and (item.get("status") or {}).get("phase") == "Running"
        } - {agent})
        if elsewhere:
            raise MoveError(
                f"county '{self.county}' works, but the scheduler put pods of it on {', '.join(elsewhere)} instead of {agent}:"
                f" has {agent} room, and all its labels and taints? See `kubectl describe node {agent}`"
            )
