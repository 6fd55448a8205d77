# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of host_facts: comparing clocks needs the time of asking and of the answer."""
from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.module_utils.preflight.clock import offset


class ActionModule(ActionBase):
    """Run the module of the same name and add the clock's offset."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        asked = time.time()
        result.update(self._execute_module(module_name="cht.k3s.host_facts", task_vars=task_vars))
        if isinstance(result.get("host"), dict):
            result["host"]["clock_offset"] = offset(asked, result["host"]["clock"], time.time())
        return result
