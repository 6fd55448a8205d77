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

import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.handover import entry_of, is_ours, matches
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import Resource

Object = dict[str, t.Any]

# Field managers of what deploys CHT's own charts.
HELM_MANAGERS = ("helm", "helm-*")


def _is_helm(entry: Object) -> bool:
    return not entry.get("subresource") and matches(entry, HELM_MANAGERS)


def made_by_helm(live: Object, manager: str) -> bool:
    """Tell whether helm owns fields of an object that we never applied."""
    entries = live["metadata"].get("managedFields") or []
    return any(_is_helm(entry) for entry in entries) and not any(is_ours(entry, manager) for entry in entries)


def handed_over(entries: list[Object], manager: str) -> list[Object]:
    """Return the entries of managedFields with what helm owned as ours."""
    helm = [entry for entry in entries if _is_helm(entry)]
    return [entry for entry in entries if not _is_helm(entry)] + [entry_of(helm, manager, helm[0]["apiVersion"])]


def hand_over(client: Client, resource: Resource, live: Object, manager: str) -> None:
    """Make helm's fields of one object ours; nothing else of it changes."""
    metadata = live["metadata"]
    body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "managedFields": handed_over(metadata["managedFields"], manager)}}
    client.json("PATCH", resource.path(metadata["name"], metadata["namespace"]), body=body, content_type="application/merge-patch+json")
