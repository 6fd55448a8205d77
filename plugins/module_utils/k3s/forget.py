# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the cluster forget a node whose machine is gone or was rebuilt."""

from __future__ import annotations

import urllib.parse

from . import state
from .api import ApiError, is_etcd, is_true
from .system import NodeError, System

# The controller manager calls a silent node NotReady after 40 to 50 seconds.
SILENCE = 90


class Forgetter:
    """Runs on a healthy server."""

    def __init__(self, system: System, check_mode: bool = False) -> None:
        self.system = system
        self.check_mode = check_mode

    def forget(self, name: str, alive: bool, timeout: int, quorum: bool = True, password_only: bool = False) -> dict:
        """Delete the Node; its finalizer removes the etcd member, its owner reference the node password.

        With `password_only` the Node itself stays: for a server that was restored on a new machine and is its cluster's only member.
        Unless `alive`, a node that still reports is left alone: then another machine has the name.
        """
        try:
            api = state.server_api(self.system, timeout=15)
            try:
                if password_only:
                    return self._forget_password(api, name)
                return self._forget(api, name, alive, timeout, quorum)
            finally:
                api.close()
        except ApiError as error:
            raise NodeError(f"Node {name} was not removed: the API of this server does not answer as needed: {error}") from error

    def _forget(self, api, name: str, alive: bool, timeout: int, quorum: bool) -> dict:
        node = api.node(name)
        if node is None:
            # Old releases keep the password of a node that was deleted.
            return self._forget_password(api, name)
        if not alive:
            deadline = self.system.now() + SILENCE
            while node is not None and is_true(node, "Ready"):
                if self.system.now() >= deadline:
                    raise NodeError(
                        f"Node {name} is Ready and reports, so a machine of that name is alive and it is not removed. Two machines have one"
                        " host name: rename one, or set k3s_node_name."
                    )
                self.system.sleep(2)
                node = api.node(name)
        if quorum and is_etcd(node):
            problem = removal_problem(state.etcd_members(api.nodes()), name)
            if problem:
                raise NodeError(f"Node {name} is not removed: {problem}.")
        if not self.check_mode:
            api.delete("/api/v1/nodes/" + urllib.parse.quote(name))
            deadline = self.system.now() + timeout
            while api.node(name) is not None:
                if self.system.now() >= deadline:
                    raise NodeError(
                        f"Node {name} was deleted, but it is still there after {timeout} s: its finalizer waits for etcd to remove the member."
                        " See the journal of k3s.service on the servers; never strip the finalizer, the member would stay."
                    )
                self.system.sleep(1)
            self._forget_password(api, name)
        return {"changed": True, "removed": "node"}

    def _forget_password(self, api, name: str) -> dict:
        secret = f"/api/v1/namespaces/kube-system/secrets/{urllib.parse.quote(name)}.node-password.k3s"
        changed = self._exists(api, secret)
        if changed and not self.check_mode:
            api.delete(secret)
        return {"changed": changed, "removed": "password" if changed else ""}

    def _exists(self, api, path: str) -> bool:
        try:
            api.get(path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True


def removal_problem(members: list, name: str) -> str:
    """Why etcd would not outlive the removal of this member; '' when it would."""
    others = [member for member in members if member["name"] != name]
    if not others:
        return "it is the last server, and the cluster's data is on it (playbooks/reset.yml takes the whole cluster away)"
    healthy = [member["name"] for member in members if member["voter"] and member["ready"]]
    left = [member for member in healthy if member != name]
    if len(healthy) < len(members) // 2 + 1 or len(left) < len(others) // 2 + 1:
        sick = sorted({member["name"] for member in others} - set(left))
        return f"{', '.join(sick)} {'is' if len(sick) == 1 else 'are'} not healthy, so etcd would lose its quorum. Heal or remove that first"
    return ""
