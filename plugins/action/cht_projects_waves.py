# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes running counties in waves, and shows how far it is."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.module_utils.cht.waves import Policy, Rollout, hold_back, merge
from ansible_collections.cht.k3s.plugins.plugin_utils.wait import stage_with_progress, wait_with_progress

ARGUMENTS = {
    "applied": {"type": "dict", "required": True},
    "apply": {"type": "dict", "required": True},
    "canary": {"type": "list", "elements": "str", "default": []},
    "size": {"type": "int", "default": 5},
    "max_failures": {"type": "int", "default": 2},
    "timeout": {"type": "int", "default": 900},
    "stage_timeout": {"type": "int", "default": 172800},
    "report_every": {"type": "int", "default": 15},
    "health": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Stage, apply, wait, judge, one wave after the other."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        self._args, self._vars = args, task_vars
        applied = dict(args["applied"])
        rollout = Rollout(applied["counties"], list(applied["held"]), Policy(args["size"], args["max_failures"], tuple(args["canary"])))
        progress: dict[str, dict[str, Any]] = {}
        changed = False
        self._gate(rollout, applied["counties"], progress)
        while (wave := rollout.next()) is not None:
            title, names = wave
            self._display.display(f"{title}: {', '.join(names)}")
            unwell = self._stage([row for row in applied["counties"] if row["name"] in names and row.get("stage")])
            applied["counties"] = [
                {**row, "state": "failed", "errors": [unwell[row["name"]]], "remark": unwell[row["name"]]} if row["name"] in unwell else row
                for row in applied["counties"]
            ]
            names = [name for name in names if name not in unwell]
            if not names:
                rollout.finish(unwell)
                continue
            options = {**args["apply"], "only": names, "on_invalid": "skip", "hold_restarts": False}
            part = self._execute_module(module_name="cht.k3s.cht_projects", module_args=options, task_vars=task_vars)
            if "counties" not in part:
                rollout.stop(str(part.get("msg") or "the counties could not be applied"))
                break
            changed = changed or bool(part.get("changed"))
            applied["counties"] = merge(applied["counties"], part["counties"])
            unwell.update({row["name"]: row["remark"] for row in part["counties"] if row["state"] == "failed"})
            unwell.update(self._wait([row for row in part["counties"] if row["state"] != "failed"], progress))
            raised = {row["name"] for row in part["counties"] if row.get("upgrade_from")}
            unwell.update(self._smoke(sorted(raised - set(unwell)), progress))
            rollout.finish(unwell)
        if rollout.stopped:
            self._display.warning(f"No further wave: {rollout.stopped}.")
            applied["counties"] = hold_back(applied["counties"], rollout.left(), rollout.stopped)
        applied["held"] = rollout.left()
        # Who was waited for here is not waited for again.
        applied["waiting"] = [name for name in applied["waiting"] if name not in progress]
        result.update(changed=changed, applied=applied, stopped=rollout.stopped)
        result["waited"] = {"counties": list(progress.values()), "waiting": [name for name, entry in progress.items() if entry["obstacle"]]}
        return result

    def _gate(self, rollout: Rollout, rows: list[dict[str, Any]], progress: dict[str, dict[str, Any]]) -> None:
        """Named canaries that an earlier run changed must be well."""
        names = rollout.canaries_there
        if rollout.next() is not None and names:
            self._display.display(f"canary: {', '.join(names)}")
            for name, why in self._wait([row for row in rows if row["name"] in names], progress).items():
                rollout.stop(f"the canary {name} is not well: {why}")

    def _stage(self, rows: list[dict[str, Any]]) -> dict[str, str]:
        """Have the next version's views indexed while users work; return the counties for which that can't be had, and why."""
        if not rows:
            return {}
        counties = [{"name": row["name"], "namespace": row["namespace"], "version": row["version"]} for row in rows]
        options = {key: self._args[key] for key in ("stage_timeout", "timeout", "report_every")}
        staged = stage_with_progress(self, counties, {"kubeconfig": self._args["apply"]["kubeconfig"], **options}, self._vars)
        word = "to upgrade it all the same, name it in cht_project_unstaged: it is away while API indexes"
        return {name: f"can't be staged: {why}; {word}" for name, why in staged.items()}

    def _smoke(self, names: list[str], progress: dict[str, dict[str, Any]]) -> dict[str, str]:
        """Meet counties that were upgraded as their users do; return those that are not there for them, and what is instead."""
        if not names or not self._args["health"]:
            return {}
        options = {key: self._args["apply"][key] for key in ("kubeconfig", "projects", "defaults") if key in self._args["apply"]}
        part = self._execute_module(module_name="cht.k3s.cht_projects_smoke", module_args={**options, "only": names}, task_vars=self._vars)
        if part.get("failed"):
            return {name: f"smoke test: {part.get('msg') or 'failed'}" for name in names}
        unwell = {}
        for row in part["counties"]:
            if row["untested"]:
                self._display.display(f"{row['name']}: not tested as its users meet it: {row['untested']}")
            if row["problem"]:
                unwell[row["name"]] = f"smoke test: {row['problem']}"
                progress[row["name"]] = {**progress[row["name"]], "obstacle": unwell[row["name"]]}
        return unwell

    def _wait(self, rows: list[dict[str, Any]], progress: dict[str, dict[str, Any]]) -> dict[str, str]:
        """Wait for counties; return those that are not well, with what stands in their way."""
        if not rows:
            return {}
        options = {"kubeconfig": self._args["apply"]["kubeconfig"], **{key: self._args[key] for key in ("timeout", "report_every", "health")}}
        options["upgrade_timeout"] = self._args["stage_timeout"]
        waited = wait_with_progress(self, rows, options, self._vars)
        if waited.get("failed"):
            # Nobody waits for these again: what is not known to be well is told at the end.
            why = str(waited.get("msg") or "could not be looked at")
            progress.update({row["name"]: {"name": row["name"], "ready": row["ready"], "total": row["total"], "obstacle": why} for row in rows})
            return {row["name"]: why for row in rows}
        progress.update({entry["name"]: entry for entry in waited["counties"]})
        return {name: progress[name]["obstacle"] for name in waited["waiting"]}
