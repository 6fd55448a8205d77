# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a county works, beyond its pods being ready: CouchDB's nodes see each other, and API answers."""

from __future__ import annotations

import base64
import json
import time
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import SECRET_NAME, decode_secret
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import API_PORT, COUCHDB_PORT, SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.portforward import ForwardError, request
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import PODS, SECRETS


Ask = t.Callable[[str, int, str, dict[str, str]], tuple[int, bytes]]


def membership_problem(status: int, body: bytes, nodes: int) -> str:
    """Why CouchDB's /_membership shows no whole cluster; empty when it does."""
    if status != 200:
        return f"CouchDB answers /_membership with {status}"
    try:
        answer = json.loads(body)
        known, members = set(answer["all_nodes"]), set(answer["cluster_nodes"])
    except (ValueError, KeyError, TypeError):
        return "CouchDB answers /_membership with something else than its nodes"
    if len(members) != nodes:
        return f"CouchDB's cluster has {len(members)} of {nodes} nodes ({', '.join(sorted(members))})"
    if members - known:
        return f"CouchDB nodes are not connected: {', '.join(sorted(members - known))}"
    return ""


def info_problem(status: int, body: bytes) -> str:
    """Why API's /api/info is not what CHT answers; empty when it is."""
    if status != 200:
        return f"API answers /api/info with {status}"
    try:
        version = json.loads(body)["version"]
    except (ValueError, KeyError, TypeError):
        version = ""
    return "" if version else "API answers /api/info without a version"


def check(client: Client, namespace: str, timeout: float = 10.0) -> str:
    """Return what is wrong with a county whose pods are ready; empty when it works. All its answers together have C(timeout) seconds."""
    deadline = time.monotonic() + timeout

    def ask(pod: str, port: int, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        return request(client, namespace, pod, port, path, headers, max(0.1, deadline - time.monotonic()))

    try:
        # Evicted pods and those of an agent that was shut down stay as Failed; nobody answers there.
        pods = [
            item
            for item in client.items(PODS.collection(namespace), {"labelSelector": SERVICE_LABEL})
            if not item["metadata"].get("deletionTimestamp") and (item.get("status") or {}).get("phase") == "Running"
        ]
        secret = client.find(SECRETS.path(SECRET_NAME, namespace))
        return judge_health(pods, decode_secret(secret) if secret else {}, ask)
    except (ApiError, ForwardError) as error:
        return f"can't be asked whether it works: {error}"


def judge_health(pods: list[dict[str, t.Any]], credentials: dict[str, str], ask: Ask) -> str:
    """Ask the first CouchDB node and API of one county."""
    by_service = {pod["metadata"]["labels"][SERVICE_LABEL]: pod["metadata"]["name"] for pod in pods}
    databases = sorted(service for service in by_service if service == "couchdb" or service.startswith("couchdb-"))
    if not databases or "api" not in by_service:
        return "its pods are gone"
    pair = base64.b64encode(f"{credentials.get('COUCHDB_USER', '')}:{credentials.get('COUCHDB_PASSWORD', '')}".encode()).decode()
    answer = ask(by_service[databases[0]], COUCHDB_PORT, "/_membership", {"Authorization": f"Basic {pair}"})
    return membership_problem(*answer, len(databases)) or info_problem(*ask(by_service["api"], API_PORT, "/api/info", {}))


def checker(client: Client, wanted: bool) -> t.Callable[[str], str] | None:
    """What asks a namespace whether its county works, for the option C(health) of a module."""
    return (lambda namespace: check(client, namespace)) if wanted else None
