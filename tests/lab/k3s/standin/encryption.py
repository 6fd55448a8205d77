# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption of Secrets, as k3s does it since the releases of early 2026.

Each server has a configuration of its own on the disk. It is in the bootstrap data from the cluster's begin, or from `secrets-encrypt enable`
on; a server of a running cluster that is only given the flag makes a key that no other server knows.
"""
from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import random
import re
import secrets
import threading
import time
from typing import Any

from . import log, pki
from .kube import ApiError
from .log import Fatal

ANNOTATION = "k3s.io/encryption-config-hash"
PREFIX = {"aescbc": "aescbckey", "secretbox": "secretboxkey"}
SHOWN = {"aescbc": "AES-CBC", "secretbox": "XSalsa20-POLY1305"}
IDENTITY: dict[str, Any] = {"identity": {}}
SKEW = 3
RELOADS = re.compile(r'^apiserver_encryption_config_controller_automatic_reloads_total\{[^}]*status="success"[^}]*\} (\S+)', re.MULTILINE)


class Refused(Exception):
    """k3s' reason; the client only sees a number, the reason is in the server's log."""


class Panic(Exception):
    """The request ends without an answer: k3s' handler reads past the end of its list of providers."""


class Encryption:
    def __init__(self, server: Any):
        self.server = server
        self.place: pathlib.Path = server.cred / "encryption-config.json"
        self.state: pathlib.Path = server.cred / "encryption-state.json"
        self.flag = bool(server.options["secrets-encryption"])
        # Without the flag k3s has no path for the file, until it is asked to enable.
        self.known = self.flag
        self.provider = server.options["secrets-encryption-provider"] or "aescbc"
        self.lock = threading.Lock()

    # -- files and bootstrap data

    def generate(self) -> None:
        if not self.flag:
            return
        if self.place.exists() and self.place.stat().st_size:
            if not self.state.exists():
                self._keep_state("start")
            return
        self._write([{self.provider: {"keys": [{"name": PREFIX[self.provider], "secret": new_secret()}]}}, IDENTITY])
        self._keep_state("start")

    def reconcile(self, data: dict[str, dict], reset: bool = False) -> None:
        """What the bootstrap data has goes to the disk, unless the disk's is newer: then k3s does not start."""
        rows = {self.place: data.get("EncryptionConfig"), self.state: data.get("EncryptionHash")}
        if not self.flag:
            if rows[self.place]:
                log.warning("Unable to lookup path to reconcile EncryptionConfig")
            return
        newer = [str(path) for path, row in rows.items() if row and path.exists() and path.read_bytes() != base64.b64decode(row["Content"])
                 and int(path.stat().st_mtime) - row["Timestamp"] >= SKEW]
        if newer and not reset:
            raise Fatal(", ".join(newer) + " newer than datastore and could cause a cluster outage. Remove the file(s) from disk and restart to be"
                        " recreated from datastore.")
        for path, row in rows.items():
            if row and (not path.exists() or path.read_bytes() != base64.b64decode(row["Content"])):
                log.warning(f"{path} will be updated from the datastore.")
                pki.write_private(path, base64.b64decode(row["Content"]))
                os.utime(path, (row["Timestamp"], row["Timestamp"]))

    def pack(self) -> dict[str, dict]:
        names = {"EncryptionConfig": self.place, **({"EncryptionHash": self.state} if self.flag else {})} if self.known else {}
        return {name: {"Timestamp": int(path.stat().st_mtime), "Content": base64.b64encode(path.read_bytes()).decode()}
                for name, path in names.items() if path.exists()}

    def providers(self) -> list[dict] | None:
        if not self.known or not self.place.exists():
            return None
        return json.loads(self.place.read_text(encoding="utf-8"))["resources"][0]["providers"]

    def keys(self, provider: str) -> list[dict]:
        return [key for row in self.providers() or [] for name, part in row.items() if name == provider for key in part.get("keys", [])]

    def _write(self, providers: list[dict]) -> None:
        config = {"kind": "EncryptionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1",
                  "resources": [{"resources": ["secrets"], "providers": providers}]}
        pki.write_private(self.place, json.dumps(config).encode())

    def _write_keys(self, keys: list[dict], enable: bool = True) -> None:
        mine = {self.provider: {"keys": keys}}
        self._write([mine, IDENTITY] if enable else [IDENTITY, mine])

    def _hash(self) -> str:
        return hashlib.sha256(self.place.read_bytes()).hexdigest()

    def _keep_state(self, stage: str) -> None:
        pki.write_private(self.state, f"{stage}-{self._hash()}".encode())

    # -- the Node's annotation

    def announce(self) -> None:
        """Once, when the Node is there; k3s tries until it is."""
        if self.flag:
            threading.Thread(target=self._announce_forever, name="encryption", daemon=True).start()

    def _announce_forever(self) -> None:
        while True:
            try:
                self._annotate(self.state.read_text(encoding="utf-8"))
                return
            except ApiError:
                time.sleep(1)

    def _annotate(self, text: str) -> None:
        self.server.client.patch(f"/api/v1/nodes/{self.server.name}", {"metadata": {"annotations": {ANNOTATION: text}}})

    def _stage(self, stage: str, keep: bool = True) -> None:
        self._annotate(f"{stage}-{self._hash()}")
        if keep:
            self._keep_state(stage)

    def _annotations(self) -> dict[str, str]:
        nodes = self.server.client.items("/api/v1/nodes?labelSelector=node-role.kubernetes.io%2Fcontrol-plane%3Dtrue")
        return {node["metadata"]["name"]: (node["metadata"].get("annotations") or {}).get(ANNOTATION, "") for node in nodes}

    def _verify(self, stages: tuple[str, ...] = ()) -> None:
        found = self._annotations()
        given = [(name, text) for name, text in found.items() if text]
        for name, text in given:
            if text != given[0][1]:
                raise Refused(f"hash does not match between {given[0][0]} and {name}")
        if not stages:
            return
        stage, digest = self._own(found)
        first = next(iter(found), "")
        if stage not in stages:
            raise Refused(f"incorrect stage: {stage} found on node {first}")
        if digest != self._hash():
            raise Refused(f"invalid hash: {digest} found on node {first}")

    def _own(self, found: dict[str, str]) -> tuple[str, str]:
        text = found.get(self.server.name, "")
        if not text:
            raise Refused(f"missing annotation on node {self.server.name}")
        stage, _sep, digest = text.partition("-")
        return stage, digest

    # -- requests

    def status(self) -> dict[str, Any]:
        providers = self.providers()
        if providers is None:
            return {"stage": "", "activekey": ""}
        first, last = next(iter(providers[0])), next(iter(providers[-1]))
        out: dict[str, Any] = {"enable": last == "identity" and first != "identity"}
        try:
            self._verify()
            out["hashmatch"] = True
        except Refused as err:
            out["hasherror"] = str(err)
        out["stage"] = self._own(self._annotations())[0]
        names, out["activekey"] = [], ""
        for row in providers:
            for provider, part in row.items():
                names += [f"{SHOWN[provider]} {key['name']}" for key in part.get("keys", [])]
        if first != "identity" and names:
            out["activekey"], names = names[0], names[1:]
        return {**out, **({"inactivekeys": names} if names else {})}

    def change(self, request: dict[str, Any]) -> None:
        with self.lock:
            if "stage" in request:
                steps = {"prepare": self._prepare, "rotate": self._rotate, "rotate_keys": self._rotate_keys, "reencrypt_active": self._reencrypt}
                if request["stage"] not in steps:
                    raise Refused(f"unknown stage {request['stage']} requested")
                steps[request["stage"]](request)
            elif "enable" in request:
                self._enable(bool(request["enable"]))

    def _enable(self, enable: bool) -> None:
        providers = self.providers()
        if providers is None:
            if not enable:
                raise Refused("open : no such file or directory")
            log.info("Enabling secrets encryption with identity provider, restart with secrets-encryption")
            self.known = True
            self._write([IDENTITY])
            self.server.save_bootstrap()
            return
        on = "identity" not in providers[0]
        if on == enable:
            log.info(f"Secrets encryption already {'enabled' if enable else 'disabled'}")
            return
        if len(providers) < 2:
            raise Panic
        self._write_keys(self.keys(self.provider), enable)
        self.server.save_bootstrap()
        self._update_secrets()
        self._annotate(self.state.read_text(encoding="utf-8"))

    def _prepare(self, request: dict[str, Any]) -> None:
        self._staged("prepare", request, ("start", "reencrypt_finished"))
        self._write_keys([*self.keys(self.provider), self._new_key()])
        self._stage("prepare")
        self.server.save_bootstrap()

    def _rotate(self, request: dict[str, Any]) -> None:
        self._staged("rotate", request, ("prepare",))
        keys = self.keys(self.provider)
        self._write_keys([*keys[-1:], *keys[:-1]])
        self._stage("rotate")
        self.server.save_bootstrap()

    def _reencrypt(self, request: dict[str, Any]) -> None:
        self._staged("reencrypt", request, ("rotate",))
        self._stage("reencrypt_active", keep=False)
        threading.Thread(target=self._finish, args=(bool(request.get("skip")),), name="reencrypt", daemon=True).start()

    def _staged(self, what: str, request: dict[str, Any], stages: tuple[str, ...]) -> None:
        try:
            self._verify(stages)
        except Refused:
            if not request.get("force"):
                raise
        if self.provider == "secretbox":
            raise Refused(f"{what} does not support secretbox key type, use rotate-keys instead")

    def _rotate_keys(self, _request: dict[str, Any]) -> None:
        self._verify(("start", "reencrypt_finished"))
        before = self._reloads()
        self._stage("reencrypt_active", keep=False)
        self._write_keys([self._new_key(), *self.keys(self.provider)])
        end = time.monotonic() + 120
        # The API server looks at the file once a minute.
        while self._reloads() <= before:
            if time.monotonic() > end:
                raise Refused("context deadline exceeded: apiserver has not reloaded encryption configuration")
            time.sleep(1)
        self._finish()

    def _reloads(self) -> float:
        found = RELOADS.search(self.server.client.raw("GET", "/metrics").decode())
        return float(found.group(1)) if found else 0.0

    def _new_key(self) -> dict[str, str]:
        return {"name": f"{PREFIX[self.provider]}-{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}", "secret": new_secret()}

    def _finish(self, skip: bool = False) -> None:
        """Every Secret is written anew; then the last key goes, but not the only one."""
        try:
            self._update_secrets()
        except ApiError as err:
            log.error(f"secrets-reencrypt: {err}")
            return
        if skip:
            self._annotate(self.state.read_text(encoding="utf-8"))
            return
        keys = self.keys(self.provider)
        self._write_keys(keys[:-1] if len(keys) > 1 else keys)
        self._stage("reencrypt_finished")
        self.server.save_bootstrap()

    def _update_secrets(self) -> None:
        client = self.server.client
        for item in client.items("/api/v1/secrets"):
            meta = item["metadata"]
            try:
                client.call("PUT", f"/api/v1/namespaces/{meta['namespace']}/secrets/{meta['name']}", {"apiVersion": "v1", "kind": "Secret", **item})
            except ApiError as err:
                if err.code not in (404, 409):
                    raise


def new_secret() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def error_id(reason: str) -> str:
    text = f"secret-encrypt error ID {random.randrange(100000):05d}"
    log.error(f"{text}: {reason}")
    return text
