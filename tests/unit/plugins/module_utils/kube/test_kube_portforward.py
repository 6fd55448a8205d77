# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port forwarding: an answer in frames, an error of the kubelet, and a pod that never answers."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.kube.portforward import _Stream, _Tls, _upgrade


def frame(channel: int, data: bytes) -> bytes:
    return bytes([0x82, len(data) + 1, channel]) + data


PORTS = [frame(0, b"\x60\x17"), frame(1, b"\x60\x17")]
HEAD = frame(0, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")


def read(frames: list[bytes], pings: bool = False) -> tuple[int, bytes]:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with contextlib.suppress(OSError):
            theirs.sendall(b"".join(frames))
            while pings:
                theirs.sendall(b"\x89\x00")
                time.sleep(0.05)

    threading.Thread(target=serve, daemon=True).start()
    with ours, theirs:
        stream = _Stream(ours, time.monotonic() + 0.5)
        stream.send(b"GET / HTTP/1.1\r\n\r\n")
        answer = http.client.HTTPResponse(stream, method="GET")  # type: ignore[arg-type]
        answer.begin()
        return answer.status, answer.read()


def test_an_answer_may_come_in_several_frames() -> None:
    assert read([*PORTS, HEAD, frame(0, b"{"), frame(0, b"}")]) == (200, b"{}")


def test_what_the_kubelet_says_is_the_error() -> None:
    with pytest.raises(OSError, match="connection refused"):
        read([*PORTS, frame(1, b"connection refused")])


@pytest.mark.parametrize("pings", [False, True])
def test_a_pod_that_never_answers_is_not_waited_for_longer_than_allowed(pings: bool) -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        read([*PORTS, HEAD], pings)
    assert time.monotonic() - begin < 5


def test_an_api_server_that_waits_for_a_dead_kubelet_is_not_waited_for_longer_than_allowed() -> None:
    ours, theirs = socket.socketpair()

    def dribble() -> None:
        with contextlib.suppress(OSError):
            for dummy in range(100):
                theirs.sendall(b"x")
                time.sleep(0.1)

    threading.Thread(target=dribble, daemon=True).start()
    client = SimpleNamespace(access=SimpleNamespace(path="", headers={}, host="h", port=1))
    begin = time.monotonic()
    with ours, theirs, pytest.raises(TimeoutError):
        _upgrade(client, SimpleNamespace(sock=ours), "ns", "pod", 1, begin + 0.5)  # type: ignore[arg-type]
    assert time.monotonic() - begin < 2


class _Channel:
    """A data channel over a plain socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def readinto(self, target: bytearray) -> int:
        return self.sock.recv_into(target)


def test_a_request_goes_over_tls_to_the_name_that_is_meant(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=x"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names: list[str | None] = []
    context.sni_callback = lambda sock, name, dummy: names.append(name)
    ours, theirs = socket.socketpair()
    body = b"x" * 100000

    def serve() -> None:
        with contextlib.suppress(OSError), context.wrap_socket(theirs, server_side=True) as sock:
            sock.recv(1000)
            sock.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nConnection: close\r\n\r\n" + body)

    threading.Thread(target=serve, daemon=True).start()
    with ours:
        ours.settimeout(10)
        stream = _Tls(_Channel(ours), "nairobi.health.example")  # type: ignore[arg-type]
        stream.send(b"GET / HTTP/1.1\r\n\r\n")
        answer = http.client.HTTPResponse(stream, method="GET")  # type: ignore[arg-type]
        answer.begin()
        assert answer.getheader("Set-Cookie") == "a=b" and answer.read() == body
    assert names == ["nairobi.health.example"]
