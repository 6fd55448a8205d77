# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one port of a server, 6443: the supervisor's paths and the Kubernetes API behind one certificate, as in k3s.

k3s has both in its own process. Here the kube-apiserver is a program that listens on the same port of another loopback address
(both sockets share the port), and this leads each connection by the path of its first request. A client's certificate ends here,
so the connection to the kube-apiserver gets one with the same subject.
"""
from __future__ import annotations

import asyncio
import json
import pathlib
import socket
import ssl
import tempfile
import threading

from . import log, pki

API_ADDRESS = "127.0.0.2"
OWN_PATHS = ("/ping", "/cacerts", "/v1-k3s/", "/db/")
# who asks, for the supervisor; what a client sends under these names is dropped
PEER, USER = "x-front-peer", "x-front-user"
HEAD_LIMIT = 256 * 1024


def taken(port: int) -> bool:
    """By a program that does not share it. Servers of k3s do: the kernel gives each some of the connections."""
    with _socket() as sock:
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return True
    return False


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return sock


def _subject(certificate: dict | None) -> tuple[str, tuple[str, ...]]:
    """(common name, organizations) of a client; ('', ()) without a certificate."""
    pairs = [pair for group in (certificate or {}).get("subject", ()) for pair in group]
    return next((value for key, value in pairs if key == "commonName"), ""), tuple(value for key, value in pairs if key == "organizationName")


class Front:
    def __init__(self, tls: pathlib.Path, address: str | None, port: int, supervisor_port: int):
        self.tls, self.address, self.port, self.supervisor_port = tls, address or "0.0.0.0", port, supervisor_port
        self.contexts: dict[tuple[str, tuple[str, ...]], ssl.SSLContext] = {}
        self.loop = asyncio.new_event_loop()

    def start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(self.tls / "serving-kube-apiserver.crt"), str(self.tls / "serving-kube-apiserver.key"))
        context.load_verify_locations(str(self.tls / "client-ca.crt"))
        context.verify_mode = ssl.CERT_OPTIONAL
        # the path must be readable, so HTTP/2 is not offered
        context.set_alpn_protocols(["http/1.1"])
        listener = _socket()
        try:
            listener.bind((self.address, self.port))
        except OSError:
            log.die(f"Error: failed to start listener: listen tcp :{self.port}: bind: address already in use")
        started = threading.Event()
        threading.Thread(target=self._run, args=(listener, context, started), name="front", daemon=True).start()
        started.wait(10)

    def _run(self, listener: socket.socket, context: ssl.SSLContext, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda _loop, what: log.debug(f"front: {what.get('message')}"))
        serve = asyncio.start_server(self._serve, sock=listener, ssl=context, limit=HEAD_LIMIT, backlog=256, ssl_handshake_timeout=20)
        self.loop.run_until_complete(serve)
        started.set()
        self.loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readuntil(b"\r\n")
            path = (first.split(b" ") + [b""])[1].decode("latin-1")
            if path.startswith(OWN_PATHS):
                await self._to_supervisor(first, reader, writer)
            else:
                await self._to_api(first, reader, writer)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _to_supervisor(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request; the supervisor closes after its answer."""
        rest = await reader.readuntil(b"\r\n\r\n") if first.strip() else b"\r\n"
        lines = [line for line in rest.split(b"\r\n") if not line.lower().startswith((PEER.encode(), USER.encode()))]
        host, port = writer.get_extra_info("peername")[:2]
        name, _groups = _subject(writer.get_extra_info("peercert"))
        there, out = await asyncio.open_connection("127.0.0.1", self.supervisor_port)
        out.write(first + f"{PEER}: {host}:{port}\r\n{USER}: {name}\r\n".encode() + b"\r\n".join(lines))
        sending = asyncio.ensure_future(_pipe(reader, out))
        await _pipe(there, writer)
        sending.cancel()
        out.close()

    async def _to_api(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        who = _subject(writer.get_extra_info("peercert"))
        try:
            context = self.contexts.get(who) or await self.loop.run_in_executor(None, self._context, who)
            there, out = await asyncio.open_connection(API_ADDRESS, self.port, ssl=context, server_hostname="localhost", limit=HEAD_LIMIT)
        except (OSError, ssl.SSLError):
            return await self._not_ready(reader, writer)
        out.write(first)
        await asyncio.gather(_pipe(reader, out), _pipe(there, writer))

    async def _not_ready(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "apiserver not ready",
                  "reason": "ServiceUnavailable", "code": 503}
        body = json.dumps(status).encode()
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
                     + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    def _context(self, who: tuple[str, tuple[str, ...]]) -> ssl.SSLContext:
        """For connections to the kube-apiserver in the name of a client."""
        context = ssl.create_default_context(cafile=str(self.tls / "server-ca.crt"))
        name, groups = who
        if name:
            with tempfile.TemporaryDirectory() as folder:
                key, crt = pathlib.Path(folder, "key"), pathlib.Path(folder, "crt")
                pki.make_key(key)
                plain = [part.replace("\\", "\\\\").replace("/", "\\/").replace("+", "\\+") for part in (*groups, name)]
                subj = "".join(f"/O={group}" for group in plain[:-1]) + f"/CN={plain[-1]}"
                pki.write_private(crt, pki.sign(pki.make_csr(key, subj), self.tls / "client-ca", subj, None, "clientAuth"))
                context.load_cert_chain(str(crt), str(key))
        self.contexts[who] = context
        return context


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    finally:
        writer.close()
