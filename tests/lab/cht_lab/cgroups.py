"""A cgroup of its own for each machine, in every hierarchy: else all kubelets would share one `kubepods`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from . import paths

ROOT = Path("/sys/fs/cgroup")
PREFIX = f"{paths.NAME}-"


def unified() -> bool:
    """Whether this machine has cgroup v2 only."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The mount points of all hierarchies."""
    if unified():
        return [ROOT]
    return sorted({item.resolve() for item in ROOT.iterdir() if (item / "cgroup.procs").exists()})


def make(name: str) -> list[Path]:
    """Create the machine's cgroups and return them."""
    result = []
    for hierarchy in hierarchies():
        group = hierarchy / f"{PREFIX}{name}"
        group.mkdir(exist_ok=True)
        if unified():
            wanted = " ".join(f"+{c}" for c in (ROOT / "cgroup.controllers").read_text(encoding="ascii").split())
            try:
                (ROOT / "cgroup.subtree_control").write_text(wanted, encoding="ascii")
            except OSError:
                # Something of the host owns the root's controllers; the machine then runs with what it gets.
                pass
        for knob in ("cpuset.cpus", "cpuset.mems"):
            # A new cpuset of version 1 is empty, and no process can enter an empty one.
            if (group / knob).exists() and not unified():
                (group / knob).write_text((hierarchy / knob).read_text(encoding="ascii"), encoding="ascii")
        result.append(group)
    return result


def join(groups: list[Path]) -> None:
    """Move the calling process into the cgroups; runs between fork and exec."""
    for group in groups:
        with open(group / "cgroup.procs", "w", encoding="ascii") as procs:
            procs.write(str(os.getpid()))


def members(name: str) -> set[int]:
    """Every process of the machine."""
    found: set[int] = set()
    hierarchy = ROOT if unified() else ROOT / "systemd"
    for procs in (hierarchy / f"{PREFIX}{name}").rglob("cgroup.procs"):
        try:
            found.update(int(line) for line in procs.read_text(encoding="ascii").split())
        except OSError:
            continue
    return found


def _freezer(name: str) -> tuple[Path, str, str]:
    if unified():
        return ROOT / f"{PREFIX}{name}" / "cgroup.freeze", "1", "0"
    return ROOT / "freezer" / f"{PREFIX}{name}" / "freezer.state", "FROZEN", "THAWED"


def freeze(name: str, on: bool) -> None:
    """Stop or go on with every process of the machine at once, as a hypervisor's pause does."""
    knob, frozen, thawed = _freezer(name)
    if not knob.exists():
        return
    knob.write_text(frozen if on else thawed, encoding="ascii")


def frozen(name: str) -> bool:
    """Whether the machine is paused."""
    knob, on, _off = _freezer(name)
    try:
        return knob.read_text(encoding="ascii").strip() in {on, "FREEZING"}
    except OSError:
        return False


def kill(name: str, seconds: float = 10.0) -> bool:
    """End every process of the machine without ceremony. True when none is left."""
    deadline = time.monotonic() + seconds
    while pids := members(name):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        freeze(name, False)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def remove(name: str) -> None:
    """Delete the machine's cgroups, deepest first."""
    for hierarchy in hierarchies():
        group = hierarchy / f"{PREFIX}{name}"
        if not group.is_dir():
            continue
        for folder, _dirs, _files in os.walk(group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                pass


def leftovers() -> set[str]:
    """Names of machines that still have a cgroup."""
    return {item.name.removeprefix(PREFIX) for hierarchy in hierarchies() for item in hierarchy.glob(f"{PREFIX}*")}
