# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands for the kubelets of all nodes: reports pods as running, and forwards ports to invented services in them."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import struct
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from apiserver import ApiServer

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client

NODE = "standin-1"


class _Handler(BaseHTTPRequestHandler):
    """The kubelet's /portForward as a WebSocket, as much of it as is asked for."""

    protocol_version = "HTTP/1.1"
    kubelet: Kubelet

    def log_message(self, *dummy: t.Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        namespace = urlsplit(self.path).path.split("/")[2]
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        self.end_headers()
        for channel in (0, 1):
            self._frame(bytes([channel]) + struct.pack("<H", 0))
        if parse_qs(urlsplit(self.path).query).get("port") == ["5555"]:
            # haproxy's health check says what it has to say without being asked; one that hangs says nothing.
            if namespace in self.kubelet.hanging:
                self.kubelet.ended.wait(6)
            else:
                self._frame(b"\0up\n")
            self.close_connection = True
            return
        request = self._read()[1:]
        head, dummy, sent = request.decode().partition("\r\n\r\n")
        lines = head.split("\r\n")
        method, path = lines[0].split(" ")[:2]
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        status, body = self.kubelet.answer(namespace, method, path, headers, sent)
        text = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        # In two pieces: nothing says that an answer comes as one frame.
        self._frame(b"\0" + text[:40])
        self._frame(b"\0" + text[40:])
        self.close_connection = True

    def _frame(self, payload: bytes) -> None:
        size = len(payload)
        self.wfile.write((struct.pack(">BB", 0x82, size) if size < 126 else struct.pack(">BBH", 0x82, 126, size)) + payload)
        self.wfile.flush()

    def _read(self) -> bytes:
        size = self.rfile.read(2)[1] & 0x7F
        if size == 126:
            size = struct.unpack(">H", self.rfile.read(2))[0]
        mask = self.rfile.read(4)
        return bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(size)))


class Cht:
    """API of one county: the version whose views its database has, and what is staged beside it (cht-core, api/src/services/setup)."""

    def __init__(self, kubelet: Kubelet, tag: str) -> None:
        self.kubelet = kubelet
        self.tag = self.installed = tag
        self.staged = ""
        self.since = 0.0
        self.stages: list[str] = []

    def start(self, tag: str) -> None:
        """An API of another image goes on with what is staged, or indexes now."""
        if tag and tag != self.tag:
            self.tag = tag
            if self.staged == tag and self._state() == "indexed":
                self.installed = tag
            self.staged, self.since = "", time.monotonic()
        if not self.staged and self._share() >= 1:
            self.installed = self.tag

    def public(self, path: str) -> tuple[int, bytes]:
        if path == "/api/v1/startup-progress":
            step = {"translation": "api.startup.index", "text": "Indexing data", "display": True, "started": True, "completed": self.installed == self.tag}
            return 200, json.dumps({"actions": {"index": step}, "completed": self.installed == self.tag}).encode()
        if self.installed != self.tag:
            return 503, b"<html>"
        figures = {"version": {"app": self.tag}, "couchdb": {"medic": {"doc_count": 1234567}}, "connected_users": {"count": 7}}
        figures.update({"sentinel": {"backlog": 3}, "outbound_push": {"backlog": 2}, "messaging": {"outgoing": {"total": {"due": 5}}}})
        return 200, json.dumps(figures).encode()

    def upgrade(self, method: str, path: str, sent: str) -> tuple[int, bytes]:
        if self.installed != self.tag:
            return 503, b"<html>"
        if method == "POST" and path == "/api/v1/upgrade/stage":
            self.staged, self.since = json.loads(sent)["build"]["version"], time.monotonic()
            self.stages.append(self.staged)
            return 200, b'{"ok": true}'
        if method != "GET" or path != "/api/v2/upgrade":
            return 404, b"{}"
        state = self._state()
        document = {"action": "stage", "state": state, "to": {"namespace": "medic", "application": "medic", "version": self.staged}}
        indexers = [{"database": "medic", "ddoc": "medic-client", "progress": int(100 * self._share())}]
        # What is final is not shown.
        return 200, json.dumps({"upgradeDoc": document if state else None, "indexers": indexers}).encode()

    def _share(self) -> float:
        return min(1.0, (time.monotonic() - self.since) / self.kubelet.indexing) if self.kubelet.indexing else 1.0

    def _state(self) -> str:
        if not self.staged or self.kubelet.builds is not None and self.staged not in self.kubelet.builds:
            return ""
        return "indexed" if self._share() >= 1 else "indexing"


