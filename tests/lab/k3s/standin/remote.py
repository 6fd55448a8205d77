# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to another server's supervisor, with the errors worded as Go words them."""
from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import urllib.parse
from typing import Any

from .token import Token, TokenError, check_hash


class RemoteError(Exception):
    """k3s' message about a request that failed; code 0 when there was no answer."""

    def __init__(self, message: str, code: int = 0):
        super().__init__(message)
        self.code = code


class Remote:
    """One server as a joiner sees it. `url` is the configured https://HOST:6443."""

    def __init__(self, url: str):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https":
            raise TokenError(f"only https:// URLs are supported, invalid scheme: {url}")
        self.url = url.rstrip("/")
        self.host = parts.hostname or ""
        self.port = parts.port or 443
        self.token: Token | None = None
        self.ca: bytes = b""

    def _explain(self, verb: str, path: str, err: Exception) -> str:
        where = f'{verb} "{self.url}{path}": '
        address = self.host
        try:
            address = socket.gethostbyname(self.host)
        except OSError:
            return where + f"dial tcp: lookup {self.host}: no such host"
        target = f"dial tcp {address}:{self.port}: "
        if isinstance(err, ConnectionRefusedError):
            return where + target + "connect: connection refused"
        if isinstance(err, (TimeoutError, socket.timeout)):
            return where + target + "i/o timeout"
        if isinstance(err, ssl.SSLCertVerificationError):
            return where + f"tls: failed to verify certificate: x509: {err.verify_message}"
        if isinstance(err, (ConnectionResetError, http.client.RemoteDisconnected, ssl.SSLEOFError, BrokenPipeError)):
            return where + "EOF"
        if isinstance(err, OSError) and err.strerror:
            return where + target + f"connect: {err.strerror.lower()}"
        return where + str(err)

    def request(self, verb: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, timeout: float = 15) -> bytes:
        if self.ca:
            context = ssl.create_default_context(cadata=self.ca.decode())
        else:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        sent = dict(headers or {})
        if self.token and self.ca:
            pair = f"{self.token.user}:{self.token.password}"
            sent["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        conn = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)
        try:
            conn.request(verb, path, body, sent)
            answer = conn.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as err:
            raise RemoteError(self._explain(verb.capitalize(), path, err)) from err
        finally:
            conn.close()
        if answer.status >= 300:
            try:
                message = json.loads(data).get("message", "")
            except ValueError:
                message = ""
            raise RemoteError(message or f"{self.url}{path}: {answer.status} {answer.reason}", answer.status)
        return data

    def validate(self, token: Token) -> None:
        """Fetch the cluster's CA, without trust yet, and hold it against the token's hash."""
        try:
            ca = self.request("GET", "/cacerts", timeout=6)
        except RemoteError as err:
            raise RemoteError(f"failed to get CA certs: {err}") from None
        check_hash(token, ca)
        self.token, self.ca = token, ca

    def json(self, path: str, headers: dict[str, str] | None = None) -> Any:
        return json.loads(self.request("GET", path, headers=headers))
