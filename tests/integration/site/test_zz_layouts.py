"""The same cluster from an installed collection and as an AWX project; each run has a fresh home directory."""
from __future__ import annotations

from pathlib import Path

import pytest
from support.lab import Lab
from support.layouts import Awx, Installed

ROLES = ["agent", "cht_project", *(
    pytest.param(role, marks=pytest.mark.extensive) for role in ("preflight", "node", "control_plane", "cpi", "csi", "storageclass", "verify"))]


@pytest.fixture(scope="module")
def awx(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Awx:
    layout = Awx(lab, tmp_path_factory.mktemp("awx"))
    done = layout.update_inventory()
    assert done.returncode == 0, done.stderr
    return layout


@pytest.fixture(scope="module")
def installed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(lab, tmp_path_factory.mktemp("installed"))


def test_installed_collection(installed: Installed) -> None:
    run = installed.playbook("layout-installed").expect()
    assert run.changed == [] and "cht_project" in run.roles()


def test_awx_job(awx: Awx) -> None:
    assert "ansible_collections" not in Path(awx.project).parts
    run = awx.playbook("layout-awx").expect()
    assert run.changed == [] and "cht_project" in run.roles()


@pytest.mark.parametrize("role", ROLES)
def test_awx_job_of_one_role(awx: Awx, role: str) -> None:
    run = awx.playbook(f"layout-awx-{role}", "--tags", role).expect()
    assert run.changed == [] and role in run.roles()


def test_awx_job_for_one_host(awx: Awx) -> None:
    run = awx.playbook("layout-awx-limit", "--limit", "agent-3").expect()
    assert run.changed == [] and "agent" in run.roles()
