# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines in the form that k3s (logrus, text form) writes to stderr."""
from __future__ import annotations

import json
import os
import re
import sys
import threading
import time

_PLAIN = re.compile(r"^[A-Za-z0-9\-._/@^+]+$")
_lock = threading.Lock()
_debug = False


class Fatal(Exception):
    """Ends the program with exit code 1 after a line of level fatal."""


class Shutdown(Fatal):
    """A part of k3s asks for the end: a line of level error, and exit code 0."""


def set_debug(on: bool) -> None:
    global _debug
    _debug = on


def quote(text: str) -> str:
    if _PLAIN.match(text):
        return text
    out = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{out}"'


def line(level: str, msg: str, when: float | None = None) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
    return f'time="{stamp}" level={level} msg={quote(msg)}'


def _write(level: str, msg: str) -> None:
    with _lock:
        try:
            sys.stderr.write(line(level, msg) + "\n")
            sys.stderr.flush()
        except OSError:
            pass


def debug(msg: str) -> None:
    if _debug:
        _write("debug", msg)


def info(msg: str) -> None:
    _write("info", msg)


def warning(msg: str) -> None:
    _write("warning", msg)


def error(msg: str) -> None:
    _write("error", msg)


def fatal_line(msg: str) -> None:
    _write("fatal", msg)


def shutdown_line(msg: str) -> None:
    _write("error", f"Shutdown request received: {msg}")


def etcd_line(level: str, msg: str, **fields: str) -> None:
    """As etcd writes its own lines, which k3s passes on."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    with _lock:
        sys.stderr.write(json.dumps({"level": level, "ts": stamp, "caller": "embed/etcd.go", "msg": msg, **fields}, separators=(",", ":")) + "\n")
        sys.stderr.flush()


def die(msg: str) -> None:
    """From any thread: last line, then out. The kernel takes the children along (PDEATHSIG)."""
    _write("fatal", msg)
    os._exit(1)
