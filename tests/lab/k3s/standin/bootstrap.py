# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's bootstrap data: CA files that every server shares, carried by the supervisor and kept in etcd."""
from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import subprocess

from . import log, pki
from .log import Fatal

FILES = [f"tls/{name}" for name in pki.BOOTSTRAP_FILES] + ["cred/passwd"]
# Files that differ by less count as equally old, in favour of the datastore.
SKEW = 3


def pack(server_dir: pathlib.Path) -> dict[str, dict]:
    out = {}
    for name in FILES:
        path = server_dir / name
        if path.exists():
            out[name] = {"Timestamp": int(path.stat().st_mtime), "Content": base64.b64encode(path.read_bytes()).decode()}
    return out


def unpack(server_dir: pathlib.Path, data: dict[str, dict]) -> None:
    for name, row in data.items():
        if name not in FILES:
            continue
        content = base64.b64decode(row["Content"])
        path = server_dir / name
        if not path.exists() or path.read_bytes() != content:
            pki.write_private(path, content, 0o644 if name.endswith(".crt") else 0o600)


def reconcile(server_dir: pathlib.Path, data: dict[str, dict], resetting: bool = False) -> None:
    """What the disk has against the cluster's data: the newer one of two that differ is right, and on the disk that is fatal but for a reset."""
    disk = pack(server_dir)
    newer, update = [], False
    for name, row in data.items():
        mine = disk.get(name)
        if name not in FILES or (mine and mine["Content"] == row["Content"]):
            continue
        place = server_dir / name
        if mine and mine["Timestamp"] - row["Timestamp"] >= SKEW and not resetting:
            newer.append(str(place))
        elif mine and resetting:
            log.info(f"Cluster reset: replacing file on disk: {place}")
            update = True
        else:
            log.warning(f"Datastore newer than {place}" if mine else f"{place} doesn't exist. continuing...")
            update = True
    if newer:
        raise Fatal(", ".join(newer) + " newer than datastore and could cause a cluster outage. Remove the file(s) from disk and restart to be"
                    " recreated from datastore.")
    if update:
        log.warning("Updating bootstrap data on disk from datastore")
        unpack(server_dir, data)


def key_of(password: str) -> str:
    return "/bootstrap/" + hashlib.sha256(password.encode()).hexdigest()[:12]


def _enc(mode: list[str], data: bytes, password: str) -> bytes:
    # the password goes by environment: it must not show in the process list
    command = ["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-base64", "-A", "-pass", "env:BOOTSTRAP_PASSWORD", *mode]
    done = subprocess.run(command, input=data, capture_output=True, check=False, env={**os.environ, "BOOTSTRAP_PASSWORD": password})
    if done.returncode:
        raise Fatal("Error: preparing server: failed to bootstrap cluster data: failed to decrypt bootstrap data")
    return done.stdout


def encrypt(data: dict, password: str) -> bytes:
    return _enc(["-salt"], json.dumps(data).encode(), password)


def decrypt(data: bytes, password: str) -> dict:
    return json.loads(_enc(["-d"], data, password))
