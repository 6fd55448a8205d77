# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes as vCenter's own storage service (CNS) files them."""
from __future__ import annotations

from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession, proxy_arguments, vim
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError

try:
    from pyVmomi import SoapStubAdapter
except ImportError:
    SoapStubAdapter = None

# The first version that tells all clusters of a volume (vCenter 7.0).
CNS_VERSION = "vsan.version.version12"
_PAGE = 100


def clusters(volume: Any) -> set[str]:
    """The ids of all Kubernetes clusters that a volume is filed under."""
    metadata = volume.metadata
    found = {entry.clusterId for entry in metadata.containerClusterArray or []}
    if metadata.containerCluster:
        found.add(metadata.containerCluster.clusterId)
    return found


def represent(volume: Any) -> dict[str, Any]:
    """What a user can look up."""
    details = volume.backingObjectDetails
    return {
        "id": volume.volumeId.id,
        "name": volume.name,
        "datastore_url": volume.datastoreUrl or "",
        "capacity_mb": int(details.capacityInMb) if details else 0,
        "clusters": sorted(clusters(volume)),
    }


def volumes(session: VsphereSession, cluster_id: str) -> list[dict[str, Any]]:
    """All volumes that are filed under this cluster id."""
    if not hasattr(vim, "cns"):
        raise VsphereError("library", "This pyvmomi does not know vCenter's storage service (CNS).", "Install pyvmomi 8.0.3 or newer: pip install -U pyvmomi.")
    options = session.options
    stub = SoapStubAdapter(
        host=options.hostname, port=options.port, path="/vsanHealth", version=CNS_VERSION, sslContext=session.context,
        httpConnectionTimeout=options.timeout, **proxy_arguments(options),
    )
    stub.cookie = session.stub.cookie
    try:
        manager = vim.cns.VolumeManager("cns-volume-manager", stub)
        return session.run(lambda: _all(manager, cluster_id))
    finally:
        stub.DropConnections()


def _all(manager: Any, cluster_id: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    offset = 0
    while True:
        query = vim.cns.QueryFilter(containerClusterIds=[cluster_id], cursor=vim.cns.Cursor(offset=offset, limit=_PAGE))
        answer = manager.Query(filter=query)
        page = list(answer.volumes or [])
        new = [volume for volume in page if volume.volumeId.id not in found]
        found.update({volume.volumeId.id: represent(volume) for volume in new})
        total = answer.cursor.totalRecords if answer.cursor else None
        offset += len(page)
        # A simulator may answer with everything, whatever was asked.
        if not new or len(page) < _PAGE or (total is not None and offset >= total):
            return [entry for entry in found.values() if cluster_id in entry["clusters"]]
