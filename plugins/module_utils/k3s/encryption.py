# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server encrypts the Secrets in its datastore: what its settings, the configuration that k3s keeps, and a snapshot say."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import zipfile

from .files import CONFIG_PATH, DATA_DIR
from .system import System
from .unit import foreign_arguments, unit_path
from .yamltext import top_level

FLAG = "secrets-encryption"
ENCRYPTED, PLAIN = "encrypted", "plain"
# What k3s hands to the API server. It holds the keys, so nothing but their names leaves this file.
CONFIGURATION = DATA_DIR + "/server/cred/encryption-config.json"
STATE = DATA_DIR + "/server/cred/encryption-state.json"
# Before each value that the API server has encrypted.
MARK = re.compile(rb"k8s:enc:(aescbc|aesgcm|secretbox|kms):v\d")
MARK_LENGTH = 32


def is_on(value: object) -> bool:
    return str(value).strip().lower() == "true"


def setting(system: System) -> str:
    """What a member is started with."""
    config = system.read(CONFIG_PATH)
    argument = [word.partition("=")[2] or "true" for word in shlex.split(foreign_arguments(system.read(unit_path("server")), "server"))
                if word.partition("=")[0] == f"--{FLAG}"]
    if argument:
        return ENCRYPTED if is_on(argument[-1]) else PLAIN
    if config is not None:
        return ENCRYPTED if is_on(top_level(config).get(FLAG)) else PLAIN
    return ENCRYPTED if configuration(system)["keys"] else PLAIN


def kept(config: dict, has: str) -> tuple:
    """(the settings with encryption as the cluster has it, why they differ from what is wanted, '' when they do not)."""
    wants = ENCRYPTED if is_on(config.get(FLAG)) else PLAIN
    if not has or has == wants:
        return config, ""
    rest = {key: value for key, value in config.items() if key != FLAG}
    if has == ENCRYPTED:
        return {**rest, FLAG: True}, (
            "The Secrets of this cluster are encrypted, and control_plane_secrets_encryption is false. They stay encrypted: without the setting k3s"
            " could not read them. Set control_plane_secrets_encryption to true."
        )
    return rest, (
        "The Secrets of this cluster are not encrypted, and control_plane_secrets_encryption is true. They stay as they are: switched on like this,"
        " each server would make a key of its own, and no Secret could be read any more. playbooks/secrets_encryption.yml encrypts them."
    )


def with_setting(text: str, has: str) -> str:
    """config.yaml with encryption as the data has it."""
    rest = re.sub(rf"^{FLAG}[ \t]*:.*\n?", "", text, flags=re.MULTILINE)
    return f"{rest.rstrip()}\n{FLAG}: true\n" if has == ENCRYPTED else rest


def configuration(system: System) -> dict:
    """The API server's encryption configuration, without the keys: `kind`, their names, and the hash that k3s writes on the Node.

    Kinds: none; identity (prepared, nothing is encrypted), encrypted, disabled (nothing new is encrypted, what was is still read).
    """
    text = system.read(CONFIGURATION)
    if not text:
        return {"kind": "none", "keys": [], "provider": "", "hash": ""}
    try:
        providers = json.loads(text)["resources"][0]["providers"]
        names = [next(iter(provider)) for provider in providers]
        keys = [key["name"] for provider in providers for part in provider.values() for key in part.get("keys") or []]
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return {"kind": "damaged", "keys": [], "provider": "", "hash": ""}
    kind = "encrypted" if names[0] != "identity" else "disabled" if keys else "identity"
    provider = next((name for name in names if name != "identity"), "")
    return {"kind": kind, "keys": keys, "provider": provider, "hash": hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()}


def of_snapshot(system: System, path: str) -> str:
    """Whether a snapshot of etcd, as it is or compressed, holds encrypted values."""
    real = system.path(path)
    if zipfile.is_zipfile(real):
        with zipfile.ZipFile(real) as archive:
            return ENCRYPTED if any(_has_mark(archive.open(name)) for name in archive.namelist()) else PLAIN
    return ENCRYPTED if _has_mark(open(real, "rb")) else PLAIN


def _has_mark(stream) -> bool:
    with stream:
        before = b""
        for block in iter(lambda: stream.read(1 << 20), b""):
            if MARK.search(before + block):
                return True
            before = block[-MARK_LENGTH:]
    return False
