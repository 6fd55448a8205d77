"""A variable beats the keyword: `ansible_become: true` for all hosts would run the controller's own tasks under sudo."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml
from role_files import ROOT, plays, tasks

HERE = {"localhost", "127.0.0.1"}


def test_what_runs_on_the_controller_is_not_run_as_another_user() -> None:
    at_home = [(where, play) for where, play in plays() if HERE & set(play["hosts"].split(":"))]
    delegated = [(where, task) for where, task in tasks() if task.get("delegate_to") in HERE or task.get("local_action")]
    assert len(at_home) > 20 and len(delegated) > 15
    assert [where for where, entry in at_home + delegated if (entry.get("vars") or {}).get("ansible_become") is not False] == []


def test_the_keyword_that_loses_is_not_used() -> None:
    assert [where for where, entry in [*plays(), *tasks()] if entry.get("become") is False] == []


def test_what_such_a_play_delegates_to_a_machine_is_run_as_that_machine_says() -> None:
    """The play's variable holds for the machine too, so the task says what is meant there."""
    asked = [(where, task) for where, task in tasks() if "hostvars" in str(task.get("connection"))]
    assert len(asked) >= 4
    assert [where for where, task in asked if "].ansible_become | default(true)" not in str(task["vars"].get("ansible_become"))] == []


def test_lists_are_written_without_sudo(tmp_path: Path) -> None:
    link = tmp_path / "collections" / "ansible_collections" / "cht" / "k3s"
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT)
    inventory = {"all": {"vars": {"ansible_become": True, "ansible_become_exe": "/nonexistent/sudo", "reverse_proxy_install": False}, "hosts": {"proxy": None}}}
    play = {
        "hosts": "proxy", "gather_facts": False,
        "tasks": [{"name": "Lists", "ansible.builtin.include_role": {"name": "cht.k3s.reverse_proxy", "tasks_from": "lists"}}],
        "vars": {
            "reverse_proxy_output_dir": str(tmp_path / "lists"), "reverse_proxy_address": "192.0.2.1",
            "reverse_proxy_counties": [{"name": "nairobi", "host": "nairobi.example"}],
        },
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"), "ANSIBLE_BECOME_ALLOW_SAME_USER": "true"}
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts.yml", "play.yml"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nairobi.example" in (tmp_path / "lists" / "hosts").read_text(encoding="utf-8")
