# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Node tells of its machine, for the report: its role, its conditions and its vote in etcd."""

from __future__ import annotations

import typing as t

Object = dict[str, t.Any]

# States of a server in etcd. All but learners and those without etcd count for the majority.
VOTER, LOST, UNHEALTHY, LEARNER, NONE = "voter", "lost", "unhealthy", "learner", "none"
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
