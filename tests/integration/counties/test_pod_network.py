# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets between the pods of all nodes, as role verify sends them: all arrive, or the run says which do not."""

from __future__ import annotations

import pytest
from support.lab import Lab, Run


def verify(lab: Lab, name: str) -> Run:
    return lab.playbook("--tags", "verify_pod_network", "-e", "verify_pod_network=true", "-e", "verify_pod_network_image=docker.io/lab/client:1",
                        name=f"pod-network-{name}")


@pytest.fixture(name="cluster", scope="module")
def fixture_cluster(lab: Lab) -> Lab:
    """The lab with the cluster of `site`."""
    if "there" not in lab("ssh", "control-plane-1", "test -e /etc/rancher/k3s/k3s.yaml && echo there || true"):
        lab.playbook(name="pod-network-site").expect()
    return lab


def spaces(lab: Lab) -> list[str]:
    return [space["metadata"]["name"] for space in lab.kubectl("get", "namespaces")["items"]]


def test_packets_of_both_sizes_arrive_by_address_and_by_service(cluster: Lab) -> None:
    verify(cluster, "whole").expect()
    assert "pod-network-test" not in spaces(cluster)


def test_packets_that_are_lost_are_named_with_what_to_do(cluster: Lab) -> None:
    """As behind a firewall that knows nothing of flannel."""
    rule = f"-s {cluster.vms()['agent-1']['ip']} -p udp --dport 8472 -j DROP"
    cluster("ssh", "agent-2", f"sudo iptables -w -t raw -I PREROUTING {rule}")
    try:
        run = verify(cluster, "lost").expect(1)
    finally:
        cluster("ssh", "agent-2", f"sudo iptables -w -t raw -D PREROUTING {rule}")
    (result,) = run.results("pod_network_test")
    pairs = {frozenset((loss["source"], loss["target"])) for loss in result["losses"]}
    assert pairs == {frozenset(("agent-1", "agent-2"))} and {loss["size"] for loss in result["losses"]} == {"small", "full"}
    assert "8472/udp" in result["msg"] and "agent-1" in result["msg"] and len(result["nodes"]) == 12
    assert "pod-network-test" not in spaces(cluster)
