# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which datastore a server runs, and which cluster it is of."""
from __future__ import annotations

import hashlib

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.k3s import datastore, state

from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import UnitState

from k3s_fakes import make_node

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
BINARY = "/usr/local/bin/k3s"


@pytest.mark.parametrize(("files", "kind"), [
    ({}, ""),
    ({datastore.SQLITE: "x"}, "sqlite"),
    ({datastore.ETCD_WAL + "/0.wal": "x"}, "etcd"),
    # What is left of a database that moved to etcd, or of another one before, is not what runs.
    ({datastore.ETCD_WAL + "/0.wal": "x", datastore.SQLITE: "x"}, "etcd"),
    ({datastore.SQLITE + ".migrated": "x"}, ""),
    ({datastore.SERVER_CA: PEM}, ""),
    ({"/etc/rancher/k3s/config.yaml": "datastore-endpoint: mysql://k3s@tcp(db:3306)/k3s\n", datastore.SERVER_CA: PEM}, "external"),
    ({"/etc/rancher/k3s/config.yaml.d/db.yaml": "datastore-endpoint: mysql://db\n", datastore.SERVER_CA: PEM, datastore.SQLITE: "x"}, "external"),
    ({"/etc/systemd/system/k3s.service": "ExecStart=/usr/local/bin/k3s server '--datastore-endpoint=mysql://db'\n", datastore.SERVER_CA: PEM}, "external"),
    ({"/etc/systemd/system/k3s.service.env": "K3S_DATASTORE_ENDPOINT='mysql://db'\n", datastore.SERVER_CA: PEM}, "external"),
    ({"/etc/systemd/system/k3s.service.env": "K3S_DATASTORE_ENDPOINT=''\n", datastore.SERVER_CA: PEM}, ""),
])
def test_the_kind_is_the_one_that_k3s_would_pick(system, files, kind):
    for path, text in files.items():
        system.put(path, text)
    assert datastore.kind(system) == kind and state.has_datastore(system) == bool(kind)


def test_the_hash_is_that_of_a_token():
    assert datastore.ca_hash(PEM) == hashlib.sha256(PEM.encode()).hexdigest()
    assert datastore.ca_hash(PEM + PEM.replace("AAAA", "AAEC")) == hashlib.sha256(bytes([0, 1, 2])).hexdigest()
    assert datastore.ca_hash(None) == ""


def test_a_server_tells_its_cluster(system, api):
    system.put(datastore.ETCD_WAL + "/0.wal")
    system.put(datastore.SERVER_CA, PEM)
    api.objects.update({"control-plane-1": make_node("control-plane-1"), "agent-1": make_node("agent-1", voter=None)})
    info = state.inspect_server(system, BINARY)
    assert (info["datastore_kind"], info["agents"]) == ("etcd", 1)
    assert info["cluster"] == {"uid": api.uid, "since": "2026-01-01T00:00:00Z", "ca_hash": datastore.ca_hash(PEM), "etcd_id": ""}


@pytest.mark.parametrize(("text", "name"), [(None, None), ('{"name": "lab", "id": "x"}', "lab"), ("{}", None), ("[]", None), ("no JSON", None)])
def test_a_server_tells_what_its_cluster_was_called(system, api, text, name):
    system.put(datastore.SQLITE)
    api.objects.update({"control-plane-1": make_node("control-plane-1")})
    api.recorded = text
    info = state.inspect_server(system, BINARY)
    assert info["healthy"] and info["cluster"].get("name") == name


def test_a_silent_server_tells_what_its_disk_does(system, api):
    system.put(datastore.SQLITE)
    system.put(datastore.SERVER_CA, PEM)
    api.objects = None
    info = state.inspect_server(system, BINARY)
    assert (info["healthy"], info["datastore_kind"], info["cluster"]["uid"]) == (False, "sqlite", "")
    assert info["cluster"]["ca_hash"] == datastore.ca_hash(PEM)


# -- a server on its way -----------------------------------------------------------------------------


def _running(system, active="activating"):
    system.units["k3s"] = UnitState(loaded=True, active=active, pid=7, started_at=system.clock - 5)


def test_a_server_on_its_way_gets_the_time_it_was_given(system, api):
    """503 until its API server is ready, as for a minute and more after power-on."""
    system.put(datastore.ETCD_WAL + "/0.wal")
    _running(system)
    nodes, api.objects = {"control-plane-1": make_node("control-plane-1")}, None
    began, sleep = system.clock, system.sleep

    def wake(seconds):
        sleep(seconds)
        api.objects = nodes if system.clock - began >= 20 else None

    system.sleep = wake
    late = state.await_server(system, BINARY, wait=10)
    assert (late["healthy"], late["starting"]) == (False, True) and "k3s.service is activating" in late["reason"]
    assert state.await_server(system, BINARY, wait=60)["healthy"] and system.clock - began < 30


@pytest.mark.parametrize("active", ["inactive", "failed", "deactivating"])
def test_a_server_that_is_off_costs_no_time(system, api, active):
    system.put(datastore.ETCD_WAL + "/0.wal")
    _running(system, active)
    api.objects, began = None, system.clock
    assert not state.await_server(system, BINARY, wait=300)["starting"] and system.clock == began


def test_a_server_that_is_healthy_is_not_waited_for_unless_it_must_be_well(system, api):
    system.put(datastore.ETCD_WAL + "/0.wal")
    _running(system, "active")
    api.objects = {"control-plane-1": make_node("control-plane-1", ready=False)}
    began = system.clock
    assert state.await_server(system, BINARY, wait=60)["healthy"] and system.clock == began
    assert not state.await_server(system, BINARY, wait=60, need="well")["well"] and system.clock - began >= 60
