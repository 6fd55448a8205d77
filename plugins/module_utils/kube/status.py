# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether workloads and nodes are as they should be, and if not, why, in words."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client, Unreachable
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import NODES, PODS, WELL_KNOWN

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
_APPS = "apps/v1"
_POLL = 1.0


def wait_for(check: Callable[[], dict[str, str]], timeout: float, pause: float = _POLL) -> dict[str, str]:
    """Call C(check) until it finds no obstacle or the time is over; returns the obstacles that are left by name."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            obstacles = check()
        except Unreachable as error:
            obstacles = {"API server": error.message}
        if not obstacles or time.monotonic() + pause > deadline:
            return obstacles
        time.sleep(pause)


# --- workloads -------------------------------------------------------------------------------------------------------


def rollout_obstacle(workload: dict[str, Any] | None) -> str:
    """Why a Deployment, DaemonSet or StatefulSet is not rolled out; empty when it is."""
    if workload is None:
        return "does not exist"
    spec, status = workload.get("spec") or {}, workload.get("status") or {}
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 1):
        return "is not yet seen by its controller"
    if workload["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        updated, ready = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
        if wanted == 0:
            return "finds no node to run on"
    else:
        wanted = spec.get("replicas", 1)
        updated, ready = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
        if status.get("replicas", 0) > max(updated, wanted):
            return f"still has {status['replicas'] - updated} old pods"
    if updated < wanted:
        return f"has {updated} of {wanted} pods up to date"
    if ready < wanted:
        return f"has {ready} of {wanted} pods ready"
    return ""


def has_ended(pod: dict[str, Any]) -> bool:
    """Whether a pod was evicted or ran to its end: it holds nothing any more, though it may stay in the API for long."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def pod_obstacles(client: Client, workload: dict[str, Any]) -> list[str]:
    """What keeps the pods of a workload from being ready, each cause once."""
    labels = ((workload.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    path = PODS.collection(workload["metadata"]["namespace"])
    found: dict[str, list[str]] = {}
    try:
        for pod in client.items(path, {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}):
            for cause in pod_causes(pod):
                found.setdefault(cause, []).append(pod["metadata"]["name"])
    except ApiError as error:
        return [f"its pods can't be read: {error.message}"]
    return [f"{cause} ({', '.join(names[:3])}{' and more' if len(names) > 3 else ''})" for cause, names in found.items()]


def pod_causes(pod: dict[str, Any]) -> list[str]:
    """Why one pod is not ready."""
    status = pod.get("status") or {}
    causes = []
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            causes.append(f"can't be placed on a node: {condition.get('message') or condition.get('reason')}")
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
            causes.append(f"the image {container.get('image')} of container {container.get('name')} can't be pulled; name another image or registry")
        elif reason and reason not in ("ContainerCreating", "PodInitializing"):
            last = (container.get("lastState") or {}).get("terminated") or {}
            detail = str(last.get("message") or waiting.get("message") or last.get("reason") or "").strip()
            code = f", exit code {last['exitCode']}" if "exitCode" in last else ""
            causes.append(f"container {container.get('name')}: {reason}{code}: {detail[-300:]}")
        elif reason == "ContainerCreating":
            causes.append(f"container {container.get('name')} is being created")
        elif "running" in state and not container.get("ready"):
            causes.append(f"container {container.get('name')} runs but is not ready")
    return causes


def workload_path(kind: str, namespace: str, name: str) -> str:
    return WELL_KNOWN[(_APPS, kind)].path(name, namespace)


def rollouts(client: Client, workloads: list[dict[str, str]]) -> dict[str, str]:
    """Obstacles of all given workloads (kind, namespace, name)."""
    obstacles = {}
    for entry in workloads:
        live = client.find(workload_path(entry["kind"], entry["namespace"], entry["name"]))
        if live is not None:
            live["kind"] = entry["kind"]
        obstacle = rollout_obstacle(live)
        if obstacle:
            obstacles[f"{entry['kind']} {entry['namespace']}/{entry['name']}"] = obstacle
    return obstacles


# --- nodes -----------------------------------------------------------------------------------------------------------


def node_facts(node: dict[str, Any]) -> dict[str, Any]:
    """What is worth knowing of a node for the cloud provider's work."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    labels = node["metadata"].get("labels") or {}
    return {
        "name": node["metadata"]["name"],
        "provider_id": spec.get("providerID") or "",
        "initialized": not any(taint.get("key") == UNINITIALIZED for taint in spec.get("taints") or []),
        "ready": any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in status.get("conditions") or []),
        "internal_ips": [entry["address"] for entry in status.get("addresses") or [] if entry.get("type") == "InternalIP"],
        "control_plane": any(f"node-role.kubernetes.io/{role}" in labels for role in ("control-plane", "master")),
    }


def provider_conflict(facts: dict[str, Any], wanted_id: str) -> str:
    """Why the cloud provider must not see this node; empty when it may."""
    if wanted_id and facts["provider_id"] and facts["provider_id"].lower() != wanted_id.lower():
        return (
            f"has the providerID {facts['provider_id']}, wanted {wanted_id}. The cloud provider removes a node whose VM it can't find under the BIOS UUID. "
            "A providerID can't be changed: drain and delete the Node object, correct kubelet-arg provider-id, restart k3s"
        )
    return ""


def node_obstacle(facts: dict[str, Any] | None, wanted_id: str, wanted_ip: str) -> str:
    """Why a node is not taken over by the cloud provider; empty when it is."""
    if facts is None:
        return (
            "is not in the cluster. Either it has not joined, or the cloud provider removed it because no VM in the listed datacenters has its provider id"
        )
    if not facts["provider_id"]:
        return (
            "has no providerID. The cloud provider found no VM for it: its kubelet was given none (kubelet-arg provider-id), "
            "and no VM has a guest host name equal to the node's name"
        )
    conflict = provider_conflict(facts, wanted_id)
    if conflict:
        return conflict
    if not facts["initialized"]:
        return (
            f"still has the taint {UNINITIALIZED}. The cloud provider did not find the VM {facts['provider_id']} (wrong UUID, a datacenter that is not listed, "
            "no right to read it), or VMware Tools report no address that is the node's IP, or another guest host name"
        )
    if not facts["internal_ips"]:
        return "has no InternalIP. VMware Tools report no address in the networks given"
    if wanted_ip and _address(wanted_ip) not in [_address(found) for found in facts["internal_ips"]]:
        found = ", ".join(facts["internal_ips"])
        return f"has the InternalIP {found}, wanted {wanted_ip}. VMware Tools list another address first; set cpi_nodes.internal_network_subnet_cidr"
    return ""


def _address(text: str) -> str:
    """An address as it is usually written; IPv6 has many spellings."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def nodes(client: Client) -> dict[str, dict[str, Any]]:
    return {node["metadata"]["name"]: node_facts(node) for node in client.items(NODES.collection())}


def log_lines(client: Client, namespace: str, selector: str, words: list[str], limit: int = 3) -> dict[str, list[str]]:
    """The last lines of pods' logs that hold one of these words; an unreadable log is no error here."""
    pods = PODS
    found: dict[str, list[str]] = {word: [] for word in words}
    try:
        names = [pod["metadata"]["name"] for pod in client.items(pods.collection(namespace), {"labelSelector": selector})]
    except ApiError:
        return found
    for name in names:
        try:
            text = client.raw("GET", pods.path(name, namespace) + "/log", {"tailLines": 1000}, accept="*/*", patience=2.0).decode(errors="replace")
        except ApiError:
            continue
        for line in text.splitlines():
            # klog marks warnings and errors so; the rest only says that all is well.
            if line[:1] in ("E", "W", "F"):
                for word in words:
                    if word in line:
                        found[word].append(line)
    return {word: lines[-limit:] for word, lines in found.items()}
