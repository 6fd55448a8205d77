# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot-controller of kubernetes-csi/external-snapshotter, its CRDs, and the class of the vSphere driver."""

from __future__ import annotations

from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.manifest import shape
from ansible_collections.cht.k3s.plugins.module_utils.manifest.csi import DRIVER
from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError
from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError

NAME = "snapshot-controller"
NAMESPACE = "kube-system"
GROUP = "snapshot.storage.k8s.io"
DEFAULT = "snapshot.storage.kubernetes.io/is-default-class"
CRDS = tuple(f"{plural}.{GROUP}" for plural in ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots"))

EXPECTED: dict[tuple[str, str], bool] = {
    **{("CustomResourceDefinition", name): True for name in CRDS},
    ("ServiceAccount", NAME): True,
    ("ClusterRole", "snapshot-controller-runner"): True,
    ("ClusterRoleBinding", "snapshot-controller-role"): True,
    ("Role", "snapshot-controller-leaderelection"): True,
    ("RoleBinding", "snapshot-controller-leaderelection"): True,
    ("Deployment", NAME): True,
}
_SETTINGS = {"image", "image_registry", "replicas", "class_name", "deletion_policy", "live_classes"}


def objects(documents: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifests' objects, patched, and the VolumeSnapshotClass; the input is not changed."""
    unknown = sorted(set(settings) - _SETTINGS)
    if unknown:
        raise SettingsError(f"csi_snapshot_objects has no setting {unknown[0]}; known are {', '.join(sorted(_SETTINGS))}.")
    policy = str(settings.get("deletion_policy") or "Delete")
    if policy not in ("Delete", "Retain"):
        raise SettingsError(f"csi_snapshot_deletion_policy {policy!r} has to be Delete or Retain.")
    manifest = shape.Manifest("snapshot-controller", shape.plain(documents), EXPECTED)
    with shape.as_expected("snapshot-controller"):
        workload = manifest.need("Deployment", NAME)
        container = shape.containers(workload, "snapshot-controller").get(NAME)
        if container is None:
            raise ManifestError(f"The snapshot-controller manifest is not built as expected: its Deployment has no container {NAME}.")
        container["image"] = shape.with_registry(str(settings.get("image") or container["image"]), str(settings.get("image_registry") or ""))
        workload["spec"]["replicas"] = int(settings.get("replicas") or 1)
        pod = workload["spec"]["template"]["spec"]
        # With the default tolerations only, it would have no place in a cluster whose every node is a tainted server.
        pod.setdefault("tolerations", []).extend(
            {"key": f"node-role.kubernetes.io/{role}", "operator": "Exists"} for role in ("control-plane", "etcd")
        )
        for name in CRDS:
            manifest.need("CustomResourceDefinition", name).pop("status", None)
    shape.refuse_leftovers(manifest.documents, "snapshot-controller")
    name = str(settings.get("class_name") or "vmware-sc")
    _refuse_other_defaults(name, settings.get("live_classes") or [])
    return [*manifest.documents, snapshot_class(name, policy)]


def _refuse_other_defaults(name: str, live: list[dict[str, Any]]) -> None:
    """With two default classes of one driver the snapshot-controller takes none, and each snapshot without a class fails."""
    for document in live:
        metadata = document["metadata"]
        marked = (metadata.get("annotations") or {}).get(DEFAULT) == "true"
        if marked and document.get("driver") == DRIVER and metadata["name"] != name:
            raise SettingsError(
                f"VolumeSnapshotClass {metadata['name']} is the default of {DRIVER} too, and with two of them no snapshot could be made without naming one. "
                f"Set csi_snapshot_class to {metadata['name']}, or take its mark away (kubectl annotate volumesnapshotclass {metadata['name']} {DEFAULT}-); "
                "snapshots that exist do not need it."
            )


def snapshot_class(name: str, policy: str) -> dict[str, Any]:
    """The default class for snapshots of the driver's volumes."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": name, "annotations": {DEFAULT: "true"}},
        "driver": DRIVER,
        "deletionPolicy": policy,
    }
