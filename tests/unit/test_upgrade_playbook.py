# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of the upgrade, as far as the playbook itself says it."""
from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def roles(play: dict) -> set[tuple[str, str]]:
    """Role and entry point of each task."""
    return {
        (call["name"], call.get("tasks_from", "main")) for task in play.get("tasks") or []
        for key, call in task.items() if key in ("ansible.builtin.import_role", "ansible.builtin.include_role")
    }


def test_images_are_on_all_nodes_before_the_first_server_changes() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/upgrade.yml").read_text(encoding="utf-8"))
    order = [number for number, play in enumerate(plays) if ("cht.k3s.k3s", "images") in roles(play)]
    first = next(number for number, play in enumerate(plays) if ("cht.k3s.control_plane", "upgrade") in roles(play))
    assert order and order[0] < first
    images = plays[order[0]]
    assert images["hosts"] == "control_plane:agent" and "serial" not in images and images["any_errors_fatal"]
    # Nothing is copied before every node has said that it can move.
    assert all(number < order[0] for number, play in enumerate(plays) if any(task.get("check_mode") for task in play.get("tasks") or []))


def test_a_node_that_joins_gets_the_same_images() -> None:
    files = yaml.safe_load((ROOT / "roles/k3s/tasks/files.yml").read_text(encoding="utf-8"))
    assert "images.yml" in [task.get("ansible.builtin.import_tasks") for task in files]
    (copy,) = yaml.safe_load((ROOT / "roles/k3s/tasks/images.yml").read_text(encoding="utf-8"))
    assert copy["loop"] == "{{ k3s_image_bundles | cht.k3s.as_list }}" and copy["ansible.builtin.copy"]["dest"] == "/var/lib/rancher/k3s/agent/images/"
