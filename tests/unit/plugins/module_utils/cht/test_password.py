# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CouchDB is told its new password once, by the old one."""

from __future__ import annotations

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.password import Change, PasswordError, tell

WANTED = Change("me dic", "old", "new")


class CouchDB:
    """Knows one password."""

    def __init__(self, password: str, status: int = 200) -> None:
        self.password, self.status = password, status
        self.requests: list[tuple[str, str]] = []

    def ask(self, method: str, path: str, password: str, body: bytes) -> tuple[int, bytes]:
        self.requests.append((method, path))
        if password != self.password:
            return 401, b""
        return self.status if method == "PUT" else 200, b""


def test_it_is_told() -> None:
    couchdb = CouchDB("old")
    assert tell(couchdb.ask, WANTED) is True
    assert couchdb.requests == [("GET", "/_session"), ("PUT", "/_node/_local/_config/admins/me%20dic")]


def test_it_is_not_told_twice() -> None:
    couchdb = CouchDB("new")
    assert tell(couchdb.ask, WANTED) is False
    assert couchdb.requests == [("GET", "/_session")]


@pytest.mark.parametrize(("password", "status", "problem"), [("third", 200, "neither the new password nor"), ("old", 500, "answers 500")])
def test_it_refuses(password: str, status: int, problem: str) -> None:
    with pytest.raises(PasswordError, match=problem):
        tell(CouchDB(password, status).ask, WANTED)
