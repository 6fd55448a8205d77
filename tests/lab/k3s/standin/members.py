# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd membership as seen from Kubernetes: promotion of learners, labels, annotations, EtcdIsVoter, removal."""
from __future__ import annotations

import threading
import time
from typing import Any

from . import log, nodepassword
from .etcd import EtcdError
from .kube import ApiError

FINALIZER = "wrangler.cattle.io/managed-etcd-controller"
NAME = "etcd.k3s.cattle.io/node-name"
ADDRESS = "etcd.k3s.cattle.io/node-address"
REMOVE = "etcd.k3s.cattle.io/remove"
REMOVED = "etcd.k3s.cattle.io/removed-node-name"
PROMOTE_SECONDS = 15
STALL_SECONDS = 300


def start_promotion(server: Any) -> None:
    threading.Thread(target=_promote_forever, args=(server,), name="learners", daemon=True).start()


def _promote_forever(server: Any) -> None:
    first_seen: dict[str, float] = {}
    while True:
        time.sleep(PROMOTE_SECONDS)
        try:
            if server.etcd.is_leader():
                _promote(server, first_seen)
        except EtcdError as err:
            log.debug(f"learners: {err}")


def _promote(server: Any, first_seen: dict[str, float]) -> None:
    learners = [member for member in server.etcd.members() if member.get("isLearner")]
    for stale in set(first_seen) - {member["ID"] for member in learners}:
        first_seen.pop(stale)
    for member in learners:
        name = member.get("name") or ",".join(member.get("peerURLs", []))
        since = first_seen.setdefault(member["ID"], time.monotonic())
        try:
            server.etcd.call("/v3/cluster/member/promote", {"ID": member["ID"]})
            log.info(f"Promoted learner {name}")
        except EtcdError as err:
            log.debug(f"learner {name}: {err}")
            if time.monotonic() - since > STALL_SECONDS:
                log.warning(f"Learner {name} stalled at RaftAppliedIndex=0 for {STALL_SECONDS}s")
                server.etcd.call("/v3/cluster/member/remove", {"ID": member["ID"]})
                log.warning(f"Removed learner {name} from etcd cluster")


def start_node_duties(server: Any) -> None:
    threading.Thread(target=_duties_forever, args=(server,), name="node-duties", daemon=True).start()


def _duties_forever(server: Any) -> None:
    server.nodes.synced.wait()
    while True:
        try:
            nodes = server.nodes.values()
            mine = next((node for node in nodes if node["metadata"]["name"] == server.name), None)
            if mine is not None:
                _own_node(server, mine)
            if server.leader.leading:
                for node in nodes:
                    _removal(server, node)
                    nodepassword_owner(server, node)
        except (ApiError, EtcdError) as err:
            log.debug(f"node duties: {err}")
        time.sleep(2 if not server.owned else 5)


def nodepassword_owner(server: Any, node: dict) -> None:
    uid = node["metadata"]["uid"]
    if uid not in server.adopted:
        nodepassword.adopt(server.client, node)
        server.adopted.add(uid)


def _own_node(server: Any, node: dict) -> None:
    if node["metadata"].get("deletionTimestamp"):
        return
    meta = node["metadata"]
    path = f"/api/v1/nodes/{server.name}"
    annotations = meta.get("annotations") or {}
    if annotations.get(REMOVED) == server.etcd.member_name or annotations.get(REMOVE) == "true":
        return
    if not server.managed:
        if (meta.get("labels") or {}).get("node-role.kubernetes.io/control-plane") != "true":
            server.client.patch(path, {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": "true"}}})
        server.owned = True
        return
    labels = {"node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/etcd": "true"}
    notes = {NAME: server.etcd.member_name, ADDRESS: server.ip}
    if REMOVED in annotations:
        # joined again under a new member name
        notes[REMOVED] = None
    body: dict[str, Any] = {}
    if any((meta.get("labels") or {}).get(key) != value for key, value in labels.items()):
        body["labels"] = labels
    if any(annotations.get(key) != value for key, value in notes.items()):
        body["annotations"] = notes
    if FINALIZER not in (meta.get("finalizers") or []):
        body["finalizers"] = [*(meta.get("finalizers") or []), FINALIZER]
    if body:
        server.client.patch(path, {"metadata": body})
    server.owned = True
    _condition(server, node, path)


def _condition(server: Any, node: dict, path: str) -> None:
    reason = server.etcd.test()
    status, why, message = "True", "MemberNotLearner", "Node is a voting member of the etcd cluster"
    if "learner" in reason:
        status, why, message = "False", "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster"
    elif "not a member" in reason:
        status, why, message = "False", "NotAMember", "Node is not a member of the etcd cluster"
    elif reason:
        status, why, message = "False", "Unhealthy", reason
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    found = next((row for row in (node.get("status") or {}).get("conditions") or [] if row["type"] == "EtcdIsVoter"), None)
    if found and (found["status"], found["reason"]) == (status, why):
        return
    condition = {"type": "EtcdIsVoter", "status": status, "reason": why, "message": message, "lastHeartbeatTime": now, "lastTransitionTime": now}
    server.client.strategic(f"{path}/status", {"status": {"conditions": [condition]}})


def _removal(server: Any, node: dict) -> None:
    meta = node["metadata"]
    annotations = meta.get("annotations") or {}
    deleted = meta.get("deletionTimestamp") and FINALIZER in (meta.get("finalizers") or [])
    asked = annotations.get(REMOVE) == "true" and NAME in annotations
    if not (deleted or asked):
        return
    path = f"/api/v1/nodes/{meta['name']}"
    name = annotations.get(NAME, "")
    if name:
        remove_member(server, name, annotations.get(ADDRESS, ""))
    if deleted:
        rest = [item for item in meta["finalizers"] if item != FINALIZER]
        server.client.patch(path, {"metadata": {"finalizers": rest or None}})
    else:
        gone = {NAME: None, ADDRESS: None, REMOVE: None, REMOVED: name}
        labels = {"node-role.kubernetes.io/etcd": None}
        server.client.patch(path, {"metadata": {"annotations": gone, "labels": labels}})


def remove_member(server: Any, name: str, address: str) -> None:
    for member in server.etcd.members():
        if member.get("name") == name or (not member.get("name") and f"https://{address}:2380" in member.get("peerURLs", [])):
            log.info(f"Removing name={name} id={member['ID']} address={address} from etcd")
            server.etcd.call("/v3/cluster/member/remove", {"ID": member["ID"]})
