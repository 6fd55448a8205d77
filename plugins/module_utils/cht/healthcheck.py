# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A health check of haproxy that hangs: haproxy sees no node of CouchDB although all answer (cht-core#8644).

The check answers one caller after the other. When haproxy ends a connection before it was answered, as while the first node is away for long, the check
never comes to the next (cht-core, haproxy-healthcheck/check.py). API then has no database until that container is restarted.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import SECRET_NAME, decode_secret
from ansible_collections.cht.k3s.plugins.module_utils.cht.health import membership_problem
from ansible_collections.cht.k3s.plugins.module_utils.cht.inside import administrator, running
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import COUCHDB_PORT, HEALTHCHECK_PORT, service_name
from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import is_database, service_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import deployment_ready
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.portforward import ForwardError, read, request
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import SECRETS

Object = dict[str, t.Any]

TEXT = "haproxy sees no CouchDB node although all answer, as its health check hangs (cht-core#8644)"
# It asks CouchDB with a second's patience and answers at once.
_ASKED, _PATIENCE, _PAUSE = 3, 5.0, 2.0


def suspicious(deployments: list[Object]) -> bool:
    """Tell whether it is worth to ask: API is not ready, and all that it needs is."""
    by_service = {service_of(item): deployment_ready(item) for item in deployments}
    needed = [ready for service, ready in by_service.items() if is_database(service) or service in ("haproxy", "healthcheck")]
    return by_service.get("api") is False and len(needed) > 2 and all(needed)


def hanging(client: Client, namespace: str, sleep: t.Callable[[float], None] = time.sleep) -> str:
    """Return the pod of a health check that hangs; empty when there is none, or when it can't be told."""
    try:
        pods = running(client, namespace)
        databases = sorted(filter(is_database, pods))
        # An API whose pod does not even run has another reason, which the pod tells.
        if not {"api", "healthcheck"} <= pods.keys() or not databases or not _whole(client, namespace, pods, databases):
            return ""
        name = str(pods["healthcheck"]["metadata"]["name"])
    except (ApiError, ForwardError):
        return ""
    for number in range(_ASKED):
        if number:
            sleep(_PAUSE)
        try:
            if b"up" in read(client, namespace, name, HEALTHCHECK_PORT, _PATIENCE):
                return ""
        except (ApiError, ForwardError):
            continue
    return name


def _whole(client: Client, namespace: str, pods: dict[str, Object], databases: list[str]) -> bool:
    secret = client.find(SECRETS.path(SECRET_NAME, namespace))
    headers = administrator(decode_secret(secret) if secret else {})
    nodes = {f"couchdb@{service_name(service, namespace)}" for service in databases}
    answer = request(client, namespace, pods[databases[0]]["metadata"]["name"], COUCHDB_PORT, "/_membership", headers)
    return not membership_problem(*answer, nodes)
