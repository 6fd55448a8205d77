# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counties as the cluster has them, found by the label on their namespaces: what they are, and how to take them away."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass

from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import CLAIM, MANAGER, NAMESPACE, Store
from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import KEPT_OF, SECRET_NAME, decode_secret
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import COUNTY_LABEL, MANAGED_LABELS, SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import OperationError, look, taken
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import image_tag
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import judge, real_size, ungrown
from ansible_collections.cht.k3s.plugins.module_utils.cht.wait import by_namespace
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client, segment
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import (
    CLAIMS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    INGRESSES,
    LIMIT_RANGES,
    NAMESPACES,
    PODS,
    QUOTAS,
    ROLES,
    ROLE_BINDINGS,
    SECRETS,
    SERVICES,
    SERVICE_ACCOUNTS,
    VOLUMES,
    Resource,
)
from ansible_collections.cht.k3s.plugins.module_utils.names import did_you_mean

Object = dict[str, t.Any]


# Taken away with a county whose data is kept. Claims, the Secret and the ConfigMap stay, and so do the policies that guard them.
_WITHOUT_DATA: tuple[Resource, ...] = (
    INGRESSES,
    DEPLOYMENTS,
    SERVICES,
    DISRUPTION_BUDGETS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    QUOTAS,
    LIMIT_RANGES,
)
_OURS = ",".join(f"{key}={value}" for key, value in sorted(MANAGED_LABELS.items()))


class RemoveError(Exception):
    """A county can't be removed; the message says why and what to do."""


def places(client: Client) -> list[tuple[str, str]]:
    """Return county and namespace of all counties in the cluster, in their order."""
    found = client.items(NAMESPACES.collection(), {"labelSelector": COUNTY_LABEL})
    return sorted((item["metadata"]["labels"][COUNTY_LABEL], item["metadata"]["name"]) for item in found)


def namespaces(client: Client) -> dict[str, str]:
    """Return county -> namespace of all counties in the cluster; which of two is meant nobody should guess."""
    found: dict[str, str] = {}
    for name, space in places(client):
        if name in found:
            raise OperationError(
                f"county '{name}' is there twice, in the namespaces {found[name]} and {space} (label {COUNTY_LABEL}): look which one holds the data, "
                f"take the label from the other one (kubectl label namespace NAME {COUNTY_LABEL}-), and run again. Nothing was changed"
            )
        found[name] = space
    return found


def describe(client: Client, names: list[str] | None = None, with_credentials: bool = False) -> list[dict[str, t.Any]]:
    """Return what the cluster has of the counties, all of them or those named."""
    known = [(name, space) for name, space in places(client) if names is None or name in names]
    query = {"labelSelector": SERVICE_LABEL}
    deployments, pods, claims, ingresses = (
        by_namespace(client.items(resource.collection(), query)) for resource in (DEPLOYMENTS, PODS, CLAIMS, INGRESSES)
    )
    counties = []
    for name, space in known:
        progress = judge(deployments.get(space, []), pods.get(space, []), claims.get(space, []))
        images = {
            image_tag(container.get("image", ""))
            for deployment in deployments.get(space, [])
            for container in deployment["spec"]["template"]["spec"]["containers"]
            if container["name"] != "upgrade-service"
        }
        hosts = [rule["host"] for item in ingresses.get(space, []) for rule in item["spec"].get("rules") or [] if rule.get("host")]
        entry: dict[str, t.Any] = {
            "name": name,
            "namespace": space,
            "host": hosts[0] if hosts else "",
            "tls": sorted({item["secretName"] for ingress in ingresses.get(space, []) for item in ingress["spec"].get("tls") or [] if item.get("secretName")}),
            "versions": sorted(images),
            "ready": progress.ready,
            "total": progress.total,
            "obstacle": progress.obstacle,
            "nodes": sorted({pod["spec"].get("nodeName") or "" for pod in pods.get(space, [])} - {""}),
            "volumes": {item["metadata"]["name"]: real_size(item) for item in claims.get(space, [])},
            "growing": [text for item in claims.get(space, []) if (text := ungrown(item))],
        }
        if with_credentials:
            secret = client.find(SECRETS.path(SECRET_NAME, space))
            entry["credentials"] = decode_secret(secret) if secret else {}
        counties.append(entry)
    return counties


@dataclass
class Removal:
    """What was (or would be) taken away of one county."""

    name: str
    namespace: str = ""
    removed: t.Sequence[str] = ()
    kept: t.Sequence[str] = ()
    gone_already: bool = False


