# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for counties and shows the progress on the way."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.module_utils.cht.table import progress_line


class ActionModule(ActionBase):
    """Run the module of the same name again and again, each time for as long as one line of progress is to last."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        # What M(cht.k3s.cht_projects) returned may be handed over as it is.
        args["counties"] = [{"name": entry["name"], "namespace": entry["namespace"]} for entry in args.get("counties") or []]
        timeout, every = (int(args.get(key, default)) for key, default in (("timeout", 900), ("report_every", 15)))
        deadline = time.monotonic() + timeout
        counties: dict[str, dict[str, Any]] = {}
        while True:
            left = max(0, deadline - time.monotonic())
            part = self._execute_module(
                module_name="cht.k3s.cht_projects_wait", module_args={**args, "timeout": int(min(every, left))}, task_vars=task_vars
            )
            if part.get("failed"):
                return {**result, **part}
            counties.update({entry["name"]: entry for entry in part["counties"]})
            waiting = set(part["waiting"])
            args["counties"] = [entry for entry in args["counties"] if entry["name"] in waiting]
            if not waiting or self._task.check_mode or time.monotonic() >= deadline:
                break
            self._display.display(progress_line(list(counties.values()), sorted(waiting)))
        result.update(changed=False, counties=list(counties.values()), waiting=sorted(waiting))
        return result
