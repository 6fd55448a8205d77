# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the password of CouchDB's administrator in a county that runs.

The Secret only seeds a new CouchDB; one that runs keeps its password on its volume. So CouchDB is told first. Then the Secret is written
and everything restarts, upon which the other nodes take the administrator over from the first.
"""

from __future__ import annotations

import base64
import json
import typing as t
from dataclasses import dataclass
from urllib.parse import quote

from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import COUCHDB_PORT, SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.portforward import ForwardError, request
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import PODS


Ask = t.Callable[[str, str, str, bytes], tuple[int, bytes]]


class PasswordError(Exception):
    """CouchDB did not take the new password; the message says why and what to do."""


@dataclass(frozen=True)
class Change:
    """From one password to another."""

    user: str
    old: str
    new: str


def change(client: Client, namespace: str, service: str, wanted: Change) -> bool:
    """Tell the first CouchDB node of a county; return False when it knows the new password already."""
    try:
        pods = [
            pod["metadata"]["name"]
            for pod in client.items(PODS.collection(namespace), {"labelSelector": f"{SERVICE_LABEL}={service}"})
            if not pod["metadata"].get("deletionTimestamp") and (pod.get("status") or {}).get("phase") == "Running"
        ]
        if not pods:
            raise PasswordError(f"{service} does not run, and only a running CouchDB can change its password: bring the county up first")

        def ask(method: str, path: str, password: str, body: bytes) -> tuple[int, bytes]:
            pair = base64.b64encode(f"{wanted.user}:{password}".encode()).decode()
            return request(client, namespace, pods[0], COUCHDB_PORT, path, {"Authorization": f"Basic {pair}"}, method=method, body=body)

        return tell(ask, wanted)
    except (ApiError, ForwardError) as error:
        raise PasswordError(f"CouchDB can't be told its new password: {error}") from error


def tell(ask: Ask, wanted: Change) -> bool:
    """Change the password unless an interrupted run did it already."""
    if ask("GET", "/_session", wanted.new, b"")[0] == 200:
        return False
    status, dummy = ask("PUT", f"/_node/_local/_config/admins/{quote(wanted.user, safe='')}", wanted.old, json.dumps(wanted.new).encode())
    if status == 401:
        raise PasswordError("CouchDB takes neither the new password nor the one in the Secret: put the one that it has into the Secret first")
    if status != 200:
        raise PasswordError(f"CouchDB answers {status} when told its new password")
    return True