class Kubelet:
    """Runs every pod on one node, except those that `obstacle` gives a reason for.

    With `nodes`, a real scheduler places the pods on these, and claims get volumes; without, all pods are bound to one node.

    obstacle(pod) returns the reason of a waiting container, or an empty string; membership(namespace) how many CouchDB nodes have
    joined of those that are there, or None for all.
    """

    def __init__(self, server: ApiServer, nodes: t.Sequence[str] = ()) -> None:
        self.nodes = list(nodes)
        self.obstacle: t.Callable[[dict[str, t.Any]], str] = lambda pod: ""
        self.unjoined: set[str] = set()
        # Whether pods that are asked to end do so.
        self.ends_pods = True
        # The password that CouchDB has, where it is checked; and what the Secret held whenever CouchDB was told another.
        self.passwords: dict[str, str] = {}
        self.told: list[str] = []
        self.asked: list[tuple[str, str]] = []
        # Seconds that the views of a version take, while it is staged or after an API that does not find it staged; the versions of the builds server.
        self.indexing = 0.0
        self.builds: set[str] | None = None
        self._counties: dict[str, Cht] = {}
        self._lock = threading.Lock()
        # Namespaces whose health check of haproxy hangs, until it is restarted.
        self.hanging: set[str] = set()
        # What began and ended to run, in that order: +service or -service of each namespace.
        self.seen: dict[str, list[str]] = {}
        self._client = Client.from_kubeconfig(str(server.kubeconfig))
        self.ended = threading.Event()
        handler = type("Handler", (_Handler,), {"kubelet": self})
        self._web = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.folder / "api.crt", server.folder / "api.key")
        self._web.socket = context.wrap_socket(self._web.socket, server_side=True)
        self._threads = [threading.Thread(target=self._web.serve_forever, daemon=True), threading.Thread(target=self._loop, daemon=True)]

    def __enter__(self) -> Kubelet:
        for name in self.nodes or [NODE]:
            self.join(name)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.ended.set()
        self._web.shutdown()
        self._web.server_close()
        for thread in self._threads:
            thread.join(10)
        self._client.close()

    def join(self, name: str, **room: str) -> None:
        """Make a node, or take it over from a kubelet before this one."""
        if self._client.find(f"/api/v1/nodes/{name}") is None:
            labels = {"kubernetes.io/hostname": name}
            self._client.json("POST", "/api/v1/nodes", body={"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
        status: dict[str, t.Any] = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._web.server_address[1]}},
        }
        if self.nodes:
            status["capacity"] = status["allocatable"] = {"cpu": "48", "memory": "192Gi", "pods": "110", **room}
            status["conditions"] = [{"type": "Ready", "status": "True"}]
            if name not in self.nodes:
                self.nodes.append(name)
            # The API server taints every new node; the controller that takes the taint away does not run here.
            self._client.json("PATCH", f"/api/v1/nodes/{name}", body={"spec": {"taints": None}}, content_type="application/merge-patch+json")
        self._client.json("PATCH", f"/api/v1/nodes/{name}/status", body={"status": status}, content_type="application/merge-patch+json")

    def answer(self, namespace: str, method: str, path: str, headers: dict[str, str], sent: str) -> tuple[int, bytes]:
        """What the service in a pod answers."""
        self.asked.append((namespace, path))
        if path in ("/api/v2/monitoring", "/api/v1/startup-progress"):
            return self._cht(namespace).public(path)
        if not headers.get("Authorization", "").startswith("Basic "):
            return 401, b"{}"
        known = self.passwords.get(namespace)
        if known and base64.b64decode(headers["Authorization"][6:]).decode() != f"medic:{known}":
            return 401, b"{}"
        if path == "/_session":
            return 200, b"{}"
        if "/upgrade" in path:
            return self._cht(namespace).upgrade(method, path, sent)
        if method == "PUT" and path == "/_node/_local/_config/admins/medic":
            self.passwords[namespace] = json.loads(sent)
            secret = self._client.get(f"/api/v1/namespaces/{namespace}/secrets/cht-couchdb-credentials")
            self.told.append(base64.b64decode(secret["data"]["COUCHDB_PASSWORD"]).decode())
            return 200, b'"-hashed-"'
        if path == "/medic":
            return 200, b'{"db_name": "medic"}'
        services = [item["metadata"]["labels"]["cht.service"] for item in self._client.items(f"/api/v1/namespaces/{namespace}/pods")]
        names = sorted({f"couchdb@{name}.{namespace}.svc.cluster.local" for name in services if name.startswith("couchdb")})
        members = names[:-1] if namespace in self.unjoined else names
        return 200, json.dumps({"all_nodes": members, "cluster_nodes": members}).encode()

    def _cht(self, namespace: str) -> Cht:
        """The CHT of a county, with the version of API's image."""
        pods = self._client.items(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": "cht.service=api"})
        images = [pod["spec"]["containers"][0]["image"] for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        tag = images[-1].rpartition(":")[2] if images else ""
        with self._lock:
            found = self._counties.setdefault(namespace, Cht(self, tag))
            found.start(tag)
            return found

    def _loop(self) -> None:
        while not self.ended.wait(0.3):
            try:
                if self.nodes:
                    self._provision()
                for pod in self._client.items("/api/v1/pods"):
                    self._run(pod)
            except (ApiError, OSError):
                continue  # the API server is away, or the pod is gone: next time

    def _provision(self) -> None:
        """A volume for each claim that has none, as a storage driver makes them."""
        for claim in self._client.items("/api/v1/persistentvolumeclaims"):
            metadata, name = claim["metadata"], f"pv-{claim['metadata']['uid']}"
            if claim["spec"].get("volumeName") or self._client.find(f"/api/v1/persistentvolumes/{name}") is not None:
                continue
            spec = {
                "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": claim["spec"]["storageClassName"], "hostPath": {"path": f"/nowhere/{name}"},
                "claimRef": {"namespace": metadata["namespace"], "name": metadata["name"]},
            }
            body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
            self._client.json("POST", "/api/v1/persistentvolumes", body=body)

    def _note(self, sign: str, metadata: dict[str, t.Any]) -> None:
        if (metadata.get("labels") or {}).get("cht.service") == "healthcheck":
            self.hanging.discard(metadata["namespace"])
        self.seen.setdefault(metadata["namespace"], []).append(f"{sign}{(metadata.get('labels') or {}).get('cht.service')}")

    def _run(self, pod: dict[str, t.Any]) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if metadata.get("deletionTimestamp"):
            if not self.ends_pods:
                return
            self._note("-", metadata)
            self._client.json("DELETE", path, body={"gracePeriodSeconds": 0})
            return
        if not pod["spec"].get("nodeName"):
            if self.nodes:
                return
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            self._client.json("POST", f"{path}/binding", body={"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}, "target": target})
        reason = self.obstacle(pod)
        ready = "False" if reason else "True"
        names = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        conditions = [{"type": name, "status": ready if name.endswith("Ready") else "True"} for name in names]
        state = {"waiting": {"reason": reason, "message": "as the test wants it"}} if reason else {"running": {}}
        containers = [
            {"name": item["name"], "image": item["image"], "imageID": "x", "ready": not reason, "restartCount": 0, "state": state}
            for item in pod["spec"]["containers"]
        ]
        # A container that ends again and again has run, which is what the phase says.
        phase = "Pending" if reason and reason != "CrashLoopBackOff" else "Running"
        status = {"phase": phase, "conditions": conditions, "containerStatuses": containers, "podIP": "198.19.0.1"}
        present = {key: (pod.get("status") or {}).get(key) for key in ("phase", "containerStatuses")}
        if not reason and present["phase"] != "Running":
            self._note("+", metadata)
        if json.dumps(present["containerStatuses"]) != json.dumps(containers) or present["phase"] != status["phase"]:
            self._client.json("PATCH", f"{path}/status", body={"status": status}, content_type="application/merge-patch+json")
