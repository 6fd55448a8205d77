# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that a removed county left are bound again, by the real controller that binds claims."""

from __future__ import annotations

import time
import typing as t

from conftest import Cluster, county

CLAIM = "/api/v1/namespaces/{}/persistentvolumeclaims/couchdb-claim0"
VOLUME = "/api/v1/persistentvolumes/{}"
CREDENTIALS = {"password": "kept-password-1", "secret": "kept-secret-0000001", "uuid": "kept-uuid-0000000001"}


def volume(cluster: Cluster, name: str, namespace: str, claim: str = "couchdb-claim0") -> None:
    """A volume as a removed county leaves it: it points to a claim that is gone."""
    owner = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim, "uid": "11111111-gone"}
    spec = {
        "capacity": {"storage": "8Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "vmware-sc", "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": f"/nowhere/{name}"}, "claimRef": owner,
    }
    cluster.create("/api/v1/persistentvolumes", {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})


def until(condition: t.Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def phase(cluster: Cluster, path: str) -> str:
    return str(((cluster.get(path) or {}).get("status") or {}).get("phase"))


def test_a_released_volume_is_bound_again_and_again_after_removal(cluster: Cluster) -> None:
    volume(cluster, "kept-pv", "former")
    until(lambda: phase(cluster, VOLUME.format("kept-pv")) == "Released")
    entry = county("rebound", couchdb={"mode": "single", "volumes": ["kept-pv"]}, credentials=CREDENTIALS)
    without = {key: value for key, value in entry.items() if key != "credentials"}
    assert "hold the old credentials" in cluster.counties(without, expect=2).row("rebound")
    assert "would get the volume kept-pv" in cluster.counties(entry, arguments=("--check",)).row("rebound")
    assert phase(cluster, VOLUME.format("kept-pv")) == "Released", "check mode wrote something"
    for dummy in range(2):
        assert "claim couchdb-claim0 gets the volume kept-pv" in cluster.counties(entry).row("rebound")
        until(lambda: phase(cluster, CLAIM.format("rebound")) == "Bound")
        claim = cluster.get(CLAIM.format("rebound")) or {}
        assert (claim["spec"]["volumeName"], claim["spec"]["resources"]["requests"]["storage"]) == ("kept-pv", "8Gi")
        noted = (cluster.get(VOLUME.format("kept-pv")) or {})["metadata"]["annotations"]
        assert noted["cht.k3s/data-of"] == "former/couchdb-claim0", "the proof of whose data it holds is gone"
        assert cluster.counties(entry).changed == 0
        cluster.play("remove_project", cht_project_remove=["rebound"], cht_project_remove_data=["rebound"])
        until(lambda: phase(cluster, VOLUME.format("kept-pv")) == "Released")


def test_a_volume_smaller_than_the_wanted_storage_is_not_passed_over(cluster: Cluster) -> None:
    volume(cluster, "small-pv", "smaller")
    entry = county("smaller", couchdb={"mode": "single", "volumes": ["small-pv"], "storage": "20Gi"}, credentials=CREDENTIALS)
    cluster.counties(entry)
    until(lambda: phase(cluster, CLAIM.format("smaller")) == "Bound")
    spec = (cluster.get(CLAIM.format("smaller")) or {})["spec"]
    assert (spec["volumeName"], spec["resources"]["requests"]["storage"]) == ("small-pv", "8Gi")


def test_volumes_of_a_cluster_go_to_the_nodes_that_they_were(cluster: Cluster) -> None:
    for number in (1, 2, 3):
        volume(cluster, f"node-{number}-pv", "shards", f"couchdb-{number}-claim0")
        until(lambda number=number: phase(cluster, VOLUME.format(f"node-{number}-pv")) == "Released")

    def entry(name: str, *order: int, **couchdb: t.Any) -> dict[str, t.Any]:
        return county(name, couchdb={"volumes": [f"node-{number}-pv" for number in order], **couchdb}, credentials=CREDENTIALS)

    run = cluster.counties(entry("shards", 1, 3, 2), entry("elsewhere", 1, 2, 3), expect=2)
    assert "name them in their order, [node-1-pv, node-2-pv, node-3-pv]" in run.row("shards")
    assert "set namespace: shards" in run.row("elsewhere")
    assert {phase(cluster, VOLUME.format(f"node-{number}-pv")) for number in (1, 2, 3)} == {"Released"}
    cluster.counties(entry("shards", 1, 2, 3))
    for number in (1, 2, 3):
        claim = f"/api/v1/namespaces/shards/persistentvolumeclaims/couchdb-{number}-claim0"
        until(lambda claim=claim: phase(cluster, claim) == "Bound")
        assert (cluster.get(claim) or {})["spec"]["volumeName"] == f"node-{number}-pv"


def test_a_lost_claim_of_a_running_county_is_not_replaced(cluster: Cluster) -> None:
    entry = county("lostclaim", couchdb={"mode": "single"})
    cluster.counties(entry)
    cluster.client.json("DELETE", CLAIM.format("lostclaim"))
    # Without a kubelet nobody uses it, but its protection may take a moment.
    until(lambda: cluster.get(CLAIM.format("lostclaim")) is None)
    assert "lacks the CouchDB volumes couchdb-claim0" in cluster.counties(entry, expect=2).row("lostclaim")
    assert cluster.get(CLAIM.format("lostclaim")) is None


def test_a_volume_that_somebody_has_is_refused(cluster: Cluster) -> None:
    single: dict[str, t.Any] = {"mode": "single"}
    cluster.counties(county("owner", couchdb=single))
    volume(cluster, "owned-pv", "owner")
    run = cluster.counties(
        county("thief", couchdb={**single, "volumes": ["owned-pv"]}, credentials=CREDENTIALS),
        county("nothing", couchdb={**single, "volumes": ["no-such-pv"]}, credentials=CREDENTIALS),
        county("few", couchdb={"volumes": ["a"]}), expect=2,
    )
    assert "owned-pv belongs to the claim owner/couchdb-claim0, which is still there" in run.row("thief")
    assert "there is no PersistentVolume no-such-pv" in run.row("nothing")
    assert "couchdb.volumes has 1 names: give 3" in run.row("few")
