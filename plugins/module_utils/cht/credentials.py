# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CouchDB's administrator of a county: given, read back from the cluster, or generated once."""

from __future__ import annotations

import base64
import binascii
import secrets
import string
import typing as t
import uuid
from dataclasses import dataclass
from urllib.parse import quote

from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import MIN_PASSWORD_LENGTH, PUBLISHED_PASSWORDS, PUBLISHED_SECRET, PUBLISHED_UUID, County

SECRET_NAME = "cht-couchdb-credentials"
# On the copy that is kept of a Secret when its county is removed with its data: the namespace that it was in.
KEPT_OF = "cht.k3s/credentials-of"
# Stands for a value that a run in check mode can't know, since only a real run generates it.
PLACEHOLDER = "generated-in-a-real-run"

# What is shorter is part of other words; to hide it would make these unreadable.
MIN_HIDDEN = 8

_KEYS = {"user": "COUCHDB_USER", "password": "COUCHDB_PASSWORD", "secret": "COUCHDB_SECRET", "uuid": "COUCHDB_UUID"}
_ALPHABET = string.ascii_letters + string.digits


def hideable(values: t.Iterable[str], public: t.Iterable[str]) -> list[str]:
    """Return the secrets that can be masked in output.

    A short password, or one that is part of a county's own name or host, can't be: names would become unreadable, for later tasks as well.
    """
    texts = list(public)
    return [value for value in values if len(value) >= MIN_HIDDEN and not any(value in text for text in texts)]


class CredentialsError(Exception):
    """The credentials of a county can't be settled; the message says why and what to do."""


@dataclass(frozen=True)
class Credentials:
    """What the Secret of a county holds."""

    user: str
    password: str
    secret: str
    uuid: str
    generated: bool = False
    # What CouchDB has until it is told `password`; empty when they are the same.
    old_password: str = ""

    def data(self, namespace: str, database: str) -> dict[str, str]:
        """Return the Secret's entries as text."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return {
            "COUCHDB_USER": self.user,
            "COUCHDB_PASSWORD": self.password,
            "COUCHDB_SECRET": self.secret,
            "COUCHDB_UUID": self.uuid,
            "COUCH_URL": f"http://{login}@haproxy.{namespace}.svc.cluster.local:5984/{database}",
        }


def decode_secret(live: dict[str, t.Any]) -> dict[str, str]:
    """Return the entries of a Secret as text; what isn't base64 text is left out."""
    entries: dict[str, str] = {}
    for key, value in (live.get("data") or {}).items():
        try:
            entries[key] = base64.b64decode(value or "", validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return entries


def _generate(key: str) -> str:
    if key == "password":
        return "".join(secrets.choice(_ALPHABET) for dummy in range(32))
    return str(uuid.uuid4())


def settle(county: County, live: dict[str, t.Any] | None, has_volumes: bool, predict: bool, change_password: bool = False) -> Credentials:
    """Decide on a county's credentials.

    Kept is what the cluster has: CouchDB took it over on its first start, so that other values in the
    Secret alone would lock CHT out of its own database. `predict` never generates (check mode); `change_password` takes
    another password, which CouchDB has to be told before it is in the Secret.
    """
    given: dict[str, str | None] = county["credentials"]
    held = decode_secret(live) if live else {}
    if not held and has_volumes and not all(given[key] for key in ("password", "secret", "uuid")):
        raise CredentialsError(
            f"Secret {SECRET_NAME} is gone but the volumes of CouchDB are there, and hold the old credentials: "
            "restore the Secret from a backup, or give credentials.user, password, secret and uuid as they were"
        )
    chosen: dict[str, str] = {}
    generated, old_password = False, ""
    for key, entry in _KEYS.items():
        kept, wanted = held.get(entry), given[key]
        if kept and key == "user" and wanted == "medic":
            wanted = None  # the default, which says nothing against the user that is there
        if kept and wanted and kept != wanted and key == "password" and change_password:
            old_password, kept = kept, None
        if kept and wanted and kept != wanted:
            advice = "cht_project_change_password does it in the right order" if key == "password" else "it can't be changed here"
            raise CredentialsError(
                f"credentials.{key} differs from what Secret {SECRET_NAME} holds and CouchDB uses: "
                f"{advice}; else put the old value back, or leave the key out"
            )
        if kept or wanted:
            chosen[key] = str(kept or wanted)
        else:
            generated = True
            chosen[key] = PLACEHOLDER if predict else _generate(key)
    return Credentials(generated=generated, old_password=old_password, **chosen)


def weaknesses(credentials: Credentials, county: County) -> list[str]:
    """Return what is wrong with credentials that a county brought along."""
    found = []
    password = credentials.password
    if len(password) < MIN_PASSWORD_LENGTH or password.lower() in PUBLISHED_PASSWORDS or any(
        password in text for text in (county.name, county.namespace, county.host)
    ):
        found.append("its password is short, published or part of its own name: give it another one (cht_project_change_password)")
    if credentials.secret == PUBLISHED_SECRET:
        found.append("its cookie secret is the one published with cht-chart-4x: anyone can forge its sessions")
    if credentials.uuid == PUBLISHED_UUID:
        found.append("its CouchDB uuid is the one published with cht-chart-4x")
    return found
