# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging a version through CHT's API."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.inside import InsideError
from ansible_collections.cht.k3s.plugins.module_utils.cht.stage import Raise, absence, begin, documents, figure, look, raised


class Api:
    """API with one document of its upgrades."""

    def __init__(self, state: str = "", target: str = "4.22.0", status: int = 200, **more: t.Any) -> None:
        self.answer: t.Any = {"upgradeDoc": {"state": state, "action": "stage", "to": {"version": target}} if state else None, "indexers": [], **more}
        self.status = status
        self.sent: list[t.Any] = []

    def __call__(self, method: str, path: str, body: t.Any) -> tuple[int, t.Any]:
        if method == "POST":
            assert path == "/api/v1/upgrade/stage"
            self.sent.append(body)
            return self.status, {"code": self.status, "error": "Invalid build info"}
        assert path == "/api/v2/upgrade"
        return 200, self.answer


def silent(method: str, path: str, body: t.Any) -> tuple[int, t.Any]:
    raise InsideError("API does not run")


@pytest.mark.parametrize(("live", "version", "tag", "found"), [
    ("4.21.0", "4.22.0", "4.22.0", Raise("4.21.0", "4.22.0")), ("4.22.0", "4.22.0", "4.22.0", None), ("4.22.1", "4.22.0", "4.22.0", None),
    ("4.1.0-4.1.0", "4.1.1", "4.1.1-4.1.1", Raise("4.1.0-4.1.0", "4.1.1")), ("4.1.1-4.1.1", "4.1.1", "4.1.1-4.1.1", None),
    ("my-branch", "4.22.0", "4.22.0", None), ("", "4.22.0", "4.22.0", None), ("5.0.0", "5.2.0", "5.2.0", Raise("5.0.0", "5.2.0")),
])
def test_what_is_raised(live: str, version: str, tag: str, found: Raise | None) -> None:
    assert raised(live, version, tag) == found


def test_what_can_t_be_staged() -> None:
    major, own = raised("4.22.0", "5.2.0", "5.2.0"), raised("4.21.0", "4.22.0", "ministry-7")
    assert major is not None and major.obstacle.startswith("4.x can't stage 5.x")
    assert own is not None and "images.tag 'ministry-7'" in own.obstacle


@pytest.mark.parametrize(("api", "state", "text"), [
    (Api(), "none", ""), (Api("errored"), "ended", "errored"), (Api("interrupted"), "ended", "interrupted"), (Api("finalized", "4.21.0"), "ended", "finalized"),
    (Api("initiated"), "staging", "loads"), (Api("staged"), "staging", "loads"), (Api("indexing"), "staging", "indexing"), (Api("indexed"), "staged", ""),
    (Api("indexing", "4.21.9"), "refused", "to 4.21.9 by CHT's own page (indexing)"), (Api("completing"), "refused", "CHT's own page (completing)"),
    (silent, "silent", "does not run"),
])
def test_how_far_a_county_is(api: t.Any, state: str, text: str) -> None:
    found = look(api, "4.22.0")
    assert found.state == state and text in found.text


def test_the_figure_is_of_all_views_and_of_the_last() -> None:
    indexers = [{"database": "medic", "ddoc": "medic", "progress": 80}, {"database": "medic", "ddoc": "medic-client", "progress": 20}]
    assert look(Api("indexing", indexers=indexers), "4.22.0").text == "indexing 50% (medic/medic-client 20%)"
    assert figure("indexing", [{"database": "medic", "ddoc": "x", "progress": None}]) == "indexing 0% (medic/x 0%)"


@pytest.mark.parametrize(("api", "sent", "state"), [
    (Api(), 1, "staging"), (Api("errored"), 1, "staging"), (Api("indexing"), 0, "staging"), (Api("indexed"), 0, "staged"),
])
def test_what_is_under_way_is_not_begun_again(api: Api, sent: int, state: str) -> None:
    found = begin(api, "4.22.0")
    assert found.state == state and found.begun is bool(sent)
    assert api.sent == [{"build": {"namespace": "medic", "application": "medic", "version": "4.22.0"}}] * sent


def test_what_api_refuses_is_told() -> None:
    assert begin(Api(status=403), "4.22.0").text == "API answers /api/v1/upgrade/stage with 403 (Invalid build info)"


def test_how_long_a_county_may_be_away() -> None:
    def api(method: str, path: str, body: t.Any) -> tuple[int, t.Any]:
        return 200, {"couchdb": {"medic": {"doc_count": 2000000}}}

    assert "its 2,000,000 documents" in absence(api) and "hours or days" in absence(api)
    assert documents(silent) == documents(lambda *dummy: (200, None)) == 0 and "all its documents" in absence(silent)
