# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a county is, what stands in its way, and the table of all of them."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import deployment_ready, judge
from ansible_collections.cht.k3s.plugins.module_utils.cht.table import final_rows, progress_line, table


def deployment(name: str = "cht-api", **status: t.Any) -> dict[str, t.Any]:
    ready = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    return {"metadata": {"name": name, "generation": 2}, "spec": {"replicas": 1}, "status": {**ready, **status}}


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({}, True),
        ({"observedGeneration": 1}, False),
        ({"updatedReplicas": 0}, False),
        ({"replicas": 2}, False),
        ({"readyReplicas": 0}, False),
        ({"availableReplicas": None}, False),
    ],
)
def test_a_deployment_is_ready_when_only_pods_of_its_present_template_run(status: dict[str, t.Any], ready: bool) -> None:
    assert deployment_ready(deployment(**status)) is ready


def pod(**status: t.Any) -> dict[str, t.Any]:
    return {"metadata": {"name": "cht-api-1"}, "status": {"phase": "Pending", **status}}


def waiting(reason: str, message: str = "") -> dict[str, t.Any]:
    return {"name": "cht-api", "image": "i:1", "ready": False, "restartCount": 3, "state": {"waiting": {"reason": reason, "message": message}}}


UNREADY = deployment(readyReplicas=0)
NO_AGENT = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: insufficient memory"}
UNBOUND = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims"}
PENDING = {"metadata": {"name": "couchdb-claim0"}, "spec": {"storageClassName": "vmware-sc"}, "status": {"phase": "Pending"}}


@pytest.mark.parametrize(
    ("deployments", "pods", "claims", "told"),
    [
        ([UNREADY], [pod(containerStatuses=[waiting("ImagePullBackOff", "not found")])], [], "container cht-api: ImagePullBackOff: not found (image i:1)"),
        ([UNREADY], [pod(conditions=[NO_AGENT])], [], "pod cht-api-1 has no agent: 0/3 nodes are available"),
        ([UNREADY], [], [PENDING], "claim couchdb-claim0 is Pending (StorageClass vmware-sc)"),
        ([UNREADY], [pod(conditions=[UNBOUND])], [PENDING], "claim couchdb-claim0 is Pending"),
        ([UNREADY], [pod(containerStatuses=[waiting("ContainerCreating")])], [], "container cht-api is not ready, restarted 3 times"),
        ([UNREADY], [], [], "not ready yet: cht-api"),
        ([UNREADY], [pod(phase="Failed", reason="Evicted", containerStatuses=[waiting("CrashLoopBackOff")])], [], "not ready yet: cht-api"),
        ([], [], [], "no Deployment is there"),
        (
            [deployment(readyReplicas=0, conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}])],
            [pod(conditions=[NO_AGENT])],
            [PENDING],
            "cht-api: exceeded quota",
        ),
    ],
)
def test_the_most_telling_obstacle_is_named(deployments: list[t.Any], pods: list[t.Any], claims: list[t.Any], told: str) -> None:
    progress = judge(deployments, pods, claims)
    assert not progress.done
    assert told in progress.obstacle


def test_why_a_claim_is_pending_is_said() -> None:
    def event(name: str, kind: str, at: str, message: str) -> dict[str, t.Any]:
        return {"involvedObject": {"name": name}, "type": kind, "lastTimestamp": at, "message": message}

    events = [
        event("couchdb-claim0", "Warning", "2026-01-01T00:00:01Z", "old"), event("couchdb-claim0", "Warning", "2026-01-01T00:00:02Z", "datastore is full"),
        event("couchdb-claim0", "Normal", "2026-01-01T00:00:03Z", "waiting"), event("other", "Warning", "2026-01-01T00:00:04Z", "another's"),
    ]
    assert judge([UNREADY], claims=[PENDING], events=events).obstacle == "claim couchdb-claim0 is Pending (StorageClass vmware-sc): datastore is full"


def test_a_long_message_is_cut() -> None:
    progress = judge([UNREADY], [pod(containerStatuses=[waiting("ErrImagePull", "x " * 500)])])
    assert len(progress.obstacle) == 300 and progress.obstacle.endswith("...")


def test_all_expected_deployments_count() -> None:
    assert judge([deployment()], total=2).done is False
    assert judge([deployment()]).done is True


def row(name: str, state: str, remark: str = "") -> dict[str, t.Any]:
    return {"name": name, "state": state, "version": "4.22.0", "host": f"{name}.example", "remark": remark}


def test_the_table_begins_with_what_needs_an_eye() -> None:
    lines = table([row("a", "unchanged"), row("b", "failed", "why"), row("c", "changed"), row("d", "waiting")])
    assert [line.split()[0] for line in lines[1:5]] == ["b", "d", "c", "a"]
    assert lines[1].endswith("why")
    assert lines[-1] == "4 counties: 1 failed, 1 waiting, 1 changed, 1 unchanged"
    assert table([]) == ["no counties"]
    assert table([row("a", "unchanged")])[-1] == "1 county: 1 unchanged"


def test_waiting_does_not_hide_a_failure() -> None:
    applied = [row("a", "changed"), row("b", "failed", "conflict"), row("c", "changed")]
    waited = [
        {"name": "a", "ready": 7, "total": 8, "obstacle": "no agent"},
        {"name": "b", "ready": 0, "total": 8, "obstacle": "no agent"},
        {"name": "c", "ready": 8, "total": 8, "obstacle": ""},
    ]
    rows = {item["name"]: item for item in final_rows(applied, waited)}
    assert rows["a"]["state"] == "waiting" and rows["a"]["remark"] == "7 of 8 Deployments ready; no agent"
    assert rows["b"]["state"] == "failed" and rows["b"]["remark"] == "conflict"
    assert rows["c"]["state"] == "changed"
    assert progress_line(waited, ["a", "b"]) == "counties ready: 1 of 3; a (7/8): no agent"
