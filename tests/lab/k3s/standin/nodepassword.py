# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Node passwords: made on the node at first start, their scrypt hash kept in a secret of kube-system."""
from __future__ import annotations

import base64
import hashlib
import pathlib
import secrets

from . import pki
from .kube import ApiError, Client

REJECTED = ("Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry, "
            "try enabling a unique node name with the --with-node-id flag")
PASSWORD_FILE = pathlib.Path("/etc/rancher/node/password")


class Rejected(Exception):
    """Another machine registered under this name before."""


def local() -> str:
    if not PASSWORD_FILE.exists():
        pki.write_private(PASSWORD_FILE, secrets.token_hex(16).encode())
    return PASSWORD_FILE.read_text(encoding="utf-8").strip()


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2 ** 15, r=8, p=1, maxmem=64 * 1024 * 1024)


def make_hash(password: str) -> str:
    salt = secrets.token_bytes(8)
    return f"$1:{salt.hex()}:15:8:1:{base64.b64encode(_digest(password, salt)).decode()}"


def matches(password: str, stored: str) -> bool:
    try:
        _kind, salt, _n, _r, _p, digest = stored.split(":")
        return secrets.compare_digest(_digest(password, bytes.fromhex(salt)), base64.b64decode(digest))
    except ValueError:
        return False


def ensure(client: Client, node: str, password: str) -> None:
    """Remember the password at the first call for a node, compare at the later ones."""
    base = "/api/v1/namespaces/kube-system/secrets"
    name = f"{node}.node-password.k3s"
    found = client.find(f"{base}/{name}")
    if found is None:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "kube-system"}, "type": "Opaque", "immutable": True,
                "data": {"hash": base64.b64encode(make_hash(password).encode()).decode()}}
        try:
            client.call("POST", base, body)
            return
        except ApiError as err:
            if err.code != 409:
                raise
            found = client.find(f"{base}/{name}")
    stored = base64.b64decode(((found or {}).get("data") or {}).get("hash", "")).decode()
    if not matches(password, stored):
        raise Rejected(REJECTED)


def adopt(client: Client, node: dict) -> None:
    """Own the secret by the node object, so that it goes with it."""
    name = node["metadata"]["name"]
    path = f"/api/v1/namespaces/kube-system/secrets/{name}.node-password.k3s"
    secret = client.find(path)
    if secret is None or any(ref.get("uid") == node["metadata"]["uid"] for ref in secret["metadata"].get("ownerReferences") or []):
        return
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
    client.patch(path, {"metadata": {"ownerReferences": [owner]}})
