# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the preflight's findings on the controller."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.module_utils.preflight.report import as_html, as_json, failure, table

ARGUMENTS = {
    "findings": {"type": "list", "elements": "dict", "required": True},
    "counts": {"type": "dict", "required": True},
    "hosts": {"type": "int", "required": True},
    "facts": {"type": "dict", "default": {}},
    "directory": {"type": "path", "default": ""},
}


class ActionModule(ActionBase):
    """Print, write, judge."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        findings, counts = args["findings"], args["counts"]
        lines = table(findings, counts, args["hosts"])
        self._display.display("\n" + "\n".join(lines) + "\n")
        files = [] if self._task.check_mode or not args["directory"] else self._write(args)
        result.update(changed=False, files=files)
        if counts["error"]:
            # Ansible prints the whole result of a failed task; the table was shown already.
            result.update(failed=True, msg=failure(findings, counts))
        else:
            result["table"] = lines
        return result

    @staticmethod
    def _write(args: dict[str, Any]) -> list[str]:
        facts = {"hosts": args["hosts"], **args["facts"]}
        directory = Path(args["directory"])
        written = []
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name, render in (("preflight.json", as_json), ("preflight.html", as_html)):
                path = directory / name
                path.write_text(render(args["findings"], args["counts"], facts), encoding="utf-8")
                written.append(str(path))
        except OSError as exc:
            raise AnsibleActionFail(
                f"The preflight report cannot be written to {directory}: {exc.strerror}. Correct preflight_report_dir."
            ) from exc
        return written
