"""A TLS proxy before vcsim: it counts logins and sessions per client, and breaks what tests want broken.

vcsim itself holds one account. The front checks names and passwords of the lab's accounts, hands a good login on with vcsim's own account
and a bad one as it is, so that vcsim answers both.
"""

from __future__ import annotations

import base64
import html
import http.client
import json
import re
import socket
import socketserver
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

METHOD = re.compile(rb"<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)")
USER = re.compile(rb"(<(?:\w+:)?userName[^>]*>)(.*?)(</(?:\w+:)?userName>)", re.S)
PASSWORD = re.compile(rb"(<(?:\w+:)?password[^>]*>)(.*?)(</(?:\w+:)?password>)", re.S)
SESSION = re.compile(r'vmware_soap_session="?([^";]+)"?')
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-authorization", "proxy-authenticate", "content-length"}
GRANTED = re.compile(rb"(<(?:\w+:)?privId[^>]*>([^<]+)</(?:\w+:)?privId>\s*<(?:\w+:)?isGranted[^>]*>)true")
LISTED = re.compile(rb"<(?:\w+:)?privileges>([^<]+)</(?:\w+:)?privileges>")
REST_SESSION = "/rest/com/vmware/cis/session"


@dataclass
class Session:
    """One open session of one client."""

    user: str
    agent: str
    kind: str
    since: float


@dataclass
class Ledger:
    """What the clients did."""

    users: dict[str, str]
    upstream: tuple[str, str]
    delay_ms: int = 0
    ok: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    logouts: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    most: int = 0
    methods: dict[str, int] = field(default_factory=dict)
    # What vCenter says of itself; vcsim always says 6.5.0, with which CSI takes no snapshots.
    version: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, user: str, password: str) -> bool:
        """Whether vCenter would let this account in."""
        return any(name.lower() == user.lower() and secret == password for name, secret in self.users.items())

    def login(self, agent: str, user: str, kind: str, session: str | None) -> None:
        """Note how a login ended; without a session it failed."""
        with self.lock:
            if session is None:
                self.failed[agent] = self.failed.get(agent, 0) + 1
                return
            self.ok[agent] = self.ok.get(agent, 0) + 1
            self.sessions[session] = Session(user, agent, kind, time.time())
            self.most = max(self.most, len(self.sessions))

    def logout(self, session: str) -> None:
        """Note the end of a session."""
        with self.lock:
            ended = self.sessions.pop(session, None)
            if ended:
                self.logouts[ended.agent] = self.logouts.get(ended.agent, 0) + 1

    def count(self, method: str) -> None:
        """Note a call."""
        with self.lock:
            self.methods[method] = self.methods.get(method, 0) + 1

    def reset(self) -> None:
        """Count anew; open sessions stay open."""
        with self.lock:
            for counter in (self.ok, self.failed, self.logouts, self.methods):
                counter.clear()
            self.most = len(self.sessions)

    def drop(self) -> int:
        """End every session behind the clients' backs, as a restarted vCenter does."""
        with self.lock:
            self.dropped.update(self.sessions)
            number = len(self.sessions)
            self.sessions.clear()
            return number

    def report(self) -> dict[str, Any]:
        """All of it, as data."""
        with self.lock:
            now = time.time()
            return {
                "logins": sum(self.ok.values()),
                "failed": sum(self.failed.values()),
                "logouts": sum(self.logouts.values()),
                "open": len(self.sessions),
                "most_open": self.most,
                "by_agent": {
                    agent: {"logins": self.ok.get(agent, 0), "failed": self.failed.get(agent, 0), "logouts": self.logouts.get(agent, 0)}
                    for agent in sorted({*self.ok, *self.failed, *self.logouts})
                },
                "sessions": [
                    {"user": item.user, "agent": item.agent, "kind": item.kind, "seconds": round(now - item.since, 1)} for item in self.sessions.values()
                ],
                "methods": dict(sorted(self.methods.items())),
            }


def _text(match: re.Match[bytes] | None) -> str:
    return html.unescape(match.group(2).decode()) if match else ""


def translate(body: bytes, ledger: Ledger) -> tuple[bytes, str]:
    """A Login call with vcsim's account in place of a good one of the lab's; and the user's name."""
    user, password = _text(USER.search(body)), _text(PASSWORD.search(body))
    if not ledger.known(user, password):
        # vcsim must refuse it, also where the wrong pair happens to be its own.
        return PASSWORD.sub(lambda m: m.group(1) + b"refused" + m.group(3), body), user
    name, secret = (escape(part).encode() for part in ledger.upstream)
    body = USER.sub(lambda m: m.group(1) + name + m.group(3), body)
    return PASSWORD.sub(lambda m: m.group(1) + secret + m.group(3), body), user


def deny(data: bytes, privileges: set[str]) -> bytes:
    """An answer about privileges, as it would be for an account without these. vcsim itself grants everything."""
    names = {name.encode() for name in privileges}
    data = GRANTED.sub(lambda m: m.group(1) + (b"false" if m.group(2) in names else b"true"), data)
    return LISTED.sub(lambda m: b"" if m.group(1) in names else m.group(0), data)


