# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets: a snapshot of each CouchDB volume of a county, with its Secret and ConfigMap.

A set has to outlive the county, so all of it lives in a namespace of its own: a Secret that describes the set and holds what the county's
Secret and ConfigMap held, and a VolumeSnapshot for each volume, bound to the snapshot in vCenter by its handle. A copy of the
description can be kept as a file.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import time
import typing as t
from dataclasses import asdict, dataclass, field

from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import COUNTY_LABEL, MANAGED_LABELS
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import CLAIMS, NAMESPACES, SECRETS, VOLUMES, Resource

Object = dict[str, t.Any]

NAMESPACE = "cht-backups"
# What is made is applied, not posted: the client repeats a request whose answer was lost, and a second POST finds its own object in the way.
MANAGER = "cht.k3s-backup"
GROUP = "snapshot.storage.k8s.io/v1"
SNAPSHOTS = Resource(GROUP, "VolumeSnapshot", "volumesnapshots", True)
CONTENTS = Resource(GROUP, "VolumeSnapshotContent", "volumesnapshotcontents", False)
CLASSES = Resource(GROUP, "VolumeSnapshotClass", "volumesnapshotclasses", False)
STATE_LABEL = "cht.k3s/backup"
STARTED, COMPLETE = "started", "complete"
# vSphere's advice; the driver's default limit is the same.
MAX_SNAPSHOTS = 3
# Claims of CouchDB.
CLAIM = re.compile(r"^couchdb(-\d+)?-claim0$")

_OURS = ",".join(f"{key}={value}" for key, value in sorted(MANAGED_LABELS.items()))
_MERGE = "application/merge-patch+json"
_KEY = "set.json"
_TYPE = "cht.k3s/backup"


class BackupError(Exception):
    """A county can't be saved or restored; the message says why and what to do."""


class Slow(BackupError):
    """What was waited for may still come."""


@dataclass
class Volume:
    """One claim of a set."""

    claim: str
    size: str
    storage_class: str
    volume: str
    driver: str
    access_modes: list[str]
    volume_mode: str = "Filesystem"
    # What the storage knows the snapshot by; empty as long as it is being made.
    snapshot: str = ""

    @property
    def service(self) -> str:
        return self.claim.removesuffix("-claim0")


