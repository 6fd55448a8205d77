# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypt the Secrets of a cluster that runs, or give them another key, one server at a time.

Every step is k3s' own (`k3s secrets-encrypt`); what is added is the order, the proof that the datastore has a configuration before another
server is told to use it, and that every Secret is read through each server.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import ssl
import urllib.parse

from . import encryption, state
from .api import ApiError
from .files import CONFIG_PATH, DATA_DIR, split_token
from .join import Joiner, Wanted
from .release import installed_version
from .system import NodeError, System

ANNOTATION = "k3s.io/encryption-config-hash"
SERVER_CA = DATA_DIR + "/server/tls/server-ca.crt"
# What k3s tells when an operation is done.
REACHED = {"prepare": "prepare", "rotate": "rotate", "reencrypt": "reencrypt_finished", "rotate-keys": "reencrypt_finished"}
ACTIVE = "reencrypt_active"


class Encryptor(Joiner):
    """One step on one server."""

    def __init__(self, system: System, binary: str, timeout: int, port: int = 6443, check_mode: bool = False) -> None:
        super().__init__(system, Wanted(role="server", version=installed_version(system, binary), binary=binary, timeout=timeout), check_mode)
        self.port = port

    # -- looking -------------------------------------------------------------------------------

    def read(self, secrets: bool = False) -> dict:
        """What this server is set to, has on its disk and tells the others; a re-encryption that is under way is waited for."""
        deadline = self.system.now() + self.wanted.timeout
        while True:
            facts = self._facts()
            if facts["stage"] != ACTIVE or self.system.now() >= deadline:
                break
            self.system.sleep(2)
        if facts["stage"] == ACTIVE:
            facts["problem"] = f"its re-encryption of Secrets does not end within {self.wanted.timeout} s; see the journal of k3s.service there"
        if secrets and not facts["problem"]:
            facts["secrets"] = self._read_secrets()
            if facts["flag"]:
                facts.update(self._status())
        return {"changed": False, **facts}

    def _facts(self) -> dict:
        facts = {
            "node": self.name, "version": self.wanted.version, "flag": encryption.setting(self.system) == encryption.ENCRYPTED,
            **encryption.configuration(self.system), "stage": "", "node_hash": "", "problem": "", "matching": None, "mismatch": "", "secrets": None,
        }
        if not self._is_member():
            return dict(facts, problem="it is no server with data")
        try:
            api = state.server_api(self.system, timeout=15)
            try:
                node = api.node(self.name)
            finally:
                api.close()
        except ApiError as error:
            return dict(facts, problem=f"its API does not answer: {error}")
        told = ((node or {}).get("metadata") or {}).get("annotations") or {}
        stage, dash, digest = str(told.get(ANNOTATION) or "").partition("-")
        # An annotation of former times stays on the Node of a server that is no longer set to encrypt.
        return dict(facts, stage=stage, node_hash=digest) if dash and facts["flag"] else facts

    def _status(self) -> dict:
        """k3s' own judgement of whether all servers have the same."""
        done = self.system.run([self.system.path(self.wanted.binary), "secrets-encrypt", "status", "--output", "json"], timeout=60)
        try:
            found = json.loads(done.out[done.out.index("{"):])
        except ValueError:
            return {"matching": False, "mismatch": self._said(done)}
        return {"matching": bool(found.get("hashmatch")), "mismatch": str(found.get("hasherror") or "")}

    def _read_secrets(self) -> int:
        """Every Secret through this server, one by one from the datastore: a list may come from what the API server still remembers."""
        try:
            api = state.server_api(self.system, timeout=30)
            try:
                names = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in api.get("/api/v1/secrets").get("items") or []]
                for namespace, name in names:
                    self._read_secret(api, namespace, name)
            finally:
                api.close()
        except ApiError as error:
            raise NodeError(
                f"Not every Secret can be read through {self.name}: {error}. Do nothing more with encryption until this is understood; the snapshot from"
                " before is with the backups (playbooks/restore.yml)."
            ) from error
        return len(names)

    @staticmethod
    def _read_secret(api, namespace: str, name: str) -> None:
        try:
            api.get(f"/api/v1/namespaces/{urllib.parse.quote(namespace)}/secrets/{urllib.parse.quote(name)}")
        except ApiError as error:
            # Deleted in between.
            if error.status != 404:
                raise

    def _saved(self) -> bool:
        """The bootstrap data, which other servers and restarts take, has this server's configuration."""
        token = state.current_token(self.system)
        credentials = base64.b64encode(f"server:{split_token(token or '')[1]}".encode()).decode("ascii")
        try:
            context = ssl.create_default_context(cafile=self.system.path(SERVER_CA))
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)
            try:
                connection.request("GET", "/v1-k3s/server-bootstrap", headers={"Authorization": f"Basic {credentials}"})
                answer = connection.getresponse()
                text = answer.read()
            finally:
                connection.close()
            if answer.status != 200:
                raise NodeError(f"k3s' supervisor on 127.0.0.1:{self.port} gives no bootstrap data: {answer.status}. Nothing was changed.")
            kept = (json.loads(text).get("EncryptionConfig") or {}).get("Content") or ""
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NodeError(
                f"k3s' supervisor on 127.0.0.1:{self.port} gives no bootstrap data: {type(error).__name__}. Nothing was changed."
            ) from error
        return hashlib.sha256(base64.b64decode(kept)).hexdigest() == encryption.configuration(self.system)["hash"]

    # -- one operation, for the whole cluster --------------------------------------------------

    def operate(self, operation: str) -> dict:
        """Ask this server for the next step; '' only proves that the others can have what it has."""
        if self.check_mode:
            return {"changed": bool(operation), "hash": ""}
        before = encryption.configuration(self.system)
        changed = bool(operation) and not (operation == "enable" and before["kind"] == "identity" and self._saved())
        if changed:
            self._run(operation, before)
        after = encryption.configuration(self.system)
        if operation == "enable" and after["kind"] != "identity" or not self._saved():
            raise NodeError(
                f"{self.name}'s encryption configuration ({after['kind']}) is not in the cluster's bootstrap data, so another server could not take it and"
                " would make a key of its own. No other server was changed. If secrets-encryption was set on this server by hand, take it out of"
                f" {CONFIG_PATH} and restart k3s there; then run again."
            )
        return {"changed": changed, "hash": after["hash"]}

    def _run(self, operation: str, before: dict) -> None:
        done = self.system.run([self.system.path(self.wanted.binary), "secrets-encrypt", operation], timeout=self.wanted.timeout)
        wanted = REACHED.get(operation)
        deadline = self.system.now() + self.wanted.timeout
        while wanted:
            facts = self._facts()
            if facts["stage"] == wanted and facts["hash"] != before["hash"] and facts["node_hash"] == facts["hash"]:
                return
            # The command gives up after a minute, and the server goes on.
            if done.rc != 0 and facts["stage"] != ACTIVE or self.system.now() >= deadline:
                break
            self.system.sleep(1)
        if done.rc != 0 or wanted:
            why = self._said(done)
            hint = ""
            if operation == "enable" and "no such file" in why:
                hint = (
                    f" k3s {self.wanted.version} can't do this on a cluster that runs. Upgrade first: the latest releases of 1.32 and newer can since"
                    " early 2026, as 1.34.4 does."
                )
            raise NodeError(f"`k3s secrets-encrypt {operation}` on {self.name} did not come to its end: {why}.{hint} Run again when that is cured.")

    def _said(self, done) -> str:
        """k3s' reason: the command tells a number, and the journal what it stands for."""
        lines = (done.err or done.out).strip().splitlines()
        said = lines[-1] if lines else f"exit code {done.rc}"
        number = re.search(r"error ID (\d+)", said)
        if number:
            for entry in self.system.journal(self.service, self.system.now() - 600):
                match = re.search(rf'error ID {number.group(1)}: ([^"]+)', entry.text)
                if match:
                    return match.group(1).strip()
        return said

    # -- the servers, one after the other ------------------------------------------------------

    def take(self, digest: str, leader: bool = False) -> dict:
        """Bring this server to what the leader has: the setting, a restart where it runs with something else, and every Secret read."""
        flag = encryption.setting(self.system) == encryption.ENCRYPTED
        found = encryption.configuration(self.system)
        unit = self.system.unit(self.service)
        watched = [CONFIG_PATH] + ([encryption.CONFIGURATION] if leader else [])
        newer = [path for path in watched if unit.started_at and int(self.system.mtime(path)) > unit.started_at]
        if self.check_mode and not digest:
            return {"changed": True, "restarted": True}
        stale = not flag or found["hash"] != digest or bool(newer)
        if self.check_mode or not stale:
            return {"changed": stale, "restarted": stale, **({} if self.check_mode else {"secrets": self._read_secrets()})}
        self._guard_quorum(True, unit)
        text = self.system.read(CONFIG_PATH) or ""
        if not flag:
            self.system.write(CONFIG_PATH, encryption.with_setting(text, encryption.ENCRYPTED), 0o600)
        since = self.system.now()
        self._change_service("restart", unit)
        self.wait(since, unit.pid)
        self._wait_for(digest, text if not flag else None)
        self._keep_good_config()
        return {"changed": True, "restarted": True, "secrets": self._read_secrets()}

    def _wait_for(self, digest: str, before: str | None) -> None:
        deadline = self.system.now() + self.wanted.timeout
        while True:
            facts = self._facts()
            if facts["hash"] == facts["node_hash"] == digest:
                return
            if facts["hash"] != digest or self.system.now() >= deadline:
                break
            self.system.sleep(1)
        if facts["hash"] == digest:
            raise NodeError(f"{self.name} does not tell the others that it has the configuration ({facts['problem'] or facts['node_hash'] or 'nothing'}).")
        back = ""
        if before is not None:
            back = " " + self._take_back({CONFIG_PATH: (before, 0o600)})
        raise NodeError(f"{self.name} has another encryption configuration ({facts['kind']}) than the cluster after its restart.{back}")