class Handler(BaseHTTPRequestHandler):
    """One client connection."""

    protocol_version = "HTTP/1.1"
    timeout = 600
    server: Front

    def setup(self) -> None:
        """The handshake belongs in the connection's thread: a client that never finishes it must not hold up the others."""
        self.request.settimeout(30)
        self.request.do_handshake()
        self.upstream: http.client.HTTPSConnection | None = None
        super().setup()

    def finish(self) -> None:
        """Close the way to vcsim together with the client's."""
        super().finish()
        if self.upstream:
            self.upstream.close()

    def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
        """No line for each of thousands of requests."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _ask(self, headers: dict[str, str], body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        for attempt in (1, 2):
            if self.upstream is None:
                self.upstream = http.client.HTTPSConnection(*self.server.target, context=self.server.upstream_tls, timeout=600)
            try:
                self.upstream.request(self.command, self.path, body=body, headers=headers)
                answer = self.upstream.getresponse()
                return answer, answer.read()
            except (http.client.HTTPException, OSError):
                self.upstream.close()
                self.upstream = None
                if attempt == 2:
                    raise
        raise AssertionError("not reached")

    def _handle(self) -> None:
        ledger = self.server.ledger
        body = self._body()
        if ledger.delay_ms:
            time.sleep(ledger.delay_ms / 1000)
        agent = self.headers.get("User-Agent", "")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        session = SESSION.search(self.headers.get("Cookie", ""))
        token = session.group(1) if session else self.headers.get("vmware-api-session-id", "")
        if token in ledger.dropped:
            headers = {name: value for name, value in headers.items() if name.lower() not in {"cookie", "vmware-api-session-id"}}
        found = METHOD.search(body) if self.path.startswith("/sdk") else None
        method = found.group(1).decode() if found else ""
        rest = self.path.split("?")[0] == REST_SESSION and "~action" not in self.path
        ledger.count(method or f"{self.command} {self.path.split('?')[0]}")
        user = ""
        if method == "Login":
            body, user = translate(body, ledger)
        elif rest and self.command == "POST":
            user = self._basic(headers)
        try:
            answer, data = self._ask(headers, body)
        except (http.client.HTTPException, OSError) as error:
            self.send_error(502, f"vcsim does not answer: {error}")
            return
        good = answer.status == 200
        if ledger.denied and "Privilege" in method:
            data = deny(data, ledger.denied)
        if ledger.version:
            data = data.replace(b"<version>6.5.0</version>", f"<version>{ledger.version}</version>".encode())
        if method == "Login":
            cookie = SESSION.search(answer.getheader("Set-Cookie") or "") if good else None
            ledger.login(agent, user, "soap", cookie.group(1) if cookie else None)
        elif method == "Logout" or (rest and self.command == "DELETE"):
            ledger.logout(token)
        elif rest and self.command == "POST":
            ledger.login(agent, user, "rest", json.loads(data)["value"] if good else None)
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP and name.lower() not in {"date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _basic(self, headers: dict[str, str]) -> str:
        """The same exchange of accounts for the REST interface."""
        name = next((key for key in headers if key.lower() == "authorization"), None)
        if name is None:
            return ""
        try:
            user, password = base64.b64decode(headers[name].split()[-1]).decode().split(":", 1)
        except ValueError:
            return ""
        pair = self.server.ledger.upstream if self.server.ledger.known(user, password) else (user, "refused")
        headers[name] = "Basic " + base64.b64encode(":".join(pair).encode()).decode()
        return user

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = _handle


class Front(ThreadingHTTPServer):
    """The listener on vCenter's address."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], target: tuple[str, int], cert: Path, key: Path, ledger: Ledger) -> None:
        super().__init__(address, Handler)
        self.target = target
        self.ledger = ledger
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(cert, key)
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        # The way to vcsim is the loopback of the lab's own namespace.
        self.upstream_tls = ssl._create_unverified_context()  # noqa: S323, SLF001

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up or distrust the certificate are normal here; anything else is worth a line."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, ssl.SSLError, TimeoutError)):
            print(f"{client_address}: {error!r}", flush=True)


class Control(socketserver.StreamRequestHandler):
    """One command of the lab: a JSON line, answered by a JSON line."""

    server: ControlServer

    def handle(self) -> None:
        """Do it."""
        request = json.loads(self.rfile.readline())
        ledger = self.server.ledger
        if request["do"] == "report":
            answer: Any = ledger.report()
        elif request["do"] == "reset":
            ledger.reset()
            answer = {}
        elif request["do"] == "drop":
            answer = {"dropped": ledger.drop()}
        elif request["do"] == "delay":
            ledger.delay_ms = int(request["ms"])
            answer = {}
        elif request["do"] == "deny":
            ledger.denied = set(request["privileges"])
            answer = {}
        elif request["do"] == "password":
            ledger.users[request["user"]] = request["password"]
            answer = {}
        else:
            answer = {"error": f"unknown command {request['do']}"}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class ControlServer(socketserver.ThreadingUnixStreamServer):
    """The lab's own door, a socket that only root can open."""

    daemon_threads = True

    def __init__(self, path: str, ledger: Ledger) -> None:
        Path(path).unlink(missing_ok=True)
        super().__init__(path, Control)
        Path(path).chmod(0o600)
        self.ledger = ledger


def command(path: Path, **request: Any) -> dict[str, Any]:
    """Send the running front a command."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as stream:
            return json.loads(stream.readline())


def main(settings_file: str) -> None:
    """Run until ended; the settings come from a file that only root can read."""
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    ledger = Ledger(users=settings["users"], upstream=tuple(settings["upstream"]), version=settings.get("version", ""))
    front = Front(tuple(settings["listen"]), tuple(settings["target"]), Path(settings["cert"]), Path(settings["key"]), ledger)
    control = ControlServer(settings["control"], ledger)
    threading.Thread(target=control.serve_forever, daemon=True).start()
    print("front: ready", flush=True)
    front.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