@dataclass
class BackupSet:
    """One backup of one county."""

    name: str
    county: str
    namespace: str
    taken: str
    live: bool
    volumes: list[Volume]
    # Entries as the API has them: a Secret's in base64.
    secret: dict[str, str] = field(default_factory=dict)
    configmap: dict[str, str] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)
    state: str = STARTED

    @property
    def clustered(self) -> bool:
        """Whether CouchDB's nodes are named after the namespace."""
        return any(volume.service != "couchdb" for volume in self.volumes)

    def shown(self) -> Object:
        """Return what may be seen by everybody: all but the credentials."""
        return {
            "set": self.name, "county": self.county, "namespace": self.namespace, "taken": self.taken, "live": self.live, "state": self.state,
            "versions": self.versions, "volumes": {volume.claim: volume.size for volume in self.volumes},
        }

    def dump(self) -> str:
        """Return the set as text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def load(cls, text: str, where: str) -> BackupSet:
        """Read a set from its text."""
        try:
            values = json.loads(text)
            values["volumes"] = [Volume(**entry) for entry in values["volumes"]]
            return cls(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise BackupError(f"{where} is no backup set: {error}") from error


def set_name(county: str, now: float) -> str:
    """Return the name of a set that is made now."""
    return f"{county}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}"


def of_volume(content: Object) -> str:
    """Return the handle of the volume that a snapshot is of."""
    source = content["spec"].get("source") or {}
    # The driver's handle of a snapshot begins with that of its volume.
    return str(source.get("volumeHandle") or source.get("snapshotHandle", "").partition("+")[0])


def handle_of(content: Object) -> str:
    """Return the handle of the snapshot; empty as long as there is none."""
    return str((content["spec"].get("source") or {}).get("snapshotHandle") or (content.get("status") or {}).get("snapshotHandle") or "")


def content_for(name: str, namespace: str, volume: Volume, policy: str) -> list[Object]:
    """Return the pair of objects that stands for a snapshot that is there already, in any namespace."""
    labels = dict(MANAGED_LABELS)
    reference = {"apiVersion": GROUP, "kind": "VolumeSnapshot", "namespace": namespace, "name": name}
    return [
        {
            "apiVersion": GROUP, "kind": "VolumeSnapshotContent", "metadata": {"name": f"{namespace}-{name}", "labels": labels},
            "spec": {"driver": volume.driver, "deletionPolicy": policy, "source": {"snapshotHandle": volume.snapshot},
                     "sourceVolumeMode": volume.volume_mode, "volumeSnapshotRef": reference},
        },
        {
            "apiVersion": GROUP, "kind": "VolumeSnapshot", "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"source": {"volumeSnapshotContentName": f"{namespace}-{name}"}},
        },
    ]


class Store:
    """The sets in the cluster, and their copies on the controller."""

    def __init__(self, client: Client, namespace: str = NAMESPACE, folder: str = "", timeout: float = 300,
                 sleep: t.Callable[[float], None] = time.sleep) -> None:
        self.client = client
        self.namespace = namespace
        self.folder = os.path.expanduser(folder) if folder else ""
        self.timeout = timeout
        self.sleep = sleep
        # What is no set although it is marked as one.
        self.damaged: list[str] = []
        self.damaged_names: set[str] = set()

    # --- sets

    def all(self, county: str | None = None) -> list[BackupSet]:
        """Return the sets of all counties or of one, oldest first."""
        query = {"labelSelector": STATE_LABEL + (f",{COUNTY_LABEL}={county}" if county else "")}
        found = []
        for item in self.client.items(SECRETS.collection(self.namespace), query):
            try:
                found.append(self._read(item))
            except BackupError as error:
                # One that nobody can read must not keep all counties from being saved.
                if str(error) not in self.damaged:
                    self.damaged.append(str(error))
                self.damaged_names.add(item["metadata"]["name"])
        return sorted(found, key=lambda item: (item.county, item.taken, item.name))

    def get(self, name: str) -> BackupSet | None:
        """Return the set of that name, from the cluster or else from its file."""
        item = self.client.find(SECRETS.path(name, self.namespace)) if not os.path.isabs(name) else None
        if item is not None and STATE_LABEL in (item["metadata"].get("labels") or {}):
            return self._read(item)
        path = self._find_file(name)
        if not path:
            return None
        with open(path, encoding="utf-8") as stream:
            return BackupSet.load(stream.read(), path)

    def prepare(self) -> None:
        """Make the namespace of the sets, and see that copies can be written."""
        if self.folder:
            self._probe()
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": {
            **MANAGED_LABELS, "pod-security.kubernetes.io/enforce": "restricted"}}}
        if self.client.find(NAMESPACES.path(self.namespace)) is None:
            self.client.apply(NAMESPACES.path(self.namespace), body, MANAGER)

    def write(self, backup: BackupSet) -> None:
        """Keep a set's description in the cluster."""
        body = {
            "apiVersion": "v1", "kind": "Secret", "type": _TYPE,
            "metadata": {"name": backup.name, "namespace": self.namespace,
                         "labels": {**MANAGED_LABELS, COUNTY_LABEL: backup.county, STATE_LABEL: backup.state}},
            "data": {_KEY: base64.b64encode(backup.dump().encode()).decode()},
        }
        self.client.apply(SECRETS.path(backup.name, self.namespace), body, MANAGER, force=True)

    def copy(self, backup: BackupSet) -> None:
        """Keep the description of a complete set as a file, too; OSError when that can't be written."""
        if self.folder:
            self._write_file(backup)

    def remove(self, backup: BackupSet) -> None:
        """Remove a set with its snapshots, whether it was finished or not."""
        names = [f"{backup.name}-{volume.service}" for volume in backup.volumes]
        spaces = (self.namespace, backup.namespace)
        contents = []
        for content in self.client.items(CONTENTS.collection()):
            reference = content["spec"].get("volumeSnapshotRef") or {}
            if reference.get("name") in names and reference.get("namespace") in spaces:
                contents.append(content["metadata"]["name"])
        # All places: a snapshot that was never taken has no content.
        self.drop([(space, name) for space in spaces for name in names], contents, "Delete")
        self._delete([SECRETS.path(backup.name, self.namespace)])
        self.forget_restore(backup)
        with contextlib.suppress(FileNotFoundError):
            if self.folder:
                os.unlink(self._file(backup))

    def forget_restore(self, backup: BackupSet, namespace: str = "") -> None:
        """Remove what an abandoned restore of a set left, in one namespace or in all: passing claims, and what stands for its snapshots there.

        Not for a restore that is half done: its volumes are at these claims.
        """
        names = {passing(backup, volume) for volume in backup.volumes}

        def left(item: Object) -> bool:
            return item["metadata"]["name"] in names and (not namespace or item["metadata"].get("namespace") == namespace)

        paths = []
        for claim in [item for item in self.client.items(CLAIMS.collection(namespace or None), {"labelSelector": _OURS}) if left(item)]:
            volume = str(claim["spec"].get("volumeName") or "")
            owner = ((self.client.find(VOLUMES.path(volume)) or {}).get("spec") or {}).get("claimRef") or {} if volume else {}
            if owner.get("name") == claim["metadata"]["name"]:
                # It was kept for the county, and holds nothing that the snapshot does not.
                self.client.json("PATCH", VOLUMES.path(volume), body={"spec": {"persistentVolumeReclaimPolicy": "Delete"}}, content_type=_MERGE)
            paths.append(CLAIMS.path(claim["metadata"]["name"], claim["metadata"]["namespace"]))
        self._delete(paths)
        snapshots, contents = [], []
        for content in self.client.items(CONTENTS.collection()):
            reference = content["spec"].get("volumeSnapshotRef") or {}
            if reference.get("name") in names and (not namespace or reference.get("namespace") == namespace):
                snapshots.append((reference["namespace"], reference["name"]))
                contents.append(content["metadata"]["name"])
        self.drop(snapshots, contents, "Retain")

    # --- snapshots

    def bind(self, volumes: dict[str, Volume], namespace: str, policy: str) -> None:
        """Let VolumeSnapshots, by their names, stand for snapshots that are there already, and wait until they do."""
        for name, volume in volumes.items():
            self._unbind_stale(f"{namespace}-{name}", name, namespace)
            for resource, body in zip((CONTENTS, SNAPSHOTS), content_for(name, namespace, volume, policy)):
                path = resource.path(body["metadata"]["name"], namespace)
                if self.client.find(path) is None:
                    self.client.apply(path, body, MANAGER)
        self.wait_made(list(volumes), namespace)

    def _unbind_stale(self, content: str, name: str, namespace: str) -> None:
        """A content that belonged to a VolumeSnapshot which is gone never binds to the one that comes after it."""
        live, snapshot = self.client.find(CONTENTS.path(content)), self.client.find(SNAPSHOTS.path(name, namespace))
        if live is None:
            return
        owner = (live["spec"].get("volumeSnapshotRef") or {}).get("uid")
        leaving = live["metadata"].get("deletionTimestamp") or (snapshot or {"metadata": {}})["metadata"].get("deletionTimestamp")
        if leaving or owner and owner != (snapshot or {"metadata": {}})["metadata"].get("uid"):
            self.drop([(namespace, name)], [content], "Retain")

    def ready(self, name: str, namespace: str) -> bool:
        """Tell whether a VolumeSnapshot can be restored from."""
        found = self.client.find(SNAPSHOTS.path(name, namespace)) or {}
        return bool((found.get("status") or {}).get("readyToUse")) and not found["metadata"].get("deletionTimestamp")

    def drop(self, snapshots: list[tuple[str, str]], contents: list[str], policy: str) -> None:
        """Remove VolumeSnapshots (namespace, name) and their contents; what becomes of the snapshots themselves says the policy."""
        for name in contents:
            self.set_policy(name, policy)
        self._delete([SNAPSHOTS.path(name, namespace) for namespace, name in snapshots])
        self._delete([CONTENTS.path(name) for name in contents])

    def set_policy(self, content: str, policy: str) -> None:
        """Say what becomes of a snapshot when its content goes."""
        path = CONTENTS.path(content)
        if self.client.find(path) is not None:
            self.client.json("PATCH", path, body={"spec": {"deletionPolicy": policy}}, content_type=_MERGE)

    def wait_made(self, names: list[str], namespace: str) -> None:
        """Wait until the storage has taken all these snapshots."""
        self.until(
            lambda: all(self.ready(name, namespace) for name in names),
            lambda: "; ".join(f"the snapshot {name} is not ready to use{self._trouble(name, namespace)}"
                              for name in names if not self.ready(name, namespace)),
        )

    def _trouble(self, name: str, namespace: str) -> str:
        found = self.client.find(SNAPSHOTS.path(name, namespace)) or {}
        text = ((found.get("status") or {}).get("error") or {}).get("message")
        return f": {text}" if text else ": look at the snapshot-controller and at the CSI controller's csi-snapshotter"

    def until(self, done: t.Callable[[], bool], trouble: t.Callable[[], str]) -> None:
        """Wait for something, or say what is in its way."""
        deadline = time.monotonic() + self.timeout
        while not done():
            if time.monotonic() > deadline:
                raise Slow(f"{trouble()} (waited {self.timeout:.0f} s)")
            self.sleep(0.5)

    def _delete(self, paths: list[str]) -> None:
        """Delete objects and wait until all of them are gone."""
        left = []
        for path in paths:
            try:
                self.client.json("DELETE", path)
                left.append(path)
            except ApiError as error:
                if error.status != 404:
                    raise

        def gone() -> bool:
            left[:] = [path for path in left if self.client.find(path) is not None]
            return not left

        self.until(gone, lambda: f"{', '.join(' '.join(path.split('/')[-2:]) for path in left)} is still there")

    # --- files

    @staticmethod
    def _read(item: Object) -> BackupSet:
        name = item["metadata"]["name"]
        where = f"Secret {item['metadata']['namespace']}/{name}"
        try:
            text = base64.b64decode((item.get("data") or {}).get(_KEY) or "").decode(errors="replace")
        except ValueError as error:
            raise BackupError(f"{where} is no backup set: {error}") from error
        return BackupSet.load(text, where)

    def _file(self, backup: BackupSet) -> str:
        return os.path.join(self.folder, backup.county, f"{backup.name}.json")

    def _find_file(self, name: str) -> str:
        """The file of a set: its path, or its name below our folder."""
        if os.path.isabs(name):
            return name if os.path.isfile(name) else ""
        if not self.folder or os.sep in name:
            return ""
        path = os.path.join(self.folder, name.rsplit("-", 2)[0], f"{name}.json")
        return path if os.path.isfile(path) else ""

    def _probe(self) -> None:
        """Better now than with a county at rest."""
        path = os.path.join(self.folder, ".writable")
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
                stream.write("\n")
            os.unlink(path)
        except OSError as error:
            raise BackupError(f"cht_project_backup_dir {self.folder} can't be written to: {error}. Nothing was changed") from error

    def _write_file(self, backup: BackupSet) -> None:
        """Only their owner may read what holds passwords; a file that is there is complete."""
        path = self._file(backup)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.chmod(os.path.dirname(path), 0o700)
        with open(os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            stream.write(backup.dump())
        os.replace(f"{path}.part", path)


def passing(backup: BackupSet, volume: Volume) -> str:
    """Return the name under which a new volume is made for a restore, until the county gets it."""
    return f"restore-{backup.name}-{volume.service}"


def list_classes(client: Client) -> list[Object]:
    """Return the VolumeSnapshotClasses; refuse a cluster that knows none."""
    try:
        return list(client.items(CLASSES.collection()))
    except ApiError as error:
        if error.status != 404:
            raise
        raise BackupError(
            "the cluster knows no VolumeSnapshots: set csi_snapshots: true and run site.yml with --tags csi, which installs them; nothing was changed"
        ) from error


def choose_class(classes: list[Object], wanted: str, driver: str) -> str:
    """Return the class to make snapshots of a driver's volumes with."""
    fitting = {item["metadata"]["name"]: item for item in classes if item["driver"] == driver}
    if wanted:
        if wanted not in fitting:
            raise BackupError(f"there is no VolumeSnapshotClass {wanted} for {driver}: there are {', '.join(sorted(fitting)) or 'none'}")
        return wanted
    marked = [
        name for name, item in fitting.items()
        if (item["metadata"].get("annotations") or {}).get("snapshot.storage.kubernetes.io/is-default-class") == "true"
    ]
    if len(marked) == 1 or len(fitting) == 1:
        return (marked or list(fitting))[0]
    if not fitting:
        raise BackupError(f"there is no VolumeSnapshotClass for {driver}: set csi_snapshots: true and run site.yml with --tags csi")
    raise BackupError(f"none of the VolumeSnapshotClasses {', '.join(sorted(fitting))} is the default: name one in cht_project_backup_class")


def line(backup: BackupSet) -> str:
    """Return a set as one line for people."""
    how = backup.state if backup.state != COMPLETE else "complete, saved while it ran" if backup.live else COMPLETE
    sizes = ", ".join(volume.size for volume in backup.volumes)
    return f"{backup.name}  {how}  {len(backup.volumes)} volumes ({sizes})  CHT {', '.join(backup.versions) or 'unknown'}"
