# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a change of the password would change the programs, too."""

from __future__ import annotations

from typing import Any

_WORKLOADS = ("DaemonSet", "Deployment")


def problems(objects: list[dict[str, Any]], live: list[dict[str, Any]]) -> list[str]:
    """Which programs and images differ between the objects to apply and those in the cluster: a rotation must be no upgrade."""
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
    return found


def _identity(document: dict[str, Any]) -> tuple[str, str, str]:
    return (document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"])


def _images(workload: dict[str, Any]) -> dict[str, str]:
    return {container["name"]: container["image"] for container in workload["spec"]["template"]["spec"]["containers"]}
