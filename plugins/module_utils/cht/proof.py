# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which version of CHT had a county's data in its hands: the proof against taking it back.

Kubernetes keeps that a Deployment was ready until its next change; the newest version of which that was seen is noted on the namespace.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import image_tag, is_newer
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import DEPLOYMENTS, NAMESPACES

Object = dict[str, t.Any]

WAS_READY = "cht.k3s/was-ready"
# These pass requests on and keep nothing; the upgrade service has versions of its own.
_WITHOUT_DATA = ("cht-haproxy", "cht-haproxy-healthcheck", "upgrade-service")


def was_ready(deployment: Object) -> bool:
    """Tell whether a pod of a Deployment's present template is ready, or was since the Deployment is what it is."""
    status = deployment.get("status") or {}
    if (status.get("observedGeneration") or 0) < (deployment["metadata"].get("generation") or 0):
        return False
    available = any(item.get("type") == "Progressing" and item.get("reason") == "NewReplicaSetAvailable" for item in status.get("conditions") or [])
    return available or bool(status.get("readyReplicas") and status.get("updatedReplicas"))


def proven(namespace: Object | None, deployments: list[Object]) -> str:
    """Return the newest version that a county is known to have run; empty for none."""
    newest = str((((namespace or {}).get("metadata") or {}).get("annotations") or {}).get(WAS_READY) or "")
    for deployment in deployments:
        if deployment["metadata"]["name"] in _WITHOUT_DATA or not was_ready(deployment):
            continue
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            tag = image_tag(container.get("image", ""))
            if tag and (not newest or is_newer(tag, newest)):
                newest = tag
    return newest


def note(client: Client, namespaces: t.Iterable[Object], deployments: dict[str, list[Object]]) -> None:
    """Write on each namespace what its county ran, where that is not written yet."""
    for namespace in namespaces:
        name, annotations = namespace["metadata"]["name"], namespace["metadata"].get("annotations") or {}
        newest = proven(namespace, deployments.get(name, []))
        if newest and newest != annotations.get(WAS_READY):
            body = {"metadata": {"annotations": {WAS_READY: newest}}}
            # What can't be written now is seen again by the next run.
            with contextlib.suppress(ApiError):
                client.json("PATCH", NAMESPACES.path(name), body=body, content_type="application/merge-patch+json")


def note_of(client: Client, names: t.Collection[str]) -> None:
    """The same for namespaces by their names, as they are now."""
    found: dict[str, list[Object]] = {}
    with contextlib.suppress(ApiError):
        for item in client.items(DEPLOYMENTS.collection(), {"labelSelector": SERVICE_LABEL}):
            found.setdefault(item["metadata"]["namespace"], []).append(item)
        note(client, [item for item in client.items(NAMESPACES.collection()) if item["metadata"]["name"] in names], found)
