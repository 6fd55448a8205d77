# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks refuse before they ask any machine, run as an operator runs them."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from role_files import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]
WRONG = [{"name": "nairobi", "host": "nairobi.health.example", "version": "newest"}]


@pytest.fixture
def play(tmp_path: Path) -> Run:
    """Run a playbook of the collection; nothing listens where the only server is said to be."""
    link = tmp_path / "collections" / "ansible_collections" / "cht" / "k3s"
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(tmp_path / "home")}

    def run(name: str, *arguments: str, proxies: tuple[str, ...] = (), **variables: Any) -> subprocess.CompletedProcess[str]:
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        groups = {"control_plane": {"hosts": {"server": {"ansible_host": "127.0.0.1", "ansible_port": 9}}}}
        if proxies:
            groups["reverse_proxy"] = {"hosts": dict.fromkeys(proxies)}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"localhost": here}, "children": groups}}), encoding="utf-8")
        command = ["ansible-playbook", "-i", "hosts.yml", "-e", json.dumps(variables), *arguments, f"cht.k3s.{name}"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600)

    return run


def test_a_way_in_without_a_proxy_is_refused(play: Run) -> None:
    done = play("access", "--tags", "traefik")
    assert done.returncode == 2 and "There is nothing to do: the group reverse_proxy has no host" in done.stdout, done.stdout
    assert done.stdout.count("changed=0") == done.stdout.count("changed=")


@pytest.mark.parametrize("given", [{"proxies": ("proxy",)}, {"traefik_trusted_proxies": "192.0.2.1"}])
def test_a_proxy_of_either_kind_is_enough(play: Run, given: dict[str, Any]) -> None:
    done = play("access", "--tags", "traefik", **given)
    assert "There is nothing to do" not in done.stdout and "No server gives access to the API" in done.stdout, done.stdout


@pytest.mark.parametrize(("variables", "code"), [
    ({}, 2), ({"__preflight_goes_on": True}, 0), ({"__preflight_goes_on": True, "cht_project_on_invalid": "refuse"}, 2),
])
def test_the_preflight_alone_fails_for_a_wrong_county(play: Run, variables: dict[str, Any], code: int) -> None:
    done = play("preflight", "--tags", "cht_project_validate", cht_projects=WRONG, **variables)
    assert done.returncode == code and "nairobi" in done.stdout, done.stdout
    assert ("1 problems in the definitions" in done.stdout) == (code == 2) and ("left out by cht_project_on_invalid" in done.stdout) == (code == 0)


def test_the_preflight_of_a_whole_run_goes_on_and_counties_come_last() -> None:
    first = yaml.safe_load((ROOT / "playbooks/site.yml").read_text(encoding="utf-8"))[0]
    assert first["ansible.builtin.import_playbook"] == "preflight.yml" and first["vars"] == {"__preflight_goes_on": True}
    last = yaml.safe_load((ROOT / "playbooks/preflight.yml").read_text(encoding="utf-8"))[-1]["tasks"][-1]
    assert last["ansible.builtin.import_role"] == {"name": "cht.k3s.cht_project", "tasks_from": "validate"}
