"""Running programs: errors show the command and what it said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class LabError(Exception):
    """A failure with a message for the person at the keyboard: what, where, what to do."""


def run(
    argv: Sequence[str | Path], *, check: bool = True, env: Mapping[str, str] | None = None, cwd: Path | None = None, data: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output."""
    command = [str(part) for part in argv]
    try:
        result = subprocess.run(
            command,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            text=True,
            check=False,
            env=dict(env) if env is not None else None,
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed: {error}") from error
    if check and result.returncode:
        said = (result.stderr.strip() or result.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(command)} failed with exit code {result.returncode}: {said}")
    return result


def say(text: str) -> None:
    """Tell the user what happens; results go to stdout, progress to stderr."""
    print(text, file=sys.stderr, flush=True)
