# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd snapshots: on demand, on schedule, pruned by base name, listed as ETCDSnapshotFile; cluster-reset."""
from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time
import zipfile
from typing import Any

from . import bootstrap, lab, log, pki, proc, token
from .etcd import EtcdError
from .kube import ApiError
from .log import Fatal


def cron_field(text: str, low: int, high: int) -> set[int]:
    out: set[int] = set()
    for part in text.split(","):
        span, _sep, step = part.partition("/")
        first, _sep, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = int(first)
            end = int(last) if last else (high if step else begin)
        out |= set(range(begin, end + 1, int(step or 1)))
    return out


def cron_due(text: str, when: time.struct_time) -> bool:
    fields = text.split()
    if len(fields) != 5:
        return False
    values = [(when.tm_min, 0, 59), (when.tm_hour, 0, 23), (when.tm_mday, 1, 31), (when.tm_mon, 1, 12), ((when.tm_wday + 1) % 7, 0, 6)]
    return all(value in cron_field(field, low, high) for field, (value, low, high) in zip(fields, values))


class Snapshots:
    def __init__(self, server: Any):
        self.server = server
        self.lock = threading.Lock()

    @property
    def folder(self) -> pathlib.Path:
        return pathlib.Path(self.server.options["etcd-snapshot-dir"] or self.server.dir / "db" / "snapshots")

    def start(self) -> None:
        threading.Thread(target=self._run, name="snapshots", daemon=True).start()

    def _run(self) -> None:
        options = self.server.options
        done_at = ""
        reconcile = 0.0
        while True:
            now = time.gmtime()
            minute = time.strftime("%Y%m%d%H%M", now)
            try:
                if time.monotonic() > reconcile:
                    self.publish()
                    reconcile = time.monotonic() + 600
                if not options["etcd-disable-snapshots"] and minute != done_at and cron_due(options["etcd-snapshot-schedule-cron"], now):
                    done_at = minute
                    self.save(options["etcd-snapshot-name"], options["etcd-snapshot-compress"])
                    self.prune(options["etcd-snapshot-name"], options["etcd-snapshot-retention"])
            except (ApiError, OSError, EtcdError, subprocess.SubprocessError) as err:
                log.error(f"Failed to take etcd snapshot: {err}")
            time.sleep(20)

    # -- what the supervisor passes on

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self.server.managed:
            raise ApiError(400, "etcd datastore disabled")
        operation = body.get("operation")
        if operation == "save":
            return {"created": [self.save(body.get("name") or "on-demand", bool(body.get("compress")), body.get("dir", ""))]}
        if operation == "list":
            return {"items": self.rows()}
        if operation == "delete":
            return self.delete(body.get("names") or [])
        if operation == "prune":
            return {"deleted": self.prune(body.get("name") or "on-demand", int(body.get("retention", 5)))}
        raise ApiError(400, f"unknown operation {operation}")

    def save(self, base: str, compress: bool, folder: str = "") -> str:
        with self.lock:
            place = pathlib.Path(folder or self.folder)
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o700)
            name = f"{base}-{self.server.name}-{int(time.time())}"
            target = place / name
            tls = self.server.tls / "etcd"
            log.info(f"Saving etcd snapshot to {target}")
            done = subprocess.run([
                lab.program("etcdctl"), "--endpoints=https://127.0.0.1:2379", f"--cacert={tls}/server-ca.crt", f"--cert={tls}/client.crt",
                f"--key={tls}/client.key", "snapshot", "save", str(target)], capture_output=True, text=True, check=False, timeout=300)
            if done.returncode:
                target.unlink(missing_ok=True)
                raise OSError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "etcdctl failed")
            target.chmod(0o600)
            if compress:
                packed = place / f"{name}.zip"
                with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                    archive.write(target, name)
                packed.chmod(0o600)
                target.unlink()
                name = packed.name
        self.publish()
        return name

    def files(self) -> list[pathlib.Path]:
        if not self.folder.is_dir():
            return []
        pattern = re.compile(r".+-\d{10}(\.zip)?$")
        return sorted((item for item in self.folder.iterdir() if item.is_file() and pattern.match(item.name)), key=lambda item: item.name)

    def rows(self) -> list[dict[str, Any]]:
        out = []
        for item in self.files():
            info = item.stat()
            out.append({"name": item.name, "location": f"file://{item}", "size": info.st_size, "nodeName": self.server.name,
                        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(info.st_mtime))})
        return out

    def delete(self, names: list[str]) -> dict[str, Any]:
        present = {item.name: item for item in self.files()}
        deleted = [name for name in names if name in present]
        for name in deleted:
            present[name].unlink()
        if deleted:
            self.publish()
        return {"deleted": deleted, "missing": [name for name in names if name not in present]}

    def prune(self, base: str, retention: int) -> list[str]:
        mine = [item for item in self.files() if item.name.startswith(f"{base}-{self.server.name}-")]
        mine.sort(key=lambda item: item.name.removesuffix(".zip").rpartition("-")[2], reverse=True)
        gone = [item.name for item in mine[max(retention, 0):]] if retention > 0 else []
        return self.delete(gone)["deleted"] if gone else []

    def publish(self) -> None:
        """One ETCDSnapshotFile for each of this node's snapshots; those of deleted files go."""
        if self.server.client.find(f"/api/v1/nodes/{self.server.name}") is None:
            return
        base = "/apis/k3s.cattle.io/v1/etcdsnapshotfiles"
        label = "etcd.k3s.cattle.io/snapshot-storage-node"
        wanted = {}
        for row in self.rows():
            name = object_name(row)
            wanted[name] = {
                "apiVersion": "k3s.cattle.io/v1", "kind": "ETCDSnapshotFile", "metadata": {"name": name, "labels": {label: self.server.name}},
                "spec": {"snapshotName": row["name"], "nodeName": self.server.name, "location": row["location"]},
                "status": {"readyToUse": True, "size": str(row["size"]), "creationTime": row["created"]}}
        present = {item["metadata"]["name"] for item in self.server.client.items(f"{base}?labelSelector={label.replace('/', '%2F')}%3D{self.server.name}")}
        for name in wanted.keys() - present:
            self.server.client.apply(f"{base}/{name}", wanted[name], "k3s")
        for name in present - wanted.keys():
            self.server.client.delete(f"{base}/{name}")


