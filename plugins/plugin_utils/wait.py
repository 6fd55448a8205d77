# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for counties, and for what they stage, with lines of progress; for action plugins."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.module_utils.cht.table import progress_line

# So often staging is begun again that API ended.
_TRIES = 3


def wait_with_progress(action: ActionBase, rows: list[dict[str, Any]], options: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
    """Run the module cht_projects_wait again and again, each time for as long as one line of progress is to last."""
    # What M(cht.k3s.cht_projects) returned may be handed over as it is.
    left_over = [{"name": entry["name"], "namespace": entry["namespace"]} for entry in rows]
    timeout, every, patience = (int(options.get(key, default)) for key, default in (("timeout", 900), ("report_every", 15), ("upgrade_timeout", 172800)))
    begun = time.monotonic()
    counties: dict[str, dict[str, Any]] = {}
    waiting = {entry["name"] for entry in left_over}
    while True:
        left = timeout - (time.monotonic() - begun)
        if left <= 0:
            # Who indexes or migrates has more time than the others, and is seen by the figure to get on.
            left_over = [entry for entry in left_over if (counties.get(entry["name"]) or {}).get("upgrading")]
            left = patience - (time.monotonic() - begun)
        part = action._execute_module(
            module_name="cht.k3s.cht_projects_wait",
            module_args={**options, "counties": left_over, "timeout": int(max(0, min(every, left)))}, task_vars=task_vars,
        ) if left_over or not counties else {"counties": [], "waiting": []}
        if part.get("failed"):
            return part
        counties.update({entry["name"]: entry for entry in part["counties"]})
        waiting = waiting - {entry["name"] for entry in left_over} | set(part["waiting"])
        left_over = [entry for entry in left_over if entry["name"] in part["waiting"]]
        if not left_over or action._task.check_mode:
            break
        passed = time.monotonic() - begun
        if passed >= patience or passed >= timeout and not any(counties[entry["name"]].get("upgrading") for entry in left_over):
            break
        action._display.display(progress_line(list(counties.values()), sorted(waiting)))
    return {"counties": list(counties.values()), "waiting": sorted(waiting)}


def stage_with_progress(
    action: ActionBase, counties: list[dict[str, Any]], options: dict[str, Any], task_vars: dict[str, Any] | None
) -> dict[str, str]:
    """Run the module cht_projects_stage until all are staged; return those that can't be, and why.

    API that is silent for C(timeout) seconds is given up, and so is staging that ended several times; all together has C(stage_timeout) seconds.
    """
    deadline = time.monotonic() + options["stage_timeout"]
    tries = dict.fromkeys((entry["name"] for entry in counties), 0)
    heard = dict.fromkeys(tries, time.monotonic())
    texts: dict[str, str] = {}
    failed: dict[str, str] = {}
    begin = list(tries)
    left = counties
    while left:
        every = int(max(0, min(options["report_every"], deadline - time.monotonic())))
        part = action._execute_module(
            module_name="cht.k3s.cht_projects_stage",
            module_args={"kubeconfig": options["kubeconfig"], "counties": left, "begin": begin, "timeout": every}, task_vars=task_vars,
        )
        now = time.monotonic()
        if part.get("failed"):
            return {**failed, **{entry["name"]: str(part.get("msg") or "could not be looked at") for entry in left}}
        begin = []
        for row in part["counties"]:
            name, state = row["name"], row["state"]
            texts[name] = row["text"] or texts.get(name, "")
            if state != "silent":
                heard[name] = now
            if state in ("none", "ended"):
                # A restart of API ends it as well, and what was indexed is kept.
                tries[name] += 1
                begin.append(name)
            if state == "refused" or now - heard[name] > options["timeout"]:
                failed[name] = row["text"]
            elif tries[name] > _TRIES:
                failed[name] = f"API gave up {tries[name]} times; its log says why, mostly that builds_url can't be reached or does not have this version"
        staged = {row["name"] for row in part["counties"] if row["state"] == "staged"}
        left = [entry for entry in left if entry["name"] not in staged and entry["name"] not in failed]
        if now >= deadline:
            failed.update({entry["name"]: f"is not done in {options['stage_timeout']} s ({texts[entry['name']]}); the next run goes on" for entry in left})
            break
        if left:
            action._display.display(f"staged: {len(staged)}; " + ", ".join(f"{entry['name']} {texts[entry['name']]}" for entry in left))
            if begin or any(heard[entry["name"]] != now for entry in left):
                time.sleep(min(options["report_every"], 5))
    return failed
