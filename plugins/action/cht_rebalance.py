# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the plan, then moves one county after the other."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Plan, show, move, stop at the first county that does not come back."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        plan = self._execute_module(module_name="cht.k3s.cht_rebalance", module_args=args, task_vars=task_vars)
        result.update(plan)
        if plan.get("failed"):
            return result
        self._display.display("\n" + "\n".join(plan["table"]) + "\n")
        moves = plan["moves"]
        if not boolean(args.get("move", False)):
            return result
        result["moved"] = []
        # Also in check mode: it tells what the run would do.
        if plan["blocked"]:
            result.update(failed=True, msg=f"Nothing was moved: {plan['blocked']}.")
            return result
        if self._task.check_mode:
            result["changed"] = plan["changed"] or bool(moves)
            return result
        options = {key: args[key] for key in ("kubeconfig", "context", "request_timeout", "timeout", "health") if key in args}
        for number, move in enumerate(moves, start=1):
            self._display.display(f"move {number} of {len(moves)}: {move['county']} from {move['from'] or 'nowhere'} to {move['to']}")
            wanted = {**options, "county": move["county"], "namespace": move["namespace"], "agent": move["to"]}
            done = self._execute_module(module_name="cht.k3s.cht_project_move", module_args=wanted, task_vars=task_vars)
            # Also a move that failed stopped and started the county.
            result["changed"] = True
            if done.get("failed"):
                left = len(moves) - number
                result.update(failed=True, msg=f"{done.get('msg', 'the move failed')}{f'; {left} further moves were not begun' if left else ''}")
                return result
            result["moved"].append(move["county"])
            self._display.display(f"{move['county']} works on {move['to']} after {done['seconds']} s")
        return result