def object_name(row: dict[str, Any]) -> str:
    """Of the ETCDSnapshotFile: six digits of a hash tell those of other servers apart."""
    digest = hashlib.sha256((row["nodeName"] + row["location"]).encode()).hexdigest()
    return "local-" + re.sub(r"[^a-z0-9.-]", "-", row["name"].lower()) + "-" + digest[:6]


def cluster_reset(server: Any) -> None:
    """Back to one member, from the data on disk or from a snapshot; the caller exits with 0 after it."""
    if server.options["server"]:
        raise Fatal("Error: cannot perform cluster-reset while server URL is set - remove server from configuration before resetting")
    flag = server.dir / "db" / "reset-flag"
    restore = server.options["cluster-reset-restore-path"]
    if flag.exists() and not restore:
        raise Fatal("Error: Managed etcd cluster membership was previously reset, please remove the cluster-reset flag and start k3s normally. "
                    f"If you need to perform another cluster reset, you must first manually delete the file at {flag}")
    if not restore and not server.etcd.has_data():
        raise Fatal("Error: etcd: cannot reset cluster without datastore, no etcd data found")
    kept = server.dir / "token"
    if restore and not server.options["token"] and not kept.exists():
        # token-file is read later, and is not looked at here
        raise Fatal(f"Error: {kept} does not exist, please pass --token to complete the restoration")
    server.load_tokens(server_token(server))
    fetched = restore and not (server.tls / "server-ca.crt").exists()
    # Both write the token and the passwords, whatever the snapshot will say of them.
    if fetched:
        temporary_etcd_tls(server)
    else:
        server.prepare_files()
    if restore:
        restore_snapshot(server, pathlib.Path(restore))
    server.etcd.start("", "", [*server.options["etcd-arg"], "force-new-cluster=true"])
    server.etcd.wait()
    if restore:
        take_bootstrap(server)
    if not fetched:
        # etcd runs with the temporary certificates, and what was just read from it needs no writing back
        server.sync_bootstrap()
    server.write_kubeconfig("https://127.0.0.1:6444")
    proc.stop_all()
    flag.touch(mode=0o600)
    log.error("Shutdown request received: Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and delete "
              "${datadir}/server/db on each peer etcd server and rejoin the nodes")


def server_token(server: Any) -> str:
    from .agent import wait_token_file
    given = wait_token_file(server.options)
    # the secure form of a token is allowed here: what it names comes back with the snapshot
    if given.startswith("K10") and not (server.tls / "server-ca.crt").exists():
        return token.password_of(given)
    return given


def restore_snapshot(server: Any, path: pathlib.Path) -> None:
    if not path.is_file():
        raise Fatal(f"Error: etcd: snapshot path does not exist: {path}")
    db = server.dir / "db"
    source = path
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            source = db / archive.namelist()[0]
            db.mkdir(parents=True, exist_ok=True)
            source.write_bytes(archive.read(archive.namelist()[0]))
    etcd = server.etcd
    if etcd.db.exists():
        old = db / f"etcd-old-{int(time.time())}"
        etcd.db.rename(old)
        log.info(f"Pre-restore etcd database moved to {old}")
    name_dir = etcd.db
    etcd.load_name(True)
    (name_dir / "name").unlink()
    name_dir.rmdir()
    log.info(f"Restoring snapshot from {path}")
    done = subprocess.run([lab.program("etcdutl"), "snapshot", "restore", str(source), f"--name={etcd.member_name}",
                           f"--initial-cluster={etcd.member_name}={etcd.peer_url()}", f"--initial-advertise-peer-urls={etcd.peer_url()}",
                           f"--data-dir={etcd.db}"], capture_output=True, text=True, check=False)
    if source != path:
        os.unlink(source)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason"
        raise Fatal(f"Error: preparing server: failed to start cluster: {said.removeprefix('Error: ')}")
    pki.write_private(etcd.db / "name", etcd.member_name.encode())


def temporary_etcd_tls(server: Any) -> None:
    """An empty host: etcd needs some certificates before the real CAs can be read from it."""
    pki.make_cas(server.tls)
    server.cred.mkdir(parents=True, exist_ok=True)
    server.make_certificates()
    server.write_tokens(server.password, server.agent_password)


def take_bootstrap(server: Any) -> None:
    """The CAs and tokens of the snapshot's time are the truth after a restore."""
    stored = server.etcd.get_prefix("/bootstrap/")
    mine = stored.get(bootstrap.key_of(server.password))
    if mine is None:
        raise Fatal("bootstrap data already found and encrypted with different token")
    data = bootstrap.decrypt(mine, server.password)
    saved = server.dir / f"tls-{int(time.time())}"
    log.info(f"Cluster reset: backing up certificates directory to {saved}")
    shutil.copytree(server.tls, saved)
    bootstrap.reconcile(server.dir, data, resetting=True)
    server.encryption.reconcile(data, reset=True)
    for path in list(server.tls.rglob("*.crt")):
        if path.name not in {pathlib.Path(name).name for name in pki.BOOTSTRAP_FILES}:
            path.unlink()
    server.prepare_files()
