# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import copy
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import backup_sets as sets
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup import Backup, Settings
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import BackupError, BackupSet, Store, Volume, choose_class
from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import MANAGER, Pause, PauseError, handed_back
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore import Request, Restore
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore_mark import RESTORING, mark_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import deployment_ready, judge
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError

DRIVER = "csi.vsphere.vmware.com"
SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1"


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
    with pytest.raises(BackupError, match="no county atlantis; it has nairobi"):
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
