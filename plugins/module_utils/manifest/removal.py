# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking the CSI driver away: what forbids it, and the safe order."""

from __future__ import annotations

from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.manifest import csi

_SHOWN = 5
# In the order of their removal: API version, and whether they live in the driver's namespace.
_KINDS = {
    "DaemonSet": ("apps/v1", True),
    "Deployment": ("apps/v1", True),
    "CSIDriver": ("storage.k8s.io/v1", False),
    "Service": ("v1", True),
    "ConfigMap": ("v1", True),
    "Secret": ("v1", True),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", True),
    "Role": ("rbac.authorization.k8s.io/v1", True),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", False),
    "ClusterRole": ("rbac.authorization.k8s.io/v1", False),
    "ServiceAccount": ("v1", True),
    "Namespace": ("v1", False),
}


def obstacles(volumes: list[dict[str, Any]], attachments: list[dict[str, Any]], snapshots: list[dict[str, Any]], claims: list[dict[str, Any]],
              classes: list[dict[str, Any]]) -> list[str]:
    """What still needs the driver; without it none of these could ever be detached, deleted or bound."""
    own_classes = {item["metadata"]["name"] for item in classes if item.get("provisioner") == csi.DRIVER}
    found = [
        ("PersistentVolume", [_volume(item) for item in volumes if _is_ours(item)]),
        ("VolumeAttachment", [
            f"{item['spec']['source'].get('persistentVolumeName') or item['metadata']['name']} on {item['spec']['nodeName']}"
            for item in attachments if item["spec"]["attacher"] == csi.DRIVER
        ]),
        ("VolumeSnapshotContent", [item["metadata"]["name"] for item in snapshots if item["spec"].get("driver") == csi.DRIVER]),
        ("unbound PersistentVolumeClaim", [
            f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            for item in claims if not item["spec"].get("volumeName") and item["spec"].get("storageClassName") in own_classes
        ]),
    ]
    return [f"{len(names)} {kind}{'s' if len(names) > 1 else ''} ({_some(names)})" for kind, names in found if names]


def _is_ours(item: dict[str, Any]) -> bool:
    # Kubernetes hands volumes of its former vSphere plugin (vsphereVolume) to the driver.
    return (item["spec"].get("csi") or {}).get("driver") == csi.DRIVER or "vsphereVolume" in item["spec"]


def _volume(item: dict[str, Any]) -> str:
    claim = item["spec"].get("claimRef") or {}
    owner = f" of {claim['namespace']}/{claim['name']}" if claim else ""
    return f"{item['metadata']['name']}{owner}, {(item.get('status') or {}).get('phase') or 'unknown'}"


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return "; ".join(sorted(names)[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")


def order(classes: list[dict[str, Any]], snapshot_classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """First what makes new volumes, then the driver on the nodes, then its controller, at last what both used; the CRDs stay."""
    # Items of a list don't carry their kind.
    result = [
        {"api_version": "storage.k8s.io/v1", "kind": "StorageClass", "name": item["metadata"]["name"]}
        for item in classes if item.get("provisioner") == csi.DRIVER
    ]
    result += [
        {"api_version": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "name": item["metadata"]["name"]}
        for item in snapshot_classes if item.get("driver") == csi.DRIVER
    ]
    known = [*csi.EXPECTED, ("Secret", csi.SECRET), ("ConfigMap", csi.GENERATED_ID)]
    for kind, (api_version, is_namespaced) in _KINDS.items():
        for name in (name for found, name in known if found == kind):
            entry = {"api_version": api_version, "kind": kind, "name": name}
            if is_namespaced:
                entry["namespace"] = csi.NAMESPACE
            result.append(entry)
    return result
