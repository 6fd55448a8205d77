# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens: the short and the secure form, and the hash of the cluster's CA in the latter."""
from __future__ import annotations

import base64
import dataclasses
import hashlib
import pathlib
import re
import secrets

from .log import Shutdown

_BOOTSTRAP = re.compile(r"^[a-z0-9]{6}\.[a-z0-9]{16}$")


class TokenError(Exception):
    """k3s' message about a token."""


@dataclasses.dataclass
class Token:
    user: str
    password: str
    ca_hash: str = ""


def ca_hash(pem: bytes) -> str:
    """SHA256 of the file if it holds one certificate, else of the root's DER."""
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", pem, re.S)
    if len(blocks) > 1:
        return hashlib.sha256(base64.b64decode(blocks[-1])).hexdigest()
    return hashlib.sha256(pem).hexdigest()


def parse(text: str, user: str) -> Token:
    text = (text or "").strip()
    if not text:
        raise TokenError("token must not be empty")
    found_hash = ""
    if text.startswith("K10"):
        # What comes before "::" is the hash, and may be empty; without "::" all of it is the credentials.
        text = text[3:]
        if "::" in text:
            found_hash, _sep, text = text.partition("::")
        if found_hash and len(found_hash) != 64:
            raise TokenError("invalid token CA hash length")
        if _BOOTSTRAP.match(text):
            return Token("bootstrap", text, found_hash)
        name, sep, password = text.partition(":")
        if not sep or not password:
            raise TokenError("invalid token format")
        return Token(name, password, found_hash)
    if _BOOTSTRAP.match(text):
        return Token("bootstrap", text)
    return Token(user, text)


def password_of(text: str) -> str:
    """The server's own password; bootstrap tokens are for agents only."""
    try:
        found = parse(text, "server")
    except TokenError:
        found = Token("bootstrap", "")
    if found.user == "bootstrap":
        raise Shutdown("failed to save bootstrap data: failed to normalize server token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>")
    return found.password


def secure(pem: bytes, user: str, password: str) -> str:
    return f"K10{ca_hash(pem)}::{user}:{password}"


def check_hash(token: Token, pem: bytes) -> None:
    if token.ca_hash and token.ca_hash != ca_hash(pem):
        raise TokenError(f"token CA hash does not match the Cluster CA certificate hash: {token.ca_hash} != {ca_hash(pem)}")


def read_passwords(place: pathlib.Path) -> dict[str, str]:
    """Password by user, as cred/passwd has them."""
    if not place.exists():
        return {}
    rows = [row.split(",") for row in place.read_text(encoding="utf-8").splitlines()]
    return {row[1]: row[0] for row in rows if len(row) > 2}


def random_password() -> str:
    return secrets.token_hex(16)
