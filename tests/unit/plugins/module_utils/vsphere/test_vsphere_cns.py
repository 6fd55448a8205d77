"""Volumes by the cluster that they are filed under."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.vsphere import cns


def volume(number: int, *ids: str, single: str = "") -> SimpleNamespace:
    return SimpleNamespace(
        volumeId=SimpleNamespace(id=f"id-{number}"), name=f"pvc-{number}", datastoreUrl="ds:///x/", backingObjectDetails=SimpleNamespace(capacityInMb=1024),
        metadata=SimpleNamespace(
            containerClusterArray=[SimpleNamespace(clusterId=name) for name in ids],
            containerCluster=SimpleNamespace(clusterId=single) if single else None,
        ),
    )


class Manager:
    """CNS with so many volumes; C(whole) answers each page with everything, as a simulator does."""

    def __init__(self, volumes: list[SimpleNamespace], whole: bool = False) -> None:
        self.volumes = volumes
        self.whole = whole
        self.asked = 0

    def Query(self, filter: Any) -> SimpleNamespace:  # pylint: disable=redefined-builtin
        self.asked += 1
        start = 0 if self.whole else filter.cursor.offset
        page = self.volumes if self.whole else self.volumes[start:start + filter.cursor.limit]
        return SimpleNamespace(volumes=page, cursor=SimpleNamespace(totalRecords=None if self.whole else len(self.volumes)))


def test_only_volumes_of_the_cluster() -> None:
    found = cns._all(Manager([volume(1, "a"), volume(2, "b"), volume(3, "b", "a"), volume(4, single="a")]), "a")
    assert [entry["name"] for entry in found] == ["pvc-1", "pvc-3", "pvc-4"]
    assert found[1] == {"id": "id-3", "name": "pvc-3", "datastore_url": "ds:///x/", "capacity_mb": 1024, "clusters": ["a", "b"]}


@pytest.mark.parametrize(("number", "whole", "asked"), [(0, False, 1), (99, False, 1), (100, False, 1), (250, False, 3), (250, True, 2)])
def test_all_pages_and_no_endless_asking(number: int, whole: bool, asked: int) -> None:
    manager = Manager([volume(index, "a") for index in range(number)], whole)
    assert len(cns._all(manager, "a")) == number and manager.asked == asked
