"""A lab of its own with five machines, beside the one of the other tests."""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Lab

NAME = "k3s"


@pytest.fixture(scope="session")
def small_lab() -> Iterator[Lab]:
    """Three servers and two agents, with nothing on them; SSH's shared connections are kept apart from those of the other lab."""
    before = {key: os.environ.get(key) for key in ("LAB_NAME", "ANSIBLE_SSH_CONTROL_PATH_DIR")}
    os.environ["LAB_NAME"] = NAME
    os.environ["ANSIBLE_SSH_CONTROL_PATH_DIR"] = f"/tmp/cht-k3s-{NAME}-ssh"
    lab = Lab()
    lab("down", timeout=300)
    lab("up", "--description", str(Path(__file__).parent / "cluster.yml"), timeout=1200)
    try:
        yield lab
    finally:
        lab("down", timeout=300)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
