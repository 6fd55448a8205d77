from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from support.lab import Lab  # noqa: E402


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab, up."""
    handle = Lab()
    handle("up", timeout=1200)
    return handle
