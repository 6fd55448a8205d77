# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counties as the cluster has them."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import cluster as module
from ansible_collections.cht.k3s.plugins.module_utils.cht.cluster import RemoveError, describe, known, namespaces, remove
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import OperationError


class Twice:
    """An API server with two namespaces of one county, as a changed namespace left them."""

    def __init__(self) -> None:
        self.spaces = [{"metadata": {"name": name, "labels": {"cht.k3s/county": "nairobi"}}} for name in ("nairobi", "nairobi-new")]

    def items(self, path: str, query: t.Any = None) -> t.Iterator[dict[str, t.Any]]:
        yield from self.spaces if path.endswith("/namespaces") else []


def test_which_of_two_namespaces_of_a_county_is_meant_is_not_guessed() -> None:
    client: t.Any = Twice()
    with pytest.raises(OperationError, match="county 'nairobi' is there twice, in the namespaces nairobi and nairobi-new"):
        namespaces(client)
    with pytest.raises(RemoveError, match="Nothing was changed"):
        remove(client, "nairobi", True, 1, False)
    assert [entry["namespace"] for entry in describe(client)] == ["nairobi", "nairobi-new"], "the report shows both"


class Removable:
    """An API server with the county nairobi, sets of kisumu, and a volume that was mombasa's."""

    def __init__(self) -> None:
        self.secret: dict[str, t.Any] = {"metadata": {"name": "cht-couchdb-credentials"}, "data": {"COUCHDB_PASSWORD": "cHc="}}
        self.kept: list[dict[str, t.Any]] = [{"metadata": {"name": "kisumu-1", "labels": {"cht.k3s/county": "kisumu"}}}]
        self.applied: list[tuple[str, dict[str, t.Any]]] = []
        self.deleted: list[str] = []
        self.spaces = {"nairobi": {"metadata": {"name": "nairobi", "labels": {"cht.k3s/county": "nairobi"}}}}

    def items(self, path: str, query: t.Any = None) -> list[dict[str, t.Any]]:
        if path.endswith("/namespaces"):
            return list(self.spaces.values())
        if path.endswith("/namespaces/cht-backups/secrets"):
            key, dummy, value = (query or {})["labelSelector"].partition("=")
            return [item for item in self.kept if key in item["metadata"]["labels"] and value in ("", item["metadata"]["labels"][key])]
        if path.endswith("/persistentvolumes"):
            return [{"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": space, "name": claim}}}
                    for space, claim in (("mombasa", "couchdb-1-claim0"), ("monitoring", "prometheus"))]
        return []

    def find(self, path: str) -> t.Any:
        return self.secret if path.endswith("/nairobi/secrets/cht-couchdb-credentials") else self.spaces.get(path.rpartition("/")[2])

    def get(self, path: str) -> t.Any:
        return self.find(path)

    def apply(self, path: str, body: dict[str, t.Any], *dummy: t.Any, **more: t.Any) -> None:
        self.applied.append((path, body))
        if body["kind"] == "Secret":
            self.kept.append(body)

    def json(self, method: str, path: str, *dummy: t.Any, **more: t.Any) -> t.Any:
        if method == "DELETE":
            self.deleted.append(path)
            self.spaces.pop(path.rpartition("/")[2], None)
        return {}


def test_a_name_that_nobody_has_is_refused_and_one_that_is_gone_is_not() -> None:
    client: t.Any = Removable()
    assert known(client) == {"nairobi", "kisumu", "mombasa"}
    assert remove(client, "kisumu", False, 1, False).gone_already and remove(client, "mombasa", True, 1, False).gone_already
    with pytest.raises(RemoveError, match="county 'nairobbi' is not known: .*did you mean 'nairobi'. Nothing was removed"):
        remove(client, "nairobbi", False, 1, False)
    assert client.deleted == []


def test_credentials_outlive_the_removal_of_a_county_with_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "taken", lambda *dummy: contextlib.nullcontext())
    client: t.Any = Removable()
    shown = remove(client, "nairobi", True, 1, True)
    assert client.applied == [] and shown.kept[-1].startswith("Secret cht-backups/nairobi-credentials-")
    done = remove(client, "nairobi", True, 1, False)
    path, body = client.applied[-1]
    name = body["metadata"]["name"]
    assert done.kept[-1] == f"Secret cht-backups/{name} (the credentials)" and path == f"/api/v1/namespaces/cht-backups/secrets/{name}"
    assert body["data"] == client.secret["data"] and body["metadata"]["labels"]["cht.k3s/county"] == "nairobi"
    assert client.deleted == ["/api/v1/namespaces/nairobi"]
    # Again, and after an interruption: gone already, or the copy that is there.
    assert remove(client, "nairobi", True, 1, False).gone_already
    client.spaces["nairobi"] = {"metadata": {"name": "nairobi", "labels": {"cht.k3s/county": "nairobi"}}}
    count = len(client.applied)
    assert remove(client, "nairobi", True, 1, False).kept[-1] == f"Secret cht-backups/{name} (the credentials)" and len(client.applied) == count
