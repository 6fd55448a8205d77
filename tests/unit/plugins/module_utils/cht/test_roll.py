# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which the Deployments of a county are changed."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.cht.roll import Roller
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import Item
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import DEPLOYMENTS

Object = dict[str, t.Any]
SERVICES = ("api", "couchdb-1", "couchdb-2", "couchdb-3", "haproxy", "sentinel")
READY = {"observedGeneration": 1, **dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)}


def deployment(service: str, ready: bool = True) -> Object:
    metadata = {"name": f"cht-{service}", "namespace": "nairobi", "generation": 1, "labels": {SERVICE_LABEL: service}}
    return {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata, "spec": {"replicas": 1}, "status": READY if ready else {}}


class FakeApi:
    """Notes what is sent; a node is ready when it was looked at twice, those of `stuck` never."""

    def __init__(self, *stuck: str, refused: str = "") -> None:
        self.events: list[str] = []
        self.stuck = stuck
        self.refused = refused
        self.looks: dict[str, int] = {}

    def send(self, item: Item) -> None:
        self.events.append(f"{item.name} {item.body['spec']['replicas']}")
        item.result = "updated"
        if item.name == self.refused:
            item.fail("is refused")

    def find(self, path: str) -> Object:
        name = path.rpartition("/")[2]
        self.looks[name] = self.looks.get(name, 0) + 1
        if self.looks[name] == 1:
            raise ApiError(500, "the leader changes")
        ready = self.looks[name] > 2 and name not in self.stuck
        if ready:
            self.events.append(f"{name} is ready")
        return deployment(name.removeprefix("cht-"), ready)

    def items(self, path: str, query: t.Any = None) -> t.Iterator[Object]:
        waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
        status = {"phase": "Pending", "containerStatuses": [{"name": "c", "image": "x", "state": {"waiting": waiting}}]}
        yield {"metadata": {"name": "p"}, "status": status}


def run(api: FakeApi, services: t.Sequence[str] = SERVICES, live: list[Object] | None = None, timeout: float = 5) -> tuple[dict[str, Item], int]:
    live = [deployment(service) for service in SERVICES] if live is None else live
    by_name = {item["metadata"]["name"]: item for item in live}
    items = {
        service: Item("nairobi", {**deployment(service), "status": {}}, DEPLOYMENTS, 5, live=by_name.get(f"cht-{service}")) for service in services
    }
    roller = Roller(api, {"nairobi": live}, {"nairobi": [deployment(service) for service in SERVICES]}, timeout,  # type: ignore[arg-type]
                    sleep=lambda seconds: None)
    jobs = roller.arrange(list(items.values()), api.send)
    for job in jobs:
        job()
    return items, len(jobs)


def test_nodes_follow_one_another_and_api_starts_once() -> None:
    api = FakeApi()
    assert run(api)[1] == 1
    assert api.events == [
        "cht-api 0", "cht-couchdb-1 1", "cht-couchdb-1 is ready", "cht-couchdb-2 1", "cht-couchdb-2 is ready", "cht-couchdb-3 1", "cht-couchdb-3 is ready",
        "cht-haproxy 1", "cht-sentinel 1", "cht-api 1",
    ]


def test_api_is_stopped_although_only_couchdb_changes() -> None:
    api = FakeApi()
    run(api, SERVICES[1:4])
    assert api.events[0] == "cht-api 0" and api.events[-1] == "cht-api 1"


@pytest.mark.parametrize("services", [("api", "haproxy"), ("api", "couchdb-2", "sentinel")])
def test_fewer_than_two_nodes_need_no_order(services: tuple[str, ...]) -> None:
    api = FakeApi()
    assert run(api, services)[1] == len(services)
    assert api.events == [f"cht-{service} 1" for service in services] and not api.looks


@pytest.mark.parametrize("live", [
    [], [deployment(service, service != "couchdb-3") for service in SERVICES], [deployment(service) for service in SERVICES if service != "couchdb-2"],
])
def test_nodes_that_may_wait_for_each_other_are_changed_at_once(live: list[Object]) -> None:
    api = FakeApi()
    assert run(api, live=live)[1] == len(SERVICES)
    assert "cht-api 0" not in api.events


def test_a_node_that_does_not_come_up_keeps_the_others_from_being_changed() -> None:
    api = FakeApi("cht-couchdb-2")
    items = run(api, timeout=0.05)[0]
    assert "cht-couchdb-3 1" not in api.events and api.events[-1] == "cht-api 1", "API is not left stopped"
    assert items["couchdb-3"].result == "skipped" and items["couchdb-2"].result == "failed"
    assert items["couchdb-2"].error.startswith("Deployment nairobi/cht-couchdb-2: is not ready after 0 s (pod p, container c: ImagePullBackOff")
    assert items["couchdb-2"].error.endswith("; not changed: cht-couchdb-3")


def test_what_the_server_refuses_is_told_where_it_happened() -> None:
    refused = FakeApi(refused="cht-couchdb-1")
    items = run(refused)[0]
    assert [items[f"couchdb-{number}"].result for number in (1, 2, 3)] == ["failed", "skipped", "skipped"]
    assert items["couchdb-1"].error.endswith("is refused")
    stopped = FakeApi(refused="cht-api")
    items = run(stopped, SERVICES[1:4])[0]
    assert "cht-couchdb-1 1" not in stopped.events and "cht-api: is refused" in items["couchdb-1"].error
