# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for counties and shows the progress on the way."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.plugin_utils.wait import wait_with_progress


class ActionModule(ActionBase):
    """Run the module of the same name in short pieces."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        return {**result, "changed": False, **wait_with_progress(self, args.get("counties") or [], args, task_vars)}
