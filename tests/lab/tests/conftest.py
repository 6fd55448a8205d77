"""The lab's package, and a small lab of its own beside the one that other tests use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for folder in (Path(__file__).resolve().parent, Path(__file__).resolve().parents[1]):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from lab_support import LAB_DIR, NAME, Lab, environment, leftovers  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The command of a second lab: own namespaces, own state. It is taken away in the end, and nothing of it may remain."""
    if os.geteuid() != 0:
        pytest.skip("machines need root")
    env = environment()

    def command(*arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        result = subprocess.run([LAB_DIR / "lab", *arguments], env=env, capture_output=True, text=True, check=False, timeout=timeout)
        if check and result.returncode:
            pytest.fail(f"lab {' '.join(arguments)}: {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    command("down")
    yield command
    command("down")
    assert leftovers(NAME) == []
