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

from . import pki
from .log import Fatal

FILES = [f"tls/{name}" for name in pki.BOOTSTRAP_FILES]


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
