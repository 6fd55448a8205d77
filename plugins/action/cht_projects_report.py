# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what became of the counties on the controller."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.module_utils.cht.table import STATES, final_rows, table

ARGUMENTS = {"applied": {"type": "dict", "required": True}, "waited": {"type": "dict", "default": {}}}


class ActionModule(ActionBase):
    """Print, judge."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        rows = final_rows(args["applied"].get("counties") or [], args["waited"].get("counties") or [])
        lines = table(rows)
        self._display.display("\n" + "\n".join(lines) + "\n")
        states = {state: [row["name"] for row in rows if row["state"] == state] for state in STATES}
        result.update(changed=False, states=states)
        unwell = [f"{row['name']} {row['state']}: {row['remark']}" for row in rows if row["state"] in ("failed", "waiting")]
        if unwell:
            # Ansible prints the whole result of a failed task; the table was shown already.
            result.update(failed=True, msg=f"{len(unwell)} of {len(rows)} counties are not well:\n" + "\n".join(unwell))
        else:
            result["table"] = lines
        return result
