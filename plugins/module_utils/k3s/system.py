# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The node as the modules see it: files below a root, commands, systemd.

Every path goes through `System.path`, so that tests can put a whole node below a temporary directory.
"""

from __future__ import annotations

import calendar
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass


class NodeError(Exception):
    """Something on this node is not as needed; the message says what, where and what to do. `cause` is the id of a known one."""

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


@dataclass
class Result:
    """What a command gave."""

    rc: int
    out: str
    err: str


@dataclass
class Mount:
    """A file system and where it is."""

    source: str
    path: str
    kind: str


# File systems that programs make for themselves while they run.
PASSING = frozenset("tmpfs ramfs overlay fuse.fuse-overlayfs proc sysfs nsfs cgroup cgroup2 mqueue devpts devtmpfs bpf debugfs tracefs hugetlbfs".split())

# How the name of a file begins until it is whole.
TEMPORARY = ".cht-k3s-"

# What systemctl says while the manager is busy with a start of the machine or reads its units anew; it asks again so often, two seconds apart.
MANAGER_BUSY = ("Transport endpoint is not connected", "Connection reset by peer", "Failed to connect to bus", "Failed to get D-Bus connection")
MANAGER_TRIES = 10

# Seconds that a service has to go on before it counts as up; the second is the most for one that systemd has restarted again and again.
LASTING, LASTING_AFTER_FAILURES = 5.0, 30.0


@dataclass
class UnitState:
    """The parts of `systemctl show` that decide anything here."""

    loaded: bool = False
    active: str = "inactive"
    sub: str = "dead"
    enabled: str = ""
    need_reload: bool = False
    pid: int = 0
    started_at: float = 0.0
    restarts: int = 0
    result: str = ""
    # The start that runs, or ran last: systemd gives each one an ID, also when it restarts the unit by itself.
    invocation: str = ""
    active_for: float = 0.0
    running_for: float = 0.0

    @property
    def running(self) -> bool:
        """Systemd is keeping the service up (it may still be on its way)."""
        return self.active in ("active", "activating", "reloading", "deactivating")

    @property
    def patience(self) -> float:
        """How long the service has to go on before it counts as up. One that systemd had to restart was ready before as well, for a moment."""
        return min(LASTING * (1 + self.restarts), LASTING_AFTER_FAILURES)

    @property
    def lasting(self) -> bool:
        """It is up, and not only for a moment: a service that ends and starts again every few seconds is ready in between."""
        return self.active == "active" and self.active_for >= self.patience


@dataclass
class Entry:
    """One message in the journal of a unit: of which start it is, when it was written, and where it stands."""

    start: str
    time: float
    text: str
    cursor: str = ""


class System:
    """Files and commands of one node."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    # -- files ---------------------------------------------------------------------------------

    def path(self, path: str) -> str:
        return path if self.root == "/" else os.path.join(self.root, path.lstrip("/"))

    def exists(self, path: str) -> bool:
        return os.path.exists(self.path(path))

    def islink(self, path: str) -> bool:
        return os.path.islink(self.path(path))

    def listdir(self, path: str) -> list:
        try:
            return sorted(os.listdir(self.path(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str):
        """The text of a file, or None when there is none."""
        try:
            with open(self.path(path), encoding="utf-8", errors="surrogateescape") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def mode(self, path: str):
        try:
            return os.stat(self.path(path)).st_mode & 0o7777
        except (FileNotFoundError, NotADirectoryError):
            return None

    def mtime(self, path: str) -> float:
        try:
            return os.stat(self.path(path)).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return 0.0

    def write(self, path: str, text: str, mode: int, keep_time: bool = False, as_old_as: str = "") -> None:
        """Replace a file in one step; a reader sees the old or the new one, and nobody else a secret.

        With `keep_time` it is as old as the one before, so that what reads it does not count as older than it; a new one as `as_old_as`.
        """
        target = self.path(path)
        model = target if os.path.exists(target) or not as_old_as else self.path(as_old_as)
        times = os.stat(model) if keep_time and os.path.exists(model) else None
        os.makedirs(os.path.dirname(target), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=TEMPORARY)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, mode)
            if times:
                os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
            os.rename(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def writable(self, path: str) -> bool:
        """The file could be written: opening it for that tells more than its mode, as a file system may be read-only."""
        try:
            os.close(os.open(self.path(path), os.O_WRONLY))
        except OSError:
            return False
        return True

    def poke(self, path: str, text: str) -> None:
        """Write into a file of the kernel, which cannot be replaced."""
        with open(self.path(path), "w", encoding="ascii") as stream:
            stream.write(text)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.path(path), mode)

    def make_folder(self, path: str, mode: int) -> None:
        """A folder, unless it is there."""
        if not os.path.isdir(self.path(path)):
            os.makedirs(self.path(path), mode)

    def size(self, path: str) -> int:
        return os.path.getsize(self.path(path)) if self.exists(path) else 0

    def free(self, path: str) -> int:
        """Bytes that are free where a folder is."""
        return shutil.disk_usage(self.path(path)).free

    def copy_file(self, path: str, target: str, mode: int) -> None:
        """A file byte by byte, on the disk when this returns."""
        handle = os.open(self.path(target), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as written, open(self.path(path), "rb") as read:
            shutil.copyfileobj(read, written)
            written.flush()
            os.fsync(written.fileno())

    def rename(self, path: str, target: str) -> None:
        os.rename(self.path(path), self.path(target))

    def copy(self, path: str, target: str) -> None:
        """A file or a tree, if it is there, with its modes and times; links stay links."""
        source = self.path(path)
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, self.path(target), symlinks=True)
        elif os.path.lexists(source):
            shutil.copy2(source, self.path(target), follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Remove a file, link or tree, if it is there. A file system that is mounted in it is emptied and stays, with the way to it."""
        target = self.path(path)
        if os.path.islink(target) or os.path.isfile(target):
            os.unlink(target)
        elif os.path.isdir(target):
            stay = [mount.path for mount in self.mounts() if mount.path == path or mount.path.startswith(path + "/")]
            if not stay:
                shutil.rmtree(target)
                return
            for name in self.listdir(path):
                self.remove(os.path.join(path, name))
            if not any(mount == path or mount.startswith(path + "/") for mount in stay):
                os.rmdir(target)

    def bare(self, path: str) -> bool:
        """Nothing but file systems that are mounted there, and the way to them: what `remove` leaves of a tree."""
        mounts = [mount.path for mount in self.mounts()]
        if path in mounts or any(mount.startswith(path + "/") for mount in mounts):
            return all(os.path.isdir(self.path(entry)) and self.bare(entry) for entry in (os.path.join(path, name) for name in self.listdir(path)))
        return False

    def caller(self) -> str:
        """The address from which Ansible is connected to this machine by SSH; '' where it is not. Root's environment has lost it, its parents' have not."""
        process = os.getpid()
        for _step in range(20):
            for entry in (self.read(f"/proc/{process}/environ") or "").split("\0"):
                name, dummy, value = entry.partition("=")
                if name in ("SSH_CONNECTION", "SSH_CLIENT") and value.split():
                    return value.split()[0].partition("%")[0].removeprefix("::ffff:")
            parent = re.search(r"^PPid:[ \t]*(\d+)", self.read(f"/proc/{process}/status") or "", re.MULTILINE)
            process = int(parent.group(1)) if parent else 0
            if process <= 1:
                return ""
        return ""

    def mounts(self) -> list:
        """What is mounted, in the kernel's order."""
        lines = [line.split() for line in (self.read("/proc/self/mounts") or "").splitlines()]
        return [Mount(_unescaped(words[0]), _unescaped(words[1]), words[2]) for words in lines if len(words) > 2]

    def lasting_mounts(self, below: str) -> list:
        """Paths at or below a folder whose file systems came with the machine: on a disk, or listed to be mounted at every start."""
        listed = {_unescaped(line.split()[1]) for line in (self.read("/etc/fstab") or "").splitlines()
                  if len(line.split()) > 1 and not line.lstrip().startswith("#")}
        return [
            mount.path for mount in self.mounts()
            if (mount.path == below or mount.path.startswith(below + "/")) and (mount.path in listed or mount.kind not in PASSING)
        ]

    def sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        try:
            with open(self.path(path), "rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return digest.hexdigest()

    # -- commands ------------------------------------------------------------------------------

    def run(self, argv: list, timeout: float = 60, env: dict | None = None) -> Result:
        """Run a command; a missing program or one that hangs is a result as well."""
        environment = dict(os.environ, LC_ALL="C", TZ="UTC", **(env or {}))
        try:
            done = subprocess.run(
                argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                timeout=timeout, env=environment, check=False,
            )
        except FileNotFoundError:
            return Result(127, "", f"{argv[0]}: not found")
        except PermissionError:
            return Result(126, "", f"{argv[0]}: cannot be executed")
        except OSError as error:
            return Result(126, "", f"{argv[0]}: {error}")
        except subprocess.TimeoutExpired:
            return Result(124, "", f"{' '.join(argv)}: no answer within {timeout:g} s")
        return Result(
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )

    def restore_rules(self, family: str, rules: str) -> None:
        """Load a whole set of packet filter rules."""
        subprocess.run([f"{family}-restore"], input=rules.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)

    def hostname(self) -> str:
        return socket.gethostname()

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    # -- systemd -------------------------------------------------------------------------------

    def systemctl(self, *argv: str, timeout: float = 120) -> Result:
        return self.run(["systemctl", *argv], timeout=timeout)

    def unit(self, name: str) -> UnitState:
        """The state of a unit, in one call."""
        wanted = (
            "LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,MainPID,ExecMainStartTimestamp,NRestarts,Result,InvocationID,"
            "ActiveEnterTimestampMonotonic,ExecMainStartTimestampMonotonic"
        )
        shown = self.systemctl("show", name, "--property", wanted)
        for _try in range(MANAGER_TRIES):
            if shown.rc == 0 or not any(text in shown.err for text in MANAGER_BUSY):
                break
            self.sleep(2)
            shown = self.systemctl("show", name, "--property", wanted)
        if shown.rc != 0:
            raise NodeError(f"systemctl show {name} failed: {shown.err.strip() or shown.out.strip()}. This host must run systemd.")
        return parse_unit(shown.out, time.monotonic())

    def journal(self, unit: str, since: float, cursor: str = "") -> list:
        """All messages of a unit since a moment, or after one of them, oldest first. A unit that fails may write 30 lines a second."""
        place = ["--after-cursor", cursor] if cursor else ["--since", f"@{int(since)}"]
        read = self.run(["journalctl", "--unit", unit, *place, "--output", "json", "--all", "--no-pager"], timeout=60)
        return parse_journal(read.out)


def _unescaped(text: str) -> str:
    """A path as the kernel and fstab write it: white space in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def parse_unit(text: str, now: float = 0.0) -> UnitState:
    """Read `systemctl show` output; `now` is the monotonic clock, which systemd's own monotonic times are of."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def elapsed(name: str) -> float:
        since = int(values.get(name) or 0) / 1e6
        return max(0.0, now - since) if since else 0.0

    return UnitState(
        loaded=values.get("LoadState") == "loaded",
        active=values.get("ActiveState", "inactive"),
        sub=values.get("SubState", "dead"),
        enabled=values.get("UnitFileState", ""),
        need_reload=values.get("NeedDaemonReload") == "yes",
        pid=int(values.get("MainPID") or 0),
        started_at=parse_timestamp(values.get("ExecMainStartTimestamp", "")),
        restarts=int(values.get("NRestarts") or 0),
        result=values.get("Result", ""),
        invocation=values.get("InvocationID", ""),
        active_for=elapsed("ActiveEnterTimestampMonotonic"),
        running_for=elapsed("ExecMainStartTimestampMonotonic"),
    )


def parse_journal(text: str) -> list:
    """Read `journalctl --output json`. What systemd itself says of a unit carries the ID of its start under another name."""
    entries = []
    for line in text.splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        message = fields.get("MESSAGE")
        if isinstance(message, list):
            # Bytes, where it is no plain text, as with colours in it.
            message = bytes(message).decode("utf-8", "replace")
        if isinstance(message, str) and message.strip():
            start = fields.get("_SYSTEMD_INVOCATION_ID") or fields.get("INVOCATION_ID") or ""
            entries.append(Entry(str(start), int(fields.get("__REALTIME_TIMESTAMP") or 0) / 1e6, message, str(fields.get("__CURSOR") or "")))
    return entries


def parse_timestamp(text: str) -> float:
    """Seconds since the epoch of systemd's "Sun 2026-11-22 21:10:44 UTC"; 0 when it never happened."""
    words = text.split()
    if len(words) < 3:
        return 0.0
    try:
        return float(calendar.timegm(time.strptime(f"{words[1]} {words[2]}", "%Y-%m-%d %H:%M:%S")))
    except ValueError:
        return 0.0
