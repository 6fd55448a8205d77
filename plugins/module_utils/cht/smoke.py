# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A county as a user's browser meets it: through the ingress controller, to the login page and, with an account that the list names, past it.

Asked through the API server's port forwarding to the controller's pod, so that it needs neither DNS nor a way from here to the nodes. Nothing is
created: CouchDB keeps no sessions.
"""

from __future__ import annotations

import json
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import County
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.portforward import ForwardError, exchange
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import PODS
from ansible_collections.cht.k3s.plugins.module_utils.kube.status import has_ended

Object = dict[str, t.Any]

_LOGIN, _WHO = "/medic/login", "/api/deploy-info"
# Ports of ingress controllers by the names that their charts give them.
_PLAIN, _ENCRYPTED = ("web", "http"), ("websecure", "https")

# method, path, headers, body -> status, headers, body
Ask = t.Callable[[str, str, "dict[str, str]", bytes], tuple[int, "list[tuple[str, str]]", bytes]]


class SmokeError(Exception):
    """A county can't be tested from here; the message says why."""


def meet(client: Client, county: County) -> str:
    """Return what a user of a county meets instead of it; empty when it is there."""
    pod, port = controller(list(_controllers(client, county)), county["tls"]["mode"] != "none")
    name = county.host if county["tls"]["mode"] != "none" else ""

    def ask(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        lines = {"Host": county.host, **headers}
        return exchange(client, county["ingress"]["controller_namespace"], pod, port, path, lines, 20.0, method, body, name)

    account = county["smoke_test"]
    try:
        return browse(ask, account["user"] or "", account["password"] or "", bool(name) or county["ingress"]["tls_in_front"])
    except (ApiError, ForwardError) as error:
        return f"the ingress controller does not answer: {error}"


def _controllers(client: Client, county: County) -> t.Iterator[Object]:
    labels = ",".join(f"{key}={value}" for key, value in sorted(county["ingress"]["controller_labels"].items()))
    try:
        for item in client.items(PODS.collection(county["ingress"]["controller_namespace"]), {"labelSelector": labels}):
            if not has_ended(item) and not item["metadata"].get("deletionTimestamp") and (item.get("status") or {}).get("phase") == "Running":
                yield item
    except ApiError as error:
        raise SmokeError(error.message) from error


def controller(pods: list[Object], encrypted: bool) -> tuple[str, int]:
    """Return a pod of the ingress controller and its port."""
    names = _ENCRYPTED if encrypted else _PLAIN
    for pod in pods:
        for container in pod["spec"].get("containers") or []:
            for port in container.get("ports") or []:
                if port.get("name") in names:
                    return str(pod["metadata"]["name"]), int(port["containerPort"])
    raise SmokeError(f"no pod of the ingress controller runs that has a port {' or '.join(names)}")


def browse(ask: Ask, user: str, password: str, encrypted: bool) -> str:
    """Open the login page, and log in and ask for the version when there is an account; return what is wrong."""
    status, dummy, page = ask("GET", _LOGIN, {"Accept": "text/html"}, b"")
    if status != 200 or b"<html" not in page.lower():
        return f"users get {status} for {_LOGIN} and no login page{' (the ingress does not lead to API)' if status == 404 else ''}"
    if not user:
        return ""
    body = json.dumps({"user": user, "password": password}).encode()
    status, headers, dummy_ = ask("POST", _LOGIN, {}, body)
    cookies = [value for name, value in headers if name.lower() == "set-cookie" and value.startswith("AuthSession=")]
    if status == 401:
        return f"the account '{user}' of smoke_test can't log in (401)"
    if status not in (200, 302) or not cookies:
        return f"logging in is answered with {status}{'' if cookies else ' and no session'}"
    if "secure" in [part.strip().lower() for part in cookies[0].split(";")] and not encrypted:
        return "the session's cookie is Secure, and users come over plain HTTP: no browser sends it, so nobody can log in"
    status, dummy, answer = ask("GET", _WHO, {"Cookie": cookies[0].partition(";")[0]}, b"")
    try:
        version = json.loads(answer).get("version") if status == 200 else ""
    except (ValueError, AttributeError):
        version = ""
    return "" if version else f"{_WHO} is answered with {status} to who is logged in, and without a version"
