# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counties as the cluster has them."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.cluster import RemoveError, describe, namespaces, remove
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
