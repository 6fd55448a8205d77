# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import copy
import json
import os
import signal
import subprocess
import sys
import time
import types
import typing as t
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import backup as backup_module
from ansible_collections.cht.k3s.plugins.module_utils.cht import backup_sets as sets
from ansible_collections.cht.k3s.plugins.module_utils.cht import operation
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup import Backup, Saved, Settings
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import BackupError, BackupSet, Store, Volume, choose_class
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import MANAGED_LABELS
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import OPERATION, OperationError, note_of, take, taken
from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import MANAGER, PAUSED, Pause, PauseError, handed_back
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore import Request, Restore
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore_mark import RESTORING, mark_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import Progress, deployment_ready, judge
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.modules import cht_project_backup

DRIVER = "csi.vsphere.vmware.com"
SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1"
SPACE = "/api/v1/namespaces/nairobi"
CLAIMS = f"{SPACE}/persistentvolumeclaims"
DEPLOYMENTS = "/apis/apps/v1/namespaces/nairobi/deployments"
CONTENTS = f"{SNAPSHOTS}/volumesnapshotcontents"
SET = "nairobi-20260102-030405"


class Cluster:
    """Objects by their paths; a list is every object right below a path, in any namespace where that names none."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, t.Any]] = {}
        self.writes: list[str] = []
        self.without_snapshots = False

    def find(self, path: str) -> dict[str, t.Any] | None:
        return copy.deepcopy(self.objects.get(path))

    def get(self, path: str, query: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        found = self.find(path)
        if found is None:
            raise ApiError(404, f"{path} not found")
        return found

    def items(self, path: str, query: dict[str, t.Any] | None = None) -> Iterator[dict[str, t.Any]]:
        if self.without_snapshots and path.startswith(SNAPSHOTS):
            raise ApiError(404, "not found")
        root, dummy, kind = path.rpartition("/")
        wanted = str((query or {}).get("labelSelector", "")).split(",")
        for place, item in list(self.objects.items()):
            above = place.rpartition("/")[0]
            labels = item["metadata"].get("labels") or {}
            if above != path and not (above.startswith(f"{root}/namespaces/") and above.endswith(f"/{kind}") and "/namespaces/" not in path):
                continue
            if all(not term or term.partition("=")[0] in labels and ("=" not in term or labels[term.partition("=")[0]] == term.partition("=")[2])
                   for term in wanted):
                yield copy.deepcopy(item)

    def json(self, method: str, path: str, query: t.Any = None, body: t.Any = None, content_type: str = "", **dummy: t.Any) -> dict[str, t.Any]:
        self.writes.append(f"{method} {path}")
        raise AssertionError(f"nothing may be written: {method} {path}")

    apply = json


def secret(text: str) -> dict[str, t.Any]:
    return {key: base64.b64encode(text.encode()).decode() for key in ("COUCHDB_USER", "COUCHDB_PASSWORD", "COUCHDB_SECRET", "COUCHDB_UUID")}


def a_set(name: str = "nairobi-20260102-030405", claims: tuple[str, ...] = ("couchdb-1-claim0", "couchdb-2-claim0"), **more: t.Any) -> BackupSet:
    volumes = [Volume(claim, "4Gi", "vmware-sc", f"pv-{claim}", DRIVER, ["ReadWriteOnce"], snapshot=f"{claim}+1") for claim in claims]
    values: dict[str, t.Any] = {"state": sets.COMPLETE, "secret": secret("hidden-value"), "configmap": {"a": "b"}, "versions": ["4.22.0"], **more}
    return BackupSet(name, "nairobi", "nairobi", "2026-01-02T03:04:05Z", False, volumes, **values)


@pytest.fixture(name="cluster")
def fixture_cluster() -> Cluster:
    """The county nairobi with two volumes, stopped by nobody and without pods."""
    cluster = Cluster()
    objects = cluster.objects
    objects["/api/v1/namespaces/nairobi"] = {"metadata": {"name": "nairobi", "labels": {"cht.k3s/county": "nairobi"}}}
    objects["/api/v1/namespaces/cht-backups"] = {"metadata": {"name": "cht-backups"}}
    for number in (1, 2):
        claim = f"couchdb-{number}-claim0"
        objects[f"/api/v1/namespaces/nairobi/persistentvolumeclaims/{claim}"] = {
            "metadata": {"name": claim, "namespace": "nairobi"}, "status": {"phase": "Bound"},
            "spec": {"volumeName": f"pv-{claim}", "accessModes": ["ReadWriteOnce"], "storageClassName": "vmware-sc"},
        }
        objects[f"/api/v1/persistentvolumes/pv-{claim}"] = {
            "metadata": {"name": f"pv-{claim}"}, "spec": {"capacity": {"storage": "4Gi"}, "csi": {"driver": DRIVER, "volumeHandle": f"disk-{number}"}},
        }
    objects["/api/v1/namespaces/nairobi/secrets/cht-couchdb-credentials"] = {"metadata": {"name": "x", "namespace": "nairobi"}, "data": secret("now")}
    objects[f"{SNAPSHOTS}/volumesnapshotclasses/vmware-snapshots"] = {"metadata": {"name": "vmware-snapshots"}, "driver": DRIVER}
    objects["/apis/storage.k8s.io/v1/storageclasses/vmware-sc"] = {"metadata": {"name": "vmware-sc"}, "volumeBindingMode": "Immediate"}
    keep(cluster, a_set())
    return cluster


def keep(cluster: Cluster, backup: BackupSet) -> None:
    labels = {"cht.k3s/county": backup.county, "cht.k3s/backup": backup.state}
    text = base64.b64encode(backup.dump().encode()).decode()
    cluster.objects[f"/api/v1/namespaces/cht-backups/secrets/{backup.name}"] = {
        "metadata": {"name": backup.name, "namespace": "cht-backups", "labels": labels}, "data": {"set.json": text}}
    for volume in backup.volumes:
        name = f"{backup.name}-{volume.service}"
        cluster.objects[f"{SNAPSHOTS}/namespaces/cht-backups/volumesnapshots/{name}"] = {
            "metadata": {"name": name, "namespace": "cht-backups"}, "status": {"readyToUse": True}}


def content(cluster: Cluster, number: int, **source: str) -> None:
    cluster.objects[f"{SNAPSHOTS}/volumesnapshotcontents/c{number}"] = {
        "metadata": {"name": f"c{number}"}, "spec": {"source": source, "volumeSnapshotRef": {"namespace": "nairobi", "name": f"by-hand-{number}"}}}


def save(cluster: Cluster, names: tuple[str, ...] = ("nairobi",), **settings: t.Any) -> list[t.Any]:
    store = Store(cluster, timeout=0)  # type: ignore[arg-type]
    return Backup(cluster, store, Settings(check_mode=True, **settings), now=lambda: 1767323045 + 86400).run(list(names))  # type: ignore[arg-type]


def restore(cluster: Cluster, name: str = "nairobi-20260102-030405", **request: t.Any) -> t.Any:
    store = Store(cluster, timeout=0)  # type: ignore[arg-type]
    return Restore(cluster, store, Request(name, check_mode=True, **request)).run()  # type: ignore[arg-type]


def test_check_mode_names_the_set_and_what_goes_for_it(cluster: Cluster) -> None:
    keep(cluster, a_set("nairobi-20260101-030405"))
    saved = save(cluster)[0]
    assert (saved.set, saved.removed, saved.errors) == ("nairobi-20260103-030405", ["nairobi-20260101-030405"], [])
    keep(cluster, a_set("nairobi-20260102-235959", state=sets.STARTED))
    assert save(cluster)[0].removed == ["nairobi-20260102-235959", "nairobi-20260101-030405"]


def test_all_stands_for_every_county(cluster: Cluster) -> None:
    assert [saved.county for saved in save(cluster, ("all",))] == ["nairobi"]


@pytest.mark.parametrize("number", [0, 3])
def test_no_more_sets_than_leave_room_for_one_more_snapshot(cluster: Cluster, number: int) -> None:
    with pytest.raises(BackupError, match="between 1 and 2, as vSphere advises at most 3"):
        save(cluster, keep=number)


def test_what_no_county_could_be_saved_with_stops_all(cluster: Cluster) -> None:
    with pytest.raises(BackupError, match="no county atlantis; known are: nairobi"):
        save(cluster, ("nairobi", "atlantis"))
    cluster.without_snapshots = True
    with pytest.raises(BackupError, match="knows no VolumeSnapshots: set csi_snapshots: true"):
        save(cluster)


def test_a_volume_full_of_snapshots_is_refused_and_each_is_counted_once(cluster: Cluster) -> None:
    content(cluster, 1, volumeHandle="disk-2")
    content(cluster, 2, snapshotHandle="disk-2+a")
    # The same snapshot in two namespaces.
    content(cluster, 3, snapshotHandle="disk-2+a")
    content(cluster, 4, snapshotHandle="disk-1+a")
    assert save(cluster)[0].errors == []
    content(cluster, 5, snapshotHandle="disk-2+b")
    assert "couchdb-2-claim0 has 3 snapshots already" in save(cluster)[0].errors[0]


@pytest.mark.parametrize(
    ("path", "change", "told"),
    [
        ("/api/v1/namespaces/nairobi/persistentvolumeclaims/couchdb-2-claim0", {"status": {"phase": "Pending"}}, "couchdb-2-claim0 is Pending"),
        ("/api/v1/persistentvolumes/pv-couchdb-1-claim0", {"spec": {"hostPath": {}}}, "of no CSI driver"),
        ("/api/v1/namespaces/nairobi/secrets/cht-couchdb-credentials", {"data": {}}, "Secret cht-couchdb-credentials is missing"),
        (f"{SNAPSHOTS}/volumesnapshotclasses/vmware-snapshots", {"driver": "other"}, "no VolumeSnapshotClass for csi.vsphere.vmware.com"),
    ],
)
def test_a_county_that_cannot_be_saved_says_why(cluster: Cluster, path: str, change: dict[str, t.Any], told: str) -> None:
    cluster.objects[path].update(change)
    assert told in save(cluster)[0].errors[0]


def test_the_class_is_the_named_one_the_default_or_the_only_one() -> None:
    def item(name: str, driver: str = DRIVER, default: bool = False) -> dict[str, t.Any]:
        marks = {"snapshot.storage.kubernetes.io/is-default-class": "true"} if default else {}
        return {"metadata": {"name": name, "annotations": marks}, "driver": driver}

    assert choose_class([item("a"), item("x", "other", True)], "", DRIVER) == "a"
    assert choose_class([item("a"), item("b", default=True)], "", DRIVER) == "b"
    assert choose_class([item("a"), item("b", default=True)], "a", DRIVER) == "a"
    with pytest.raises(BackupError, match="name one in cht_project_backup_class"):
        choose_class([item("a"), item("b")], "", DRIVER)
    with pytest.raises(BackupError, match="there are a"):
        choose_class([item("a")], "c", DRIVER)


def test_a_set_keeps_what_it_holds_and_shows_no_credentials() -> None:
    backup = a_set()
    assert BackupSet.load(backup.dump(), "here") == backup and backup.clustered
    assert not a_set(claims=("couchdb-claim0",)).clustered
    shown = str(backup.shown()) + sets.line(backup)
    assert not any(value in shown for value in backup.secret.values())
    assert sets.line(backup) == "nairobi-20260102-030405  complete  2 volumes (4Gi, 4Gi)  CHT 4.22.0"
    with pytest.raises(BackupError, match="here is no backup set"):
        BackupSet.load("{}", "here")


def test_a_restore_into_volumes_has_to_be_confirmed(cluster: Cluster) -> None:
    with pytest.raises(BackupError, match="cht_project_restore_confirm=nairobi"):
        restore(cluster)
    with pytest.raises(BackupError, match="cht_project_restore_confirm=nairobi"):
        restore(cluster, confirm="kisumu")
    done = restore(cluster, confirm="nairobi")
    assert done.changed and done.new["couchdb-1-claim0"] == "a new volume of nairobi-20260102-030405"


def test_a_restore_of_what_is_there_is_asked_for_once_more(cluster: Cluster) -> None:
    for number in (1, 2):
        volume = cluster.objects[f"/api/v1/persistentvolumes/pv-couchdb-{number}-claim0"]
        volume["metadata"]["annotations"] = {"cht.k3s/restored-from": "nairobi-20260102-030405"}
    done = restore(cluster)
    assert not done.changed and done.new == done.old
    assert restore(cluster, confirm="nairobi", again=True).changed


def test_a_running_county_is_refused_unless_it_may_be_stopped(cluster: Cluster) -> None:
    labels = {"cht.service": "couchdb-1"}
    cluster.objects["/apis/apps/v1/namespaces/nairobi/deployments/cht-couchdb-1"] = {
        "metadata": {"name": "cht-couchdb-1", "namespace": "nairobi", "labels": labels},
        "spec": {"replicas": 1, "template": {"spec": {"containers": []}}}}
    with pytest.raises(BackupError, match="nairobi runs: .* cht_project_restore_stop=true"):
        restore(cluster, confirm="nairobi")
    assert restore(cluster, confirm="nairobi", stop=True).changed


@pytest.mark.parametrize(
    ("name", "request_", "told"),
    [
        ("nairobi-20200101-000000", {}, "no backup set nairobi-20200101-000000; complete ones are: classless, late, lost, nairobi-20260102-030405"),
        ("nairobi-20260102-030405", {"into": "kisumu"}, "named after the namespace nairobi, so it can't be restored into kisumu"),
        ("single", {"into": "kube-system"}, "the namespace kube-system is no county's"),
        ("single", {"into": "other", "namespace": "nairobi"}, "the namespace nairobi is that of the county nairobi, not that of other"),
        ("single", {"confirm": "nairobi"}, "nairobi has the volumes couchdb-1-claim0, couchdb-2-claim0, which the set single does not"),
        ("half", {}, "the set half is not complete"),
        ("late", {"into": "new"}, "WaitForFirstConsumer"),
        ("classless", {"into": "new"}, "there is no StorageClass gone"),
        ("lost", {"into": "new"}, "the snapshots of couchdb in the namespace cht-backups are gone"),
    ],
)
def test_what_stands_against_a_restore_is_said_before(cluster: Cluster, name: str, request_: dict[str, t.Any], told: str) -> None:
    cluster.objects["/api/v1/namespaces/kube-system"] = {"metadata": {"name": "kube-system"}}
    cluster.objects["/apis/storage.k8s.io/v1/storageclasses/late"] = {"metadata": {"name": "late"}, "volumeBindingMode": "WaitForFirstConsumer"}
    for other in ("single", "half", "late", "classless", "lost"):
        backup = a_set(other, ("couchdb-claim0",), state=sets.STARTED if other == "half" else sets.COMPLETE)
        backup.volumes[0].storage_class = {"late": "late", "classless": "gone"}.get(other, "vmware-sc")
        keep(cluster, backup)
    del cluster.objects[f"{SNAPSHOTS}/namespaces/cht-backups/volumesnapshots/lost-couchdb"]
    with pytest.raises(BackupError, match=told):
        restore(cluster, name, **request_)


def test_a_half_done_restore_goes_first(cluster: Cluster) -> None:
    namespace = cluster.objects["/api/v1/namespaces/nairobi"]
    namespace["metadata"]["annotations"] = {RESTORING: '{"set": "nairobi-1", "volumes": {"couchdb-1-claim0": "pv-x"}}'}
    assert mark_of(namespace)["set"] == "nairobi-1"
    assert "a restore of the set nairobi-1 is half done" in save(cluster)[0].errors[0]
    with pytest.raises(BackupError, match="a restore of the set nairobi-1 into nairobi is half done"):
        restore(cluster, confirm="nairobi")
    assert mark_of({"metadata": {"annotations": {RESTORING: "nonsense"}}}) == {}


def test_a_copy_is_for_its_owner_only_and_found_again(tmp_path: Path, cluster: Cluster) -> None:
    store = Store(cluster, folder=str(tmp_path), timeout=0)  # type: ignore[arg-type]
    backup = a_set("nairobi-20260105-030405")
    store._write_file(backup)
    path = tmp_path / "nairobi" / "nairobi-20260105-030405.json"
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert store.get("nairobi-20260105-030405") == backup and store.get(str(path)) == backup
    assert store.get("nairobi-20260106-030405") is None and store.get("../nairobi-20260105-030405") is None


def test_replicas_are_handed_back_to_the_counties_play() -> None:
    ours = {"manager": "cht.k3s", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}
    status = {"manager": "kube-controller-manager", "subresource": "status", "operation": "Update"}
    pause = {"manager": MANAGER, "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    assert handed_back([ours, status]) is None
    assert handed_back([ours, pause, status]) == [{**ours, "fieldsV1": {"f:spec": {"f:template": {}, "f:replicas": {}}}}, status]
    assert "f:replicas" not in ours["fieldsV1"]["f:spec"], "the input is not changed"


def test_a_pod_that_does_not_end_is_named(cluster: Cluster) -> None:
    cluster.objects["/api/v1/namespaces/nairobi/pods/cht-api-1"] = {
        "metadata": {"name": "cht-api-1", "namespace": "nairobi", "labels": {"cht.service": "api"}}, "status": {"phase": "Running"}}
    with pytest.raises(PauseError, match="cht-api-1 did not end within 0 s"):
        Pause(cluster, "nairobi", 0).stop()  # type: ignore[arg-type]


def test_a_county_that_is_stopped_is_not_ready() -> None:
    status = {"observedGeneration": 1, "replicas": 0, "updatedReplicas": 0, "readyReplicas": 0, "availableReplicas": 0}
    stopped = {"metadata": {"name": "cht-api", "generation": 1}, "spec": {"replicas": 0}, "status": status}
    assert not deployment_ready(stopped)
    assert judge([stopped]).obstacle == "stopped (scaled to zero): cht-api"


# --- what may go wrong between two steps, against a cluster whose storage is a dictionary


class Living(Cluster):
    """A living that can be written to, whose storage and controllers are done at once."""

    def __init__(self) -> None:
        super().__init__()
        self.stalled = False
        # write -> what it fails with, once
        self.broken: dict[str, ApiError] = {}
        self.number = 0

    def json(self, method: str, path: str, query: t.Any = None, body: t.Any = None, content_type: str = "", **dummy: t.Any) -> dict[str, t.Any]:
        self.writes.append(f"{method} {path}")
        if f"{method} {path}" in self.broken:
            raise self.broken.pop(f"{method} {path}")
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise ApiError(409, f"{path} exists")
            return self._put(path, copy.deepcopy(body))
        if path not in self.objects:
            raise ApiError(404, f"{path} not found")
        if method == "DELETE":
            return self.objects.pop(path)
        live = self.objects[path]
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version and version != live["metadata"].get("resourceVersion"):
            raise ApiError(409, "the object has been modified")
        _merge(live, copy.deepcopy(body))
        return self._put(path, live)

    def apply(self, path: str, body: dict[str, t.Any], *dummy: t.Any, **more: t.Any) -> tuple[bool, dict[str, t.Any]]:
        new = path not in self.objects
        self.writes.append(f"APPLY {path}")
        live = self.objects.get(path) or {"metadata": {}}
        _merge(live, copy.deepcopy(body))
        return new, self._put(path, live)

    def _put(self, path: str, item: dict[str, t.Any]) -> dict[str, t.Any]:
        self.number += 1
        item["metadata"].update({"resourceVersion": str(self.number), "uid": item["metadata"].get("uid") or f"uid-{self.number}"})
        self.objects[path] = item
        kind, name = path.split("/")[-2:]
        if kind == "volumesnapshots" and not self.stalled:
            self._snapshot(item, name)
        if kind == "persistentvolumeclaims" and not item.get("status"):
            self._bind(item, name)
        return copy.deepcopy(item)

    def _snapshot(self, item: dict[str, t.Any], name: str) -> None:
        source, space = item["spec"]["source"], item["metadata"]["namespace"]
        bound = source.get("volumeSnapshotContentName")
        if bound is None:
            bound = f"snapcontent-{name}"
            self.objects[f"{CONTENTS}/{bound}"] = {"metadata": {"name": bound}, "spec": {
                "source": {"volumeHandle": source["persistentVolumeClaimName"]}, "volumeSnapshotRef": {"namespace": space, "name": name}},
                "status": {"snapshotHandle": f"{source['persistentVolumeClaimName']}+{self.number}"}}
        reference = self.objects[f"{CONTENTS}/{bound}"]["spec"]["volumeSnapshotRef"]
        # As the snapshot-controller: a content of a VolumeSnapshot that is gone binds to no other.
        if reference.setdefault("uid", item["metadata"]["uid"]) == item["metadata"]["uid"]:
            item["status"] = {"readyToUse": True, "boundVolumeSnapshotContentName": bound}

    def _bind(self, item: dict[str, t.Any], name: str) -> None:
        for path, volume in self.objects.items():
            if path.startswith("/api/v1/persistentvolumes/") and (volume["spec"].get("claimRef") or {}).get("name") == name:
                break
        else:
            new = f"new-{name}" if f"/api/v1/persistentvolumes/new-{name}" not in self.objects else f"new-{name}-{self.number}"
            volume = {"metadata": {"name": new}, "spec": {"claimRef": {"namespace": "nairobi", "name": name}, "storageClassName":
                      item["spec"]["storageClassName"], "capacity": {"storage": "4Gi"}, "csi": {"driver": DRIVER, "volumeHandle": f"disk-{self.number}"}}}
            self._put(f"/api/v1/persistentvolumes/{volume['metadata']['name']}", volume)
        item["spec"]["volumeName"], item["status"] = volume["metadata"]["name"], {"phase": "Bound"}


def _merge(live: dict[str, t.Any], change: dict[str, t.Any]) -> None:
    for key, value in change.items():
        if value is None:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(live.get(key), dict):
            _merge(live[key], value)
        else:
            live[key] = value


@pytest.fixture(name="living")
def fixture_living(monkeypatch: pytest.MonkeyPatch) -> Living:
    """Counties nairobi and kisumu with two CouchDB nodes each, which run."""
    living = Living()
    for county in ("nairobi", "kisumu"):
        space = f"/api/v1/namespaces/{county}"
        living._put(space, {"metadata": {"name": county, "labels": {"cht.k3s/county": county}}})
        living._put(f"{space}/secrets/cht-couchdb-credentials", {"metadata": {"name": "x", "namespace": county}, "data": secret("now")})
        for number in (1, 2):
            claim = f"couchdb-{number}-claim0"
            living._put(f"{space}/persistentvolumeclaims/{claim}", {
                "metadata": {"name": claim, "namespace": county}, "status": {"phase": "Bound"},
                "spec": {"volumeName": f"pv-{claim}" if county == "nairobi" else f"pv-{county}-{number}", "accessModes": ["ReadWriteOnce"],
                         "storageClassName": "vmware-sc"}})
            volume = f"pv-{claim}" if county == "nairobi" else f"pv-{county}-{number}"
            living._put(f"/api/v1/persistentvolumes/{volume}", {"metadata": {"name": volume}, "spec": {
                "capacity": {"storage": "4Gi"}, "csi": {"driver": DRIVER, "volumeHandle": f"disk-{county}-{number}"}}})
            name = f"cht-couchdb-{number}"
            living._put(f"/apis/apps/v1/namespaces/{county}/deployments/{name}", {
                "metadata": {"name": name, "namespace": county, "labels": {"cht.service": f"couchdb-{number}"}, "generation": 1},
                "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "couchdb", "image": "medicmobile/cht-couchdb:4.22.0"}]}}},
                "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}})
    living._put("/api/v1/namespaces/cht-backups", {"metadata": {"name": "cht-backups"}})
    living._put(f"{SNAPSHOTS}/volumesnapshotclasses/vmware-snapshots", {"metadata": {"name": "vmware-snapshots"}, "driver": DRIVER})
    living._put("/apis/storage.k8s.io/v1/storageclasses/vmware-sc", {
        "metadata": {"name": "vmware-sc"}, "provisioner": DRIVER, "volumeBindingMode": "Immediate"})
    monkeypatch.setattr(backup_module, "wait", lambda client, targets, timeout, check=None: {
        target.name: Progress(sum(replicas(living, target.name)), 2) for target in targets})
    return living


def replicas(living: Living, county: str = "nairobi") -> list[int]:
    return [item["spec"]["replicas"] for item in living.items(f"/apis/apps/v1/namespaces/{county}/deployments")]


def a_store(living: Living, folder: Path | None = None) -> Store:
    return Store(living, folder=str(folder or ""), timeout=0, sleep=lambda dummy: None)  # type: ignore[arg-type]


def save_now(living: Living, *names: str, folder: Path | None = None, now: float = 1767323045 + 86400, **settings: t.Any) -> list[Saved]:
    return Backup(living, a_store(living, folder), Settings(**settings), now=lambda: now).run(list(names or ("nairobi",)))  # type: ignore[arg-type]


def restore_now(living: Living, name: str = SET, **request: t.Any) -> t.Any:
    request = {"confirm": "nairobi", "stop": True, "wait_timeout": 0, **request}
    return Restore(living, a_store(living), Request(name, **request)).run()  # type: ignore[arg-type]


def remove_now(living: Living, name: str) -> dict[str, t.Any]:
    params = {"namespace": "cht-backups", "dir": "", "timeout": 0, "remove": [name], "counties": [], "health": False, "live": False, "keep": 2,
              "snapshot_class": "", "wait_timeout": 0}
    return cht_project_backup.work(types.SimpleNamespace(params=params, check_mode=False), living)  # type: ignore[arg-type]


def names(living: Living) -> list[str]:
    return [item.name for item in a_store(living).all("nairobi")]


def old_set(living: Living, name: str, **more: t.Any) -> None:
    """A set whose volumes the county no longer has."""
    backup = a_set(name, **more)
    for volume in backup.volumes:
        volume.volume = f"lost-{volume.claim}"
    keep(living, backup)


# --- sets that stay


def test_sets_of_volumes_that_a_county_lost_are_never_pruned(living: Living) -> None:
    lost = ["nairobi-20250101-000000", "nairobi-20250102-000000"]
    for name in lost:
        old_set(living, name)
    for day in range(4):
        saved = save_now(living, now=1767323045 + 86400 * (day + 1))[0]
        assert saved.errors == [] and f"kept: {', '.join(lost)} of volumes that it no longer has" in " ".join(saved.notes)
    assert names(living) == [*lost, "nairobi-20260105-030405", "nairobi-20260106-030405"]


@pytest.mark.parametrize("alive", [True, False])
def test_a_set_that_is_being_restored_is_not_pruned(living: Living, alive: bool) -> None:
    oldest = "nairobi-20260101-030405"
    keep(living, a_set())
    keep(living, a_set(oldest))
    namespace = living.objects["/api/v1/namespaces/kisumu"]
    note = {"id": "x", "what": "restore", "set": oldest, "place": "elsewhere boot", "pid": 7, "seen": time.time()}
    marks = {OPERATION: json.dumps(note)} if alive else {RESTORING: json.dumps({"set": oldest, "volumes": {"couchdb-1-claim0": "pv-x"}})}
    namespace["metadata"]["annotations"] = marks
    assert save_now(living)[0].removed == [] and oldest in names(living)
    namespace["metadata"]["annotations"] = {}
    assert save_now(living, now=1767323045 + 2 * 86400)[0].removed != []


def test_an_abandoned_restore_that_touched_nothing_holds_no_set(living: Living) -> None:
    keep(living, a_set())
    living._put(f"{CLAIMS}/restore-{SET}-couchdb-1", {
        "metadata": {"name": f"restore-{SET}-couchdb-1", "namespace": "nairobi", "labels": dict(MANAGED_LABELS)}, "spec": {"storageClassName": "vmware-sc"}})
    other_run(living, set=SET, seen=time.time() - 601)
    living.objects[SPACE]["metadata"]["annotations"][RESTORING] = json.dumps({"set": SET, "volumes": {}})
    for day in range(1, 5):
        assert save_now(living, now=1767323045 + 86400 * day)[0].errors == []
    assert names(living) == ["nairobi-20260105-030405", "nairobi-20260106-030405"]
    assert f"{CLAIMS}/restore-{SET}-couchdb-1" not in living.objects
    living.objects[SPACE]["metadata"]["annotations"] = {RESTORING: json.dumps({"set": "nairobi-20260105-030405", "volumes": {}})}
    assert remove_now(living, "nairobi-20260105-030405")["changed"] and names(living) == ["nairobi-20260106-030405"]


def test_a_set_that_cannot_be_read_keeps_no_county_from_being_saved(living: Living) -> None:
    keep(living, a_set("nairobi-damaged"))
    living.objects["/api/v1/namespaces/cht-backups/secrets/nairobi-damaged"]["data"] = {"set.json": "bm9uc2Vuc2U="}
    assert save_now(living)[0].errors == []
    store = a_store(living)
    assert [item.name for item in store.all()] == ["nairobi-20260103-030405"]
    assert len(store.damaged) == 1 and "Secret cht-backups/nairobi-damaged is no backup set" in store.damaged[0]


def test_check_mode_counts_without_the_set_that_goes_first(living: Living) -> None:
    for day in (1, 2, 3):
        name = f"nairobi-2026010{day}-030405"
        keep(living, a_set(name))
        content(living, day, snapshotHandle=f"disk-nairobi-1+{day}")
        living.objects[f"{CONTENTS}/c{day}"]["spec"]["volumeSnapshotRef"] = {"namespace": "cht-backups", "name": f"{name}-couchdb-1"}
    saved = save_now(living, check_mode=True, now=1767323045 + 5 * 86400)[0]
    assert (saved.errors, saved.removed) == ([], ["nairobi-20260101-030405", "nairobi-20260102-030405"])


@pytest.mark.parametrize(("wanted", "told"), [("nairobi", "there is no backup set nairobi to remove; there are: " + SET), ("nairobi-20200101-000000", "")])
def test_what_is_no_set_is_not_removed_in_silence(living: Living, wanted: str, told: str) -> None:
    keep(living, a_set())
    if told:
        with pytest.raises(BackupError, match=told):
            remove_now(living, wanted)
    else:
        assert remove_now(living, wanted)["changed"] is False
    assert names(living) == [SET]


def test_a_set_that_cannot_be_read_is_not_removed_in_silence(living: Living) -> None:
    keep(living, a_set())
    secret_ = living.objects[f"/api/v1/namespaces/cht-backups/secrets/{SET}"]
    secret_["data"] = {"set.json": "bm9uc2Vuc2U="}
    with pytest.raises(BackupError, match=f"the set {SET} can't be read.* begin with {SET}-, then kubectl -n cht-backups delete secret {SET}"):
        remove_now(living, SET)
    assert living.writes == []


def test_a_set_that_is_being_restored_is_not_removed_by_name(living: Living) -> None:
    keep(living, a_set())
    living.objects["/api/v1/namespaces/kisumu"]["metadata"]["annotations"] = {RESTORING: json.dumps({"set": SET, "volumes": {"a": "b"}})}
    with pytest.raises(BackupError, match="is being restored into the namespace kisumu"):
        remove_now(living, SET)


# --- one at a time


def other_run(living: Living, **more: t.Any) -> None:
    now = time.time()
    note = {"id": "x", "what": "restore", "set": "s", "place": "elsewhere boot", "pid": 7, "born": "1", "since": now - 60, "seen": now, **more}
    living.objects[SPACE]["metadata"].setdefault("annotations", {})[OPERATION] = json.dumps(note)


@pytest.mark.parametrize("check_mode", [False, True])
def test_backup_and_restore_refuse_a_county_that_another_run_has(living: Living, check_mode: bool) -> None:
    keep(living, a_set())
    other_run(living)
    told = "another run works on the namespace nairobi (restore since "
    assert told in save_now(living, check_mode=check_mode)[0].errors[0]
    with pytest.raises(OperationError, match="process 7 on elsewhere.*void 10 minutes after its last sign"):
        restore_now(living, check_mode=check_mode)
    assert replicas(living) == [1, 1] and names(living) == [SET]
    # The others are saved.
    assert save_now(living, "nairobi", "kisumu", check_mode=check_mode)[1].errors == []


def test_a_run_that_died_is_taken_over(living: Living) -> None:
    other_run(living, seen=time.time() - 601)
    assert save_now(living)[0].errors == []
    # A process of this host that is gone is known at once.
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = {"place": operation._place(), "pid": process.pid, "born": operation._born(process.pid)}
    other_run(living, **here)
    assert "another run works" in save_now(living, now=1767323045 + 2 * 86400)[0].errors[0]
    process.kill()
    process.wait()
    assert save_now(living, now=1767323045 + 2 * 86400)[0].errors == []
    assert note_of(living.get(SPACE)) == {}, "it is left free"


def test_a_run_of_another_user_that_is_hidden_from_us_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    found = {"id": "x", "place": operation._place(), "pid": os.getpid(), "born": operation._born(os.getpid()), "seen": time.time()}
    assert operation.alive(found, time.time())
    assert not operation.alive({**found, "born": "1"}, time.time()), "its number is another process's now"
    monkeypatch.setattr(operation, "_born", lambda pid: None)

    def kill(pid: int, dummy: int) -> None:
        seen.append(pid)
        raise error

    monkeypatch.setattr(operation.os, "kill", kill)
    error: OSError = PermissionError()
    assert operation.alive(found, time.time())
    error = ProcessLookupError()
    assert not operation.alive(found, time.time()) and seen == [os.getpid()] * 2


def test_what_is_told_of_a_process() -> None:
    assert operation._born(os.getpid())
    assert operation._born(2**22 + 1) is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert operation._born(ended.pid) == "" and not operation.alive(
        {"id": "x", "place": operation._place(), "pid": ended.pid, "born": "1", "seen": time.time()}, time.time())
    ended.wait()


def test_of_two_runs_at_once_one_has_it(living: Living) -> None:
    first = take(living, "nairobi", "backup")  # type: ignore[arg-type]
    with pytest.raises(OperationError, match="backup since"):
        take(living, "nairobi", "move")  # type: ignore[arg-type]
    first.release()
    real = living.json

    def raced(method: str, path: str, *arguments: t.Any, **more: t.Any) -> t.Any:
        living.json = real  # type: ignore[method-assign]
        other_run(living)
        living.objects[SPACE]["metadata"]["resourceVersion"] = "later"
        return real(method, path, *arguments, **more)

    living.json = raced  # type: ignore[assignment]
    with pytest.raises(OperationError, match="restore since"):
        take(living, "nairobi", "move")  # type: ignore[arg-type]


def test_a_restore_that_cannot_read_the_namespace_leaves_it_free(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(living, a_set())
    real = living.get

    def fails(path: str, query: t.Any = None) -> dict[str, t.Any]:
        if path == SPACE and note_of(living.objects[SPACE]):
            raise ApiError(503, "too busy")
        return real(path, query)

    monkeypatch.setattr(living, "get", fails)
    with pytest.raises(ApiError, match="too busy"):
        restore_now(living)
    assert note_of(living.objects[SPACE]) == {}


def test_a_run_notices_that_it_lost_the_county(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "RENEW_EVERY", 0.01)
    with taken(living, "nairobi", "backup") as held:  # type: ignore[arg-type]
        begun = note_of(living.get(SPACE))["seen"]
        deadline = time.monotonic() + 20
        while note_of(living.get(SPACE))["seen"] == begun:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        held.hold()
        other_run(living)
        with pytest.raises(OperationError, match="has taken this county meanwhile"):
            while time.monotonic() < deadline:
                held.hold()
                time.sleep(0.01)
    assert note_of(living.get(SPACE))["id"] == "x", "the other's note stays"


def test_hold_reads_who_has_the_county(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    with taken(living, "nairobi", "backup") as held:  # type: ignore[arg-type]
        held.hold()
        other_run(living)
        with monkeypatch.context() as context:
            context.setattr(living, "find", Mock(side_effect=ApiError(0, "no answer")))
            held.hold()
        with pytest.raises(OperationError, match="restore since .* has taken this county meanwhile"):
            held.hold()


@pytest.mark.parametrize("note_is", ["another's", "gone"])
def test_a_backup_leaves_a_county_that_another_run_took(living: Living, monkeypatch: pytest.MonkeyPatch, note_is: str) -> None:
    asked = []
    monkeypatch.setattr(backup_module, "wait", lambda client, targets, *dummy, **more: asked.append(1) or {"nairobi": Progress(2, 2)})
    real = Store.wait_made

    def raced(store: Store, *arguments: t.Any) -> None:
        real(store, *arguments)
        if note_is == "gone":
            living.objects[SPACE]["metadata"]["annotations"].pop(OPERATION, None)
        else:
            other_run(living)

    monkeypatch.setattr(Store, "wait_made", raced)
    saved = save_now(living)[0]
    if note_is == "gone":
        assert replicas(living) == [1, 1] and saved.errors == []
        return
    assert replicas(living) == [0, 0] and asked == [] and names(living) == [] and not saved.down
    assert len(saved.errors) == 1 and "another run (restore since" in saved.errors[0] and "left to that one" in saved.errors[0]
    assert note_of(living.get(SPACE))["id"] == "x"


# --- counties that do not come back


def test_a_failure_behind_the_stop_still_waits_for_the_county(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(backup_module, "wait", lambda client, targets, timeout, check=None: asked.append(targets[0].name) or {
        targets[0].name: Progress(0, 2, obstacle="no pod of cht-couchdb-1")})
    living.stalled = True
    first, second = save_now(living, "nairobi", "kisumu")
    assert asked == ["nairobi"] and first.down and first.set == ""
    assert "is not ready to use" in first.errors[0] and first.errors[1].startswith("not well again after 900 s")
    assert second.errors == ["not saved, since nairobi did not come back"] and replicas(living, "kisumu") == [1, 1]
    assert not any("kisumu" in entry for entry in living.writes)


def test_a_county_that_cannot_be_started_is_down_and_the_next_is_left_alone(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(dummy: Pause) -> list[str]:
        raise ApiError(0, "no answer")

    monkeypatch.setattr(Pause, "start", fails)
    first, second = save_now(living, "nairobi", "kisumu")
    assert first.down and first.errors == ["it is DOWN and could not be started (the API server: no answer): run projects.yml"]
    assert second.errors == ["not saved, since nairobi did not come back"] and replicas(living, "kisumu") == [1, 1]


def test_snapshots_that_never_come_stop_two_counties_and_not_fifty(living: Living) -> None:
    third = copy.deepcopy(living.objects["/api/v1/namespaces/kisumu"])
    third["metadata"].update({"name": "lamu", "labels": {"cht.k3s/county": "lamu"}})
    living.objects["/api/v1/namespaces/lamu"] = third
    living.stalled = True
    saved = save_now(living, "kisumu", "nairobi", "lamu")
    assert all("is not ready to use" in item.errors[0] and not item.down for item in saved[:2])
    assert saved[2].errors == ["not saved, since kisumu and nairobi were stopped for snapshots that did not come: repair these first"]


def test_an_answer_that_is_lost_costs_nothing(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client repeats what it got no answer to, though the server may have done it."""
    for name in ("json", "apply"):
        def twice(*arguments: t.Any, once: t.Callable[..., t.Any] = getattr(living, name), **more: t.Any) -> t.Any:
            if arguments[0] != "DELETE" and "resourceVersion" not in str(arguments):
                once(*copy.deepcopy(arguments), **more)
            return once(*arguments, **more)

        monkeypatch.setattr(living, name, twice)
    del living.objects["/api/v1/namespaces/cht-backups"]
    saved = save_now(living)[0]
    assert saved.errors == [] and names(living) == [saved.set]
    assert restore_now(living, saved.set).error == ""


