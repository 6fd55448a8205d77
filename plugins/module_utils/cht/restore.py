# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a backup set into its county, or into another one.

Nothing of the county is touched before all new volumes are there: they are made under passing claims. Then the county is stopped, and claim by
claim the new volume takes the place of the old one, which stays as a retained PersistentVolume. Which volume is for which claim stands on the
namespace meanwhile, so that a run that was interrupted is finished by the next.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import typing as t
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import urlsplit

from ansible_collections.cht.k3s.plugins.module_utils.cht import backup_sets as sets
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup import versions
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import BackupError, BackupSet, Slow, Store, Volume
from ansible_collections.cht.k3s.plugins.module_utils.cht.cluster import namespaces
from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import SECRET_NAME, Credentials, decode_secret
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import CONFIGMAP_NAME, COUNTY_LABEL, MANAGED_LABELS, SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import Operation, OperationError, look, take
from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import Pause, PauseError
from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import parse_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.rebind import point
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore_mark import REPLACED_BY, RESTORED_FROM, RESTORING, mark_of, set_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.proof import WAS_READY
from ansible_collections.cht.k3s.plugins.module_utils.cht.wait import Check, Target, wait
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import FIELD_MANAGER
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import (
    CLAIMS,
    CLASSES,
    CONFIGMAPS,
    DEPLOYMENTS,
    NAMESPACES,
    QUOTAS,
    SECRETS,
    VOLUMES,
)

Object = dict[str, t.Any]

_MERGE = "application/merge-patch+json"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_TRIES = 10


@dataclass(frozen=True)
class Request:
    """What is to be restored, and how; the module's options."""

    set: str
    into: str = ""
    # Of a county that is not in the cluster.
    namespace: str = ""
    confirm: str = ""
    stop: bool = False
    again: bool = False
    # Of the new volumes; what the set's had when empty.
    storage_class: str = ""
    check_mode: bool = False
    wait_timeout: float = 900


@dataclass
class Restored:
    """What was (or would be) restored."""

    set: str
    county: str
    namespace: str
    # claim -> volume that it had; empty where there was none
    old: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    changed: bool = False
    started: bool = False
    notes: list[str] = field(default_factory=list)
    error: str = ""


