"""Write every result of a run to the file named by RECORD_FILE, one JSON object a line, beside the usual output."""
from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: record
type: notification
short_description: Record results as JSON lines
description: For the project's own tests.
"""


class CallbackModule(CallbackBase):
    """Events: task (host, task, role, result), stats (host, counters)."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"

    def __init__(self) -> None:
        super().__init__()
        self._file = open(os.environ["RECORD_FILE"], "a", encoding="utf-8")  # pylint: disable=consider-using-with

    def _write(self, **event: Any) -> None:
        self._file.write(json.dumps({"at": time.time(), **event}, default=str) + "\n")
        self._file.flush()

    def _task(self, status: str, result: Any) -> None:
        task = result._task
        shown = json.loads(self._dump_results(result._result, keep_invocation=True))
        if not task.no_log and result._result.get("diff"):
            shown["diff"] = json.loads(json.dumps(result._result["diff"], default=str))
        if "diff" in result._result:
            shown["diff"] = result._result["diff"]
        self._write(event="task", status=status, host=result._host.get_name(), task=task.get_name(), action=task.action,
                    role=task._role.get_name() if task._role else "", changed=bool(result._result.get("changed")),
                    no_log=bool(task.no_log), result=shown)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._task("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._task("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._task("unreachable", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._task("skipped", result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        for host in sorted(stats.processed):
            self._write(event="stats", host=host, **stats.summarize(host))
