"""Servers that cannot be reached: a run ends with a message and a failure, never in silence. No lab is needed for it."""
from __future__ import annotations

import subprocess
from pathlib import Path

INVENTORY = """
all:
  vars: {ansible_connection: ssh, ansible_port: 1, ansible_host: 127.0.0.1, k3s_version: v1.35.4+k3s1, vsphere_bios_uuid: 420e3f21-8a5c-4d11-9b77-c0de00000021}
  children:
    control_plane: {hosts: {cp-1: {}, cp-2: {}, cp-3: {}}}
    agent: {hosts: {agent-1: {ansible_connection: local, ansible_python_interpreter: /usr/bin/python3}}}
"""
ACCESS = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: cht.k3s.k3s, tasks_from: access}
"""
AGENT = """
- hosts: agent
  gather_facts: false
  any_errors_fatal: true
  roles: [cht.k3s.agent]
"""


def play(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "hosts.yml").write_text(INVENTORY)
    (folder / "play.yml").write_text(text)
    return subprocess.run(["ansible-playbook", "-i", "hosts.yml", "play.yml"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_no_access_is_a_failure_that_names_the_servers(tmp_path: Path) -> None:
    done = play(tmp_path, ACCESS)
    shown = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "No server gives access to the API" in shown and "cp-1: could not be asked" in shown and "cp-3: could not be asked" in shown


def test_an_agent_is_told_that_no_server_could_be_asked(tmp_path: Path) -> None:
    done = play(tmp_path, AGENT)
    assert done.returncode != 0
    assert "cp-1, cp-2, cp-3 cannot be reached" in " ".join(done.stdout.split())
