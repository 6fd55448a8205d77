# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's TCP balancer on 127.0.0.1:6444 before the API servers."""
from __future__ import annotations

import asyncio
import json
import pathlib
import threading

from . import log
from .log import die

FILE = "etc/k3s-agent-load-balancer.json"
CHECK_SECONDS = 10


def saved(agent_dir: pathlib.Path) -> list[str]:
    try:
        return json.loads((agent_dir / FILE).read_text(encoding="utf-8")).get("ServerAddresses", [])
    except (OSError, ValueError):
        return []


def addresses(endpoints: list[dict]) -> list[str]:
    return [f"{address['ip']}:{port['port']}" for item in endpoints for subset in item.get("subsets") or []
            for address in subset.get("addresses") or [] for port in subset.get("ports") or []]


class LoadBalancer:
    """Connections go to the current server; the next one is taken when it does not answer."""

    def __init__(self, agent_dir: pathlib.Path, port: int, servers: list[str]):
        self.file = agent_dir / FILE
        self.port = port
        self.default = servers[0]
        self.servers = list(servers)
        self.failed: set[str] = set()
        self.open: dict[str, set[asyncio.StreamWriter]] = {}
        self.loop = asyncio.new_event_loop()

    def start(self) -> None:
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), name="balancer", daemon=True).start()
        started.wait(10)
        log.info(f"Running load balancer k3s-agent-load-balancer 127.0.0.1:{self.port} -> {self.servers} [default: {self.default}]")
        self._save()

    def update(self, servers: list[str]) -> None:
        if not servers or sorted(servers) == sorted(self.servers):
            return
        log.info(f"Updated load balancer k3s-agent-load-balancer server addresses -> {servers} [default: {self.default}]")
        # the one in use stays first, so that connections do not wander
        first = [item for item in self.servers if item in servers]
        self.servers = first + [item for item in servers if item not in first]
        self._save()

    def _save(self) -> None:
        self.file.write_text(json.dumps({"ServerURL": f"https://{self.default}", "ServerAddresses": self.servers}, indent=1), encoding="utf-8")

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        except OSError:
            die(f"Error starting load balancer: listen tcp 127.0.0.1:{self.port}: bind: address already in use")
        self.loop.create_task(self._check())
        started.set()
        self.loop.run_forever()

    async def _dial(self, server: str, timeout: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _sep, port = server.rpartition(":")
        return await asyncio.wait_for(asyncio.open_connection(host, int(port), limit=256 * 1024), timeout)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        order = [item for item in self.servers if item not in self.failed] + [item for item in self.servers if item in self.failed]
        if self.default not in order:
            order.append(self.default)
        for server in order:
            try:
                there, out = await self._dial(server, 5)
            except (OSError, asyncio.TimeoutError):
                self.failed.add(server)
                continue
            self.failed.discard(server)
            self.open.setdefault(server, set()).add(out)
            await asyncio.gather(self._pipe(reader, out), self._pipe(there, writer))
            self.open[server].discard(out)
            return
        writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _check(self) -> None:
        """Close connections to a server that no longer answers, else watches hang on it."""
        misses: dict[str, int] = {}
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            for server in list(self.servers):
                try:
                    _reader, writer = await self._dial(server, 3)
                    writer.close()
                    misses[server] = 0
                    if server in self.failed:
                        self.failed.discard(server)
                except (OSError, asyncio.TimeoutError):
                    misses[server] = misses.get(server, 0) + 1
                    self.failed.add(server)
                    if misses[server] >= 2:
                        for writer in list(self.open.get(server, ())):
                            writer.transport.abort()
