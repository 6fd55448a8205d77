"""The real syncer: what it tells vCenter about claims, and Kubernetes about topology.

vCenter's simulator serves the updates of the client that came last, so the syncer runs only here, and the controller gets none meanwhile.
"""
from __future__ import annotations

from typing import Any

from conftest import Cluster

LEASE = "lab-csi-syncer"
SPACE = ("-n", "vmware-system-csi")


def test_claims_are_known_to_vcenter_and_topology_to_kubernetes(small_cluster: Cluster) -> None:
    cluster = small_cluster
    cluster.claim("synced")
    volume = cluster.bound("synced")
    former = cluster.holder()
    missing = cluster.play("no-topology", "--tags", "csi_verify", csi_smoke_test=False, csi_verify=["csinode", "topology"], csi_timeout=5).expect(1)
    assert "has no CSINodeTopology" in " ".join(missing.output.split())
    cluster.apply({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE, "namespace": "vmware-system-csi"},
        "spec": {"holderIdentity": former},
    })
    cluster.wait("the CRD", lambda: "csinodetopologies" in cluster.lab("kubectl", "api-resources", "--api-group=cns.vmware.com", "-o", "name"))
    # The node plugin makes one for its node, under the UUID that it read there.
    nodes = cluster.lab.kubectl("get", "nodes")["items"]
    for item in nodes:
        cluster.apply({
            "apiVersion": "cns.vmware.com/v1alpha1", "kind": "CSINodeTopology", "metadata": {"name": item["metadata"]["name"]},
            "spec": {"nodeID": item["metadata"]["name"], "nodeuuid": item["spec"]["providerID"].removeprefix("vsphere://")},
        })

    def states() -> list[Any]:
        return [(item.get("status") or {}).get("status") for item in cluster.lab.kubectl("get", "csinodetopologies")["items"]]

    cluster.wait("topology", lambda: states() == ["Success"] * len(nodes))
    verified = cluster.play("topology", "--tags", "csi_verify", csi_smoke_test=False, csi_verify=["csinode", "topology"]).expect()
    assert verified.changed == []
    cluster.lab("kubectl", "label", "pvc", "synced", "county=county-a")

    def labels() -> list[Any]:
        return [label for entity in cluster.entities(volume) if entity.get("EntityName") == "synced" for label in entity.get("Labels") or []]

    cluster.wait("the claim's label in vCenter", lambda: {"key": "county", "value": "county-a"} in labels())

    cluster.lab("kubectl", "delete", "lease", LEASE, *SPACE)
    cluster.lab("kubectl", "delete", "pod", former, *SPACE)
    cluster.claim("after-syncer")
    assert cluster.bound("after-syncer") in cluster.volumes(), "a controller that came later has vCenter's updates again"
