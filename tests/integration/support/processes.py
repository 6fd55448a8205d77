"""Processes that a test started, and theirs."""
from __future__ import annotations

from pathlib import Path


def family(root: int) -> list[int]:
    """A process and all that come from it, also those that lead a session of their own."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found
