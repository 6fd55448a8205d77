# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client of the Kubernetes API: keep-alive connections, one per thread, over the standard library."""

from __future__ import annotations

import base64
import http.client
import json
import random
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.cht.k3s.plugins.module_utils.kube import config


class ApiError(Exception):
    """An answer other than success, or none at all (status 0)."""

    def __init__(self, status: int, message: str, body: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.body = body or {}

    @property
    def reason(self) -> str:
        return str(self.body.get("reason") or "")

    @property
    def causes(self) -> list[dict[str, Any]]:
        return (self.body.get("details") or {}).get("causes") or []


class Unreachable(ApiError):
    """The API server did not answer in the time allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(0, message)


# Worth another try: the request was not served, and what we send can be repeated safely.
RETRY_STATUS = (429, 500, 502, 503, 504)


class Client:
    """Requests to one API server.

    Every request that this client sends is repeatable (reads, server-side apply, deletes), so a lost connection or
    an overloaded server is tried again until C(patience) seconds have passed.
    """

    def __init__(self, access: config.Access, timeout: float = 30.0, patience: float = 30.0) -> None:
        self.access = access
        self.timeout = timeout
        self.patience = patience
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[http.client.HTTPConnection] = []
        self.requests = 0

    @classmethod
    def from_kubeconfig(cls, path: str, context: str | None = None, timeout: float = 30.0, patience: float = 30.0) -> Client:
        return cls(config.load(path, context), timeout, patience)

    def close(self) -> None:
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _connection(self) -> http.client.HTTPConnection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
            with self._lock:
                self._open.append(connection)
        return connection

    def _connect(self) -> http.client.HTTPConnection:
        access = self.access
        host, port = access.host, access.port
        proxy = urlsplit(access.proxy) if access.proxy else None
        if proxy is not None:
            host, port = proxy.hostname or "", proxy.port or 3128
        connection: http.client.HTTPConnection
        if access.context is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=self.timeout, context=access.context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        if proxy is not None:
            headers = {}
            if proxy.username:
                pair = f"{proxy.username}:{proxy.password or ''}".encode()
                headers["Proxy-Authorization"] = "Basic " + base64.b64encode(pair).decode()
            connection.set_tunnel(access.host, access.port, headers)
        return connection

    def dedicated(self) -> http.client.HTTPConnection:
        """A connection that is not kept, for a protocol that takes it over; the caller closes it."""
        return self._connect()

    def _drop(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None
            with self._lock:
                if connection in self._open:
                    self._open.remove(connection)

    def raw(self, method: str, path: str, query: dict[str, Any] | None = None, body: bytes | None = None,
            content_type: str = "application/json", accept: str = "application/json", patience: float | None = None) -> bytes:
        """Send one request and return the body of the answer; errors are raised as ApiError."""
        target = self.access.path + path
        if query:
            target += "?" + urlencode(query)
        headers = {"Accept": accept, "User-Agent": "cht.k3s", **self.access.headers}
        if body is not None:
            headers["Content-Type"] = content_type
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        attempt = 0
        while True:
            attempt += 1
            fresh = True
            wait = min(0.2 * 2**attempt, 5.0) * (0.5 + random.random() / 2)
            try:
                connection = self._connection()
                fresh = connection.sock is None
                connection.request(method, target, body=body, headers=headers)
                answer = connection.getresponse()
                content = answer.read()
                self.requests += 1
            except (ssl.SSLCertVerificationError, ssl.CertificateError) as error:
                self._drop()
                raise Unreachable(
                    f"the certificate of {self.access.url} is not trusted: {error}; "
                    "the kubeconfig's certificate-authority does not fit this server"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                # A kept connection that the server closed meanwhile is no failure of the server: repeat at once.
                if not fresh and attempt == 1:
                    continue
                if time.monotonic() + wait > deadline:
                    raise Unreachable(f"{self.access.url} does not answer: {error}") from error
                time.sleep(wait)
                continue
            if answer.status in RETRY_STATUS and time.monotonic() + wait < deadline and not _final(answer.status, content):
                after = answer.getheader("Retry-After") or ""
                time.sleep(min(float(after), 10.0) if after.isdigit() else wait)
                continue
            if answer.status >= 400:
                raise _error(answer.status, answer.reason, content)
            self._local.status = answer.status
            return content

    def json(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None,
             content_type: str = "application/json", patience: float | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        content = self.raw(method, path, query, data, content_type, patience=patience)
        return json.loads(content) if content else {}

    def get(self, path: str, query: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.json("GET", path, query)

    def find(self, path: str) -> dict[str, Any] | None:
        """The object at C(path), or None when there is none."""
        try:
            return self.json("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, query: dict[str, Any] | None = None, page: int = 500) -> Iterator[dict[str, Any]]:
        """Every item of a list, page by page, so that a large cluster never has to fit into memory at once."""
        parameters = {**(query or {}), "limit": page}
        while True:
            try:
                answer = self.json("GET", path, parameters)
            except ApiError as error:
                if error.status == 410 and "continue" in parameters:
                    # The list took longer than the server keeps its pages: begin again, in one piece.
                    yield from self.json("GET", path, query).get("items") or []
                    return
                raise
            yield from answer.get("items") or []
            following = (answer.get("metadata") or {}).get("continue")
            if not following:
                return
            parameters["continue"] = following

    def apply(self, path: str, body: dict[str, Any], manager: str, force: bool = False, dry_run: bool = False) -> tuple[bool, dict[str, Any]]:
        """Server-side apply; returns whether the object is new, and the object as the server has it now."""
        query = {"fieldManager": manager, "force": "true" if force else "false", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        answer = self.json("PATCH", path, query, body, "application/apply-patch+yaml")
        return self._local.status == 201, answer

    def reachable(self, patience: float = 3.0) -> bool:
        try:
            self.json("GET", "/version", patience=patience)
        except Unreachable:
            return False
        except ApiError:
            return True
        return True


def segment(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def _final(status: int, content: bytes) -> bool:
    """Whether a 500 carries a verdict (an admission webhook's, say) rather than a passing failure."""
    return status == 500 and b'"details"' in content and b"webhook" in content


def _error(status: int, reason: str, content: bytes) -> ApiError:
    try:
        body = json.loads(content)
        message = str(body.get("message") or reason)
    except (ValueError, AttributeError):
        body, message = {}, f"{reason}: {content[:200].decode(errors='replace')}"
    if status == 401:
        message = "the API server does not accept the credentials of the kubeconfig (401 Unauthorized)"
    return ApiError(status, message, body)
