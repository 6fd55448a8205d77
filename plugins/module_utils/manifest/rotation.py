# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a change of the password would change anything else, too."""

from __future__ import annotations

from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.manifest.shape import HASH_ANNOTATION, plain

_WORKLOADS = ("DaemonSet", "Deployment")


def baseline(objects: list[dict[str, Any]], live: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects with the hashes that the cluster's workloads carry: after an interrupted rotation these are older than the Secret."""
    known = {_identity(document): document for document in live if document}
    result: list[dict[str, Any]] = plain(objects)
    for document in result:
        current = known.get(_identity(document))
        if document["kind"] in _WORKLOADS and current is not None:
            annotations = document["spec"]["template"]["metadata"]["annotations"]
            found = (current["spec"]["template"]["metadata"].get("annotations") or {}).get(HASH_ANNOTATION)
            annotations[HASH_ANNOTATION] = found or annotations[HASH_ANNOTATION]
    return result


def problems(objects: list[dict[str, Any]], live: list[dict[str, Any]], predicted: list[dict[str, Any]] | None = None) -> list[str]:
    """What a rotation would change beside the password.

    C(live): the workloads in the cluster. C(predicted): what applying the objects with the password in use would do to each. Images come first, as they
    say most; the rest is named when they are the same.
    """
    known = {_identity(document): document for document in live if document}
    found = []
    for document in objects:
        if document["kind"] not in _WORKLOADS:
            continue
        name = f"{document['kind']} {document['metadata']['namespace']}/{document['metadata']['name']}"
        current = known.get(_identity(document))
        if current is None:
            found.append(f"{name} is not in the cluster")
            continue
        wanted, running = _images(document), _images(current)
        for container in sorted(set(wanted) | set(running)):
            if wanted.get(container) != running.get(container):
                found.append(f"{name} runs {running.get(container) or 'no'} as {container}, the variables say {wanted.get(container) or 'none'}")
    return found or [f"{_name(entry)} differs from the variables in more than that" for entry in predicted or [] if entry["result"] != "unchanged"]


def _name(entry: dict[str, Any]) -> str:
    place = f"{entry['namespace']}/" if entry.get("namespace") else ""
    return f"{entry['kind']} {place}{entry['name']}"


def _identity(document: dict[str, Any]) -> tuple[str, str, str]:
    return (document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"])


def _images(workload: dict[str, Any]) -> dict[str, str]:
    return {container["name"]: container["image"] for container in workload["spec"]["template"]["spec"]["containers"]}
