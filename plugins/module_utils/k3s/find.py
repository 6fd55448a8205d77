# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Node a machine is: its name in the inventory, its host name and the Node's name may all differ."""

from __future__ import annotations

from . import state
from .api import ApiError, is_true
from .drain import ANNOTATION
from .settings import node_name
from .system import NodeError, System


def find(nodes: list, provider_id: str, address: str, fallback: str) -> tuple:
    """(name, found): by what vCenter knows the machine by, then by its address, then by the name it has in the inventory."""
    if provider_id:
        for node in nodes:
            if (node.get("spec") or {}).get("providerID", "").lower() == provider_id.lower():
                return node["metadata"]["name"], True
    if address:
        for node in nodes:
            addresses = (node.get("status") or {}).get("addresses") or []
            if any(entry.get("type") == "InternalIP" and entry.get("address") == address for entry in addresses):
                return node["metadata"]["name"], True
    name = node_name(fallback)
    return name, any(node["metadata"]["name"] == name for node in nodes)


def find_node(system: System, name: str, provider_id: str, address: str, fallback: str) -> dict:
    """Ask the API of this server."""
    try:
        api = state.server_api(system, timeout=15)
        try:
            nodes = api.nodes()
        finally:
            api.close()
    except ApiError as error:
        raise NodeError(f"The Node of {fallback} cannot be looked up: the API of this server does not answer: {error}") from error
    if name:
        found = node_name(name)
        exists = any(node["metadata"]["name"] == found for node in nodes)
    else:
        found, exists = find(nodes, provider_id, address, fallback)
    node = next((node for node in nodes if node["metadata"]["name"] == found), {})
    cordoned_by = (node.get("metadata", {}).get("annotations") or {}).get(ANNOTATION, "")
    return {"name": found, "found": exists, "ready": is_true(node, "Ready"), "cordoned_by": cordoned_by}
