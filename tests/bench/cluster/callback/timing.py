"""Write when each task began and what came of it to the file named by TIMING_FILE, one JSON object a line."""
from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: timing
type: notification
short_description: Record when tasks begin
description: For the project's own benchmark.
"""


class CallbackModule(CallbackBase):
    """Events: start (task, role), result (host, changed, failed), end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "timing"

    def __init__(self) -> None:
        super().__init__()
        self._file = open(os.environ["TIMING_FILE"], "a", encoding="utf-8")  # pylint: disable=consider-using-with

    def _write(self, **event: Any) -> None:
        self._file.write(json.dumps({"at": time.time(), **event}) + "\n")
        self._file.flush()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._write(event="start", task="(start of the play)", role="", action="")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        name = task.get_name().partition(" : ")
        self._write(event="start", task=name[2] or name[0], role=task._role.get_name() if task._role else "", action=task.action)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(event="result", host=result._host.get_name(), changed=bool(result._result.get("changed")), failed=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write(event="result", host=result._host.get_name(), changed=False, failed=not ignore_errors)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._write(event="end")
