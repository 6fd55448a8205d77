# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client of the Kubernetes API on http.client, and a list-and-watch cache."""
from __future__ import annotations

import base64
import http.client
import json
import pathlib
import random
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from . import log


class ApiError(Exception):
    """An answer that is not 2xx; code 0 when there was none."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code, self.message = code, message


class Client:
    """One keep-alive connection per thread."""

    def __init__(self, server: str, ca: pathlib.Path, cert: pathlib.Path, key: pathlib.Path):
        self.server = server
        self.ca, self.cert, self.key = ca, cert, key
        self.local = threading.local()
        self.context: ssl.SSLContext | None = None

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        if self.context is None:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.load_cert_chain(str(self.cert), str(self.key))
            self.context = context
        parts = urllib.parse.urlsplit(self.server)
        return http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=timeout, context=self.context)

    def raw(self, method: str, path: str, body: Any = None, content_type: str = "application/json", timeout: float = 30) -> bytes:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": "k3s"}
        for attempt in (1, 2):
            reused = getattr(self.local, "conn", None) is not None
            try:
                if not reused:
                    self.local.conn = self._connect(timeout)
                self.local.conn.request(method, path, data, headers)
                answer = self.local.conn.getresponse()
                payload = answer.read()
                break
            except (OSError, http.client.HTTPException) as err:
                if getattr(self.local, "conn", None) is not None:
                    self.local.conn.close()
                self.local.conn = None
                if attempt == 2 or not reused:
                    raise ApiError(0, str(err)) from err
        if answer.status >= 300:
            try:
                message = json.loads(payload).get("message", "")
            except ValueError:
                message = payload.decode(errors="replace")[:500]
            raise ApiError(answer.status, message or f"HTTP {answer.status}")
        return payload

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> dict:
        return json.loads(self.raw(method, path, body, content_type) or b"{}")

    def get(self, path: str) -> dict:
        return self.call("GET", path)

    def find(self, path: str) -> dict | None:
        try:
            return self.get(path)
        except ApiError as err:
            if err.code == 404:
                return None
            raise

    def items(self, path: str) -> list[dict]:
        return self.get(path).get("items") or []

    def patch(self, path: str, body: Any) -> dict:
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def strategic(self, path: str, body: Any) -> dict:
        return self.call("PATCH", path, body, "application/strategic-merge-patch+json")

    def json_patch(self, path: str, body: Any) -> dict:
        return self.call("PATCH", path, body, "application/json-patch+json")

    def apply(self, path: str, body: dict, manager: str) -> dict:
        return self.call("PATCH", f"{path}?fieldManager={manager}&force=true", body, "application/apply-patch+yaml")

    def delete(self, path: str) -> None:
        try:
            self.call("DELETE", path)
        except ApiError as err:
            if err.code != 404:
                raise

    def ready(self) -> bool:
        try:
            return self.raw("GET", "/readyz", timeout=5) == b"ok"
        except ApiError:
            return False


class Cache:
    """Objects of one list path, kept by a watch; `changed` is called from the watch's thread."""

    def __init__(self, client: Client, path: str, changed: Callable[[], None] | None = None, slim: Callable[[dict], dict] | None = None):
        self.client, self.path = client, path
        self.changed, self.slim = changed, slim
        self.objects: dict[str, dict] = {}
        self.synced = threading.Event()
        self.lock = threading.Lock()
        threading.Thread(target=self._run, name=f"watch {path}", daemon=True).start()

    @staticmethod
    def key(item: dict) -> str:
        meta = item["metadata"]
        return f"{meta.get('namespace', '')}/{meta['name']}"

    def values(self) -> list[dict]:
        with self.lock:
            return list(self.objects.values())

    def _keep(self, item: dict) -> dict:
        item["metadata"].pop("managedFields", None)
        return self.slim(item) if self.slim else item

    def _notify(self) -> None:
        if self.changed:
            self.changed()

    def _run(self) -> None:
        delay = 1.0
        while True:
            try:
                listing = self.client.get(self.path)
                with self.lock:
                    self.objects = {self.key(item): self._keep(item) for item in listing.get("items") or []}
                version = listing["metadata"]["resourceVersion"]
                self.synced.set()
                self._notify()
                while True:
                    version = self._watch(version)
                    delay = 1.0
            except (ApiError, OSError, http.client.HTTPException, ValueError, KeyError) as err:
                log.debug(f"watch of {self.path}: {err}")
            time.sleep(delay + random.random())
            delay = min(delay * 2, 15)

    def _watch(self, version: str) -> str:
        sep = "&" if "?" in self.path else "?"
        seconds = 240 + random.randrange(60)
        target = f"{self.path}{sep}watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}"
        conn = self.client._connect(100)
        try:
            conn.request("GET", target, headers={"Accept": "application/json", "User-Agent": "k3s"})
            answer = conn.getresponse()
            if answer.status != 200:
                raise ApiError(answer.status, answer.read().decode(errors="replace")[:200])
            for row in answer:
                event = json.loads(row)
                item = event["object"]
                if event["type"] == "ERROR":
                    raise ApiError(item.get("code", 0), item.get("message", ""))
                version = item["metadata"]["resourceVersion"]
                if event["type"] == "BOOKMARK":
                    continue
                with self.lock:
                    if event["type"] == "DELETED":
                        self.objects.pop(self.key(item), None)
                    else:
                        self.objects[self.key(item)] = self._keep(item)
                self._notify()
            return version
        finally:
            conn.close()


