# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for counties ends in time, also when nobody answers."""

from __future__ import annotations

import time
import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import wait as module
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import real_size, ungrown
from ansible_collections.cht.k3s.plugins.module_utils.cht.wait import Target, growing, wait

READY = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
TARGETS = [Target(f"c{number}", f"c{number}") for number in range(40)]


class Api:
    """A cluster in which all counties have one Deployment, ready after so many looks at it."""

    def __init__(self, looks: int = 0) -> None:
        self.looks = looks

    def items(self, path: str, *dummy: t.Any) -> list[dict[str, t.Any]]:
        if not path.endswith("/deployments"):
            return []
        self.looks -= 1
        return [
            {
                "metadata": {"name": "cht-api", "namespace": target.namespace, "generation": 1}, "spec": {"replicas": 1},
                "status": READY if self.looks < 0 else {},
            }
            for target in TARGETS
        ]


def test_fifty_silent_counties_cost_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST", 0.1)
    asked = []

    def silent(namespace: str) -> str:
        asked.append(namespace)
        time.sleep(0.2)
        return "nobody answers"

    found = wait(Api(), TARGETS, 0.5, interval=0.1, check=silent)  # type: ignore[arg-type]
    # Eight at once, three or four times until the time is over; a busy machine asks fewer.
    assert 0 < len(asked) <= 32
    assert {progress.obstacle for progress in found.values()} <= {"nobody answers", "there was no time left to ask whether it works"}
    assert found["c0"].obstacle == "nobody answers"


def test_who_only_looks_asks_once() -> None:
    asked: list[str] = []
    assert all(progress.done for progress in wait(Api(), TARGETS[:3], 0, check=lambda space: asked.append(space) or "").values())  # type: ignore[arg-type]
    assert sorted(asked) == ["c0", "c1", "c2"]


def test_what_nobody_asked_is_not_well() -> None:
    found = wait(Api(looks=1), TARGETS[:1], 0, check=lambda space: "")["c0"]  # type: ignore[arg-type]
    assert not found.done and "was not asked yet" in found.obstacle
    assert wait(Api(looks=1), TARGETS[:1], 0)["c0"].done, "where nobody asks, pods are enough"  # type: ignore[arg-type]


def claim(there: str, wanted: str, *conditions: dict[str, str]) -> dict[str, t.Any]:
    fields = [{"manager": "cht.k3s", "time": "2026-01-02T03:04:05Z", "fieldsV1": {"f:spec": {"f:resources": {"f:requests": {"f:storage": {}}}}}}]
    return {
        "metadata": {"name": "couchdb-claim0", "namespace": "c0", "managedFields": fields}, "spec": {"resources": {"requests": {"storage": wanted}}},
        "status": {"phase": "Bound", "capacity": {"storage": there}, "conditions": list(conditions)},
    }


@pytest.mark.parametrize(("found", "text"), [
    (claim("6Gi", "6Gi"), ""), (claim("8Gi", "6Gi"), ""),
    (claim("4Gi", "6Gi"), "claim couchdb-claim0 has 4Gi, and 6Gi are wanted since 2026-01-02T03:04:05Z"),
    (claim("4Gi", "6Gi", {"type": "FileSystemResizePending", "status": "True", "message": "Waiting for user to (re-)start a pod"}),
     "claim couchdb-claim0 has 4Gi, and 6Gi are wanted since 2026-01-02T03:04:05Z (FileSystemResizePending: Waiting for user to (re-)start a pod)"),
])
def test_a_claim_that_did_not_grow_is_waited_for(found: dict[str, t.Any], text: str) -> None:
    class Cluster(Api):
        def items(self, path: str, *dummy: t.Any) -> list[dict[str, t.Any]]:
            return [found] if path.endswith("/persistentvolumeclaims") else super().items(path)

    cluster: t.Any = Cluster()
    progress = wait(cluster, TARGETS[:1], 0, check=lambda space: growing(cluster, space), ask=False)["c0"]
    assert (progress.obstacle, progress.done) == (text, not text)
    assert ungrown(found, "20Gi").startswith(f"claim couchdb-claim0 has {real_size(found)}, and 20Gi are wanted")
