# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test of the pod network tells what is lost between which nodes, says what to do, and leaves nothing."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.kube import podnetwork
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.podnetwork import Loss, PodNetworkError, PodNetworkTest, advice, told
from kube_clock import Clock

Lost = Callable[[str, str, str, str], bool]


class Cluster:
    """An API server whose nodes run each pod at once; C(lost) says what the network does not carry."""

    def __init__(self, nodes: dict[str, str], lost: Lost = lambda *_any: False, stuck: str = "") -> None:
        self.nodes, self.lost, self.stuck = nodes, lost, stuck
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: set[tuple[str, str, str]] = set()

    def find(self, path: str) -> dict[str, Any] | None:
        return self.objects.get(path)

    def get(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise ApiError(404, f"{path} not found")
        return self.objects[path]

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        assert path == "/api/v1/nodes"
        for name, ready in self.nodes.items():
            yield {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}

    def json(self, method: str, path: str) -> dict[str, Any]:
        assert method == "DELETE" and path == podnetwork._NAMESPACE
        self.objects = {key: item for key, item in self.objects.items() if not key.startswith(path)}
        return {}

    def apply(self, path: str, body: dict[str, Any], manager: str, force: bool = False) -> None:
        self.objects[path] = body
        number = body["metadata"]["name"].rpartition("-")[2]
        if body["kind"] == "Service":
            body["spec"]["clusterIP"] = f"10.43.0.{number}"
        if body["kind"] != "Pod":
            return
        node = body["spec"]["nodeName"]
        if node == self.stuck:
            body["status"] = {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]}
        elif body["metadata"]["name"].startswith("server-"):
            body["status"] = {"podIP": f"10.42.{number}.9", "containerStatuses": [{"state": {"running": {}}}]}
        else:
            message = self._ask(node, body["spec"]["containers"][0]["command"][2])
            body["status"] = {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"message": message}}}]}

    def _ask(self, node: str, command: str) -> str:
        names = sorted(name for name, ready in self.nodes.items() if ready == "True")
        lines = []
        for host, size, number, by in re.findall(r'^try (\S+):8080 (\w+) "\$\w+" "(\d+) (\w+)" &$', command, re.MULTILINE):
            assert host == (f"10.42.{number}.9" if by == "address" else f"10.43.0.{number}")
            self.asked.add((node, names[int(number)], by))
            if self.lost(node, names[int(number)], by, size):
                lines.append(f"{number} {by} {size}")
        return "\n".join(lines)


NODES = {"agent-1": "True", "agent-2": "True", "server-1": "True", "lost": "Unknown"}


def network_test(cluster: Cluster) -> PodNetworkTest:
    clock = Clock()
    return PodNetworkTest(cluster, "busybox", 5, clock, clock.sleep)  # type: ignore[arg-type]


def test_each_ready_node_asks_all_others_by_address_and_service() -> None:
    cluster = Cluster(NODES)
    test = network_test(cluster)
    assert test.run() == [] and test.nodes == ["agent-1", "agent-2", "server-1"]
    assert cluster.asked == {(one, other, by) for one in test.nodes for other in test.nodes if one != other for by in ("address", "Service")}
    assert cluster.objects == {}, "nothing is left"


@pytest.mark.parametrize(("lost", "count", "words"), [
    # vmxnet3 that spoils checksums: what is translated for a Service is dropped, or all TCP.
    (lambda source, target, by, size: by == "Service", 12, "Only what goes by Services is lost: set node_flannel_tx_checksum: false"),
    (lambda source, target, by, size: size == "full", 12, "Only full-size packets are lost"),
    (lambda source, target, by, size: "agent-2" in (source, target), 16, "Let 8472/udp"),
    (lambda source, target, by, size: True, 24, "node_flannel_tx_checksum: false"),
])
def test_what_is_lost_is_told_with_the_remedy(lost: Lost, count: int, words: str) -> None:
    cluster = Cluster(NODES, lost)
    losses = network_test(cluster).run()
    assert len(losses) == count and words in advice(losses) and cluster.objects == {}
    assert all(loss.source != loss.target for loss in losses)


def test_the_losses_are_told_by_pairs() -> None:
    losses = [Loss("a", "b", "address", "full"), Loss("a", "b", "Service", "small")] + [Loss("b", f"n{number}", "address", "full") for number in range(9)]
    assert told(losses).startswith("a to b: full-size by address, small by Service; b to n0: full-size by address;")
    assert told(losses).endswith("; and 4 pairs more")


def test_a_node_whose_pod_does_not_run_is_named_with_the_reason() -> None:
    cluster = Cluster(NODES, stuck="agent-2")
    with pytest.raises(PodNetworkError, match=r"the pods on agent-2 do not run \(ErrImagePull: no such image\) after 5 s"):
        network_test(cluster).run()
    assert cluster.objects == {}


def test_one_node_has_nobody_to_ask() -> None:
    cluster = Cluster({"server-1": "True", "lost": "False"})
    cluster.objects[podnetwork._NAMESPACE] = {"kind": "Namespace"}
    assert network_test(cluster).run() == [] and cluster.objects == {}, "what an interrupted run left is gone, too"


def test_a_message_that_was_cut_is_read_as_far_as_it_goes() -> None:
    cluster = Cluster({"a": "True", "b": "True"})
    cluster._ask = lambda node, command: "0 Service full\n1 address small\n1 addr" if node == "a" else "9 address full\nx"  # type: ignore[method-assign]
    assert network_test(cluster).run() == [Loss("a", "a", "Service", "full"), Loss("a", "b", "address", "small")]


def test_pods_are_let_in_everywhere_and_may_do_nothing() -> None:
    spec = network_test(Cluster(NODES))._pod("server-0", "agent-1", "true", "Always")["spec"]
    assert spec["tolerations"] == [{"operator": "Exists"}] and spec["nodeName"] == "agent-1" and spec["securityContext"]["runAsNonRoot"]
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]} and not spec["automountServiceAccountToken"]
