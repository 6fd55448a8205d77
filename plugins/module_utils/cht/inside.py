# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the services of one county, each in its pod and as CouchDB's administrator, whom API takes for CHT's, too."""

from __future__ import annotations

import base64
import json
import time
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import SECRET_NAME, decode_secret
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import API_PORT, SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.portforward import ForwardError, request
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import PODS, SECRETS

Object = dict[str, t.Any]

# method, path, body -> status, answer (None where it is no JSON)
Api = t.Callable[[str, str, "Object | None"], tuple[int, t.Any]]


class InsideError(Exception):
    """Nobody answers; the message says why."""


def running(client: Client, namespace: str) -> dict[str, Object]:
    """Return service -> pod of what runs in a county. Evicted pods and those of an agent that was shut down stay as Failed; nobody answers there."""
    return {
        item["metadata"]["labels"][SERVICE_LABEL]: item
        for item in client.items(PODS.collection(namespace), {"labelSelector": SERVICE_LABEL})
        if not item["metadata"].get("deletionTimestamp") and (item.get("status") or {}).get("phase") == "Running"
    }


def administrator(credentials: dict[str, str]) -> dict[str, str]:
    """Return the header with which CouchDB's administrator asks."""
    pair = base64.b64encode(f"{credentials.get('COUCHDB_USER', '')}:{credentials.get('COUCHDB_PASSWORD', '')}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def api_of(client: Client, namespace: str, timeout: float = 10.0) -> Api:
    """Return what asks API; all its answers together have C(timeout) seconds."""
    deadline = time.monotonic() + timeout
    try:
        pod = running(client, namespace).get("api")
        secret = client.find(SECRETS.path(SECRET_NAME, namespace))
    except ApiError as error:
        raise InsideError(error.message) from error
    if pod is None:
        raise InsideError("API does not run")
    headers = administrator(decode_secret(secret) if secret else {})

    def ask(method: str, path: str, body: Object | None) -> tuple[int, t.Any]:
        sent = json.dumps(body).encode() if body is not None else b""
        left = max(0.1, deadline - time.monotonic())
        try:
            status, answer = request(client, namespace, pod["metadata"]["name"], API_PORT, path, headers, left, method, sent)
        except (ApiError, ForwardError) as error:
            raise InsideError(str(error)) from error
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, None

    return ask