class Debounce:
    """Runs a function soon after calls of `poke`, never twice at once, and again every `every` seconds."""

    def __init__(self, name: str, function: Callable[[], None], settle: float = 0.5, every: float = 60):
        self.name, self.function, self.settle, self.every = name, function, settle, every
        self.event = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def poke(self) -> None:
        self.event.set()

    def _run(self) -> None:
        while True:
            self.event.wait(self.every)
            time.sleep(self.settle)
            self.event.clear()
            try:
                self.function()
            except Exception as err:  # noqa: BLE001 - a controller goes on
                log.error(f"{self.name}: {err}")
                time.sleep(5)


def kubeconfig(server: str, ca: pathlib.Path, cert: pathlib.Path, key: pathlib.Path, embed: bool = False, tls_name: str = "") -> str:
    """As k3s writes it: YAML, with embedded data for people and with paths for components."""
    if embed:
        def data(path: pathlib.Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()
        cluster = f"certificate-authority-data: {data(ca)}"
        user = f"    client-certificate-data: {data(cert)}\n    client-key-data: {data(key)}"
    else:
        cluster = f"certificate-authority: {ca}"
        user = f"    client-certificate: {cert}\n    client-key: {key}"
    if tls_name:
        cluster += f"\n    tls-server-name: {tls_name}"
    return f"""apiVersion: v1
clusters:
- cluster:
    {cluster}
    server: {server}
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
users:
- name: default
  user:
{user}
"""


class Leader:
    """Leader election over a Lease, for the controllers that k3s runs once per cluster."""

    def __init__(self, client: Client, name: str, identity: str, duration: int = 25):
        self.client, self.name, self.identity, self.duration = client, name, identity, duration
        self.path = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}"
        self.leading = False
        self.seen: tuple[str, float] = ("", 0.0)
        threading.Thread(target=self._run, name=f"leader {name}", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self.leading = self._try()
            except ApiError as err:
                log.debug(f"lease {self.name}: {err}")
                self.leading = False
            time.sleep(8 + random.random() * 2)

    def _try(self) -> bool:
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        lease = self.client.find(self.path)
        spec = {"holderIdentity": self.identity, "leaseDurationSeconds": self.duration, "renewTime": now}
        if lease is None:
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name, "namespace": "kube-system"},
                    "spec": {**spec, "acquireTime": now}}
            self.client.call("POST", self.path.rsplit("/", 1)[0], body)
            return True
        held = lease.get("spec") or {}
        mark = f"{held.get('holderIdentity')}/{held.get('renewTime')}"
        if mark != self.seen[0]:
            self.seen = (mark, time.monotonic())
        mine = held.get("holderIdentity") == self.identity
        if not mine and time.monotonic() - self.seen[1] < self.duration:
            return False
        if not mine:
            spec["acquireTime"] = now
        lease["spec"] = {**held, **spec}
        self.client.call("PUT", self.path, lease)
        return True
