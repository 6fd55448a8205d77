# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real k3s does now and then and no test can wait for, told by a file of JSON.

{"ends": {"after": 2, "says": "...", "noise": 30}}: a server ends so many seconds after each READY, with these last words, having written so many
lines a second from its start on. Words that are a line of the log themselves, as of a component, make no fatal line.
{"ends": {"before": 4, ...}}: the same so many seconds after its start, before READY.
{"late": 240}: the next start of an agent says READY so many seconds late, and only that one: another start is in time.
"""
from __future__ import annotations

import json
import os
import pathlib
import sys
import threading
import time
from typing import Any

from . import log

FILE = pathlib.Path("/etc/lab-k3s/faults.json")


def _read() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def klog(text: str, level: str = "I") -> str:
    """A line as Kubernetes' components write it."""
    return f"{level}{time.strftime('%m%d %H:%M:%S', time.gmtime())}.{time.time_ns() // 1000 % 10**6:06d} {os.getpid():7d} {text}"


def at_start() -> None:
    """A server begins."""
    ends = _read().get("ends")
    if not ends:
        return
    threading.Thread(target=_noise, args=(float(ends.get("noise", 0)),), name="noise", daemon=True).start()
    if "before" in ends:
        threading.Timer(float(ends["before"]), _end, (ends["says"],)).start()


def after_ready() -> None:
    """A server has said READY."""
    ends = _read().get("ends")
    if ends and "after" in ends:
        threading.Timer(float(ends["after"]), _end, (ends["says"],)).start()


def late() -> None:
    """An agent's network policy controller waits for a report of the kubelet that is newer than its own start (pkg/agent/netpol)."""
    faults = _read()
    seconds = faults.pop("late", 0)
    if seconds:
        FILE.write_text(json.dumps(faults), encoding="utf-8")
        time.sleep(float(seconds))


def _noise(rate: float) -> None:
    count = 0
    while rate:
        sys.stderr.write(klog(f"controller.go:{count % 900}] \"Waiting for caches to sync\" round={count}\n"))
        sys.stderr.flush()
        count += 1
        time.sleep(1 / rate)


def _end(says: str) -> None:
    if says[:1] in "EF" and says[1:2].isdigit() or says.startswith("{"):
        sys.stderr.write(says + "\n")
        sys.stderr.flush()
        os._exit(1)
    log.die(says)