def known(client: Client, store: str = NAMESPACE) -> set[str]:
    """Return the names of all counties that the cluster has, or has something of: a backup set, the credentials, or a volume."""
    found = {name for name, dummy in places(client)}
    found |= {item["metadata"]["labels"][COUNTY_LABEL] for item in client.items(SECRETS.collection(store), {"labelSelector": COUNTY_LABEL})}
    owners = [item["spec"].get("claimRef") or {} for item in client.items(VOLUMES.collection())]
    return found | {owner["namespace"] for owner in owners if CLAIM.match(owner.get("name") or "")}


def remove(client: Client, name: str, with_data: bool, timeout: float, check_mode: bool, store: str = NAMESPACE) -> Removal:
    """Take a county away, its data only when asked for; its credentials then go to the namespace of the backup sets."""
    try:
        space = namespaces(client).get(name)
    except OperationError as error:
        raise RemoveError(str(error)) from error
    if space is None:
        if client.find(NAMESPACES.path(name)) is not None:
            raise RemoveError(
                f"county '{name}': a namespace of this name is there, but it is not a county's (label {COUNTY_LABEL} is missing): nothing removed"
            )
        there = known(client, store)
        if name not in there:
            raise RemoveError(f"county '{name}' is not known: the cluster has nothing of it, nor a backup set or volume; {did_you_mean(name, there)} "
                              "Nothing was removed")
        return Removal(name, gone_already=True)
    try:
        if check_mode:
            look(client.get(NAMESPACES.path(space)))
            return _remove(client, name, space, with_data, timeout, check_mode, store)
        with taken(client, space, "removal"):
            return _remove(client, name, space, with_data, timeout, check_mode, store)
    except OperationError as error:
        raise RemoveError(f"county '{name}': {error}. Nothing was removed") from error


def _remove(client: Client, name: str, space: str, with_data: bool, timeout: float, check_mode: bool, store: str) -> Removal:
    claims = [item["metadata"]["name"] for item in client.items(CLAIMS.collection(space))]
    if with_data:
        kept = [
            f"PersistentVolume {item['metadata']['name']}"
            for item in client.items(VOLUMES.collection())
            if ((item["spec"].get("claimRef") or {}).get("namespace") == space) and item["spec"].get("persistentVolumeReclaimPolicy") == "Retain"
        ]
        kept += keep_credentials(client, name, space, check_mode, store)
        if not check_mode:
            client.json("DELETE", NAMESPACES.path(space), body={"propagationPolicy": "Background"})
            _until_gone(lambda: client.find(NAMESPACES.path(space)) is None, timeout, f"county '{name}': namespace {space} is still being removed")
        return Removal(name, space, [f"Namespace {space}", *(f"PersistentVolumeClaim {claim}" for claim in claims)], kept)
    removed = []
    for resource in _WITHOUT_DATA:
        for item in client.items(resource.collection(space), {"labelSelector": _OURS}):
            removed.append(f"{resource.kind} {item['metadata']['name']}")
            if not check_mode:
                client.json("DELETE", f"{resource.collection(space)}/{segment(item['metadata']['name'])}", body={"propagationPolicy": "Background"})
    if removed and not check_mode:
        _until_gone(
            lambda: not any(True for dummy in client.items(PODS.collection(space), {"labelSelector": SERVICE_LABEL})),
            timeout,
            f"county '{name}': its pods are still ending",
        )
    return Removal(name, space, removed, [f"Namespace {space}", f"Secret {SECRET_NAME}", *(f"PersistentVolumeClaim {claim}" for claim in claims)])


def keep_credentials(client: Client, name: str, space: str, check_mode: bool, store: str) -> list[str]:
    """Put a county's credentials where its removal does not take them: on its disks, which may outlive it, is a CouchDB that knows no others."""
    secret = client.find(SECRETS.path(SECRET_NAME, space))
    if secret is None:
        return []
    copies = {item["metadata"]["name"]: item.get("data") for item in client.items(SECRETS.collection(store), {"labelSelector": f"{KEPT_OF}={space}"})}
    copy = next((copy for copy, data in copies.items() if data == secret.get("data")), f"{space}-credentials-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    if copy not in copies and not check_mode:
        Store(client, store).prepare()
        body = {
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": secret.get("data") or {},
            "metadata": {"name": copy, "namespace": store, "labels": {**MANAGED_LABELS, COUNTY_LABEL: name, KEPT_OF: space}},
        }
        client.apply(SECRETS.path(copy, store), body, MANAGER)
    return [f"Secret {store}/{copy} (the credentials)"]


def _until_gone(gone: t.Callable[[], bool], timeout: float, message: str) -> None:
    deadline = time.monotonic() + timeout
    while not gone():
        if time.monotonic() > deadline:
            raise RemoveError(f"{message} after {timeout:.0f} s; run again to go on waiting")
        time.sleep(0.5)
