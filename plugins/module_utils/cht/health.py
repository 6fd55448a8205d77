# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a county works, beyond its pods being ready: CouchDB's nodes see each other, and API answers."""

from __future__ import annotations

import base64
import json
import time
import typing as t
from urllib.parse import urlsplit

from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import SECRET_NAME, decode_secret
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import API_PORT, COUCHDB_PORT, SERVICE_LABEL, service_name
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import image_tag, parse_release
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import UPGRADING
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.portforward import ForwardError, request
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import PODS, SECRETS

# Public, and the one answer of API that needs its database: CHT's version is a document there (cht-core, api/src/services/monitoring.js).
_MONITORING = "/api/v2/monitoring"
# While it indexes and migrates API answers everything but this with 503 (and people with its progress page).
_PROGRESS, _STARTING = "/api/v1/startup-progress", 503

Ask = t.Callable[[str, int, str, dict[str, str]], tuple[int, bytes]]


def membership_problem(status: int, body: bytes, wanted: set[str]) -> str:
    """Why CouchDB's /_membership shows no whole cluster of the C(wanted) nodes; empty when it does.

    The name of a lone node is CouchDB's own affair; those of a cluster hold their namespace.
    """
    if status != 200:
        return f"CouchDB answers /_membership with {status}"
    try:
        answer = json.loads(body)
        known, members = set(answer["all_nodes"]), set(answer["cluster_nodes"])
    except (ValueError, KeyError, TypeError):
        return "CouchDB answers /_membership with something else than its nodes"
    foreign = members - wanted if len(wanted) > 1 else set()
    if foreign:
        return (
            f"CouchDB's cluster counts nodes that are none of this county's ({', '.join(sorted(foreign))}), as on volumes of another namespace: "
            "their part of the data is missing here"
        )
    if len(members) != len(wanted):
        return f"CouchDB's cluster has {len(members)} of {len(wanted)} nodes ({', '.join(sorted(members))})"
    if members - known:
        return f"CouchDB nodes are not connected: {', '.join(sorted(members - known))}"
    if known - members:
        return f"CouchDB nodes are connected and not in its cluster: {', '.join(sorted(known - members))}"
    return ""


def database_problem(status: int, body: bytes, name: str) -> str:
    """Why CouchDB can't open the database; empty when it can, or when CHT has still to make it."""
    if status in (200, 404):
        return ""
    try:
        reason = str(json.loads(body)["reason"])
    except (ValueError, KeyError, TypeError):
        reason = ""
    return f"CouchDB answers /{name} with {status}{f' ({reason})' if reason else ''}: are its volumes those of this county and in their order?"


def api_problem(status: int, body: bytes, tag: str = "") -> str:
    """Why API's /api/v2/monitoring is not what CHT of the image's C(tag) answers; empty when it is. /api/info has no version of CHT."""
    if status != 200:
        return f"API answers {_MONITORING} with {status}"
    try:
        version = json.loads(body)["version"]["app"]
    except (ValueError, KeyError, TypeError):
        version = ""
    if not version:
        return f"API answers {_MONITORING} without CHT's version"
    told, wanted = parse_release(version), parse_release(tag)
    if told is not None and wanted is not None and told.number != wanted.number:
        return f"API says that it is CHT {version}, and its image is {tag}: its upgrade did not come to an end"
    return ""


def startup_problem(status: int, body: bytes) -> str:
    """What API, which answers nothing else yet, is busy with. Indexing and migrations may take days; its first checks and silence are no upgrade."""
    busy: dict[str, dict[str, t.Any]] = {}
    try:
        busy = {name: step for name, step in _steps(json.loads(body) if status == 200 else {}) if step.get("started") and not step.get("completed")}
    except (ValueError, AttributeError):
        pass
    text = ", ".join(
        str(step.get("text") or step.get("translation") or name) + (f" {step['progress']}%" if "progress" in step else "") for name, step in busy.items()
    )
    begin = UPGRADING if set(busy) - {"check", "checks"} else "API is starting: "
    return f"{begin}{text or 'it does not say what it does'}; users see its progress page until then"


def _steps(found: t.Any) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """The steps of API's start by name: an object of them, before a release of 4.0 a list (cht-core, api/src/services/setup/startup-log.js, getProgress).

    One that was not begun has no C(started).
    """
    if isinstance(found, list):
        for number, step in enumerate(found):
            yield str(step.get("id", number)), step
    else:
        yield from found.get("actions", {}).items()


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
        return judge_health(pods, decode_secret(secret) if secret else {}, ask, namespace)
    except (ApiError, ForwardError) as error:
        return f"can't be asked whether it works: {error}"


def judge_health(pods: list[dict[str, t.Any]], credentials: dict[str, str], ask: Ask, namespace: str) -> str:
    """Ask the first CouchDB node and API of one county."""
    by_service = {pod["metadata"]["labels"][SERVICE_LABEL]: pod["metadata"]["name"] for pod in pods}
    databases = sorted(service for service in by_service if service == "couchdb" or service.startswith("couchdb-"))
    if not databases or "api" not in by_service:
        return "its pods are gone"
    pair = base64.b64encode(f"{credentials.get('COUCHDB_USER', '')}:{credentials.get('COUCHDB_PASSWORD', '')}".encode()).decode()
    name = urlsplit(credentials.get("COUCH_URL", "")).path.strip("/") or "medic"

    def couchdb(path: str) -> tuple[int, bytes]:
        return ask(by_service[databases[0]], COUCHDB_PORT, path, {"Authorization": f"Basic {pair}"})

    def api(path: str) -> tuple[int, bytes]:
        # People get its progress page while it starts, and that with 200 (cht-core, api/src/services/setup/router.js).
        return ask(by_service["api"], API_PORT, path, {"Accept": "application/json"})

    nodes = {f"couchdb@{service_name(service, namespace)}" for service in databases}
    problem = membership_problem(*couchdb("/_membership"), nodes) or database_problem(*couchdb(f"/{name}"), name)
    if problem:
        return problem
    status, body = api(_MONITORING)
    return startup_problem(*api(_PROGRESS)) if status == _STARTING else api_problem(status, body, _tag_of_api(pods))


def _tag_of_api(pods: list[dict[str, t.Any]]) -> str:
    images = (container.get("image", "") for pod in pods for container in (pod.get("spec") or {}).get("containers") or [] if container["name"] == "cht-api")
    return image_tag(next(images, ""))


def checker(client: Client, wanted: bool) -> t.Callable[[str], str] | None:
    """What asks a namespace whether its county works, for the option C(health) of a module."""
    return (lambda namespace: check(client, namespace)) if wanted else None
