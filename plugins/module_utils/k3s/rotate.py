# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New certificates and a new token for a node that is a member, one node at a time.

The cluster's token is changed once, on one server, through k3s' supervisor: `k3s token rotate` makes the same request, but takes the
new token as an argument, which every user of the machine can read. After that each node takes the token and is restarted.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl

from . import certificates, state
from .files import CONFIG_PATH, DATA_DIR, TOKEN_PATH, check_token, same_token, split_token
from .join import Joiner, Wanted
from .release import installed_version
from .system import NodeError, System
from .unit import unit_path
from .yamltext import top_level

SERVER_CA = DATA_DIR + "/server/tls/server-ca.crt"
UNKNOWN_TOKEN = (
    "Whether the datastore has the new token is not known. Keep both tokens, and do not restart k3s on this server before etcd is healthy again;"
    " then run again with the same k3s_new_token. A server that then says its data is encrypted with a different token needs the old one back in"
    f" {state.SERVER_TOKEN}, and a start."
)


def role_of(system: System) -> str:
    """What the node is, by its unit."""
    for role in ("server", "agent"):
        if system.exists(unit_path(role)):
            return role
    raise NodeError("k3s is not installed here: there is neither k3s.service nor k3s-agent.service. Run site.yml first.")


class Rotator(Joiner):
    """A member stays what it is; only its secrets change."""

    def __init__(self, system: System, binary: str, timeout: int, check_mode: bool = False) -> None:
        role = role_of(system)
        wanted = Wanted(role=role, version=installed_version(system, binary), binary=binary, timeout=timeout)
        super().__init__(system, wanted, check_mode)

    # -- certificates --------------------------------------------------------------------------

    def certificates(self, within: int) -> dict:
        """Renew what ends within so many days; k3s has to be down for that."""
        before = certificates.certificates(self.system)
        due = certificates.due(before, within)
        if not due or self.check_mode:
            return {"changed": bool(due), "renewed": due, "certificates": before}
        expired = any(entry["days"] < 0 for entry in before)
        self._guard_quorum(state.has_datastore(self.system), self.system.unit(self.service), cure=expired)
        unit = self.system.unit(self.service)
        self._systemctl("stop", f"{self.service}.service")
        done = self.system.run([self.system.path(self.wanted.binary), "certificate", "rotate"], timeout=120)
        since = self.system.now()
        # Whatever came of it, k3s goes on: it makes anew what is missing.
        self._systemctl("start", "--no-block", f"{self.service}.service")
        self.wait(since, unit.pid)
        if done.rc != 0:
            said = (done.err or done.out).strip().splitlines()
            raise NodeError(
                f"`k3s certificate rotate` gave {done.rc}: {said[-1] if said else 'nothing'}. k3s runs again, with the certificates it had."
                " Cure that, and run again."
            )
        after = certificates.certificates(self.system)
        ends = {entry["path"]: entry["not_after"] for entry in before}
        left = [entry["path"] for entry in after if entry["path"] in due and entry["not_after"] == ends[entry["path"]]]
        if left:
            raise NodeError(f"k3s runs again, but these certificates were not renewed: {', '.join(left)}. See `k3s certificate check`.")
        return {"changed": True, "renewed": due, "certificates": after}

    # -- the token -----------------------------------------------------------------------------

    def knows(self, token: str) -> bool:
        """Whether this server's datastore has the token already."""
        self._refuse_token(token)
        return same_token(state.current_token(self.system), token)

    def change_token(self, token: str, port: int) -> dict:
        """Ask this server to encrypt the cluster's secrets with the new token. Once for the whole cluster."""
        self._refuse_token(token)
        if self.wanted.role != "server":
            raise NodeError("The token is changed on a server; this is an agent.")
        old = state.current_token(self.system)
        if same_token(old, token):
            return {"changed": False}
        if not old:
            raise NodeError(f"{state.SERVER_TOKEN} is not there, so this server cannot be asked for another token. Is it a member?")
        if not self.check_mode:
            self._put_token(split_token(old)[1], split_token(token)[1], port)
        return {"changed": True}

    def take_token(self, token: str) -> dict:
        """Give the node the new token and restart it, so that the old one is nowhere in use."""
        self._refuse_token(token)
        given = top_level(self.system.read(CONFIG_PATH)).get("token-file")
        path = given or TOKEN_PATH
        server = self.wanted.role == "server"
        # A server that made its own token keeps it with its data, and reads it from there.
        paths = ([path] if given or not server else []) + ([state.SERVER_TOKEN] if server else [])
        unit = self.system.unit(self.service)
        stale = [name for name in paths if not same_token(self.system.read(name), token)]
        # An interrupted run may have written the file and not restarted. k3s itself writes the other one after its start.
        newer = bool(given) and bool(unit.started_at) and int(self.system.mtime(given)) > unit.started_at
        if not stale and not newer:
            return {"changed": False}
        if self.check_mode:
            return {"changed": True}
        self._guard_quorum(state.has_datastore(self.system), unit)
        for name in stale:
            self.system.write(name, self._in_form_of(self.system.read(name), token), 0o600)
        since = self.system.now()
        self._change_service("restart", unit)
        self.wait(since, unit.pid)
        return {"changed": True}

    @staticmethod
    def _in_form_of(before: str | None, token: str) -> str:
        """A secure token stays one: the authority it names has not changed."""
        secure = split_token(before or "")[0]
        if not secure:
            return split_token(token)[1] + "\n"
        user = (before or "").partition("::")[2].partition(":")[0]
        return f"K10{secure}::{user}:{split_token(token)[1]}\n"

    @staticmethod
    def _refuse_token(token: str) -> None:
        problem = check_token(token)
        if not problem and split_token(token)[0]:
            problem = "give the password alone, not the secure form (K10...)"
        if problem:
            raise NodeError(f"k3s_new_token cannot be right: {problem}. Nothing was changed.")

    def _put_token(self, old: str, new: str, port: int) -> None:
        """PUT /v1-k3s/token, as the server itself."""
        credentials = base64.b64encode(f"server:{old}".encode()).decode("ascii")
        sent = False
        try:
            context = ssl.create_default_context(cafile=self.system.path(SERVER_CA))
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=120, context=context)
            try:
                connection.connect()
                sent = True
                connection.request(
                    "PUT", "/v1-k3s/token", body=json.dumps({"newToken": new}),
                    headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
                )
                answer = connection.getresponse()
                text = answer.read().decode("utf-8", "replace")
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            reason = f"k3s' supervisor on 127.0.0.1:{port} {{}}: {error or type(error).__name__}."
            if not sent:
                raise NodeError(f"{reason.format('could not be asked for the new token')} Nothing was changed.") from error
            raise NodeError(f"{reason.format('did not answer when it got the new token')} {UNKNOWN_TOKEN}") from error
        if answer.status >= 500:
            raise NodeError(f"k3s failed while it changed the token: {answer.status} {text.strip()[:200]}. {UNKNOWN_TOKEN}")
        if answer.status >= 300:
            raise NodeError(
                f"k3s refused the new token: {answer.status} {text.strip()[:200]}. Nothing was changed. Changing it needs k3s 1.28 or newer."
            )
