# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user's browser meets."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.smoke import SmokeError, browse, controller

PAGE = b"<!DOCTYPE html><HTML><form action='/medic/login'></form></HTML>"


class Browser:
    """CHT behind its ingress."""

    def __init__(self, login: int = 302, cookie: str = "AuthSession=abc; Path=/; HttpOnly", page: tuple[int, bytes] = (200, PAGE), who: t.Any = None) -> None:
        self.login, self.cookie, self.page = login, cookie, page
        self.who = {"version": "4.22.0"} if who is None else who
        self.asked: list[str] = []

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        self.asked.append(f"{method} {path}")
        if method == "POST":
            assert json.loads(body) == {"user": "tester", "password": "secret"}
            return self.login, [("Set-Cookie", "userCtx=x"), ("Set-Cookie", self.cookie)] if self.cookie else [], b""
        if path == "/medic/login":
            return self.page[0], [], self.page[1]
        return (200, [], json.dumps(self.who).encode()) if headers.get("Cookie") == "AuthSession=abc" else (401, [], b"{}")


def test_without_an_account_the_login_page_is_enough() -> None:
    browser = Browser()
    assert browse(browser, "", "", False) == "" and browser.asked == ["GET /medic/login"]


def test_an_account_logs_in_and_asks_for_the_version() -> None:
    browser = Browser()
    assert browse(browser, "tester", "secret", False) == ""
    assert browser.asked == ["GET /medic/login", "POST /medic/login", "GET /api/deploy-info"]
    assert browse(Browser(cookie="AuthSession=abc; Path=/; HttpOnly; Secure"), "tester", "secret", True) == ""


@pytest.mark.parametrize(("browser", "problem"), [
    (Browser(page=(404, b"404 page not found")), "users get 404 for /medic/login and no login page (the ingress does not lead to API)"),
    (Browser(page=(503, PAGE)), "users get 503"), (Browser(page=(200, b"ok")), "users get 200 for /medic/login and no login page"),
    (Browser(login=401), "the account 'tester' of smoke_test can't log in"), (Browser(login=500), "logging in is answered with 500"),
    (Browser(cookie=""), "answered with 302 and no session"), (Browser(cookie="AuthSession=abc; Secure"), "no browser sends it, so nobody can log in"),
    (Browser(who={}), "without a version"), (Browser(cookie="AuthSession=other"), "/api/deploy-info is answered with 401"),
])
def test_what_users_meet_instead_is_told(browser: Browser, problem: str) -> None:
    found = browse(browser, "tester", "secret", False)
    assert problem in found and "secret" not in found


def test_the_controller_s_port_is_found_by_its_name() -> None:
    ports = [{"name": "metrics", "containerPort": 9100}, {"name": "web", "containerPort": 8000}, {"name": "websecure", "containerPort": 8443}]
    pods = [{"metadata": {"name": "traefik-x"}, "spec": {"containers": [{"ports": ports}]}}]
    assert controller(pods, False) == ("traefik-x", 8000) and controller(pods, True) == ("traefik-x", 8443)
    with pytest.raises(SmokeError, match="no pod of the ingress controller"):
        controller([], False)
