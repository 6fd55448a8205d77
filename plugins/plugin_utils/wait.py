# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for counties with lines of progress, for action plugins."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.module_utils.cht.table import progress_line


def wait_with_progress(action: ActionBase, rows: list[dict[str, Any]], options: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
    """Run the module cht_projects_wait again and again, each time for as long as one line of progress is to last."""
    # What M(cht.k3s.cht_projects) returned may be handed over as it is.
    left_over = [{"name": entry["name"], "namespace": entry["namespace"]} for entry in rows]
    timeout, every = (int(options.get(key, default)) for key, default in (("timeout", 900), ("report_every", 15)))
    deadline = time.monotonic() + timeout
    counties: dict[str, dict[str, Any]] = {}
    while True:
        left = max(0, deadline - time.monotonic())
        part = action._execute_module(
            module_name="cht.k3s.cht_projects_wait", module_args={**options, "counties": left_over, "timeout": int(min(every, left))}, task_vars=task_vars
        )
        if part.get("failed"):
            return part
        counties.update({entry["name"]: entry for entry in part["counties"]})
        waiting = set(part["waiting"])
        left_over = [entry for entry in left_over if entry["name"] in waiting]
        if not waiting or action._task.check_mode or time.monotonic() >= deadline:
            break
        action._display.display(progress_line(list(counties.values()), sorted(waiting)))
    return {"counties": list(counties.values()), "waiting": sorted(waiting)}
