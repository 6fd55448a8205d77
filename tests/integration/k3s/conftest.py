"""Labs of their own, with five and with three machines, beside the one of the other tests.

K3S_LAB=keep uses the one that runs and leaves it running, to work on a test.
"""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.k3s import NODES, Cluster, cluster_id, joined, site
from support.lab import Lab, own_lab, plain, tools

HERE = Path(__file__).parent
NAME = "k3s"
KEEP = os.environ.get("K3S_LAB") == "keep"


def tools_of(*releases: str) -> list[str]:
    """Arguments of `lab up` for builds of Kubernetes beside the lab's own."""
    return [word for release in releases for word in ("--tool", f"kubernetes-{plain(release)}")]


@pytest.fixture(scope="session")
def small_lab() -> Iterator[Lab]:
    """Three servers and two agents."""
    with own_lab(NAME, HERE / "cluster.yml", *tools_of(tools.K3S_OLD_VERSION, tools.K3S_NEXT_VERSION), keep=KEEP) as lab:
        yield lab


@pytest.fixture(scope="session")
def life_lab() -> Iterator[Lab]:
    """One server and two agents, for what needs no quorum."""
    with own_lab("life", HERE / "life.yml", keep=KEEP) as lab:
        yield lab


@pytest.fixture
def life(life_lab: Lab) -> Lab:
    """A cluster on it, whatever an earlier test left."""
    if "active" not in life_lab("ssh", "agent-2", "systemctl is-active k3s-agent || true").split():
        config = life_lab("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml 2>/dev/null || true")
        given = {"k3s_cloud_provider": "none", "control_plane_secrets_encryption": not config or "secrets-encryption: true" in config}
        life_lab.playbook("--tags", "node,control_plane,agent", "-e", json.dumps(given), name="life-built").expect()
    return life_lab


@pytest.fixture(scope="session")
def cluster(small_lab: Lab) -> Cluster:
    """The cluster, with the prediction of check mode compared on the way."""
    if KEEP and "active" in small_lab("ssh", "control-plane-1", "systemctl is-active k3s || true").split():
        return Cluster(small_lab, cluster_id(small_lab))
    predicted = joined(site(small_lab, "predicted", "--check", "--diff").expect())
    written = {node: small_lab("ssh", node, "ls -d /etc/rancher/k3s /usr/local/bin/k3s /etc/systemd/system/k3s*.service 2>/dev/null || true") for node in NODES}
    assert set(written.values()) == {""}, written
    real = joined(site(small_lab, "built", "--diff").expect())
    assert set(real) == set(NODES)
    for node in NODES:
        assert predicted[node]["actions"] == real[node]["actions"], node
        assert predicted[node]["diff"] == real[node]["diff"], node
    return Cluster(small_lab, cluster_id(small_lab))
