"""A lab of its own with five machines, beside the one of the other tests.

K3S_LAB=keep uses the one that runs and leaves it running, to work on a test.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.k3s import NODES, Cluster, cluster_id, joined, site
from support.lab import Lab

NAME = "k3s"
KEEP = os.environ.get("K3S_LAB") == "keep"


@pytest.fixture(scope="session")
def small_lab() -> Iterator[Lab]:
    """Three servers and two agents, with nothing on them; SSH's shared connections are kept apart from those of the other lab."""
    before = {key: os.environ.get(key) for key in ("LAB_NAME", "ANSIBLE_SSH_CONTROL_PATH_DIR")}
    os.environ["LAB_NAME"] = NAME
    os.environ["ANSIBLE_SSH_CONTROL_PATH_DIR"] = f"/tmp/cht-k3s-{NAME}-ssh"
    lab = Lab()
    if not KEEP:
        lab("down", timeout=300)
        lab("up", "--description", str(Path(__file__).parent / "cluster.yml"), "--tool", "kubernetes-1.34.2", timeout=2400)
    try:
        yield lab
    finally:
        if not KEEP:
            lab("down", timeout=300)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


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
