# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save counties: all CouchDB volumes of a county as one set, and never more snapshots of a volume than vSphere advises.

A snapshot is first made in the county's namespace, as Kubernetes wants it, and then handed to the namespace of the sets. The oldest set goes
after the new one is ready, so one place below the advised number is always kept free.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.cht.k3s.plugins.module_utils.cht import backup_sets as sets
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import BackupError, BackupSet, Store, Volume
from ansible_collections.cht.k3s.plugins.module_utils.cht.cluster import namespaces
from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import SECRET_NAME
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import CONFIGMAP_NAME, COUNTY_LABEL, MANAGED_LABELS, SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import Operation, OperationError, alive, look, note_of, taken
from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import Pause, PauseError
from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import parse_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import has_nouveau_on_each_node, image_tag, parse_release
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore_mark import mark_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import judge
from ansible_collections.cht.k3s.plugins.module_utils.cht.wait import Check, Target, wait
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import CLAIMS, CONFIGMAPS, DEPLOYMENTS, NAMESPACES, SECRETS, VOLUMES
from ansible_collections.cht.k3s.plugins.module_utils.names import did_you_mean

Object = dict[str, t.Any]

ALL = "all"
# What one county can fail with without keeping the others from being saved.
_FAILURES = (BackupError, PauseError, OperationError, ApiError, OSError)
# Counties in a row that were stopped for snapshots that did not come, after which no other is stopped.
_IN_VAIN = 2


@dataclass(frozen=True)
class Settings:
    """How to save; the module's options."""

    live: bool = False
    keep: int = 2
    snapshot_class: str = ""
    check_mode: bool = False
    # Seconds until a county that was stopped has to be well again; 0 does not wait.
    wait_timeout: float = 900


@dataclass
class Saved:
    """What became of one county."""

    county: str
    set: str = ""
    removed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds_down: float = 0.0
    # The county does not come back: nothing more is to be stopped.
    down: bool = False
    # It was stopped for snapshots that did not come.
    in_vain: bool = False
    # Another run has it now.
    lost: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.set or self.removed)


def _refuse_a_live_index(backup: BackupSet) -> None:
    """Refuse volumes of different moments where Nouveau's index is on one of them and shards are on the others.

    Restored, an index that is newer than a shard counts as up to date for what the shard does not have. From 5.3 on a shard and its index
    are on one volume.
    """
    releases = {version: parse_release(version) for version in backup.versions}
    if backup.clustered and any(
        release is not None and release.major >= 5 and not has_nouveau_on_each_node(version) for version, release in releases.items()
    ):
        raise BackupError(
            "a clustered CouchDB of CHT 5.0 to 5.2 can't be saved while it runs: the search index on its first volume would not fit the others, and searches "
            "and replication would lack documents after a restore. Save it without cht_project_backup_live; it is stopped for some seconds"
        )


