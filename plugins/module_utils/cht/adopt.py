# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take over Deployments that helm made.

Server-side apply leaves a field alone that another manager owns and we don't send. A Deployment of the charts then keeps
C(value) of an environment variable beside our C(valueFrom), or the rolling update that the API server filled in beside our
C(Recreate), and the API server refuses the mixture. So helm's fields are first made ours; applying then removes those
that we don't want.
"""

from __future__ import annotations

import copy
import fnmatch
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import Resource

Object = dict[str, t.Any]

# Field managers of what deploys CHT's own charts.
HELM_MANAGERS = ("helm", "helm-*")


def _is_helm(entry: Object) -> bool:
    manager = str(entry.get("manager") or "")
    return not entry.get("subresource") and any(fnmatch.fnmatchcase(manager, pattern) for pattern in HELM_MANAGERS)


def _is_ours(entry: Object, manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")


def made_by_helm(live: Object, manager: str) -> bool:
    """Tell whether helm owns fields of an object that we never applied."""
    entries = live["metadata"].get("managedFields") or []
    return any(_is_helm(entry) for entry in entries) and not any(_is_ours(entry, manager) for entry in entries)


def _union(first: Object, second: Object) -> Object:
    result = copy.deepcopy(first)
    for key, value in second.items():
        result[key] = _union(result.get(key) or {}, value or {})
    return result


def handed_over(entries: list[Object], manager: str) -> list[Object]:
    """Return the entries of managedFields with what helm owned as ours."""
    helm = [entry for entry in entries if _is_helm(entry)]
    fields: Object = {}
    for entry in helm:
        fields = _union(fields, entry.get("fieldsV1") or {})
    ours = {"manager": manager, "operation": "Apply", "apiVersion": helm[0]["apiVersion"], "fieldsType": "FieldsV1", "fieldsV1": fields}
    return [entry for entry in entries if not _is_helm(entry)] + [ours]


def hand_over(client: Client, resource: Resource, live: Object, manager: str) -> None:
    """Make helm's fields of one object ours; nothing else of it changes."""
    metadata = live["metadata"]
    body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "managedFields": handed_over(metadata["managedFields"], manager)}}
    client.json("PATCH", resource.path(metadata["name"], metadata["namespace"]), body=body, content_type="application/merge-patch+json")
