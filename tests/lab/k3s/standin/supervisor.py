# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's HTTPS API: what joining servers and agents talk to.

It is reached through the front, on the port of the API, which says who asks.
"""
from __future__ import annotations

import base64
import http.server
import json
import pathlib
import secrets
import threading
import time
from typing import Any

from . import encryption, front, log, nodepassword, pki
from .etcd import EtcdError
from .kube import ApiError


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug(f"supervisor: request from {client_address} failed")


def start(owner: Any) -> int:
    """`owner` is the Server: it knows the files, the passwords and the state. Returns the port, which only the front asks."""
    handler = type("Handler", (_Handler,), {"owner": owner})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 5}, name="supervisor", daemon=True).start()
    return server.server_address[1]


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: Any = None
    server_version = "k3s"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        return

    # -- who asks

    def identity(self) -> str:
        """'server', 'node', 'kubelet:NAME', '' when unknown; None-like 'bad' for wrong credentials."""
        header = self.headers.get("Authorization", "")
        if header.startswith("Basic "):
            try:
                user, _sep, password = base64.b64decode(header[6:]).decode().partition(":")
            except ValueError:
                return "bad"
            expected = {"server": self.owner.password, "node": self.owner.agent_password}.get(user)
            if expected is not None and secrets.compare_digest(expected.encode(), password.encode()):
                return user
            if user == "node" and secrets.compare_digest(self.owner.password.encode(), password.encode()):
                return user
            if user == "bootstrap" and self.owner.bootstrap_token(password):
                return "node"
            log.error(f"Failed to authenticate request from {self.headers.get(front.PEER, '')}: invalid username/password combination")
            return "bad"
        name = self.headers.get(front.USER, "")
        return "kubelet:" + name[12:] if name.startswith("system:node:") else ""

    # -- answers

    def reply(self, code: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def status(self, code: int, message: str) -> None:
        reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 503: "ServiceUnavailable"}.get(code, "InternalError")
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}
        self.reply(code, json.dumps(body).encode(), "application/json")

    def json(self, data: Any) -> None:
        self.reply(200, json.dumps(data).encode(), "application/json")

    def do_GET(self) -> None:
        self.handle_any(b"")

    def do_POST(self) -> None:
        self.handle_any(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    do_PUT = do_POST

    def handle_any(self, body: bytes) -> None:
        try:
            self.route(body)
        except nodepassword.Rejected as err:
            self.status(403, str(err))
        except (ApiError, EtcdError) as err:
            self.status(503, str(err))
        except (BrokenPipeError, ConnectionError):
            pass
        except Exception as err:  # noqa: BLE001 - the answer must go out
            log.error(f"supervisor: {self.path}: {err}")
            self.status(500, str(err))

    def route(self, body: bytes) -> None:
        path = self.path.split("?")[0]
        owner = self.owner
        if path == "/ping":
            return self.reply(200, b"pong")
        if path == "/cacerts":
            return self.reply(200, (owner.tls / "server-ca.crt").read_bytes())
        who = self.identity()
        if path == "/db/info" and not who and self.headers.get(front.PEER, "").startswith("127.0.0.1:"):
            who = "server"
        if who in ("", "bad"):
            return self.status(401, "not authorized")
        server_only = {
            "/v1-k3s/server-bootstrap": self.bootstrap, "/db/info": self.members, "/v1-k3s/encrypt/status": self.encryption_status,
            "/v1-k3s/encrypt/config": self.encryption_config, "/v1-k3s/token": self.rotate_token, "/db/snapshot": self.snapshot,
        }
        if path in server_only:
            if who != "server":
                return self.status(403, "forbidden")
            return server_only[path](body)
        files = {"/v1-k3s/client-ca.crt": "client-ca.crt", "/v1-k3s/server-ca.crt": "server-ca.crt"}
        if path in files:
            return self.reply(200, (owner.tls / files[path]).read_bytes())
        shared = {
            "/v1-k3s/config": lambda _b: self.json(owner.shared_config()),
            "/v1-k3s/apiservers": lambda _b: self.json(owner.api_servers()),
            "/v1-k3s/readyz": lambda _b: self.readyz(),
            "/v1-k3s/serving-kubelet.crt": self.serving_kubelet,
            "/v1-k3s/client-kubelet.crt": self.client_kubelet,
            "/v1-k3s/client-kube-proxy.crt": lambda b: self.signed(b, "client-ca", pki.subject("system:kube-proxy"), None, "clientAuth"),
            "/v1-k3s/client-k3s-controller.crt": lambda b: self.signed(b, "client-ca", pki.subject("system:k3s-controller"), None, "clientAuth"),
        }
        if path in shared:
            return shared[path](body)
        return self.status(404, "404 page not found")

    def readyz(self) -> None:
        if self.owner.api_ready.is_set():
            return self.reply(200, b"ok")
        return self.status(503, "runtime core not ready")

    def bootstrap(self, _body: bytes) -> None:
        if not self.owner.managed:
            return self.status(400, "etcd disabled")
        self.json(self.owner.stored_bootstrap())

    def members(self, _body: bytes) -> None:
        if not self.owner.managed:
            return self.status(400, "etcd datastore disabled")
        rows = [{"name": member.get("name", ""), "peerURLs": member.get("peerURLs", []), "clientURLs": member.get("clientURLs", []),
                 **({"isLearner": True} if member.get("isLearner") else {})} for member in self.owner.etcd.members()]
        self.json({"members": rows})

    def encryption_status(self, _body: bytes) -> None:
        if not self.owner.api_ready.is_set():
            return self.status(503, "runtime core not ready")
        try:
            self.json(self.owner.encryption.status())
        except encryption.Refused as err:
            self.status(500, encryption.error_id(str(err)))

    def encryption_config(self, body: bytes) -> None:
        if not self.owner.api_ready.is_set():
            return self.status(503, "runtime core not ready")
        try:
            self.owner.encryption.change(json.loads(body or b"{}"))
        except encryption.Panic:
            self.close_connection = True
            return
        except (encryption.Refused, ApiError) as err:
            return self.status(400, encryption.error_id(str(err)))
        time.sleep(1)
        self.reply(200, b"")

    def rotate_token(self, body: bytes) -> None:
        if self.command != "PUT":
            return self.status(405, "method not allowed")
        self.owner.rotate_token(json.loads(body or b"{}").get("newToken", ""))
        return self.reply(200, b"")

    def snapshot(self, body: bytes) -> None:
        self.json(self.owner.snapshots.request(json.loads(body or b"{}")))

    def node(self) -> tuple[str, list[str]]:
        name = self.headers.get("k3s-Node-Name", "")
        password = self.headers.get("k3s-Node-Password", "")
        ips = [part for part in self.headers.get("k3s-Node-IP", "").split(",") if part]
        if not name or not password:
            raise nodepassword.Rejected("node name or password not set")
        if not self.owner.api_ready.is_set():
            raise ApiError(503, "runtime core not ready")
        nodepassword.ensure(self.owner.client, name, password)
        return name, ips

    def serving_kubelet(self, body: bytes) -> None:
        name, ips = self.node()
        self.signed(body, "server-ca", pki.subject(name), pki.names([name, "127.0.0.1", *ips]), "serverAuth")

    def client_kubelet(self, body: bytes) -> None:
        name, _ips = self.node()
        self.signed(body, "client-ca", pki.subject(f"system:node:{name}", "system:nodes"), None, "clientAuth")

    def signed(self, csr: bytes, ca: str, subj: str, sans: list[str] | None, usage: str) -> None:
        if not csr:
            return self.status(400, "certificate request missing")
        stem = self.owner.tls / ca
        crt = pki.sign(csr, stem, subj, sans, usage) + pathlib.Path(f"{stem}.crt").read_bytes()
        return self.reply(200, crt)