class Backup:
    """Saves counties, one after the other."""

    def __init__(
        self, client: Client, store: Store, settings: Settings, check: Check | None = None, now: t.Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self.store = store
        self.settings = settings
        self.check = check
        self.now = now
        self.classes: list[Object] = []
        self.operation: Operation | None = None

    def run(self, names: list[str]) -> list[Saved]:
        """Save the named counties, or all; what fails with one does not keep the others from being saved."""
        if not 1 <= self.settings.keep < sets.MAX_SNAPSHOTS:
            raise BackupError(
                f"cht_project_backup_keep is {self.settings.keep}: it has to be between 1 and {sets.MAX_SNAPSHOTS - 1}, as vSphere advises at most "
                f"{sets.MAX_SNAPSHOTS} snapshots of a volume and one more is there while a new set is made"
            )
        self.classes = sets.list_classes(self.client)
        known = namespaces(self.client)
        if names == [ALL] and ALL not in known:
            names = sorted(known)
        missing = [name for name in names if name not in known]
        if missing:
            raise BackupError(f"the cluster has no county {', '.join(missing)}; {did_you_mean(missing[0], known)} Nothing was changed")
        if not self.settings.check_mode:
            self.store.prepare()
        done: list[Saved] = []
        for name in names:
            saved = Saved(name)
            done.append(saved)
            try:
                if self.settings.check_mode:
                    look(self.client.get(NAMESPACES.path(known[name])))
                    self._county(saved, known[name])
                else:
                    with taken(self.client, known[name], "backup") as self.operation:
                        self._county(saved, known[name])
            except _FAILURES as error:
                saved.errors.append(_told(error))
            reason = f"{name} did not come back" if saved.down else ""
            if len(done) >= _IN_VAIN and all(item.in_vain for item in done[-_IN_VAIN:]):
                reason = f"{' and '.join(item.county for item in done[-_IN_VAIN:])} were stopped for snapshots that did not come: repair these first"
            if reason:
                done += [Saved(left, errors=[f"not saved, since {reason}"]) for left in names[len(done):]]
                break
        return done

    def _county(self, saved: Saved, space: str) -> None:
        pause = Pause(self.client, space, self.store.timeout)
        mark = mark_of(self.client.get(NAMESPACES.path(space)))
        if mark:
            raise BackupError(f"a restore of the set {mark['set']} is half done: finish it by running restore_project again")
        healed = self._heal(saved, pause)
        volumes = self._volumes(saved, space)
        deployments = list(self.client.items(DEPLOYMENTS.collection(space), {"labelSelector": SERVICE_LABEL}))
        was_well = healed or judge(deployments).done
        moment = self.now()
        backup = BackupSet(
            sets.set_name(saved.county, moment), saved.county, space, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)), self.settings.live, volumes,
            self._entries(SECRETS.path(SECRET_NAME, space)), self._entries(CONFIGMAPS.path(CONFIGMAP_NAME, space)), versions(deployments),
        )
        if not backup.secret:
            raise BackupError(f"Secret {SECRET_NAME} is missing: without CouchDB's password the volumes are of little use")
        saved.set = backup.name
        if self.settings.live and pause.runs():
            _refuse_a_live_index(backup)
            saved.notes.append("saved while it runs: the volumes are not of the same moment, and writes that are under way may be on some only")
        if self.settings.check_mode:
            saved.removed += [item.name for item in self._surplus(saved, space, 1)]
            return
        try:
            self._finish(backup, pause, saved)
        except _FAILURES as error:
            saved.errors.append(_told(error))
        if saved.down or saved.lost:
            return
        # Whatever went wrong, a county that was stopped has to come back before the next one is.
        if not self.settings.live and was_well:
            self._await(saved, space)
        elif not was_well and deployments:
            saved.notes.append("was not well before, so it was not waited for")

    def _finish(self, backup: BackupSet, pause: Pause, saved: Saved) -> None:
        try:
            self._make(backup, pause, saved)
        except BaseException:
            saved.set = ""
            self._undo(backup, saved)
            raise
        # The set is good from here on, whatever fails.
        try:
            self.store.copy(backup)
        except OSError as error:
            saved.errors.append(f"saved as {backup.name}, but its copy on the controller can't be written: {error}")
        self._prune(saved, backup.namespace)

    # --- before

    def _heal(self, saved: Saved, pause: Pause) -> bool:
        """Repair what an interrupted run left: a county at rest, half a set, one set too many. Tell whether the county was at rest."""
        half = [item for item in self.store.all(saved.county) if item.state != sets.COMPLETE]
        if self.settings.check_mode:
            saved.removed += [item.name for item in half]
            return False
        paused = bool(pause.paused())
        if paused:
            started = self._start(pause, saved)
            saved.notes.append(f"an interrupted run had stopped {', '.join(started)}: started again")
        for item in half:
            self.store.remove(item)
            saved.removed.append(item.name)
            saved.notes.append(f"{item.name} of an interrupted run was never complete: removed")
        self._prune(saved, pause.namespace)
        return paused

    def _start(self, pause: Pause, saved: Saved) -> list[str]:
        other = self.operation.other() if self.operation else ""
        if other:
            # A restore, say: CouchDB must not start while its volumes are replaced.
            saved.lost = True
            raise BackupError(f"another run ({other}) has taken this county meanwhile, so it was left to that one: run again when it is done")
        try:
            return pause.start()
        except (PauseError, ApiError) as error:
            saved.down = True
            raise BackupError(f"it is DOWN and could not be started ({_told(error)}): run projects.yml") from error

    def _volumes(self, saved: Saved, space: str) -> list[Volume]:
        claims = [item for item in self.client.items(CLAIMS.collection(space)) if sets.CLAIM.match(item["metadata"]["name"])]
        if not claims:
            raise BackupError(f"it has no CouchDB volumes in the namespace {space}")
        contents = list(self.client.items(sets.CONTENTS.collection()))
        # In check mode, what would be gone by then.
        half = [item for item in self.store.all(saved.county) if item.state != sets.COMPLETE] + self._surplus(saved, space)
        gone = {f"{item.name}-" for item in half} if self.settings.check_mode else set()
        volumes = []
        for claim in sorted(claims, key=lambda item: (len(item["metadata"]["name"]), item["metadata"]["name"])):
            name = claim["metadata"]["name"]
            if (claim.get("status") or {}).get("phase") != "Bound":
                raise BackupError(f"claim {name} is {(claim.get('status') or {}).get('phase') or 'not bound'}: there is nothing to save yet")
            live = self.client.get(VOLUMES.path(claim["spec"]["volumeName"]))
            source = live["spec"].get("csi") or {}
            if not source:
                raise BackupError(f"the volume {live['metadata']['name']} of {name} is of no CSI driver, and has no snapshots")
            sets.choose_class(self.classes, self.settings.snapshot_class, source["driver"])
            self._refuse_crowded(gone, name, source["volumeHandle"], contents)
            if not claim["spec"].get("storageClassName"):
                saved.notes.append(f"{name} has no StorageClass, so a restore takes the default one of {source['driver']}, or cht_project_restore_class")
            volumes.append(Volume(
                name, str(live["spec"]["capacity"]["storage"]), str(claim["spec"].get("storageClassName") or ""), live["metadata"]["name"],
                source["driver"], list(claim["spec"]["accessModes"]), str(claim["spec"].get("volumeMode") or "Filesystem"),
            ))
        return volumes

    def _refuse_crowded(self, gone: set[str], claim: str, handle: str, contents: list[Object]) -> None:
        """A snapshot more than advised would be refused by the driver, with the county already at rest."""
        found = {sets.handle_of(item) or item["metadata"]["name"]: item["spec"]["volumeSnapshotRef"] for item in contents if sets.of_volume(item) == handle}
        found = {key: ref for key, ref in found.items() if not any(ref.get("name", "").startswith(prefix) for prefix in gone)}
        if len(found) >= sets.MAX_SNAPSHOTS:
            names = ", ".join(sorted(f"{ref.get('namespace')}/{ref.get('name')}" for ref in found.values()))
            raise BackupError(f"the volume of {claim} has {len(found)} snapshots already ({names}), vSphere advises {sets.MAX_SNAPSHOTS}: remove one")

    def _entries(self, path: str) -> dict[str, str]:
        return dict((self.client.find(path) or {}).get("data") or {})

    # --- the set itself

    def _make(self, backup: BackupSet, pause: Pause, saved: Saved) -> None:
        self.store.write(backup)
        names = {volume.claim: f"{backup.name}-{volume.service}" for volume in backup.volumes}
        begin = time.monotonic()
        try:
            if not backup.live:
                pause.stop()
            for volume in backup.volumes:
                name = sets.choose_class(self.classes, self.settings.snapshot_class, volume.driver)
                self.client.apply(sets.SNAPSHOTS.path(names[volume.claim], backup.namespace), {
                    "apiVersion": sets.GROUP, "kind": "VolumeSnapshot",
                    "metadata": {"name": names[volume.claim], "namespace": backup.namespace, "labels": dict(MANAGED_LABELS)},
                    "spec": {"volumeSnapshotClassName": name, "source": {"persistentVolumeClaimName": volume.claim}},
                }, sets.MANAGER)
            try:
                self.store.wait_made(list(names.values()), backup.namespace)
            except BackupError:
                saved.in_vain = not backup.live
                raise
            disturbed = "" if backup.live else pause.disturbed()
            if disturbed:
                raise BackupError(f"{disturbed} was started by somebody else while the volumes were saved: run again when nobody changes this county")
        finally:
            if not backup.live:
                self._start(pause, saved)
                saved.seconds_down = round(time.monotonic() - begin, 1)
        self._take_over(backup, names)
        backup.state = sets.COMPLETE
        self.store.write(backup)

    def _take_over(self, backup: BackupSet, names: dict[str, str]) -> None:
        """From the county's namespace, with which they would end, to that of the sets."""
        contents = []
        for volume in backup.volumes:
            content = self.client.get(sets.SNAPSHOTS.path(names[volume.claim], backup.namespace))["status"]["boundVolumeSnapshotContentName"]
            live = self.client.get(sets.CONTENTS.path(content))
            # From here on the snapshot stays when the county's namespace goes.
            self.store.set_policy(content, "Retain")
            volume.snapshot = sets.handle_of(live)
            restored = int((live.get("status") or {}).get("restoreSize") or 0)
            if restored and restored != parse_quantity(volume.size):
                volume.size = str(restored)
            contents.append(content)
        self.store.bind({names[volume.claim]: volume for volume in backup.volumes}, self.store.namespace, "Delete")
        self.store.drop([(backup.namespace, name) for name in names.values()], contents, "Retain")

    def _undo(self, backup: BackupSet, saved: Saved) -> None:
        """Leave no half set; what can't be removed now is by the next run."""
        try:
            self.store.remove(backup)
        except (BackupError, ApiError) as error:
            saved.notes.append(f"half a set is left, which the next run removes: {error}")

    # --- after

    def _surplus(self, saved: Saved, space: str, more: int = 0) -> list[BackupSet]:
        """The oldest sets above the number that is kept.

        Only sets of the volumes that the county has: when it lost its volumes, its older sets are the last of its data. vSphere counts
        snapshots by volume, so that they are in nobody's way.
        """
        present = {
            str(item["spec"].get("volumeName") or "") for item in self.client.items(CLAIMS.collection(space)) if sets.CLAIM.match(item["metadata"]["name"])
        }
        used = in_use(self.client)
        complete = [item for item in self.store.all(saved.county) if item.state == sets.COMPLETE]
        mine = [item for item in complete if all(volume.volume in present for volume in item.volumes)]
        others = [item.name for item in complete if item not in mine]
        note = f"kept: {', '.join(others)} of volumes that it no longer has; not needed any more? cht_project_backup_remove removes sets by name"
        if others and note not in saved.notes:
            saved.notes.append(note)
        return [item for item in mine[: max(0, len(mine) + more - self.settings.keep)] if item.name not in used]

    def _prune(self, saved: Saved, space: str) -> None:
        for item in self._surplus(saved, space):
            self.store.remove(item)
            saved.removed.append(item.name)

    def _await(self, saved: Saved, space: str) -> None:
        if not self.settings.wait_timeout:
            return
        progress = wait(self.client, [Target(saved.county, space)], self.settings.wait_timeout, check=self.check)[saved.county]
        if not progress.done:
            saved.down = True
            saved.errors.append(f"{'saved, but ' if saved.set else ''}not well again after {self.settings.wait_timeout:.0f} s: {progress.obstacle}")


def in_use(client: Client) -> dict[str, str]:
    """Return which sets are being restored, or are so by half, and in which namespace.

    A run that died before it touched anything holds none: what it left goes with the set, and it would hold the set for ever.
    """
    now, found = time.time(), {}
    for item in client.items(NAMESPACES.collection(), {"labelSelector": COUNTY_LABEL}):
        note = note_of(item)
        for name in (str(mark_of(item).get("set") or ""), str(note.get("set") or "") if alive(note, now) else ""):
            if name:
                found[name] = item["metadata"]["name"]
    return found


def _told(error: BaseException) -> str:
    return f"the API server: {error.message}" if isinstance(error, ApiError) else str(error)


def versions(deployments: list[Object]) -> list[str]:
    """Return the versions of CHT that Deployments run."""
    return sorted({
        image_tag(container.get("image", ""))
        for item in deployments
        for container in item["spec"]["template"]["spec"]["containers"]
        if container["name"] != "upgrade-service"
    })
