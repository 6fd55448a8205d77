# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talk to the Kubernetes API from a node, with the credentials k3s left there and the standard library only.

A process of `k3s kubectl` for each question would cost more than the question.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import ssl
import tempfile
import urllib.parse


class ApiError(Exception):
    """The API did not answer as wished; `status` is 0 when it did not answer at all."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


_ENTRY = re.compile(
    r"^[ \t]*-?[ \t]*(?P<key>server|certificate-authority|client-certificate|client-key|token)(?P<data>-data)?:[ \t]*(?P<value>\S+)[ \t]*$", re.MULTILINE
)


def parse_kubeconfig(text: str) -> dict:
    """Server and credentials of a kubeconfig with one cluster and one user, as k3s writes them (bytes for inline data, paths else)."""
    found = {}
    for match in _ENTRY.finditer(text or ""):
        value = match.group("value").strip("\"'")
        found[match.group("key")] = base64.b64decode(value) if match.group("data") else value
    missing = {"server", "certificate-authority", "client-certificate", "client-key"} - set(found)
    if missing:
        raise ApiError(f"the kubeconfig has no {', '.join(sorted(missing))}")
    return found


class Api:
    """A connection kept open for as long as it is needed."""

    def __init__(self, kubeconfig: str, timeout: float = 5.0, path=lambda name: name) -> None:
        settings = parse_kubeconfig(kubeconfig)
        url = urllib.parse.urlsplit(settings["server"])
        self._host = url.hostname or "127.0.0.1"
        self._port = url.port or 443
        self._timeout = timeout
        self._connection = None
        self._context = _context(settings, path)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(self, method: str, path: str, body=None, content_type: str = "application/json") -> str:
        """One request; ApiError unless the answer is a success."""
        payload = None if body is None else json.dumps(body).encode("utf-8")
        headers = {"Accept": "application/json"}
        if payload is not None:
            headers["Content-Type"] = content_type
        try:
            if self._connection is None:
                self._connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
            self._connection.request(method, path, body=payload, headers=headers)
            answer = self._connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ApiError(f"https://{self._host}:{self._port}{path}: {error or type(error).__name__}") from error
        if answer.status >= 300:
            raise ApiError(f"https://{self._host}:{self._port}{path}: {answer.status} {_message(text)}", answer.status)
        return text

    def get(self, path: str) -> dict:
        return json.loads(self.request("GET", path))

    def ready(self) -> bool:
        """The API server and its datastore are ready."""
        try:
            self.request("GET", "/readyz")
        except ApiError:
            return False
        return True

    def node(self, name: str) -> dict | None:
        """The Node object, or None when the API has no such node."""
        try:
            return self.get("/api/v1/nodes/" + urllib.parse.quote(name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def delete(self, path: str) -> bool:
        """Delete an object; False when there is none."""
        try:
            self.request("DELETE", path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def nodes(self) -> list:
        return self.get("/api/v1/nodes").get("items") or []


def _context(settings: dict, path) -> ssl.SSLContext:
    """A TLS context; inline keys touch the disk only as 0600 files in a directory that is gone on return."""
    directory = tempfile.mkdtemp(prefix="cht-k3s-")
    try:
        files = {}
        for key in ("certificate-authority", "client-certificate", "client-key"):
            value = settings[key]
            if isinstance(value, bytes):
                files[key] = os.path.join(directory, key)
                descriptor = os.open(files[key], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(value)
            else:
                files[key] = path(value)
        context = ssl.create_default_context(cafile=files["certificate-authority"])
        context.load_cert_chain(files["client-certificate"], files["client-key"])
        return context
    except (OSError, ValueError) as error:
        raise ApiError(f"the kubeconfig's certificates cannot be used: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(directory)


def _message(text: str) -> str:
    try:
        return str(json.loads(text).get("message") or text)[:300]
    except (ValueError, AttributeError):
        return text.strip()[:300]


def condition(node: dict, kind: str) -> dict:
    """A condition of a node, {} when it has none of that type."""
    for entry in (node.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind:
            return entry
    return {}


def is_true(node: dict, kind: str) -> bool:
    return condition(node, kind).get("status") == "True"


def labels(node: dict) -> dict:
    return (node.get("metadata") or {}).get("labels") or {}


def is_etcd(node: dict) -> bool:
    return labels(node).get("node-role.kubernetes.io/etcd") == "true"
