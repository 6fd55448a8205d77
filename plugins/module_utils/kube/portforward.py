# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to a port of a pod through the API server, as `kubectl port-forward` makes them.

The kubelet opens the connection inside the pod, so network policies don't stand in the way, the image needs no program for it,
and no credentials are in anybody's arguments.
"""

from __future__ import annotations

import base64
import http.client
import io
import os
import socket
import ssl
import struct
import time
from typing import Any
from urllib.parse import urlencode

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import PODS

# Known to every kubelet: binary frames, of which the first byte is the channel (0 data, 1 errors).
_PROTOCOL = "v4.channel.k8s.io"
_BINARY, _CLOSE, _PING, _PONG = 0x2, 0x8, 0x9, 0xA
_DATA, _ERROR = 0, 1


class ForwardError(Exception):
    """No answer came through; the message says why."""


def request(
    client: Client, namespace: str, pod: str, port: int, path: str, headers: dict[str, str] | None = None, timeout: float = 10.0,
    method: str = "GET", body: bytes = b"",
) -> tuple[int, bytes]:
    """Send a request to a pod's port; return status and body of the answer. All of it together has C(timeout) seconds."""
    status, dummy, answer = exchange(client, namespace, pod, port, path, headers, timeout, method, body)
    return status, answer


def exchange(
    client: Client, namespace: str, pod: str, port: int, path: str, headers: dict[str, str] | None = None, timeout: float = 10.0,
    method: str = "GET", body: bytes = b"", tls_name: str = "",
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Send a request to a pod's port; return status, headers and body of the answer. All of it together has C(timeout) seconds.

    With C(tls_name) it goes over TLS to that name; whose certificate answers is not judged.
    """
    deadline = time.monotonic() + timeout
    connection = client.dedicated()
    connection.timeout = timeout
    try:
        connection.connect()
        stream: _Stream | _Tls = _Stream(_upgrade(client, connection, namespace, pod, port, deadline), deadline)
        if tls_name:
            stream = _Tls(stream, tls_name)
        lines = {"Host": "localhost", "Connection": "close", "Accept": "application/json", **(headers or {})}
        if body:
            lines.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        stream.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        answer = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        answer.begin()
        return answer.status, answer.getheaders(), answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ForwardError(f"port {port} of pod {pod}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()


def read(client: Client, namespace: str, pod: str, port: int, timeout: float = 10.0) -> bytes:
    """Return what a pod's port says by itself until it ends the connection. All of it together has C(timeout) seconds."""
    deadline = time.monotonic() + timeout
    connection = client.dedicated()
    connection.timeout = timeout
    try:
        connection.connect()
        stream, said, part = _Stream(_upgrade(client, connection, namespace, pod, port, deadline), deadline), b"", bytearray(4096)
        try:
            while count := stream.readinto(part):
                said += part[:count]
        except _Ended:
            # Not every kubelet and proxy closes a WebSocket as it should; what was said counts.
            pass
        return said
    except (OSError, http.client.HTTPException) as error:
        raise ForwardError(f"port {port} of pod {pod}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()


def _in_time(sock: socket.socket, deadline: float) -> socket.socket:
    """Give a socket what is left of the time: for the whole answer, not for each piece of it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    sock.settimeout(left)
    return sock


def _upgrade(client: Client, connection: http.client.HTTPConnection, namespace: str, pod: str, port: int, deadline: float) -> socket.socket:
    """Turn the connection into a WebSocket."""
    target = f"{client.access.path}{PODS.path(pod, namespace)}/portforward?{urlencode({'ports': port})}"
    headers = {
        **client.access.headers,
        "Host": f"{client.access.host}:{client.access.port}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": _PROTOCOL,
    }
    sock = connection.sock
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    sock.sendall(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
    head = b""
    # Byte by byte: what follows the empty line belongs to the WebSocket.
    while not head.endswith(b"\r\n\r\n"):
        byte = _in_time(sock, deadline).recv(1)
        if not byte or len(head) > 65536:
            raise ForwardError(f"port {port} of pod {pod}: the API server ended the connection")
        head += byte
    status = head.split(b"\r\n", 1)[0].decode(errors="replace")
    if " 101 " not in f"{status} ":
        raise ForwardError(f"port {port} of pod {pod}: the API server answered {status.partition(' ')[2]}")
    return sock


class _Ended(OSError):
    """The other side ended the connection without a word."""


class _Stream(io.RawIOBase):
    """The data channel as a file that http.client reads from."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline
        self._buffer = b""
        self._announced = {_DATA: False, _ERROR: False}

    def makefile(self, *dummy: Any, **dummy_options: Any) -> io.BufferedReader:
        """Return the reading end, as a socket does."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._buffer:
            frame = self._frame()
            if frame is None:
                return 0
            self._take(frame)
        count = min(len(target), len(self._buffer))
        target[:count], self._buffer = self._buffer[:count], self._buffer[count:]
        return count

    def send(self, data: bytes) -> None:
        """Send data to the pod."""
        self._write(_BINARY, bytes([_DATA]) + data)

    def _take(self, frame: bytes) -> None:
        if not frame or frame[0] not in self._announced:
            return
        channel, data = frame[0], frame[1:]
        if not self._announced[channel]:
            # Each channel begins with the number of the port.
            self._announced[channel] = True
            data = data[2:]
        if channel == _ERROR and data:
            raise OSError(data.decode(errors="replace").strip())
        self._buffer += data

    def _write(self, opcode: int, payload: bytes) -> None:
        mask, size = os.urandom(4), len(payload)
        head = struct.pack(">BB", 0x80 | opcode, 0x80 | size) if size < 126 else struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
        self._sock.sendall(head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)))

    def _frame(self) -> bytes | None:
        """The next binary frame, or None at the end."""
        while True:
            first, second = self._exactly(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack(">H", self._exactly(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._exactly(8))[0]
            payload = self._exactly(size)
            opcode = first & 0x0F
            if opcode == _CLOSE:
                return None
            if opcode == _PING:
                self._write(_PONG, payload)
            elif opcode != _PONG:
                return payload

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            # Pings would keep a silent pod alive for ever.
            part = _in_time(self._sock, self._deadline).recv(size - len(data))
            if not part:
                raise _Ended("the connection ended")
            data += part
        return data


class _Tls(io.RawIOBase):
    """TLS over the data channel."""

    def __init__(self, stream: _Stream, name: str) -> None:
        super().__init__()
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._step(self._tls.do_handshake)

    def makefile(self, *dummy: Any, **dummy_options: Any) -> io.BufferedReader:
        """Return the reading end, as a socket does."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        try:
            data = self._step(self._tls.read, len(target))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        target[: len(data)] = data
        return len(data)

    def send(self, data: bytes) -> None:
        """Send data to the pod."""
        self._step(self._tls.write, data)

    def _step(self, step: Any, *arguments: Any) -> Any:
        while True:
            try:
                result = step(*arguments)
                break
            except ssl.SSLWantReadError:
                self._flush()
                part = bytearray(16384)
                count = self._stream.readinto(part)
                if count:
                    self._incoming.write(bytes(part[:count]))
                else:
                    self._incoming.write_eof()
        self._flush()
        return result

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._stream.send(data)
