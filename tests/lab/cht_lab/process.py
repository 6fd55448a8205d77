"""Background processes of the lab, known by id and start time, so that a reused id is never mistaken for ours."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import paths
from .shell import LabError


def start_time(pid: int) -> int | None:
    """When the process started, in ticks since boot; None if there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    rest = text.rsplit(")", 1)[1].split()
    return None if rest[0] == "Z" else int(rest[19])


def pid_file(name: str) -> Path:
    """Where the process of that name is noted."""
    return paths.RUN / f"{name}.json"


def running(name: str) -> int | None:
    """The id of the running process of that name."""
    try:
        note = json.loads(pid_file(name).read_text(encoding="utf-8"))
        pid = int(note["pid"])
    except (OSError, ValueError, KeyError):
        return None
    # A process that was dead before it could be noted has no start time; neither has a zombie.
    return pid if note["start"] is not None and start_time(pid) == note["start"] else None


def start(
    name: str,
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
    cwd: Path | None = None,
) -> int:
    """Start a process that outlives this one and note it; its output goes to a log file."""
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    log = paths.LOGS / f"{name}.log"
    with open(log, "ab") as output:
        process = subprocess.Popen(  # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict(env) if env is not None else None,
            preexec_fn=before,
            cwd=cwd or "/",
        )
    note = {"pid": process.pid, "start": start_time(process.pid), "argv": [str(part) for part in argv]}
    part = pid_file(name).with_suffix(".part")
    part.write_text(json.dumps(note), encoding="utf-8")
    part.rename(pid_file(name))
    return process.pid


def gone(pid: int, started: int | None, seconds: float) -> bool:
    """Wait for the end of a process."""
    deadline = time.monotonic() + seconds
    while started is not None and start_time(pid) == started:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def stop(name: str, *, grace: float = 10.0, sign: int = signal.SIGTERM) -> bool:
    """End the process of that name, if it is still ours. True if there was one."""
    pid = running(name)
    if pid is not None:
        started = start_time(pid)
        os.kill(pid, sign)
        if not gone(pid, started, grace):
            os.kill(pid, signal.SIGKILL)
            gone(pid, started, 5)
    pid_file(name).unlink(missing_ok=True)
    return pid is not None


def listening(name: str, address: tuple[str, int], seconds: float) -> None:
    """Wait until the process of that name takes connections."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(address, timeout=1).close()
            return
        except OSError as error:
            if running(name) is None:
                raise LabError(f"{name} ended at its start: see {paths.LOGS / name}.log") from error
            if time.monotonic() > deadline:
                raise LabError(f"{name} does not listen on {address[0]}:{address[1]}: see {paths.LOGS / name}.log") from error
            time.sleep(0.05)
