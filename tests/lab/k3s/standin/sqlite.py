# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The datastore of a server that neither begins nor joins an etcd cluster: the real kine on SQLite, which the API server takes for etcd."""
from __future__ import annotations

import contextlib
import pathlib
import sqlite3
import time

from . import lab, log, proc
from .etcd import Etcd
from .log import Fatal

# pkg/cluster, k3s-io/kine pkg/drivers/sqlite: the same options of the file
OPTIONS = "_journal=WAL&cache=shared&_busy_timeout=30000&_txlock=immediate"


class Sqlite:
    def __init__(self, server_dir: pathlib.Path):
        self.file = server_dir / "db" / "state.db"
        self.socket = server_dir / "kine.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def has_data(self) -> bool:
        return self.file.exists()

    def start(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.parent.chmod(0o700)
        self.socket.unlink(missing_ok=True)
        proc.Child("kine", [
            lab.program("kine"), f"--listen-address={self.url}", f"--endpoint=sqlite://{self.file}?{OPTIONS}", "--metrics-bind-address=0",
        ])
        end = time.monotonic() + 60
        while not self.socket.exists():
            if time.monotonic() > end:
                raise Fatal("Error: preparing server: creating storage endpoint: kine did not listen")
            time.sleep(0.1)

    def move(self, etcd: Etcd) -> None:
        """All of it into an etcd that has just begun (pkg/etcd/etcd.go, migrateFromSQLite). k3s lists the keys by kine; here their newest rows are read."""
        if not self.file.exists():
            return
        log.info("Migrating content from sqlite to etcd")
        newest = "SELECT MAX(id) FROM kine WHERE name LIKE '/registry/%' GROUP BY name"
        with contextlib.closing(sqlite3.connect(self.file)) as database:
            for key, value in database.execute(f"SELECT name, value FROM kine WHERE id IN ({newest}) AND deleted = 0 ORDER BY name"):
                log.info(f"Migrating etcd key {key}")
                etcd.put(key, bytes(value))
        self.file.rename(self.file.with_name("state.db.migrated"))
