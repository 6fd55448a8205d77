# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New certificates and a new token for a node that is a member, one node at a time.

The cluster's token is changed once, on one server, through k3s' supervisor: `k3s token rotate` makes the same request, but takes the
new token as an argument, which every user of the machine can read. After that each node takes the token and is restarted: a server knows
the passwords that it read at its start, so also the one that was asked takes the old token, and refuses the new one, until then.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl

from . import certificates, state
from .files import CONFIG_PATH, DATA_DIR, TOKEN_PATH, check_token, same_token, split_token
from .foreign import refusal
from .join import Joiner, Wanted
from .release import installed_version
from .system import NodeError, System, UnitState
from .unit import unit_path
from .yamltext import top_level

SERVER_CA = DATA_DIR + "/server/tls/server-ca.crt"
# The token of before the change, until the server was seen to refuse it.
OLD_TOKEN = TOKEN_PATH + ".before-rotation"
# There while nobody knows whether the datastore has the new token.
UNSURE = TOKEN_PATH + ".change-unconfirmed"
# Seconds that a server which is starting has to answer.
ANSWER = 60
AGAIN = "Run playbooks/rotate.yml --tags token again, with the same k3s_new_token."
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

    def ours(self) -> dict:
        """Refuse a node that was installed by other means: it has its token where this does not look."""
        why = refusal(state.foreign(self.system))
        if why:
            raise NodeError(why)
        return {"changed": False}

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
            self._keep_old(token)
            self._put_token(split_token(old)[1], split_token(token)[1], port)
            # k3s has written its own file. With the old token in the other one it would not start again.
            self._write_token(token)
        return {"changed": True}

    def take_token(self, token: str, port: int) -> dict:
        """Give the node the new token and restart it, so that the old one is nowhere in use."""
        self._refuse_token(token)
        unit = self.system.unit(self.service)
        stale = self._stale(token)
        if not stale and unit.running and self.wanted.role == "server" and not self.check_mode:
            # An earlier run may have been interrupted while it waited, and the next node is not to be restarted before this one is up.
            self.wait(self.system.now(), 0)
        if not stale and not self._runs_with_older(token, port, unit):
            return {"changed": False}
        if self.check_mode:
            return {"changed": True}
        self._guard_quorum(state.has_datastore(self.system), unit)
        if self.wanted.role == "server":
            self._keep_old(token)
            self._confirm(token, port)
        self._write_token(token)
        since = self.system.now()
        self._change_service("restart", unit)
        self.wait(since, unit.pid)
        return {"changed": True}

    def prove_token(self, token: str, port: int) -> dict:
        """See that this server takes the new token, and the one of before no more."""
        self._refuse_token(token)
        if not self._takes(token, port):
            raise NodeError(f"k3s' supervisor on 127.0.0.1:{port} refuses the new token: machines that join through this server would fail. {AGAIN}")
        old = self.system.read(OLD_TOKEN)
        if old is not None and not same_token(old, token) and self._takes(old, port):
            raise NodeError(f"k3s' supervisor on 127.0.0.1:{port} still takes the token of before. {AGAIN}")
        left = [path for path in (OLD_TOKEN, UNSURE) if self.system.exists(path)]
        if not self.check_mode:
            for path in left:
                self.system.remove(path)
        return {"changed": bool(left)}

    def _token_files(self) -> list:
        """Where this node keeps the token. A server keeps it with its data as well, and reads it from there when it was given no file."""
        given = top_level(self.system.read(CONFIG_PATH)).get("token-file")
        server = self.wanted.role == "server"
        return ([given or TOKEN_PATH] if given or not server else []) + ([state.SERVER_TOKEN] if server else [])

    def _stale(self, token: str) -> list:
        return [path for path in self._token_files() if not same_token(self.system.read(path), token)]

    def _write_token(self, token: str) -> None:
        for path in self._stale(token):
            self.system.write(path, self._in_form_of(self.system.read(path), token), 0o600)

    def _keep_old(self, token: str) -> None:
        old = state.current_token(self.system)
        if old and not same_token(old, token):
            self.system.write(OLD_TOKEN, old + "\n", 0o600)

    def _runs_with_older(self, token: str, port: int, unit: UnitState) -> bool:
        """The node's files have the token, but it was started before they had it. A server is asked; an agent cannot be."""
        if self.wanted.role == "server":
            return not unit.running or not self._takes(token, port)
        given = top_level(self.system.read(CONFIG_PATH)).get("token-file")
        return bool(given) and bool(unit.started_at) and int(self.system.mtime(given)) > unit.started_at

    def _confirm(self, token: str, port: int) -> None:
        """Ask the datastore for the new token once more where an earlier run got no good answer: without it this server would not start again."""
        old = self.system.read(OLD_TOKEN)
        if self.system.exists(UNSURE) and old is not None and self._takes(old, port):
            self._put_token(split_token(old)[1], split_token(token)[1], port)

    def _takes(self, token: str, port: int) -> bool:
        """Whether this server takes the token. One that is starting answers nothing, or 503, for a while."""
        settings = top_level(self.system.read(CONFIG_PATH))
        # Agents may have a token of their own. Then only a server's requests show the cluster's: this one is no answer to GET, but after the password.
        own = settings.get("agent-token") or settings.get("agent-token-file")
        user, path = ("server", "/v1-k3s/token") if own else ("node", "/v1-k3s/readyz")
        deadline = self.system.now() + ANSWER
        while True:
            try:
                status, text = self._ask("GET", path, user, split_token(token)[1], port)
                if status != 503:
                    break
                reason = f"{status} {text.strip()[:200]}"
            except OSError as error:
                reason = str(error) or type(error).__name__
            if self.system.now() >= deadline:
                raise NodeError(f"k3s' supervisor on 127.0.0.1:{port} could not be asked whether it takes the token: {reason}. See the journal of k3s.service.")
            self.system.sleep(2)
        return status != 401

    def _ask(self, verb: str, path: str, user: str, password: str, port: int, body: str | None = None, sent: list | None = None) -> tuple:
        """(status, text) of a request to this server's own supervisor. OSError where there is no answer; `sent` is filled once it was on its way."""
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        context = ssl.create_default_context(cafile=self.system.path(SERVER_CA))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=120, context=context)
        try:
            connection.connect()
            if sent is not None:
                sent.append(True)
            connection.request(verb, path, body=body, headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        except http.client.HTTPException as error:
            raise OSError(str(error) or type(error).__name__) from error
        finally:
            connection.close()

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
        """PUT /v1-k3s/token, as the server itself. It may be repeated: then it tells whether the datastore has the new one."""
        sent: list = []
        sure = not self.system.exists(UNSURE)
        self.system.write(UNSURE, "", 0o600)
        try:
            status, text = self._ask("PUT", "/v1-k3s/token", "server", old, port, json.dumps({"newToken": new}), sent)
        except OSError as error:
            reason = f"k3s' supervisor on 127.0.0.1:{port} {{}}: {error or type(error).__name__}."
            if not sent:
                self._forget_unsure(sure)
                raise NodeError(f"{reason.format('could not be asked for the new token')} Nothing was changed.") from error
            raise NodeError(f"{reason.format('did not answer when it got the new token')} {UNKNOWN_TOKEN}") from error
        if status >= 500:
            raise NodeError(f"k3s failed while it changed the token: {status} {text.strip()[:200]}. {UNKNOWN_TOKEN}")
        self._forget_unsure(sure or status < 300)
        if status >= 300:
            raise NodeError(f"k3s refused the new token: {status} {text.strip()[:200]}. Nothing was changed. Changing it needs k3s 1.28 or newer.")

    def _forget_unsure(self, known: bool) -> None:
        if known:
            self.system.remove(UNSURE)
