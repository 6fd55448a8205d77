# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time: backup, restore, move and removal of a county keep each other out by a note on its namespace.

The note is renewed while the run lives. One that was not renewed for a while is of a run that died, and so is one of a process of this host that
is gone; it is then taken over, so that a run that was killed can be repeated at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import threading
import time
import typing as t
import uuid
from collections.abc import Iterator

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import NAMESPACES

Object = dict[str, t.Any]

# {"id", "what", "set", "place", "pid", "born", "since", "seen"}; times in seconds since 1970.
OPERATION = "cht.k3s/operation"
# More than clocks of two controllers differ.
STALE_AFTER = 600.0
RENEW_EVERY = 60.0

_MERGE = "application/merge-patch+json"
_TRIES = 20


class OperationError(Exception):
    """Something else works on the county; the message says what, since when, and what to do."""


class Operation:
    """A county that is taken; release() it in a C(finally)."""

    def __init__(self, client: Client, namespace: str, note: Object) -> None:
        self.client = client
        self.namespace = namespace
        self.note = note
        self._end = threading.Event()
        self._lost = ""

    def hold(self) -> None:
        """Raise when the county is no longer ours; to be asked before what can't be undone."""
        if not self._lost:
            # What can't be read now is asked again before the next step.
            with contextlib.suppress(ApiError):
                live = self.client.find(NAMESPACES.path(self.namespace))
                found = note_of(live) if live is not None else self.note
                if found.get("id") != self.note["id"]:
                    self._lost = _taken_by(found)
        if self._lost:
            raise OperationError(self._lost)

    def other(self) -> str:
        """Return which other run has the county now; empty when none has, also when our note was taken off by hand."""
        with contextlib.suppress(ApiError):
            found = note_of(self.client.find(NAMESPACES.path(self.namespace)) or {"metadata": {}})
            if found.get("id") != self.note["id"]:
                return describe(found)
        return ""

    def release(self) -> None:
        """Let others have the county. Never fails: a note that can't be removed now is void by itself later."""
        self._end.set()
        with contextlib.suppress(ApiError):
            _write(self.client, self.namespace, self._gone)

    def begin(self) -> None:
        """Renew the note from time to time, in the background."""
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self) -> None:
        while not self._end.wait(RENEW_EVERY):
            # What fails now is tried again in a minute.
            with contextlib.suppress(ApiError):
                try:
                    _write(self.client, self.namespace, self._seen)
                except OperationError as error:
                    self._lost = str(error)
                    return

    def _seen(self, found: Object) -> Object | None:
        if self._end.is_set():
            return found or None
        if found.get("id") != self.note["id"]:
            raise OperationError(_taken_by(found))
        return {**self.note, "seen": time.time()}

    def _gone(self, found: Object) -> Object | None:
        return None if found.get("id") == self.note["id"] else found or None


def take(client: Client, namespace: str, what: str, set_name: str = "") -> Operation:
    """Take a county for a C(backup), C(restore), C(move) or C(removal); OperationError when another run has it.

    C(set_name) is the backup set that is in use meanwhile.
    """
    now = time.time()
    note = {"id": uuid.uuid4().hex, "what": what, "set": set_name, "place": _place(), "pid": os.getpid(), "born": _born(os.getpid()), "since": now, "seen": now}

    def ours(found: Object) -> Object:
        if found.get("id") != note["id"]:
            _refuse(namespace, found, now)
        return note

    _write(client, namespace, ours)
    operation = Operation(client, namespace, note)
    operation.begin()
    return operation


@contextlib.contextmanager
def taken(client: Client, namespace: str, what: str, set_name: str = "") -> Iterator[Operation]:
    """Take a county for the length of a block."""
    operation = take(client, namespace, what, set_name)
    try:
        yield operation
    finally:
        operation.release()


def end_by_sigterm() -> None:
    """Let a process that is asked to end do so as by Ctrl-C: with what is to be put right on the way out."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*dummy: t.Any) -> None:
    # Who asks twice must not keep the county from being started again.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def look(namespace: Object) -> None:
    """Refuse a county that another run has, without taking it: for check mode."""
    _refuse(namespace["metadata"]["name"], note_of(namespace), time.time())


def note_of(namespace: Object) -> Object:
    """Return what runs according to a namespace; empty when nothing does."""
    text = (namespace["metadata"].get("annotations") or {}).get(OPERATION)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("id") else {}


def alive(note: Object, now: float) -> bool:
    """Tell whether the run of a note still lives, as far as can be seen from here."""
    if not note or now - _number(note.get("seen")) > STALE_AFTER:
        return False
    if note.get("place") != _place():
        return True
    pid = int(_number(note.get("pid")))
    born = _born(pid)
    if born is None or not note.get("born"):
        # Gone, or of a user whose processes are hidden from us.
        return _exists(pid)
    return born == note["born"]


def describe(note: Object) -> str:
    """Return what runs, since when and where, for people; empty when nothing does."""
    if not note:
        return ""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(_number(note.get("since"))))
    return f"{note.get('what') or 'something'} since {since}, process {note.get('pid')} on {str(note.get('place') or 'unknown').partition(' ')[0]}"


def _taken_by(found: Object) -> str:
    return f"another run ({describe(found) or 'unknown'}) has taken this county meanwhile: run again when that one is done"


def _refuse(namespace: str, found: Object, now: float) -> None:
    if alive(found, now):
        raise OperationError(
            f"another run works on the namespace {namespace} ({describe(found)}): wait for its end, then run again. If that run is dead, its note is void "
            f"{STALE_AFTER / 60:.0f} minutes after its last sign, or at once with: kubectl annotate namespace {namespace} {OPERATION}-"
        )


def _write(client: Client, namespace: str, change: t.Callable[[Object], Object | None]) -> None:
    """Change the note, and only if nobody else changes the namespace in between."""
    path = NAMESPACES.path(namespace)
    for attempt in range(_TRIES):
        live = client.find(path)
        if live is None:
            return
        found = note_of(live)
        wanted = change(found)
        if wanted == (found or None):
            return
        text = json.dumps(wanted, sort_keys=True) if wanted else None
        body = {"metadata": {"resourceVersion": live["metadata"].get("resourceVersion"), "annotations": {OPERATION: text}}}
        try:
            client.json("PATCH", path, body=body, content_type=_MERGE)
            return
        except ApiError as error:
            if error.status == 404:
                return
            if error.status != 409 or attempt + 1 == _TRIES:
                raise
            time.sleep(0.1)


def _place() -> str:
    """This host and, as a process number means something there only, its boot and PID namespace."""
    parts = [platform.node() or "unknown"]
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        parts.append(stream.read().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _born(pid: int) -> str | None:
    """When a process of this host began, in the kernel's measure; empty when it has ended, None when that can't be read."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            values = stream.read().rpartition(")")[2].split()
        return "" if values[0] == "Z" else values[19]
    except (OSError, IndexError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid > 0


def _number(value: t.Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
