# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What k3s' cloud controller does: initialise nodes (unless disabled) and ServiceLB."""
from __future__ import annotations

from typing import Any

from . import log
from .agent import TAINT
from .kube import ApiError, Cache, Debounce
from .network import internal_ip

LB_FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
LB_LABEL = "svccontroller.k3s.cattle.io/enablelb"


def start(server: Any) -> None:
    workers = []
    if not server.options["disable-cloud-controller"]:
        workers.append(Debounce("cloud-controller", lambda: initialise(server), settle=0.2, every=10))
    if "servicelb" not in server.disabled:
        services = Cache(server.client, "/api/v1/services")
        worker = Debounce("servicelb", lambda: balance(server, services), settle=1, every=20)
        services.changed = worker.poke
        workers.append(worker)

    def changed() -> None:
        for item in workers:
            item.poke()
    previous = server.nodes.changed

    def chain() -> None:
        if previous:
            previous()
        changed()
    server.nodes.changed = chain


def initialise(server: Any) -> None:
    if not server.leader.leading:
        return
    for node in server.nodes.values():
        taints = node.get("spec", {}).get("taints") or []
        if not any(taint["key"] == TAINT for taint in taints):
            continue
        name = node["metadata"]["name"]
        path = f"/api/v1/nodes/{name}"
        address = internal_ip(node)
        body: dict[str, Any] = {
            "metadata": {"labels": {"node.kubernetes.io/instance-type": "k3s", "beta.kubernetes.io/instance-type": "k3s"}},
            "spec": {"taints": [taint for taint in taints if taint["key"] != TAINT] or None},
        }
        if not node["spec"].get("providerID"):
            body["spec"]["providerID"] = f"k3s://{name}"
        try:
            addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
            server.client.strategic(f"{path}/status", {"status": {"addresses": addresses}})
            server.client.patch(path, body)
            log.info(f"Successfully initialized node {name} with cloud provider")
        except ApiError as err:
            log.error(f"error initializing node {name}: {err}")


def is_ready(node: dict) -> bool:
    return any(row["type"] == "Ready" and row["status"] == "True" for row in (node.get("status") or {}).get("conditions") or [])


def balance(server: Any, services: Cache) -> None:
    if not server.leader.leading or not services.synced.is_set():
        return
    nodes = [node for node in server.nodes.values() if is_ready(node) and internal_ip(node)
             and not any(taint["key"] == TAINT for taint in node.get("spec", {}).get("taints") or [])
             and "node.kubernetes.io/exclude-from-external-load-balancers" not in (node["metadata"].get("labels") or {})]
    chosen = [node for node in nodes if (node["metadata"].get("labels") or {}).get(LB_LABEL) == "true"]
    addresses = sorted(internal_ip(node) for node in chosen or nodes)
    for service in services.values():
        spec, meta = service["spec"], service["metadata"]
        if spec.get("type") != "LoadBalancer" or spec.get("loadBalancerClass") or meta.get("deletionTimestamp"):
            continue
        wanted = list(addresses)
        if spec.get("externalTrafficPolicy") == "Local":
            wanted = [item for item in wanted if item in endpoint_nodes(server, meta)]
        ingress = (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or []
        if sorted(row.get("ip", "") for row in ingress) == wanted:
            continue
        path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}"
        rows = [{"ip": address, "ipMode": "VIP"} for address in wanted]
        server.client.patch(f"{path}/status", {"status": {"loadBalancer": {"ingress": rows}}})
        log.info(f"Updated LoadBalancer status of service {meta['namespace']}/{meta['name']}: {' '.join(wanted)}")


def endpoint_nodes(server: Any, meta: dict) -> set[str]:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{meta['namespace']}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{meta['name']}"
    names = {row.get("nodeName") for item in server.client.items(path) for row in item.get("endpoints") or []
             if (row.get("conditions") or {}).get("ready") is not False}
    return {internal_ip(node) for node in server.nodes.values() if node["metadata"]["name"] in names}
