# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection keeps about a cluster in it, and that another inventory is refused by it."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import record
from ansible_collections.cht.k3s.plugins.module_utils.k3s.datastore import RECORD
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import CONFIGMAPS


class Cluster:
    """One node, no county, and the ConfigMap; an apply leaves the entries of other field managers."""

    def __init__(self) -> None:
        self.data: dict[str, str] | None = None
        self.managers: list[str] = []
        self.version = "v1.35.4+k3s1"

    def find(self, path: str) -> dict[str, t.Any] | None:
        return {"data": self.data} if path == RECORD and self.data is not None else None

    def get(self, path: str) -> dict[str, t.Any]:
        assert path == "/api/v1/namespaces/kube-system"
        return {"metadata": {"uid": "one"}}

    def items(self, path: str, query: t.Any = None) -> t.Iterator[dict[str, t.Any]]:
        if path == "/api/v1/nodes":
            yield {"metadata": {"name": "agent-1"}, "spec": {"providerID": "vsphere://42AB"}, "status": {"nodeInfo": {"kubeletVersion": self.version}}}

    def apply(self, path: str, body: dict[str, t.Any], manager: str, force: bool, dry_run: bool = False) -> None:
        assert path == RECORD and force and not dry_run
        self.data = {**(self.data or {}), **body["data"]}
        self.managers.append(manager)


@pytest.fixture
def cluster() -> t.Any:
    return Cluster()


def test_servers_and_controller_read_the_same_place() -> None:
    assert CONFIGMAPS.path(record.NAME, record.NAMESPACE) == RECORD


def test_each_entry_has_its_own_owner_and_a_broken_one_is_none(cluster: t.Any) -> None:
    record.write(cluster, "told", ["x"])
    record.write(cluster, "watch", [])
    assert record.read(cluster) == {"told": ["x"], "watch": []} and cluster.managers == ["cht.k3s.told", "cht.k3s.watch"]
    cluster.data["told"] = "no JSON"
    assert record.read(cluster) == {"watch": []}
    with pytest.raises(ValueError, match="no entry"):
        record.write(cluster, "other", 1)


def test_the_last_run_that_changed_something_is_kept_and_one_that_did_not_leaves_it(cluster: t.Any) -> None:
    def keep(whole: bool, now: str) -> dict[str, t.Any]:
        found = record.described(cluster, record.read(cluster), "lab", whole, now)
        record.write(cluster, "cluster", found)
        return found

    assert keep(False, "1") == {"name": "lab", "id": "one"}
    first = keep(True, "2")
    assert first["changed"] == "2" and first["versions"]["k3s"] == ["v1.35.4+k3s1"] and first["nodes"] == {"agent-1": "vsphere://42AB"}
    assert keep(True, "3") == first and keep(False, "4") == first
    cluster.version = "v1.36.3+k3s1"
    assert keep(True, "5")["changed"] == "5"


def test_another_cluster_is_refused(cluster: t.Any) -> None:
    named = {"cluster": {"name": "north"}}

    def why(before: dict[str, t.Any], name: str, rename: str = "", uids: tuple[str, ...] = (), machines: tuple[str, ...] = ()) -> str:
        return record.judged(cluster, before, name, rename, list(uids), list(machines))

    assert why({}, "south") == why(named, "north") == why(named, "south", "north") == ""
    assert "this is the cluster 'north'" in why(named, "south")
    # Both are called as nobody called them.
    assert "another cluster (one)" in why({"cluster": {"name": "cht"}}, "cht", uids=("two",))
    assert "none of its nodes is a VM of the inventory" in why({"cluster": {"name": "cht"}}, "cht", machines=("42cd",))
    assert why({"cluster": {"name": "cht"}}, "cht", machines=("42cd", "42ab")) == ""
