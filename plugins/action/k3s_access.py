# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import tempfile
from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase

from ansible_collections.cht.k3s.plugins.module_utils.k3s.access import choose, with_server


class ActionModule(ActionBase):
    """Everything happens in the controller's process, so that the secret passes through no module and no log."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "kubeconfig": {"type": "path", "default": ""},
                "answers": {"type": "list", "elements": "dict", "default": []},
                "urls": {"type": "dict", "default": {}},
                "server_url": {"type": "str", "default": ""},
                "way_out": {"type": "bool", "default": False},
            }
        )
        if args["kubeconfig"]:
            if not os.access(args["kubeconfig"], os.R_OK):
                return dict(result, failed=True, msg=f"k3s_kubeconfig: {args['kubeconfig']} is not a readable file.")
            return dict(result, changed=False, via=args["kubeconfig"], ansible_facts={"k3s_access_kubeconfig": args["kubeconfig"]})
        server, info, problem = choose(args["answers"], list(args["urls"]), args["way_out"])
        if server is None:
            # In check mode a cluster that does not exist yet is no error: all objects would be created.
            if self._task.check_mode and not problem.exists:
                return dict(result, changed=False, via="", ansible_facts={"k3s_access_kubeconfig": ""})
            return dict(result, failed=True, msg=problem.message)
        directory = tempfile.mkdtemp(prefix="k3s-access-", dir=C.DEFAULT_LOCAL_TMP)
        path = os.path.join(directory, "kubeconfig")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(with_server(info["kubeconfig"], args["server_url"] or args["urls"][server]))
        facts = {"k3s_access_kubeconfig": path, "k3s_access_problem": problem.message if problem else ""}
        return dict(result, changed=False, via=server, ansible_facts=facts)