# --- copies


def test_a_copy_that_cannot_be_written_costs_no_set(living: Living, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(dummy: Store, backup: t.Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "_write_file", fails)
    saved = save_now(living, folder=tmp_path)[0]
    assert saved.set == "nairobi-20260103-030405" and "saved as nairobi-20260103-030405, but its copy" in saved.errors[0]
    assert [item.state for item in a_store(living).all()] == [sets.COMPLETE]


def test_a_folder_that_cannot_be_written_is_refused_before_any_stop(living: Living, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackupError, match="cht_project_backup_dir .* can't be written to.*Nothing was changed"):
        save_now(living, folder=tmp_path / "file")
    assert living.writes == []


# --- restore


def test_a_restore_in_place_and_its_marks(living: Living) -> None:
    keep(living, a_set())
    done = restore_now(living)
    assert done.error == "" and done.new == {f"couchdb-{number}-claim0": f"new-restore-{SET}-couchdb-{number}" for number in (1, 2)}
    assert replicas(living) == [1, 1] and living.get(SPACE)["metadata"]["annotations"] == {}
    writes = [entry for entry in living.writes if entry.endswith((SPACE, "cht-couchdb-1"))]
    assert writes[0] == f"PATCH {SPACE}", "it is taken before anything else is written"


def test_a_claim_whose_volume_is_gone_gets_one_of_the_set(living: Living) -> None:
    keep(living, a_set())
    del living.objects["/api/v1/persistentvolumes/pv-couchdb-1-claim0"]
    living.objects[f"{CLAIMS}/couchdb-1-claim0"]["status"] = {"phase": "Lost"}
    assert restore_now(living).error == ""
    assert living.get(f"{CLAIMS}/couchdb-1-claim0")["spec"]["volumeName"] == f"new-restore-{SET}-couchdb-1"


def test_volumes_without_a_storage_class_get_the_default_or_the_named_one(living: Living) -> None:
    backup = a_set()
    for volume in backup.volumes:
        volume.storage_class = ""
    keep(living, backup)
    assert restore_now(living).error == ""
    assert living.get(f"{CLAIMS}/couchdb-1-claim0")["spec"]["storageClassName"] == "vmware-sc"
    classes = "/apis/storage.k8s.io/v1/storageclasses"
    living._put(f"{classes}/fast", {"metadata": {"name": "fast"}, "provisioner": DRIVER, "volumeBindingMode": "Immediate"})
    living._put(f"{classes}/nfs", {"metadata": {"name": "nfs"}, "provisioner": "other", "volumeBindingMode": "Immediate"})
    with pytest.raises(BackupError, match=r"no StorageClass: name one .*cht_project_restore_class=NAME \(fast, vmware-sc of"):
        restore_now(living, again=True)
    with pytest.raises(BackupError, match="there is no StorageClass nfs of csi.vsphere.vmware.com: there are fast, vmware-sc"):
        restore_now(living, again=True, storage_class="nfs")
    living.objects[f"{classes}/fast"]["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    restore_now(living, again=True)
    assert living.get(f"{CLAIMS}/couchdb-1-claim0")["spec"]["storageClassName"] == "fast"


def test_a_volume_without_a_storage_class_is_told_when_it_is_saved(living: Living) -> None:
    living.objects[f"{CLAIMS}/couchdb-1-claim0"]["spec"]["storageClassName"] = ""
    assert "couchdb-1-claim0 has no StorageClass" in " ".join(save_now(living)[0].notes)


def test_a_content_whose_snapshot_is_gone_does_not_stand_in_the_way(living: Living) -> None:
    keep(living, a_set())
    name = f"restore-{SET}-couchdb-1"
    stale = sets.content_for(name, "nairobi", a_set().volumes[0], "Retain")[0]
    stale["spec"]["volumeSnapshotRef"]["uid"] = "of one that is gone"
    living._put(f"{CONTENTS}/nairobi-{name}", stale)
    assert restore_now(living).error == ""


def test_a_restore_that_fails_before_the_stop_leaves_nothing(living: Living) -> None:
    keep(living, a_set())
    before = set(living.objects)
    living.broken[f"PATCH /api/v1/persistentvolumes/new-restore-{SET}-couchdb-2"] = ApiError(500, "out of order")
    with pytest.raises(ApiError, match="out of order"):
        restore_now(living)
    left = {path for path in living.objects if path not in before}
    # Volumes whose claims are gone are the driver's.
    assert all(path.startswith("/api/v1/persistentvolumes/new-") for path in left)
    assert replicas(living) == [1, 1] and living.get(SPACE)["metadata"]["annotations"] == {}
    assert save_now(living)[0].errors == []


def test_a_large_volume_is_waited_for_by_the_next_run(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(living, a_set())
    claim = f"{CLAIMS}/restore-{SET}-couchdb-2"
    real = living._bind

    def slow(item: dict[str, t.Any], name: str) -> None:
        if not name.endswith("couchdb-2"):
            real(item, name)

    monkeypatch.setattr(living, "_bind", slow)
    with pytest.raises(BackupError, match=r"restore-\S+-couchdb-2 got no volume.*run restore_project again to go on, with a larger cht_project_backup_timeout"):
        restore_now(living)
    uid = living.get(claim)["metadata"]["uid"]
    assert replicas(living) == [1, 1] and note_of(living.get(SPACE)) == {}
    with pytest.raises(BackupError, match="got no volume"):
        restore_now(living)
    assert living.get(claim)["metadata"]["uid"] == uid, "it is not begun anew"
    # Another class is a new beginning.
    living._put("/apis/storage.k8s.io/v1/storageclasses/fast", {"metadata": {"name": "fast"}, "provisioner": DRIVER, "volumeBindingMode": "Immediate"})
    with pytest.raises(BackupError, match="got no volume"):
        restore_now(living, storage_class="fast")
    assert living.get(claim)["metadata"]["uid"] != uid and living.get(claim)["spec"]["storageClassName"] == "fast"
    living._bind = real  # type: ignore[method-assign]
    living._put(claim, living.objects[claim])
    assert restore_now(living, storage_class="fast").error == ""
    assert living.get(SPACE)["metadata"]["annotations"] == {} and not any("restore-" in path for path in living.objects if CLAIMS in path)


def test_what_an_abandoned_restore_left_goes_with_its_set(living: Living) -> None:
    keep(living, a_set())
    backup = a_store(living).all()[0]
    made = Restore(living, a_store(living), Request(SET))  # type: ignore[arg-type]
    made._make(backup, "nairobi")
    made.store.bind({sets.passing(backup, volume): volume for volume in backup.volumes}, "nairobi", "Retain")
    left = [path for path in living.objects if "restore-" in path and "persistentvolumes/" not in path]
    assert len(left) == 6
    made.store.remove(backup)
    assert not [path for path in left if path in living.objects]
    assert living.get(f"/api/v1/persistentvolumes/new-restore-{SET}-couchdb-1")["spec"]["persistentVolumeReclaimPolicy"] == "Delete"


@pytest.mark.parametrize("there_already", [True, False])
def test_what_a_restore_of_another_set_left_goes_first(living: Living, there_already: bool) -> None:
    keep(living, a_set())
    other = "nairobi-20260101-030405"
    keep(living, a_set(other))
    if there_already:
        restore_now(living)
    Restore(living, a_store(living), Request(other))._make(a_set(other), "nairobi")  # type: ignore[arg-type]
    living.objects[SPACE]["metadata"]["annotations"] = {RESTORING: json.dumps({"set": other, "volumes": {}})}
    assert f"{CLAIMS}/restore-{other}-couchdb-1" in living.objects
    assert restore_now(living).changed is not there_already
    assert not [path for path in living.objects if f"{CLAIMS}/restore-" in path]
    assert living.get(SPACE)["metadata"]["annotations"] == {}


def test_a_quota_without_room_for_both_is_said_before(living: Living) -> None:
    keep(living, a_set())
    quota = {"metadata": {"name": "cht", "namespace": "nairobi"}, "spec": {}}
    path = f"{SPACE}/resourcequotas/cht"
    for hard, used, told in (
        ({"requests.storage": "12Gi"}, {"requests.storage": "8Gi"}, "requests.storage 12Gi, of which 8Gi are in use, and the new volumes take 8Gi"),
        ({"persistentvolumeclaims": "3"}, {"persistentvolumeclaims": "2"}, "persistentvolumeclaims 3, of which 2 are in use, and the new volumes take 2"),
        ({"vmware-sc.storageclass.storage.k8s.io/requests.storage": "8Gi"}, {"vmware-sc.storageclass.storage.k8s.io/requests.storage": "8Gi"}, "take 8Gi"),
    ):
        living.objects[path] = {**quota, "status": {"hard": hard, "used": used}}
        with pytest.raises(BackupError, match=f"ResourceQuota cht of the namespace nairobi allows .*{told}.*raise the county's quota"):
            restore_now(living)
    living.objects[path] = {**quota, "status": {"hard": {"requests.storage": "16Gi", "pods": "1"}, "used": {"requests.storage": "8Gi", "pods": "1"}}}
    assert restore_now(living).error == ""


def test_versions_are_compared(living: Living) -> None:
    keep(living, a_set(versions=["4.23.1"]))
    with pytest.raises(BackupError, match="saved with CHT 4.23.1, and nairobi runs the older 4.22.0"):
        restore_now(living)
    keep(living, a_set(versions=["4.9.0"]))
    note = " ".join(restore_now(living, check_mode=True).notes)
    assert "saved with CHT 4.9.0, and nairobi runs 4.22.0, which migrates the data again" in note
    keep(living, a_set(versions=["4.22.0"]))
    assert not any("saved with" in note for note in restore_now(living, check_mode=True).notes)


def test_a_failure_behind_the_stop_says_that_the_county_is_down(living: Living) -> None:
    keep(living, a_set())
    living.broken[f"DELETE {CLAIMS}/couchdb-2-claim0"] = ApiError(403, "not allowed")
    done = restore_now(living)
    assert done.changed and replicas(living) == [0, 0]
    assert done.error == f"nairobi is DOWN, since its restore from {SET} did not end: not allowed. Run restore_project with this set again to finish it"
    finished = restore_now(living, confirm="", stop=False)
    assert finished.error == "" and replicas(living) == [1, 1] and "an interrupted restore of this set was finished" in finished.notes
    assert living.get(SPACE)["metadata"]["annotations"] == {}


@pytest.mark.parametrize("error", [PauseError("a pod does not end"), KeyboardInterrupt()])
def test_a_county_that_does_not_stop_is_started_again(living: Living, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    keep(living, a_set())

    def fails(dummy: Pause, databases: bool) -> None:
        raise error

    monkeypatch.setattr(Pause, "_wait", fails)
    with pytest.raises(type(error)):
        restore_now(living)
    assert replicas(living) == [1, 1] and note_of(living.get(SPACE)) == {}
    monkeypatch.undo()
    assert restore_now(living).error == ""


@pytest.mark.parametrize("step", ["_release", "_swap"])
def test_a_restore_that_is_told_to_end_behind_the_stop_says_that_the_county_is_down(
    living: Living, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    keep(living, a_set())

    def interrupted(*dummy: t.Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Restore, step, interrupted)
    done = restore_now(living)
    assert done.error == (
        f"nairobi is DOWN, since its restore from {SET} did not end: it was interrupted. Run restore_project with this set again to finish it")
    assert replicas(living) == [0, 0] and note_of(living.get(SPACE)) == {}
    monkeypatch.undo()
    assert restore_now(living, stop=False, confirm="").error == "" and replicas(living) == [1, 1]


def test_one_stale_mark_does_not_let_a_running_county_be_stopped(living: Living) -> None:
    keep(living, a_set())
    item = living.objects[f"{DEPLOYMENTS}/cht-couchdb-1"]
    item["metadata"]["annotations"], item["spec"]["replicas"] = {PAUSED: "1"}, 0
    with pytest.raises(BackupError, match="cht_project_restore_stop=true"):
        restore_now(living, stop=False)
    living.objects[f"{DEPLOYMENTS}/cht-couchdb-2"].update(copy.deepcopy(
        {"metadata": {**item["metadata"], "name": "cht-couchdb-2"}, "spec": item["spec"]}))
    assert restore_now(living, stop=False).error == ""


def test_a_job_that_is_ended_does_so_as_by_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        operation.end_by_sigterm()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("versions", "nodes", "refused"), [
    (["5.2.0"], 3, True), (["4.22.0", "5.0.1"], 3, True), (["4.22.0"], 3, False), (["5.2.0"], 1, False), (["branch"], 3, False), (["5.3.0"], 3, False),
    (["5.3.0", "5.2.0"], 3, True),
])
def test_a_cluster_with_a_search_index_is_not_saved_while_it_runs(versions: list[str], nodes: int, refused: bool) -> None:
    services = ["couchdb"] if nodes == 1 else [f"couchdb-{number}" for number in range(1, nodes + 1)]
    volumes = [Volume(f"{service}-claim0", "4Gi", "vmware-sc", f"pv-{service}", DRIVER, ["ReadWriteOnce"]) for service in services]
    found = BackupSet("nairobi-1", "nairobi", "nairobi", "2026-01-02T03:04:05Z", True, volumes, versions=versions)
    if refused:
        with pytest.raises(BackupError, match="can't be saved while it runs"):
            backup_module._refuse_a_live_index(found)
    else:
        backup_module._refuse_a_live_index(found)
