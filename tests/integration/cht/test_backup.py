# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counties are saved and restored, with the real controllers of snapshots, claims and Deployments; disks and kubelets are stand-ins.

An API server of its own, since the stand-in for the storage gives a volume to every claim.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apiserver import ApiServer
from conftest import COLLECTIONS, CONTROLLERS, Cluster, Play, county, run_program
from kubelet import Kubelet
from storage import CLASS, SNAPSHOT_CLASS, SNAPSHOTS, Storage
from support.processes import family

SINGLE = {"couchdb": {"mode": "single"}}
CONTENTS = f"{SNAPSHOTS}/volumesnapshotcontents"
SETS = f"{SNAPSHOTS}/namespaces/cht-backups/volumesnapshots"
WAIT = {"cht_project_wait": True, "cht_project_wait_timeout": 90, "cht_project_wait_report_every": 5, "cht_project_backup_timeout": 40}


class World:
    """The cluster with its storage."""

    def __init__(self, cluster: Cluster, storage: Storage) -> None:
        self.cluster = cluster
        self.storage = storage

    def up(self, name: str, **more: t.Any) -> dict[str, t.Any]:
        """A county that runs, with something on its volumes."""
        entry = county(name, **more)
        self.cluster.counties(entry, **WAIT)
        self.storage.write(name, "first")
        return entry

    def backup(self, *names: str, arguments: tuple[str, ...] = (), expect: int = 0, **variables: t.Any) -> Play:
        return self.cluster.play("backup_project", *arguments, expect=expect, cht_project_backup=list(names), **{**WAIT, **variables})

    def restore(self, name: str, *arguments: str, expect: int = 0, **variables: t.Any) -> Play:
        return self.cluster.play("restore_project", *arguments, expect=expect, cht_project_restore=name, **{**WAIT, **variables})

    def sets(self, name: str) -> list[str]:
        """The complete sets of a county, oldest first."""
        query = f"/api/v1/namespaces/cht-backups/secrets?labelSelector=cht.k3s/county={name},cht.k3s/backup=complete"
        return sorted(item["metadata"]["name"] for item in self.cluster.client.get(query)["items"])

    def save(self, name: str, **variables: t.Any) -> str:
        """Save a county and return the new set."""
        before = self.sets(name)
        time.sleep(1.1)  # a set is named after the second
        self.backup(name, **variables)
        return next(item for item in self.sets(name) if item not in before)

    def replicas(self, name: str) -> dict[str, int]:
        return {item["metadata"]["name"]: item["spec"]["replicas"] for item in self.cluster.items(f"/apis/apps/v1/namespaces/{name}/deployments")}

    def volumes(self, name: str) -> dict[str, str]:
        """The volume of each claim."""
        claims = self.cluster.items(f"/api/v1/namespaces/{name}/persistentvolumeclaims")
        return {item["metadata"]["name"]: item["spec"].get("volumeName", "") for item in claims}

    def leftovers(self, name: str) -> list[str]:
        """Snapshots in a county's namespace, and contents that point there."""
        own = [item["metadata"]["name"] for item in self.cluster.items(f"{SNAPSHOTS}/namespaces/{name}/volumesnapshots")]
        return own + [item["metadata"]["name"] for item in self.cluster.items(CONTENTS) if item["spec"]["volumeSnapshotRef"]["namespace"] == name]

    def killed(self, playbook: str, when: Callable[[], bool], number: int = signal.SIGKILL, **variables: t.Any) -> None:
        """Start a playbook and end all of it by a signal as soon as something is so."""
        extra = self.cluster.folder / "killed.json"
        kubeconfig = {"k3s_kubeconfig": str(self.cluster.server.kubeconfig)}
        extra.write_text(json.dumps({**kubeconfig, **WAIT, **variables}))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.cluster.folder / "inventory.yml"), "-e", f"@{extra}"]
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_HOME": str(self.cluster.folder / "home")}
        process = subprocess.Popen([*command, f"cht.k3s.{playbook}"], env=environment, start_new_session=True, cwd=self.cluster.folder,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        try:
            until(when)
        finally:
            # Ctrl-C and a cancelled job reach ansible-playbook, which passes them on; a power cut spares nobody.
            for pid in family(process.pid) if number == signal.SIGKILL else [process.pid]:
                os.kill(pid, number)
            output = process.communicate(timeout=60)[0]
        assert process.returncode != 0, output


def deployments(world: World, name: str) -> dict[str, str]:
    """The Deployments of a county with their generations: stopping one raises it."""
    return {key: value for key, value in world.cluster.resource_versions(name).items() if key.startswith("deployments/")}


def until(condition: Callable[[], t.Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module", name="storage")
def fixture_storage() -> Iterator[tuple[ApiServer, Storage]]:
    with ApiServer() as server:
        run_program(server, "kube-controller-manager", f"--controllers={CONTROLLERS}", f"--service-account-private-key-file={server.folder / 'sa.key'}")
        storage = Storage(server)
        storage.install(server, storage.client)
        with Kubelet(server), storage:
            yield server, storage


@pytest.fixture(name="world")
def fixture_world(storage: tuple[ApiServer, Storage], tmp_path: Path) -> Iterator[World]:
    cluster = Cluster(storage[0], tmp_path)
    storage[1].stalled = storage[1].out_of_space = False
    yield World(cluster, storage[1])
    cluster.client.close()


def test_without_snapshots_in_the_cluster_it_is_said_before_anything_changes(world: World) -> None:
    classes = f"{SNAPSHOTS}/volumesnapshotclasses/{SNAPSHOT_CLASS}"
    found = world.cluster.client.get(classes)
    world.up("classless", **SINGLE)
    world.cluster.client.json("DELETE", classes)
    refused = world.backup("classless", expect=2)
    found["metadata"] = {key: found["metadata"][key] for key in ("name", "annotations")}
    world.cluster.create(f"{SNAPSHOTS}/volumesnapshotclasses", found)
    assert "there is no VolumeSnapshotClass for csi.vsphere.vmware.com: set csi_snapshots: true" in " ".join(refused.text.split())
    unknown = world.backup("classless", "atlantis", expect=2)
    assert "the cluster has no county atlantis; known are: classless" in " ".join(unknown.text.split())
    many = world.backup("classless", expect=2, cht_project_backup_keep=3)
    assert "cht_project_backup_keep" in many.text
    assert set(world.replicas("classless").values()) == {1} and world.sets("classless") == []
    assert "There is no backup set" in world.backup().text


def test_all_volumes_are_saved_while_the_county_rests_and_it_is_as_before(world: World) -> None:
    entry = world.up("nairobi")
    before = world.cluster.resource_versions("nairobi")
    predicted = world.backup("nairobi", arguments=("--check", "--diff"))
    assert predicted.changed == 1 and re.search(r"\+nairobi-\d{8}-\d{6}", predicted.text)
    assert world.sets("nairobi") == [] and world.cluster.resource_versions("nairobi") == before, "check mode wrote something"
    folder = world.cluster.folder / "copies"
    world.storage.pods_at_snapshots.clear()
    name = world.save("nairobi", cht_project_backup_dir=str(folder))
    assert world.storage.pods_at_snapshots == [], "CouchDB and all that writes to it have to be stopped"
    assert set(world.replicas("nairobi").values()) == {1} and world.leftovers("nairobi") == []
    held = {item["metadata"]["name"]: item["status"]["readyToUse"] for item in world.cluster.items(SETS)}
    assert held == {f"{name}-couchdb-{number}": True for number in (1, 2, 3)}
    again = world.cluster.counties(entry, **WAIT)
    assert again.changed == 0, "the backup left something that projects.yml puts right"
    copy = folder / "nairobi" / f"{name}.json"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (copy, copy.parent)] == [0o600, 0o700]
    secret = world.cluster.client.get("/api/v1/namespaces/nairobi/secrets/cht-couchdb-credentials")["data"]
    assert json.loads(copy.read_text())["secret"] == secret
    listed = world.backup()
    assert f"{name}  complete  3 volumes" in listed.text and listed.changed == 0 and secret["COUCHDB_PASSWORD"] not in listed.text


def test_the_oldest_set_goes_after_the_new_one_is_ready(world: World) -> None:
    first = world.sets("nairobi")[0]
    world.storage.most = 0
    second, third = world.save("nairobi"), world.save("nairobi")
    assert world.sets("nairobi") == [second, third] and world.storage.most == 3
    volumes = {world.storage.handle("nairobi", claim) for claim in world.volumes("nairobi")}
    assert len([name for name in world.storage.snapshots if name.partition("+")[0] in volumes]) == 6
    assert not any(item["metadata"]["name"].startswith(first) for item in world.cluster.items(SETS))
    removed = world.cluster.play("backup_project", cht_project_backup_remove=[second])
    assert removed.changed == 1 and world.sets("nairobi") == [third]


def test_a_volume_with_as_many_snapshots_as_advised_is_not_stopped_for_one_more(world: World) -> None:
    for number in range(2):
        world.cluster.create(f"{SNAPSHOTS}/namespaces/nairobi/volumesnapshots", {
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": f"by-hand-{number}"},
            "spec": {"source": {"persistentVolumeClaimName": "couchdb-2-claim0"}},
        })
    until(lambda: len(world.leftovers("nairobi")) == 4)
    before = deployments(world, "nairobi")
    refused = world.backup("nairobi", expect=2)
    text = " ".join(refused.text.split())
    assert "the volume of couchdb-2-claim0 has 3 snapshots already" in text and "nairobi/by-hand-0" in text
    assert deployments(world, "nairobi") == before
    for number in range(2):
        world.cluster.client.json("DELETE", f"{SNAPSHOTS}/namespaces/nairobi/volumesnapshots/by-hand-{number}")
    until(lambda: not world.leftovers("nairobi"))


def test_a_county_is_put_back_in_place_and_what_it_had_is_kept(world: World) -> None:
    entry, name = county("nairobi"), world.sets("nairobi")[-1]
    world.storage.write("nairobi", "later")
    old = world.volumes("nairobi")
    for variables, words in (
        ({}, "Confirm it with -e cht_project_restore_confirm=nairobi"),
        ({"cht_project_restore_confirm": "nairobi"}, "nairobi runs: let it be stopped for the restore"),
        ({"cht_project_restore_confirm": "nairobi", "cht_project_restore_into": "kisumu"}, "named after the namespace nairobi"),
    ):
        assert words in " ".join(world.restore(name, expect=2, **variables).text.split())
    assert "there is no backup set nairobi-19990101-000000; complete ones are" in " ".join(world.restore("nairobi-19990101-000000", expect=2).text.split())
    yes = {"cht_project_restore_confirm": "nairobi", "cht_project_restore_stop": True}
    predicted = world.restore(name, "--check", "--diff", **yes)
    assert predicted.changed == 1 and f"+couchdb-1-claim0: a new volume of {name}" in predicted.text
    assert world.volumes("nairobi") == old and world.leftovers("nairobi") == []
    assert world.restore(name, **yes).changed == 1
    new = world.volumes("nairobi")
    assert set(new) == set(old) and not set(new.values()) & set(old.values())
    assert world.storage.read("nairobi") == [f"first of couchdb-{number}-claim0" for number in (1, 2, 3)]
    for volume in old.values():
        kept = world.cluster.client.get(f"/api/v1/persistentvolumes/{volume}")
        assert (kept["spec"]["persistentVolumeReclaimPolicy"], kept["status"]["phase"]) == ("Retain", "Released")
        assert world.storage.data[kept["spec"]["csi"]["volumeHandle"]].startswith("later")
    assert world.leftovers("nairobi") == [] and set(world.replicas("nairobi").values()) == {1}
    again = world.restore(name, **yes)
    assert again.changed == 0 and "those of this set already" in again.text
    assert world.cluster.counties(entry, **WAIT).changed == 0
    world.storage.write("nairobi", "spoilt")
    world.restore(name, **yes, cht_project_restore_again=True)
    assert world.storage.read("nairobi")[0] == "first of couchdb-1-claim0"


def test_the_namespace_is_deleted_and_the_data_read_back(world: World) -> None:
    entry = world.up("garissa")
    secret = world.cluster.client.get("/api/v1/namespaces/garissa/secrets/cht-couchdb-credentials")["data"]
    name = world.save("garissa")
    world.cluster.play("remove_project", cht_project_remove=["garissa"], cht_project_remove_data=["garissa"])
    assert world.cluster.get("/api/v1/namespaces/garissa") is None
    restored = world.restore(name)
    assert "running projects.yml" in restored.text and world.restore(name).changed == 0
    row = world.cluster.counties(entry, **WAIT).row("garissa")
    assert "failed" not in row
    assert world.storage.read("garissa") == [f"first of couchdb-{number}-claim0" for number in (1, 2, 3)]
    assert world.cluster.client.get("/api/v1/namespaces/garissa/secrets/cht-couchdb-credentials")["data"] == secret
    assert world.cluster.counties(entry, **WAIT).changed == 0


def test_a_set_is_restored_into_another_county_also_from_its_file(world: World) -> None:
    world.up("lamu", **SINGLE)
    folder = world.cluster.folder / "copies"
    name = world.save("lamu", cht_project_backup_live=True, cht_project_backup_dir=str(folder))
    assert f"{name}  complete, saved while it ran" in world.backup().text
    copy = folder / "lamu" / f"{name}.json"
    # Another cluster would not have the set's Secret.
    world.cluster.client.json("DELETE", f"/api/v1/namespaces/cht-backups/secrets/{name}")
    training = county("training", namespace="school", **SINGLE)
    world.restore(str(copy), cht_project_restore_into="training", cht_projects=[training])
    assert "failed" not in world.cluster.counties(training, **WAIT).row("training")
    assert world.storage.read("school") == ["first of couchdb-claim0"] and world.storage.read("lamu") == ["first of couchdb-claim0"]
    entries = world.cluster.client.get("/api/v1/namespaces/school/secrets/cht-couchdb-credentials")["data"]
    original = world.cluster.client.get("/api/v1/namespaces/lamu/secrets/cht-couchdb-credentials")["data"]
    assert entries["COUCHDB_PASSWORD"] == original["COUCHDB_PASSWORD"] and entries["COUCH_URL"] != original["COUCH_URL"]
    into = world.restore(str(copy), expect=2, cht_project_restore_into="lamu")
    assert "Confirm it with -e cht_project_restore_confirm=lamu" in " ".join(into.text.split())


def test_a_live_backup_warns_and_stops_nothing(world: World) -> None:
    world.up("mombasa", **SINGLE)
    before = deployments(world, "mombasa")
    run = world.backup("mombasa", cht_project_backup_live=True)
    assert "the volumes are not of the same moment" in " ".join(run.text.split())
    assert deployments(world, "mombasa") == before


@pytest.mark.parametrize("heals", ["backup_project", "projects"])
def test_a_backup_that_was_killed_is_healed(world: World, heals: str) -> None:
    name = f"killed-{heals.partition('_')[0]}"
    entry = world.up(name, **SINGLE)
    world.storage.stalled = True
    snapshots = f"{SNAPSHOTS}/namespaces/{name}/volumesnapshots"
    world.killed("backup_project", lambda: world.cluster.items(snapshots), cht_project_backup=[name])
    down = world.replicas(name)
    assert (down["cht-couchdb"], down["cht-api"], down["cht-sentinel"], down["cht-haproxy"]) == (0, 0, 0, 1)
    world.storage.stalled = False
    if heals == "projects":
        row = world.cluster.counties(entry, **WAIT).row(name)
        assert "3 objects updated" in row
        assert set(world.replicas(name).values()) == {1} and world.cluster.counties(entry, **WAIT).changed == 0
    time.sleep(1.1)
    run = world.backup(name)
    assert "was never complete: removed" in " ".join(run.text.split())
    assert set(world.replicas(name).values()) == {1} and world.leftovers(name) == [] and len(world.sets(name)) == 1
    assert world.cluster.counties(entry, **WAIT).changed == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_interrupted_brings_the_county_up_on_its_way_out(world: World, number: int) -> None:
    name = f"stopped-{number}"
    world.up(name, **SINGLE)
    world.storage.stalled = True
    snapshots = f"{SNAPSHOTS}/namespaces/{name}/volumesnapshots"
    world.killed("backup_project", lambda: world.cluster.items(snapshots), number, cht_project_backup=[name])
    until(lambda: set(world.replicas(name).values()) == {1})
    until(lambda: not world.leftovers(name))


def test_snapshots_that_do_not_come_end_the_rest_and_the_next_county_is_saved(world: World) -> None:
    world.up("turkana", **SINGLE)
    world.storage.stalled = True
    run = world.backup("turkana", expect=2, cht_project_backup_timeout=30)
    text = " ".join(run.text.split())
    assert "-couchdb is not ready to use" in text and "waited 30 s" in text
    world.storage.stalled = False
    until(lambda: set(world.replicas("turkana").values()) == {1} and not world.leftovers("turkana"))
    world.up("wajir", **SINGLE)
    world.cluster.client.json("DELETE", "/api/v1/namespaces/turkana/secrets/cht-couchdb-credentials")
    run = world.backup("turkana", "wajir", expect=2)
    assert "1 of 2 counties: turkana: Secret cht-couchdb-credentials is missing" in " ".join(run.text.split())
    assert len(world.sets("wajir")) == 1 and world.sets("turkana") == []


def test_a_restore_that_was_killed_half_way_is_finished(world: World) -> None:
    entry = world.up("kitui")
    name = world.save("kitui")
    world.storage.write("kitui", "later")
    old = world.volumes("kitui")
    claim = "/api/v1/namespaces/kitui/persistentvolumeclaims/couchdb-2-claim0"
    world.cluster.patch(claim, {"metadata": {"finalizers": ["kubernetes.io/pvc-protection", "example.org/held"]}})
    yes = {"cht_project_restore_confirm": "kitui", "cht_project_restore_stop": True}
    world.killed("restore_project", lambda: (world.cluster.get(claim) or {})["metadata"].get("deletionTimestamp"), cht_project_restore=name, **yes)
    assert world.volumes("kitui")["couchdb-1-claim0"] != old["couchdb-1-claim0"] and world.replicas("kitui")["cht-couchdb-1"] == 0
    assert f"a restore of the set {name} is half done" in " ".join(world.backup("kitui", expect=2).text.split())
    assert f"a restore of the set {name} is half done" in " ".join(world.cluster.counties(entry, expect=2).text.split())
    assert world.replicas("kitui")["cht-couchdb-1"] == 0, "not started on volumes of two moments"
    world.cluster.patch(claim, {"metadata": {"finalizers": []}})
    # Without confirmation: half of it is done, and the county can only go on.
    finished = world.restore(name)
    assert "an interrupted restore of this set was finished" in finished.text
    assert world.storage.read("kitui") == [f"first of couchdb-{number}-claim0" for number in (1, 2, 3)]
    assert set(world.volumes("kitui")) == set(old) and set(world.replicas("kitui").values()) == {1}
    assert world.cluster.counties(entry, **WAIT).changed == 0


def test_nothing_is_touched_before_all_new_volumes_are_there(world: World) -> None:
    world.up("narok", **SINGLE)
    name, old = world.save("narok"), world.volumes("narok")
    yes = {"cht_project_restore_confirm": "narok", "cht_project_restore_stop": True}
    world.storage.out_of_space = True
    failed = world.restore(name, expect=2, cht_project_backup_timeout=20, **yes)
    assert "got no volume" in failed.text
    assert world.volumes("narok")["couchdb-claim0"] == old["couchdb-claim0"] and set(world.replicas("narok").values()) == {1}
    world.storage.out_of_space = False
    assert world.restore(name, **yes).changed == 1 and set(world.volumes("narok")) == set(old)


def test_a_set_that_lost_a_snapshot_is_refused(world: World) -> None:
    world.up("busia", **SINGLE)
    name = world.save("busia")
    world.cluster.client.json("DELETE", f"{SETS}/{name}-couchdb")
    until(lambda: world.cluster.get(f"{SETS}/{name}-couchdb") is None)
    refused = world.restore(name, expect=2, cht_project_restore_confirm="busia", cht_project_restore_stop=True)
    assert f"the set {name} is not complete: the snapshots of couchdb" in " ".join(refused.text.split())
    assert set(world.replicas("busia").values()) == {1}


def test_a_claim_that_has_no_volume_is_named(world: World) -> None:
    world.storage.out_of_space = True
    world.cluster.counties(county("pending", **SINGLE))
    refused = world.backup("pending", expect=2)
    assert "pending: claim couchdb-claim0 is Pending: there is nothing to save yet" in " ".join(refused.text.split())
    assert CLASS == "vmware-sc" and world.sets("pending") == []


def test_a_claim_that_lost_its_volume_is_restored_when_nobody_else_works_on_the_county(world: World) -> None:
    world.up("siaya", **SINGLE)
    name, path = world.save("siaya"), "/api/v1/namespaces/siaya"
    note = {"id": "x", "what": "move", "place": "elsewhere", "pid": 7, "since": time.time(), "seen": time.time()}
    world.cluster.patch(path, {"metadata": {"annotations": {"cht.k3s/operation": json.dumps(note)}}})
    yes = {"cht_project_restore_confirm": "siaya", "cht_project_restore_stop": True}
    removal = world.cluster.play("remove_project", expect=2, cht_project_remove="siaya", cht_project_remove_data="siaya")
    for run in (world.backup("siaya", expect=2), world.restore(name, expect=2, **yes), removal):
        assert "another run works on the namespace siaya (move since " in " ".join(run.text.split())
    assert set(world.replicas("siaya").values()) == {1} and world.sets("siaya") == [name]
    world.cluster.patch(path, {"metadata": {"annotations": {"cht.k3s/operation": None}}})
    # Its volume is gone, and what an abandoned restore left stands in the way of this one.
    volume = f"/api/v1/persistentvolumes/{world.volumes('siaya')['couchdb-claim0']}"
    world.cluster.client.json("DELETE", volume)
    world.cluster.patch(volume, {"metadata": {"finalizers": []}})
    until(lambda: (world.cluster.get(f"{path}/persistentvolumeclaims/couchdb-claim0") or {})["status"]["phase"] == "Lost")
    stale = f"restore-{name}-couchdb"
    world.cluster.create(CONTENTS, {
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": {"name": f"siaya-{stale}"},
        "spec": {"driver": "csi.vsphere.vmware.com", "deletionPolicy": "Retain", "source": {"snapshotHandle": next(iter(world.storage.snapshots))},
                 "volumeSnapshotRef": {"namespace": "siaya", "name": stale, "uid": "00000000-0000-4000-8000-000000000000"}},
    })
    world.restore(name, **yes)
    assert world.storage.read("siaya") == ["first of couchdb-claim0"] and world.leftovers("siaya") == []
    # The set is of the volume that is gone, and no number of new ones puts it out.
    world.save("siaya"), world.save("siaya", cht_project_backup_keep=1)
    assert world.sets("siaya")[0] == name and len(world.sets("siaya")) == 2
