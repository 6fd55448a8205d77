# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask many HTTP endpoints at once whether they answer, and wait until they do."""
from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Endpoint:
    """One URL; host_header chooses the site where many share an address."""

    url: str
    host_header: str | None = None


@dataclass
class Answer:
    """What an endpoint said: an HTTP status, or why there was none."""

    endpoint: Endpoint
    status: int | None = None
    error: str = ""
    tries: int = 0
    ok: bool = False

    def as_dict(self) -> dict[str, object]:
        return {"url": self.endpoint.url, "host": self.endpoint.host_header or "", "status": self.status,
                "error": self.error, "tries": self.tries, "ok": self.ok}


@dataclass
class Prober:
    """Asks endpoints until each has answered with a status below `failing_from`.

    timeout: seconds for all of them together; delay: seconds between two rounds; request_timeout: seconds of one request.
    ca_path: file of certificate authorities; None means the system's; verify False accepts any certificate.
    """

    timeout: float = 60.0
    delay: float = 1.0
    request_timeout: float = 5.0
    failing_from: int = 500
    ca_path: str | None = None
    verify: bool = True
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def wait(self, endpoints: Sequence[Endpoint]) -> list[Answer]:
        """Return an answer for each endpoint, in the order given."""
        answers = [Answer(endpoint) for endpoint in endpoints]
        deadline = self.clock() + self.timeout
        with ThreadPoolExecutor(max_workers=16) as pool:
            while True:
                open_ones = [answer for answer in answers if not answer.ok]
                list(pool.map(self._ask, open_ones))
                if all(answer.ok for answer in answers) or self.clock() >= deadline:
                    return answers
                self.sleep(self.delay)

    def _ask(self, answer: Answer) -> None:
        answer.tries += 1
        try:
            answer.status = self._request(answer.endpoint)
            answer.ok = answer.status < self.failing_from
            answer.error = "" if answer.ok else f"HTTP status {answer.status}"
        except (OSError, http.client.HTTPException, ssl.SSLError) as exc:
            answer.status, answer.error = None, str(exc) or type(exc).__name__

    def _request(self, endpoint: Endpoint) -> int:
        parts = urlsplit(endpoint.url)
        host = parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=self.request_timeout,
                                                     context=self._context())
        else:
            connection = http.client.HTTPConnection(host, parts.port or 80, timeout=self.request_timeout)
        try:
            headers = {"Host": endpoint.host_header} if endpoint.host_header else {}
            connection.request("GET", parts.path or "/", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_path or None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
