# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real etcd: start, membership through its JSON gateway, learners, the EtcdIsVoter condition."""
from __future__ import annotations

import base64
import fcntl
import http.client
import json
import pathlib
import secrets
import ssl
import time
import urllib.parse
from typing import Any

from . import lab, log, proc
from .log import Fatal, Shutdown


class EtcdError(Exception):
    """etcd's own message, or that of the connection."""


class Etcd:
    def __init__(self, data_dir: pathlib.Path, node_name: str, node_ip: str):
        self.server_dir = data_dir / "server"
        self.db = self.server_dir / "db" / "etcd"
        self.tls = self.server_dir / "tls" / "etcd"
        self.node_name, self.ip = node_name, node_ip
        self.member_name = ""
        self._context: ssl.SSLContext | None = None

    # -- what is on disk

    def has_data(self) -> bool:
        return (self.db / "member" / "wal").is_dir()

    def locked(self) -> bool:
        """By another process that has the data."""
        database = self.db / "member" / "snap" / "db"
        if not database.exists():
            return False
        with open(database, "rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def load_name(self, create: bool) -> str:
        place = self.db / "name"
        if place.exists():
            self.member_name = place.read_text(encoding="utf-8").strip()
        elif create:
            self.db.mkdir(parents=True, exist_ok=True)
            self.db.chmod(0o700)
            self.member_name = f"{self.node_name}-{secrets.token_hex(4)}"
            place.write_text(self.member_name, encoding="utf-8")
            place.chmod(0o600)
        return self.member_name

    def bury_if_tombstoned(self) -> None:
        if (self.db / "tombstone").exists():
            log.warning("Etcd tombstone file exists, cleaning up old etcd data directory")
            target = self.db.parent / f"etcd-backup-{int(time.time())}"
            self.db.rename(target)

    def peer_url(self) -> str:
        return f"https://{self.ip}:2380"

    # -- the gateway

    def call(self, path: str, body: dict[str, Any] | None = None, endpoint: str = "https://127.0.0.1:2379", timeout: float = 10) -> dict:
        if self._context is None:
            context = ssl.create_default_context(cafile=str(self.tls / "server-ca.crt"))
            context.load_cert_chain(str(self.tls / "client.crt"), str(self.tls / "client.key"))
            self._context = context
        parts = urllib.parse.urlsplit(endpoint)
        conn = http.client.HTTPSConnection(parts.hostname or "", parts.port or 2379, timeout=timeout, context=self._context)
        try:
            conn.request("POST", path, json.dumps(body or {}), {"Content-Type": "application/json"})
            answer = conn.getresponse()
            data = json.loads(answer.read() or b"{}")
        except ConnectionRefusedError as err:
            raise EtcdError(f"dial tcp {parts.netloc}: connect: connection refused") from err
        except TimeoutError as err:
            raise EtcdError("context deadline exceeded") from err
        except (OSError, http.client.HTTPException, ValueError) as err:
            raise EtcdError(str(err)) from err
        finally:
            conn.close()
        if answer.status != 200:
            raise EtcdError(data.get("message") or data.get("error") or f"HTTP {answer.status}")
        return data

    def call_any(self, path: str, body: dict[str, Any] | None, endpoints: list[str]) -> dict:
        failure = EtcdError("no endpoints")
        for endpoint in endpoints:
            try:
                return self.call(path, body, endpoint)
            except EtcdError as err:
                failure = err
        raise failure

    def members(self, endpoint: str = "https://127.0.0.1:2379", linearizable: bool = True) -> list[dict]:
        return self.call("/v3/cluster/member/list", {"linearizable": linearizable}, endpoint).get("members", [])

    def status(self) -> dict:
        return self.call("/v3/maintenance/status", {}, timeout=5)

    def is_leader(self) -> bool:
        try:
            data = self.status()
        except EtcdError:
            return False
        return bool(data.get("leader")) and data.get("leader") == data.get("header", {}).get("member_id")

    def get_prefix(self, prefix: str) -> dict[str, bytes]:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        body = {"key": base64.b64encode(prefix.encode()).decode(), "range_end": base64.b64encode(end.encode()).decode()}
        found = self.call("/v3/kv/range", body).get("kvs", [])
        return {base64.b64decode(row["key"]).decode(): base64.b64decode(row.get("value", "")) for row in found}

    def put(self, key: str, value: bytes) -> None:
        self.call("/v3/kv/put", {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value).decode()})

    def delete(self, key: str) -> None:
        self.call("/v3/kv/deleterange", {"key": base64.b64encode(key.encode()).decode()})

    # -- start

    def start(self, initial: str, state: str, extra: list[str], expose_metrics: bool = False) -> None:
        tls = self.tls
        metrics = "http://0.0.0.0:2381" if expose_metrics else "http://127.0.0.1:2381"
        argv = [
            lab.program("server"),
            f"--name={self.member_name}",
            f"--data-dir={self.db}",
            f"--listen-client-urls=https://127.0.0.1:2379,https://{self.ip}:2379",
            f"--advertise-client-urls=https://{self.ip}:2379",
            f"--listen-peer-urls=https://127.0.0.1:2380,https://{self.ip}:2380",
            f"--initial-advertise-peer-urls={self.peer_url()}",
            f"--listen-metrics-urls={metrics}",
            f"--cert-file={tls}/server-client.crt", f"--key-file={tls}/server-client.key",
            "--client-cert-auth=true", f"--trusted-ca-file={tls}/server-ca.crt",
            f"--peer-cert-file={tls}/peer-server-client.crt", f"--peer-key-file={tls}/peer-server-client.key",
            "--peer-client-cert-auth=true", f"--peer-trusted-ca-file={tls}/peer-ca.crt",
            "--heartbeat-interval=500", "--election-timeout=5000", "--snapshot-count=10000",
            "--logger=zap", "--log-level=warn", "--log-outputs=stderr",
        ]
        if initial:
            argv += [f"--initial-cluster={initial}", f"--initial-cluster-state={state}"]
        argv += [f"--{item.lstrip('-')}" for item in lab.get("etcd_args")]
        argv += [f"--{item.lstrip('-')}" for item in extra]
        self.db.mkdir(parents=True, exist_ok=True)
        self.db.chmod(0o700)
        proc.Child("etcd", argv, env={"GOGC": "60"}, on_exit=self.exited)

    def exited(self, code: int) -> None:
        """etcd ends with 0 by itself only when its member was removed from the cluster."""
        if code == 0:
            (self.db / "tombstone").touch()
            log.info("This node has been removed from the cluster - please restart k3s to rejoin the cluster" if lab.minor() >= 36
                     else "this node has been removed from the cluster please restart k3s to rejoin the cluster")
            # the real one lives on without etcd until a controller loses its lease
            time.sleep(5)
            log.die("leaderelection lost for kube-controller-manager")
        log.die(f"etcd exited: exit status {code}")

    def join(self, endpoints: list[str]) -> str:
        """Become a learner of the cluster behind `endpoints`; gives etcd's --initial-cluster."""
        while True:
            try:
                members = self.call_any("/v3/cluster/member/list", {"linearizable": True}, endpoints).get("members", [])
            except EtcdError as err:
                raise Fatal(f"Error: preparing server: start managed database: joining etcd cluster: {err}") from None
            known = False
            others = []
            for member in members:
                name = member.get("name", "")
                known_peer = self.peer_url() in member.get("peerURLs", [])
                if not name and known_peer:
                    known = True
                    continue
                if name.rpartition("-")[0] == self.node_name and name != self.member_name:
                    raise Shutdown("failed to start managed database: joining etcd cluster: etcd cluster join failed: "
                                   "duplicate node name found, please use a unique name for this node")
                others += [f"{name}={url}" for url in member.get("peerURLs", [])]
            if known:
                break
            try:
                log.info(f"Adding member {self.member_name}={self.peer_url()} to etcd cluster {go_list(others)}")
                self.call_any("/v3/cluster/member/add", {"peerURLs": [self.peer_url()], "isLearner": True}, endpoints)
                break
            except EtcdError as err:
                text = str(err)
                if "too many learner" in text or "unhealthy cluster" in text:
                    log.info(f"Waiting for other members to finish joining etcd cluster: {text}")
                    time.sleep(1)
                    continue
                raise Fatal(f"Error: preparing server: start managed database: joining etcd cluster: {text}") from None
        cluster = [*others, f"{self.member_name}={self.peer_url()}"]
        log.info(f"Starting etcd to join cluster with members {go_list(cluster)}")
        return ",".join(cluster)

    def test(self) -> str:
        """'' when this server votes and the cluster answers, else k3s' reason."""
        try:
            data = self.status()
        except EtcdError as err:
            return str(err)
        own = data.get("header", {}).get("member_id")
        if data.get("isLearner"):
            return "this server has not yet been promoted from learner to voting member"
        if not data.get("leader") or data.get("leader") == "0":
            return "etcdserver: no leader"
        try:
            members = self.members(linearizable=False)
        except EtcdError as err:
            return str(err)
        shown = []
        for member in members:
            urls = member.get("peerURLs", [])
            shown += [f"{member.get('name', '')}={url}" for url in urls]
            if member.get("ID") == own and self.peer_url() in urls:
                return ""
        return f"this server is a not a member of the etcd cluster. Found {go_list(shown)}, expect: {self.member_name}={self.peer_url()}"

    def wait(self) -> None:
        count, said = 0, ""
        while True:
            reason = self.test()
            if not reason:
                log.info("Connection to etcd is ready")
                return
            if count % 5 == 0 or reason != said:
                log.info(f"Failed to test etcd connection: {reason}")
            count, said = count + 1, reason
            time.sleep(1 if count < 60 else 5)


def go_list(items: list[str]) -> str:
    return "[" + " ".join(items) + "]"