class Restore:
    """Restores one set."""

    def __init__(self, client: Client, store: Store, request: Request, check: Check | None = None) -> None:
        self.client = client
        self.store = store
        self.request = request
        self.check = check

    def run(self) -> Restored:
        """Look at everything that can be in the way, then restore."""
        sets.list_classes(self.client)
        backup = self._set()
        county = self.request.into or backup.county
        space, namespace = self._place(backup, county)
        if self.request.check_mode:
            if namespace is not None:
                look(namespace)
            return self._run(backup, county, space, namespace, None)
        operation = None
        if namespace is not None:
            # Before anything is looked at: what another run does would change it.
            operation = take(self.client, space, "restore", backup.name)
        try:
            if operation:
                namespace = self.client.get(NAMESPACES.path(space))
            return self._run(self._set(), county, space, namespace, operation)
        finally:
            if operation:
                operation.release()

    def _run(self, backup: BackupSet, county: str, space: str, namespace: Object | None, operation: Operation | None) -> Restored:
        pause = Pause(self.client, space, self.store.timeout)
        mark = mark_of(namespace) if namespace else {}
        if mark and mark["set"] != backup.name:
            raise BackupError(f"a restore of the set {mark['set']} into {county} is half done: finish that one first")
        claims = {
            item["metadata"]["name"]: item for item in self.client.items(CLAIMS.collection(space)) if sets.CLAIM.match(item["metadata"]["name"])
        }
        result = Restored(backup.name, county, space, {name: str(item["spec"].get("volumeName") or "") for name, item in claims.items()})
        if not mark:
            if claims and not self.request.again and not pause.paused() and self._is_restored(backup, claims):
                result.notes.append("its volumes are those of this set already; cht_project_restore_again restores them once more")
                result.new = dict(result.old)
                if namespace and set_of(namespace) and operation:
                    # Of a run that was to restore it once more, or another set, and touched nothing.
                    self._forget_other(backup, space, namespace)
                    self._give_up(backup, space)
                return result
            self._choose_class(backup)
            self._refuse(backup, county, claims, pause)
            if namespace and operation:
                # Before the quota is looked at, in which that counts.
                self._forget_other(backup, space, namespace)
            self._refuse_quota(backup, space)
        self._compare(backup, county, result, bool(mark))
        result.changed = True
        if self.request.check_mode:
            result.new = {volume.claim: f"a new volume of {backup.name}" for volume in backup.volumes}
            return result
        if operation is not None:
            self._restore(backup, result, pause, mark, operation)
            return result
        labels = {**MANAGED_LABELS, COUNTY_LABEL: county, "pod-security.kubernetes.io/enforce": "baseline"}
        self.client.apply(NAMESPACES.path(space), _object("v1", "Namespace", space, None, labels), FIELD_MANAGER)
        operation = take(self.client, space, "restore", backup.name)
        try:
            self._restore(backup, result, pause, mark, operation)
        finally:
            operation.release()
        return result

    # --- before anything is changed

    def _set(self) -> BackupSet:
        backup = self.store.get(self.request.set)
        if backup is None:
            known = ", ".join(item.name for item in self.store.all() if item.state == sets.COMPLETE) or "none"
            raise BackupError(f"there is no backup set {self.request.set}; complete ones are: {known}. Nothing was changed")
        if backup.state != sets.COMPLETE or not all(volume.snapshot for volume in backup.volumes):
            raise BackupError(f"the set {backup.name} is not complete, since its run was interrupted; choose another one. Nothing was changed")
        return backup

    def _place(self, backup: BackupSet, county: str) -> tuple[str, Object | None]:
        """Return the namespace to restore into, and what there is of it."""
        default = backup.namespace if county == backup.county else county
        space = namespaces(self.client).get(county) or self.request.namespace or default
        if backup.clustered and space != backup.namespace:
            raise BackupError(
                f"CouchDB's nodes of the set {backup.name} are named after the namespace {backup.namespace}, so it can't be restored into {space}: "
                "restore it into its own county, or into a county with couchdb.mode single from a set of such a one"
            )
        namespace = self.client.find(NAMESPACES.path(space))
        if namespace is not None:
            if namespace["metadata"].get("deletionTimestamp"):
                raise BackupError(f"the namespace {space} is still being removed: wait for its end. Nothing was changed")
            owner = (namespace["metadata"].get("labels") or {}).get(COUNTY_LABEL)
            if owner != county:
                whose = f"that of the county {owner}" if owner else f"no county's (label {COUNTY_LABEL} is missing)"
                raise BackupError(f"the namespace {space} is {whose}, not that of {county}. Nothing was changed")
        return space, namespace

    def _refuse(self, backup: BackupSet, county: str, claims: dict[str, Object], pause: Pause) -> None:
        wanted = {volume.claim for volume in backup.volumes}
        others = set(claims) - wanted
        if others:
            raise BackupError(
                f"{county} has the volumes {', '.join(sorted(others))}, which the set {backup.name} does not: it is of another couchdb.mode. "
                "Nothing was changed"
            )
        if claims and self.request.confirm != county:
            raise BackupError(
                f"{county} has volumes, whose place those of {backup.name} ({backup.taken}) would take: what came after it would be out of use. "
                f"Confirm it with -e cht_project_restore_confirm={county}. Nothing was changed"
            )
        if pause.runs() and not pause.at_rest() and not self.request.stop:
            raise BackupError(
                f"{county} runs: let it be stopped for the restore with -e cht_project_restore_stop=true, or take it out with remove_project first. "
                "Nothing was changed"
            )
        for volume in backup.volumes:
            storage_class = self.client.find(CLASSES.path(volume.storage_class))
            if storage_class is None:
                raise BackupError(
                    f"there is no StorageClass {volume.storage_class}, of which the volumes of {backup.name} were: make it, or name another one with "
                    "-e cht_project_restore_class=NAME. Nothing was changed"
                )
            if storage_class.get("volumeBindingMode") == "WaitForFirstConsumer":
                raise BackupError(
                    f"StorageClass {volume.storage_class} makes a volume when a pod comes (WaitForFirstConsumer), and here it has to be there before: "
                    "make it anew with volumeBindingMode Immediate for the restore. Nothing was changed"
                )
        if self.client.find(SECRETS.path(backup.name, self.store.namespace)) is not None:
            lost = [volume.service for volume in backup.volumes if not self.store.ready(f"{backup.name}-{volume.service}", self.store.namespace)]
            if lost:
                raise BackupError(
                    f"the set {backup.name} is not complete: the snapshots of {', '.join(lost)} in the namespace {self.store.namespace} are gone or not "
                    "ready; choose another one. Nothing was changed"
                )

    def _choose_class(self, backup: BackupSet) -> None:
        """Volumes that were made by hand are of no class, and a new one can't be made without."""
        classes = list(self.client.items(CLASSES.collection())) if self.request.storage_class or not all(
            volume.storage_class for volume in backup.volumes) else []
        for volume in backup.volumes:
            fitting = {item["metadata"]["name"]: item for item in classes if item.get("provisioner") == volume.driver}
            wanted = self.request.storage_class
            if wanted and wanted not in fitting:
                known = ", ".join(sorted(fitting)) or "none"
                raise BackupError(f"there is no StorageClass {wanted} of {volume.driver}: there are {known}. Nothing was changed")
            marks = [name for name, item in fitting.items() if (item["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"]
            default = marks or list(fitting)
            if not wanted and not volume.storage_class and len(default) != 1:
                raise BackupError(
                    f"the volume of {volume.claim} was of no StorageClass: name one for the new volume with -e cht_project_restore_class=NAME "
                    f"({', '.join(sorted(fitting)) or 'none'} of {volume.driver} there). Nothing was changed"
                )
            volume.storage_class = wanted or volume.storage_class or default[0]

    def _refuse_quota(self, backup: BackupSet, space: str) -> None:
        """The new volumes are there beside the old ones for a while."""
        names = {sets.passing(backup, volume) for volume in backup.volumes}
        there = {item["metadata"]["name"] for item in self.client.items(CLAIMS.collection(space))} & names
        needs: dict[str, Fraction] = {}
        for volume in backup.volumes:
            if sets.passing(backup, volume) in there:
                continue
            for prefix in ("", f"{volume.storage_class}.storageclass.storage.k8s.io/"):
                for key, amount in (("requests.storage", parse_quantity(volume.size)), ("persistentvolumeclaims", Fraction(1))):
                    needs[prefix + key] = needs.get(prefix + key, Fraction(0)) + amount
        needs["count/persistentvolumeclaims"] = needs.get("persistentvolumeclaims", Fraction(0))
        for item in self.client.items(QUOTAS.collection(space)):
            status = item.get("status") or {}
            for key, limit in (status.get("hard") or (item.get("spec") or {}).get("hard") or {}).items():
                used = (status.get("used") or {}).get(key, "0")
                if needs.get(key) and parse_quantity(used) + needs[key] > parse_quantity(limit):
                    what = f"{float(needs[key] / 2**30):g}Gi" if key.endswith("requests.storage") else str(needs[key])
                    raise BackupError(
                        f"ResourceQuota {item['metadata']['name']} of the namespace {space} allows {key} {limit}, of which {used} are in use, and the new "
                        f"volumes take {what} beside the old ones: raise the county's quota for the restore. Nothing was changed"
                    )

    def _compare(self, backup: BackupSet, county: str, result: Restored, half_done: bool) -> None:
        """Data of a newer CHT under an older one is spoilt; the other way round it is migrated."""
        live = versions(list(self.client.items(DEPLOYMENTS.collection(result.namespace), {"labelSelector": SERVICE_LABEL})))
        if not live or not backup.versions or live == backup.versions:
            return
        was, runs = ", ".join(backup.versions), ", ".join(live)
        if not half_done and _newest(backup.versions) > _newest(live) > ():
            raise BackupError(
                f"the set {backup.name} was saved with CHT {was}, and {county} runs the older {runs}, which does not know such data: put {was} into the "
                "list and run projects.yml first, or take the county out with remove_project. Nothing was changed"
            )
        result.notes.append(
            f"saved with CHT {was}, and {county} runs {runs}, which migrates the data again; to go back to {was}: take the county out with remove_project, "
            "restore, put that version into the list, run projects.yml"
        )

    def _is_restored(self, backup: BackupSet, claims: dict[str, Object]) -> bool:
        """Tell whether all claims have volumes that were made from this set."""
        if set(claims) != {volume.claim for volume in backup.volumes}:
            return False
        volumes = [self.client.find(VOLUMES.path(str(item["spec"].get("volumeName") or "-"))) or {} for item in claims.values()]
        return all(((item.get("metadata") or {}).get("annotations") or {}).get(RESTORED_FROM) == backup.name for item in volumes)

    # --- the restore

    def _restore(self, backup: BackupSet, result: Restored, pause: Pause, mark: Object, operation: Operation) -> None:
        space, county = result.namespace, result.county
        if mark:
            result.notes.append("an interrupted restore of this set was finished")
            result.new = dict(mark["volumes"])
        else:
            # What was begun, for the run that comes after one that dies here. As long as this one lives, its note keeps the set.
            self._mark(space, {"set": backup.name, "volumes": {}})
            try:
                result.new = self._make(backup, space)
            except Slow as error:
                # A large volume takes its time: what is begun goes on, and the next run waits for it.
                raise BackupError(
                    f"{error}. Nothing of {county} was touched, and the storage goes on: run restore_project again to go on, with a larger "
                    f"cht_project_backup_timeout if it needs more time"
                ) from error
            except (BackupError, ApiError):
                self._give_up(backup, space)
                raise
        was_running = pause.runs() or bool(pause.paused())
        operation.hold()
        self._mark(space, {"set": backup.name, "volumes": result.new})
        try:
            try:
                pause.stop()
            except BaseException as error:
                if not mark:
                    pause.start()
                    # What was made is used by the next run, if this one was told to end.
                    self._mark(space, {"set": backup.name, "volumes": {}})
                    if isinstance(error, (PauseError, ApiError)):
                        self._give_up(backup, space)
                raise
            for volume in backup.volumes:
                operation.hold()
                self._release(backup, volume, space, result.new[volume.claim])
            for volume in backup.volumes:
                operation.hold()
                self._swap(backup, volume, space, result.new[volume.claim])
            self._settings(backup, result)
            pause.start()
            self._mark(space, None)
        except (BackupError, OperationError, PauseError, ApiError, KeyboardInterrupt) as error:
            if not self._half_done(space):
                raise
            told = error.message if isinstance(error, ApiError) else str(error) or "it was interrupted"
            state = "is DOWN" if was_running else "is half restored"
            result.error = f"{county} {state}, since its restore from {backup.name} did not end: {told}. Run restore_project with this set again to finish it"
            return
        result.started = was_running
        if not was_running:
            result.notes.append("bring it up by putting it into the list of counties and running projects.yml")
        elif self.request.wait_timeout:
            progress = wait(self.client, [Target(county, space)], self.request.wait_timeout, check=self.check)[county]
            if not progress.done:
                result.error = f"restored, but not well after {self.request.wait_timeout:.0f} s: {progress.obstacle}"

    def _half_done(self, space: str) -> bool:
        try:
            return bool(mark_of(self.client.get(NAMESPACES.path(space))))
        except ApiError:
            # It was when we last could see it.
            return True

    def _give_up(self, backup: BackupSet, space: str) -> None:
        """Leave nothing of a restore that touched nothing yet; what can't be removed now goes with the next one, or with the set."""
        with contextlib.suppress(BackupError, ApiError):
            self._mark(space, None)
            self.store.forget_restore(backup, space)

    def _forget_other(self, backup: BackupSet, space: str, namespace: Object) -> None:
        """Leave nothing of a restore of another set that died before it touched anything; else it goes with that set."""
        begun = set_of(namespace)
        if begun and begun != backup.name:
            with contextlib.suppress(BackupError, ApiError):
                other = self.store.get(begun)
                if other is not None:
                    self.store.forget_restore(other, space)

    def _make(self, backup: BackupSet, space: str) -> dict[str, str]:
        """Make the new volumes, under claims of their own."""
        names = {sets.passing(backup, volume): volume for volume in backup.volumes}
        begun = {name: self.client.find(CLAIMS.path(name, space)) for name in names}
        if any(claim and claim["spec"].get("storageClassName") != names[name].storage_class for name, claim in begun.items()):
            # Of an earlier run, with another class.
            self.store.forget_restore(backup, space)
        self.store.bind(names, space, "Retain")
        for name, volume in names.items():
            if self.client.find(CLAIMS.path(name, space)) is None:
                body = _object("v1", "PersistentVolumeClaim", name, space, dict(MANAGED_LABELS))
                body["spec"] = {
                    "accessModes": volume.access_modes, "storageClassName": volume.storage_class, "volumeMode": volume.volume_mode,
                    "resources": {"requests": {"storage": volume.size}},
                    "dataSource": {"apiGroup": sets.GROUP.partition("/")[0], "kind": "VolumeSnapshot", "name": name},
                }
                self.client.apply(CLAIMS.path(name, space), body, sets.MANAGER)
        found = {}
        for volume in backup.volumes:
            path = CLAIMS.path(sets.passing(backup, volume), space)
            self.store.until(lambda path=path: self._bound(path), lambda path=path: f"{path.rpartition('/')[2]} got no volume{self._events(path)}")
            found[volume.claim] = self.client.get(path)["spec"]["volumeName"]
            self._patch_volume(found[volume.claim], {RESTORED_FROM: backup.name})
        self.store.drop([(space, name) for name in names], [f"{space}-{name}" for name in names], "Retain")
        return found

    def _release(self, backup: BackupSet, volume: Volume, space: str, name: str) -> None:
        """Make a new volume wait for the claim by whose name the county knows it."""
        path = CLAIMS.path(sets.passing(backup, volume), space)
        if self.client.find(path) is not None:
            self._delete(path)
        for attempt in range(_TRIES):
            live = self.client.get(VOLUMES.path(name))
            owner = live["spec"].get("claimRef") or {}
            if (owner.get("namespace"), owner.get("name")) == (space, volume.claim):
                return
            try:
                # Made from a snapshot of that node, whatever claim it passed through.
                point(self.client, live, space, volume.claim, (space, volume.claim))
                return
            except ApiError as error:
                # The controller of volumes writes it at the same moment.
                if error.status != 409 or attempt + 1 == _TRIES:
                    raise
                self.store.sleep(0.2)

    def _swap(self, backup: BackupSet, volume: Volume, space: str, name: str) -> None:
        """Give a claim its new volume; the old one stays."""
        path = CLAIMS.path(volume.claim, space)
        claim = self.client.find(path)
        old = str((claim or {"spec": {}})["spec"].get("volumeName") or "")
        if claim is not None and old != name:
            if old:
                try:
                    self._patch_volume(old, {REPLACED_BY: backup.name})
                except ApiError as error:
                    # A claim that is Lost: its volume is gone.
                    if error.status != 404:
                        raise
            self._delete(path)
        if old != name:
            # Of a run that was interrupted, the class may be another one than asked for now.
            storage_class = str(self.client.get(VOLUMES.path(name))["spec"].get("storageClassName") or "")
            body = _object("v1", "PersistentVolumeClaim", volume.claim, space, {**MANAGED_LABELS, SERVICE_LABEL: volume.claim})
            body["spec"] = {
                "accessModes": volume.access_modes, "storageClassName": storage_class, "resources": {"requests": {"storage": volume.size}},
            }
            self.client.apply(path, body, FIELD_MANAGER, force=True)
        self.store.until(lambda: self._bound(path), lambda: f"claim {volume.claim} does not get the volume {name}{self._events(path)}")
        bound = self.client.get(path)["spec"]["volumeName"]
        if bound != name:
            raise BackupError(f"claim {volume.claim} got the volume {bound} instead of {name}: somebody else works on this county; run again")

    def _settings(self, backup: BackupSet, result: Restored) -> None:
        """CouchDB's password is on its volumes, so the Secret has to be of the same time."""
        space = result.namespace
        entries = decode_secret({"data": backup.secret})
        old = decode_secret(self.client.find(SECRETS.path(SECRET_NAME, space)) or {})
        credentials = Credentials(*(entries.get(key, "") for key in ("COUCHDB_USER", "COUCHDB_PASSWORD", "COUCHDB_SECRET", "COUCHDB_UUID")))
        database = urlsplit(entries.get("COUCH_URL", "")).path.strip("/") or "medic"
        wanted = credentials.data(space, database)
        body = _object("v1", "Secret", SECRET_NAME, space, dict(MANAGED_LABELS))
        body.update({"type": "Opaque", "data": {key: base64.b64encode(value.encode()).decode() for key, value in wanted.items()}})
        if old and {key: old.get(key) for key in wanted} != wanted:
            result.notes.append("its credentials are those of the set again")
        self.client.apply(SECRETS.path(SECRET_NAME, space), body, FIELD_MANAGER, force=True)
        # The data is of another time now, and so is what had it.
        self.client.json("PATCH", NAMESPACES.path(space), body={"metadata": {"annotations": {WAS_READY: None}}}, content_type=_MERGE)
        if space == backup.namespace and backup.configmap:
            body = _object("v1", "ConfigMap", CONFIGMAP_NAME, space, dict(MANAGED_LABELS))
            body["data"] = backup.configmap
            self.client.apply(CONFIGMAPS.path(CONFIGMAP_NAME, space), body, FIELD_MANAGER, force=True)

    # --- pieces

    def _mark(self, space: str, mark: Object | None) -> None:
        text = json.dumps(mark, sort_keys=True) if mark else None
        self.client.json("PATCH", NAMESPACES.path(space), body={"metadata": {"annotations": {RESTORING: text}}}, content_type=_MERGE)

    def _patch_volume(self, name: str, annotations: dict[str, str]) -> None:
        """Note something on a volume, and keep it when its claim goes."""
        body = {"metadata": {"annotations": annotations}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}}
        self.client.json("PATCH", VOLUMES.path(name), body=body, content_type=_MERGE)

    def _bound(self, path: str) -> bool:
        return ((self.client.find(path) or {}).get("status") or {}).get("phase") == "Bound"

    def _delete(self, path: str) -> None:
        try:
            self.client.json("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise
        self.store.until(lambda: self.client.find(path) is None, lambda: f"claim {path.rpartition('/')[2]} is still there: does a pod use it?")

    def _events(self, path: str) -> str:
        """The last thing that the cluster says about a claim."""
        space, name = path.split("/")[4], path.rpartition("/")[2]
        try:
            events = [
                item for item in self.client.items(f"/api/v1/namespaces/{space}/events")
                if (item.get("involvedObject") or {}).get("name") == name and item.get("type") != "Normal"
            ]
        except ApiError:
            return ""
        return f": {events[-1].get('message')}" if events else ": look at the CSI controller"


def _object(api_version: str, kind: str, name: str, namespace: str | None, labels: dict[str, str]) -> Object:
    metadata: Object = {"name": name, "labels": labels}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def describe(states: dict[str, str]) -> str:
    """Return which claim has which volume, as text for a diff."""
    return "".join(f"{claim}: {volume}\n" for claim, volume in sorted(states.items()))


def _newest(names: list[str]) -> tuple[int, ...]:
    """Return the newest of versions as numbers; empty when none is made of numbers."""
    return max((tuple(int(part) for part in re.findall(r"\d+", name)[:3]) for name in names if re.match(r"v?\d+\.\d+", name)), default=())
