# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Node tells of its machine, for the report: its role, its vote in etcd, its clock, and what keeps it from taking pods."""

from __future__ import annotations

import datetime
import statistics
import typing as t

Object = dict[str, t.Any]

# States of a server in etcd. All but learners and those without etcd count for the majority.
VOTER, LOST, UNHEALTHY, LEARNER, NONE = "voter", "lost", "unhealthy", "learner", "none"
# Seconds by which a clock is surely off. The kubelet signs its lease every 10 s, and one that falls silent counts as ready for 50 s more.
CLOCK_LIMIT = 120.0
_SIGNED_AGO = 5.0
_PRESSURES = {
    "MemoryPressure": "is short of memory and evicts pods", "DiskPressure": "is short of disk and evicts pods", "PIDPressure": "is short of process IDs",
    "NetworkUnavailable": "has no pod network",
}
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
_CORDONED_BY = "k3s.cht/cordoned-by"
_NOT_VOTING = {"MemberIsLearner": LEARNER, "NotAMember": NONE}


def is_server(node: Object) -> bool:
    """Tell whether a node is of the control plane."""
    labels = node["metadata"].get("labels") or {}
    return any(f"node-role.kubernetes.io/{role}" in labels for role in ("control-plane", "master"))


def condition(node: Object, kind: str) -> Object:
    """Return a condition of a node; empty where it has none of this kind."""
    return next((item for item in (node.get("status") or {}).get("conditions") or [] if item.get("type") == kind), {})


def is_ready(node: Object) -> bool:
    """Tell whether the kubelet says that it is well."""
    return bool(condition(node, "Ready").get("status") == "True")


def vote(node: Object) -> str:
    """Return what a server is in etcd.

    k3s writes C(EtcdIsVoter) on its own Node alone, so the last word of a machine that is lost stays C(True).
    """
    said = condition(node, "EtcdIsVoter")
    if not said and "node-role.kubernetes.io/etcd" not in (node["metadata"].get("labels") or {}):
        return NONE
    state = VOTER if said.get("status") == "True" else _NOT_VOTING.get(said.get("reason") or "", UNHEALTHY)
    return LOST if not is_ready(node) and state in (VOTER, UNHEALTHY) else state


def faults(node: Object, off: float = 0.0) -> list[Object]:
    """Return what is wrong with a node, each with its level and the next command; C(off) is by how many seconds its clock differs from the others'."""
    name, spec = node["metadata"]["name"], node.get("spec") or {}
    taints = {taint["key"] for taint in spec.get("taints") or []}
    play = "ansible-playbook cht.k3s."
    release = f"{play}fence_node -e k3s_fence={name} --tags release"
    found: list[tuple[str, str, str]] = []
    if not is_ready(node):
        if _OUT_OF_SERVICE in taints:
            found.append(("bad", "is not ready, and was fenced", f"start its machine, then {release}"))
        elif is_server(node):
            found.append(("bad", "is not ready: its kubelet does not report", f"start its machine, then {play}site --tags control_plane --limit {name}"))
        else:
            found.append(("bad", "is not ready: its kubelet does not report", f"{play}fence_node -e k3s_fence={name}"))
    elif _OUT_OF_SERVICE in taints:
        found.append(("warning", "is out of service since it was fenced: no pod runs on it", release))
    if is_ready(node) and _UNINITIALIZED in taints:
        found.append(("bad", "is not initialised by the cloud provider: no pod is placed on it", f"{play}site --tags cpi"))
    if spec.get("unschedulable"):
        by = (node["metadata"].get("annotations") or {}).get(_CORDONED_BY)
        found.append(("warning", f"is cordoned{f' by {by}' if by else ''}: no new pods are placed on it", f"kubectl uncordon {name}"))
    for kind, text in _PRESSURES.items():
        if is_ready(node) and condition(node, kind).get("status") == "True":
            found.append(("bad", text, f"kubectl describe node {name}"))
    if abs(off) > CLOCK_LIMIT:
        side = "ahead of the other nodes: its clock is off" if off > 0 else "behind the other nodes: its clock is off, or it falls silent"
        found.append(("bad", f"signs its lease {abs(off):.0f} s {side}", f"{play}site --tags node --limit {name}"))
    state = vote(node) if is_server(node) else NONE
    if state == UNHEALTHY:
        found.append(("bad", "is ready, but its etcd is not a healthy voter", f"{play}site --tags control_plane --limit {name}"))
    elif state == LEARNER:
        found.append(("warning", "is a learner of etcd, which has no vote yet", f"{play}site --tags control_plane --limit {name}"))
    return [{"level": level, "text": text, "next": next_step} for level, text, next_step in found]


def takes_pods(node: Object) -> bool:
    """Tell whether pods are placed on a node, taints that people set aside."""
    spec = node.get("spec") or {}
    shut = {_OUT_OF_SERVICE, _UNINITIALIZED} & {taint["key"] for taint in spec.get("taints") or []}
    pressed = any(condition(node, kind).get("status") == "True" for kind in _PRESSURES)
    return is_ready(node) and not spec.get("unschedulable") and not shut and not pressed


def clocks(signed: dict[str, datetime.datetime], now: datetime.datetime) -> dict[str, float]:
    """Return by how many seconds each node's clock is ahead of the most, from the times at which they signed their leases.

    C(now) is this controller's clock, which may itself be the one that is off: it is one voice among them.
    """
    ages = {name: (now - when).total_seconds() for name, when in signed.items()}
    usual = statistics.median([*ages.values(), _SIGNED_AGO]) if len(ages) > 1 else _SIGNED_AGO
    return {name: usual - age for name, age in ages.items()}
