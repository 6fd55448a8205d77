from __future__ import annotations

import pytest
from support.lab import Lab


@pytest.fixture(scope="session")
def fresh_lab(lab: Lab) -> Lab:
    """The lab with twelve empty nodes, as after the VMs were delivered."""
    lab.renew()
    return lab
