# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of DNS, as the machine that Ansible runs on resolves them."""
from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterable


def addresses_of(name: str) -> list[str]:
    """The addresses of a name; none where it can't be resolved."""
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(answer[4][0]).partition("%")[0] for answer in answers))


def of_others(name: str) -> str:
    """The first address of a name by which other machines reach it; '' where there is none, or only the machine's own."""
    return next((address for address in addresses_of(name) if not ipaddress.ip_address(address).is_loopback), "")


def resolve(names: Iterable[str], seconds: float = 3.0) -> dict[str, list[str]]:
    """All at once, and for no longer: a name server that does not answer would hold up the run for each of them."""
    wanted = list(dict.fromkeys(names))
    found: dict[str, list[str]] = {}
    # Not those of a pool: Python waits for these at its end.
    threads = [threading.Thread(target=lambda name=name: found.__setitem__(name, addresses_of(name)), daemon=True) for name in wanted]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return {name: found.get(name, []) for name in wanted}
