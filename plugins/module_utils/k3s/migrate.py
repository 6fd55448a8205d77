# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a lone server from SQLite to embedded etcd, so that it has snapshots and others can join it.

k3s itself copies everything at its first start with `cluster-init`, and renames state.db when all of it is in etcd (pkg/etcd/etcd.go,
migrateFromSQLite). One that ends in between starts with half of the data the next time and says nothing. So it may not start by itself meanwhile, and
whether state.db was renamed is what counts.
"""

from __future__ import annotations

import re

from . import datastore, state
from .datastore import MOVING
from .files import CONFIG_PATH, DATA_DIR
from .foreign import refusal
from .join import Joiner, Wanted
from .release import installed_version
from .system import NodeError, System

ETCD = datastore.DB + "/etcd"
# Left of the data base while k3s is stopped, whether it was closed or not.
PARTS = ("", "-wal", "-shm")
# systemd would start k3s again a few seconds after its end, and after a reboot.
ONCE = "/run/systemd/system/k3s.service.d/10-cht-k3s-once.conf"
_JOINING = re.compile(r"^(server|cluster-init)[ \t]*:.*\n?", re.MULTILINE)


class Migrator(Joiner):
    """One run of k3s_datastore on one server."""

    def __init__(self, system: System, binary: str, timeout: int, check_mode: bool = False) -> None:
        super().__init__(system, Wanted(role="server", version=installed_version(system, binary), binary=binary, timeout=timeout), check_mode)

    def to_etcd(self) -> dict:
        """The server's data is in etcd, or as it was."""
        kind, begun = datastore.kind(self.system), self.system.exists(MOVING)
        left = self.system.exists(datastore.SQLITE)
        if kind == "etcd" and not (left and begun):
            if begun and not self.check_mode:
                self._release()
            if left:
                self.warnings.append(f"The data is in etcd, and {datastore.SQLITE} still lies beside it. k3s does not read it any more.")
            return {"changed": begun}
        if kind not in ("etcd", "sqlite"):
            raise NodeError(
                "This server keeps its data in a database of its own choice (datastore-endpoint), which k3s does not move to etcd. Nothing was changed."
                if kind else "This server has no data of a cluster, so there is nothing to move. Nothing was changed."
            )
        why = refusal(state.foreign(self.system))
        if why:
            raise NodeError(why)
        self._refuse_without_room()
        if not begun:
            self._refuse_unwell()
        if self.check_mode:
            return {"changed": True}
        unit = self.system.unit(self.service)
        self._systemctl("stop", f"{self.service}.service")
        if begun:
            self._set_aside()
        copy = self._copy()
        self._hold(copy)
        before = self.system.read(CONFIG_PATH) or ""
        header, dummy, rest = _JOINING.sub("", before).partition("\n")
        self.system.write(CONFIG_PATH, f"{header}\ncluster-init: true\n{rest}", 0o600)
        since = self.system.now()
        self._change_service("start", unit)
        try:
            self.wait(since, unit.pid)
            if self.system.exists(datastore.SQLITE):
                raise NodeError("k3s runs, and did not move its data.")
        except NodeError as error:
            if self.system.exists(datastore.SQLITE):
                raise NodeError(f"The data was not moved: {error} {self._put_back(before)}", error.cause) from error
            self._release()
            raise NodeError(f"The data is in etcd, but the server is not well with it: {error} The data as it was lies in {copy}.", error.cause) from error
        self._keep_good_config()
        self._release()
        return {"changed": True, "copy": copy}

    def _hold(self, copy: str) -> None:
        """Until `_release` nothing but this starts k3s here."""
        self.system.write(MOVING, copy + "\n", 0o600)
        self._systemctl("disable", f"{self.service}.service")
        self.system.write(ONCE, "[Service]\nRestart=no\n", 0o644)
        self._systemctl("daemon-reload")

    def _release(self) -> None:
        self.system.remove(ONCE)
        self._systemctl("daemon-reload")
        self._systemctl("enable", f"{self.service}.service")
        self.system.remove(MOVING)

    def _refuse_without_room(self) -> None:
        """Once for the copy, and for etcd, which writes its log beside its data."""
        size = sum(self.system.size(datastore.SQLITE + part) for part in PARTS)
        free = self.system.free(datastore.DB)
        if free < 4 * size:
            raise NodeError(
                f"{datastore.SQLITE} has {size >> 20} MB, and {free >> 20} MB are free on its file system; {4 * size >> 20} MB are needed for a copy and for"
                " etcd. Make room first. Nothing was changed."
            )

    def _refuse_unwell(self) -> None:
        unit = self.system.unit(self.service)
        missing = self._missing(unit, 0)
        self._close_api()
        if unit.active != "active" or missing:
            raise NodeError(
                f"This server is not well, so its data stays where it is: {missing[1] if missing else f'its unit is {unit.active}'}. Run site.yml first."
                " Nothing was changed."
            )

    def _copy(self) -> str:
        """The data base and its token, which decrypts what it holds, in a folder of their own."""
        folder = f"{DATA_DIR}/server/db-sqlite-{int(self.system.now())}"
        self.system.make_folder(folder, 0o700)
        for part in PARTS:
            if self.system.exists(datastore.SQLITE + part):
                self.system.copy_file(datastore.SQLITE + part, f"{folder}/state.db{part}", 0o600)
        if self.system.exists(state.SERVER_TOKEN):
            self.system.copy_file(state.SERVER_TOKEN, f"{folder}/token", 0o600)
        return folder

    def _set_aside(self) -> None:
        """What an unfinished start left in etcd: with it k3s would not move anything again."""
        if self.system.exists(ETCD):
            self.system.rename(ETCD, f"{datastore.DB}/etcd-unfinished-{int(self.system.now())}")

    def _put_back(self, config: str) -> str:
        """SQLite again, with the configuration of before, and how that went."""
        self._systemctl("stop", f"{self.service}.service")
        self._set_aside()
        self.system.write(CONFIG_PATH, _JOINING.sub("", config) if "cluster-init" in config else config, 0o600)
        self._release()
        unit = self.system.unit(self.service)
        self._change_service("start", unit)
        try:
            self.wait(self.system.now(), unit.pid)
        except NodeError as error:
            return f"It runs on SQLite again, but does not come up: {error}"
        return "It runs on SQLite again, with all its data."
