"""What the tests of the lab share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

LAB_DIR = Path(__file__).resolve().parents[1]
NAME = "labtest"
Lab = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    """The environment of the second lab's command."""
    env = {**os.environ, "LAB_NAME": NAME}
    env.pop("LAB_STATE", None)
    return env


def leftovers(name: str) -> list[str]:
    """Whatever of a lab is still on this machine."""
    found = [str(path) for path in Path("/run/netns").glob(f"{name}*")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{name}-*")] + [str(path) for path in Path("/sys/fs/cgroup").glob(f"{name}-*")]
    state = f"/var/lib/cht-k3s-lab-{name}"
    found += [line for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines() if state in line]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if state in process.read_bytes().decode(errors="replace"):
                found.append(str(process))
        except OSError:
            continue
    if Path(state).exists():
        found.append(state)
    return found
