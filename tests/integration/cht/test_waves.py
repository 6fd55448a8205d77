# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running counties are changed in waves, and what goes wrong with the first ones does not reach the others."""

from __future__ import annotations

import base64
import signal
import time
import typing as t
from collections.abc import Iterator

import pytest
from conftest import Cluster, Play, county
from kubelet import Kubelet

SMALL = {"couchdb": {"mode": "single"}}


def tag(cluster: Cluster, name: str) -> str:
    deployment = cluster.get(f"/apis/apps/v1/namespaces/{name}/deployments/cht-api") or {}
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2])


def roll(cluster: Cluster, names: list[str], version: str, expect: int = 0, timeout: int = 90, **variables: t.Any) -> Play:
    entries = [county(name, version=version, **SMALL) for name in names]
    waiting = {"cht_project_wait": True, "cht_project_wait_timeout": 90, "cht_project_wave_timeout": timeout, "cht_project_wait_report_every": 2}
    return cluster.counties(*entries, expect=expect, **{**waiting, **variables})


@pytest.fixture(name="kubelet")
def fixture_kubelet(cluster: Cluster) -> Iterator[Kubelet]:
    with Kubelet(cluster.server) as kubelet:
        yield kubelet


def stuck_at(version: str, *names: str) -> t.Callable[[dict[str, t.Any]], str]:
    def obstacle(pod: dict[str, t.Any]) -> str:
        wrong = pod["metadata"]["namespace"] in names and pod["spec"]["containers"][0]["image"].endswith(f"cht-api:{version}")
        return "ImagePullBackOff" if wrong else ""

    return obstacle


def test_an_upgrade_goes_canary_first_and_two_at_a_time(cluster: Cluster, kubelet: Kubelet) -> None:
    names = [f"wave-{number}" for number in range(5)]
    first = roll(cluster, names, "4.21.0")
    assert "wave 1" not in first.text, "new counties have nothing to lose"
    run = roll(cluster, names, "4.22.0", cht_project_wave_size=2, cht_project_canary=["wave-3"])
    order = [line for line in run.text.splitlines() if line.startswith("wave ")][:3]
    assert order == ["wave 1 of 3 (canary): wave-3", "wave 2 of 3: wave-0, wave-1", "wave 3 of 3: wave-2, wave-4"]
    assert {tag(cluster, name) for name in names} == {"4.22.0"}
    assert "5 counties: 5 changed" in run.text
    assert {path for namespace, path in kubelet.asked if namespace == "wave-3"} == {
        "/_membership", "/medic", "/api/v2/monitoring", "/api/v2/upgrade", "/api/v1/upgrade/stage",
    }
    assert roll(cluster, names, "4.22.0", cht_project_wave_size=2).changed == 0


def test_a_change_that_restarts_nothing_does_not_wait_for_a_wave(cluster: Cluster, kubelet: Kubelet) -> None:
    roll(cluster, ["calm"], "4.22.0")
    entry = county("calm", host="calm2.health.example", **SMALL)
    run = cluster.counties(entry, cht_project_wait=True, cht_project_wait_timeout=30)
    assert "wave 1" not in run.text and "1 objects updated" in run.row("calm")


def test_a_sick_canary_stops_the_rollout_and_the_next_run_resumes(cluster: Cluster, kubelet: Kubelet) -> None:
    names = [f"sick-{number}" for number in range(3)]
    roll(cluster, names, "4.21.0")
    kubelet.obstacle = stuck_at("4.22.0", "sick-0")
    run = roll(cluster, names, "4.22.0", expect=2, timeout=15, cht_project_canary=["sick-0"])
    assert "waiting" in run.row("sick-0") and "ImagePullBackOff" in run.row("sick-0")
    assert "not rolled out: the canary sick-0 is not well" in run.row("sick-1")
    assert "counties ready: 0 of 1; sick-0 (" in run.text
    assert [tag(cluster, name) for name in names] == ["4.22.0", "4.21.0", "4.21.0"]
    again = roll(cluster, names, "4.22.0", expect=2, timeout=3, cht_project_wait_timeout=3, cht_project_canary=["sick-0"])
    assert "the canary sick-0 is not well" in again.row("sick-2"), "a second run must not walk past the sick canary"
    kubelet.obstacle = lambda pod: ""
    healed = roll(cluster, names, "4.22.0", cht_project_canary=["sick-0"])
    assert [tag(cluster, name) for name in names] == ["4.22.0"] * 3
    assert "3 counties: 2 changed, 1 unchanged" in healed.text


def test_too_many_failures_stop_the_rollout(cluster: Cluster, kubelet: Kubelet) -> None:
    names = [f"limit-{number}" for number in range(4)]
    roll(cluster, names, "4.21.0")
    kubelet.obstacle = stuck_at("4.22.0", "limit-1")
    run = roll(cluster, names, "4.22.0", expect=2, timeout=20, cht_project_wave_size=1, cht_project_wave_max_failures=0)
    assert "changed" in run.row("limit-0")
    assert "not rolled out: 1 counties with the new state are not well (limit-1)" in run.row("limit-2")
    assert [tag(cluster, name) for name in names] == ["4.22.0", "4.22.0", "4.21.0", "4.21.0"]


def test_a_cluster_of_databases_that_is_not_whole_is_not_well(cluster: Cluster, kubelet: Kubelet) -> None:
    kubelet.unjoined.add("unjoined")
    run = cluster.counties(
        county("unjoined"), expect=2, cht_project_wait=True, cht_project_wait_timeout=25, cht_project_wait_report_every=5,
    )
    assert "CouchDB's cluster has 2 of 3 nodes" in run.row("unjoined")
    kubelet.unjoined.clear()
    assert cluster.counties(county("unjoined"), cht_project_wait=True).changed == 0


def test_the_nodes_of_a_cluster_follow_one_another_and_api_starts_once(cluster: Cluster, kubelet: Kubelet) -> None:
    waiting = {"cht_project_wait": True, "cht_project_wait_timeout": 90, "cht_project_wave_timeout": 90}
    cluster.counties(county("ordered"), **waiting)
    kubelet.seen.clear()
    entry = county("ordered", resources={"couchdb": {"limits": {"memory": "4Gi"}}})
    run = cluster.counties(entry, **waiting)
    assert "3 objects updated" in run.row("ordered")
    nodes = [f"{sign}couchdb-{number}" for number in (1, 2, 3) for sign in "-+"]
    assert [entry for entry in kubelet.seen["ordered"] if "couchdb" in entry] == nodes
    assert [entry for entry in kubelet.seen["ordered"] if "couchdb" not in entry] == ["-api", "+api"]
    assert kubelet.seen["ordered"].index("-api") < 2 and kubelet.seen["ordered"][-1] == "+api"
    assert cluster.counties(entry, **waiting).changed == 0
    # As after a run that was killed in between: API is stopped, and one node has what the others have not.
    cluster.patch("/apis/apps/v1/namespaces/ordered/deployments/cht-api", {"spec": {"replicas": 0}}, manager="cht.k3s-killed")
    healed = cluster.counties(entry, **waiting)
    assert "1 objects updated" in healed.row("ordered") and "wave 1" not in healed.text


def test_a_health_check_that_hangs_is_told_and_restarted(cluster: Cluster, kubelet: Kubelet) -> None:
    waiting = {"cht_project_wait": True, "cht_project_wait_timeout": 60}
    cluster.counties(county("hangs", **SMALL), **waiting)
    before = cluster.resource_versions("hangs")
    kubelet.hanging.add("hangs")
    kubelet.obstacle = lambda pod: "CrashLoopBackOff" if kubelet.hanging and "cht-api" in pod["spec"]["containers"][0]["image"] else ""
    path = "/apis/apps/v1/namespaces/hangs/deployments/cht-api"
    deadline = time.monotonic() + 60
    while (cluster.get(path) or {})["status"].get("readyReplicas"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    seen = cluster.counties(county("hangs", **SMALL), arguments=("--check",), expect=None, **waiting)
    assert "its health check hangs (cht-core#8644): would be restarted" in seen.row("hangs") and kubelet.hanging
    run = cluster.counties(county("hangs", **SMALL), **waiting)
    assert "its health check hangs (cht-core#8644): restarted" in run.row("hangs") and not kubelet.hanging
    assert cluster.resource_versions("hangs") == before and cluster.counties(county("hangs", **SMALL), **waiting).changed == 0


def test_a_version_is_staged_before_anything_restarts(cluster: Cluster, kubelet: Kubelet) -> None:
    roll(cluster, ["staged"], "4.21.0")
    kubelet.indexing = 8
    process = cluster.start(
        "projects", cht_projects=[county("staged", **SMALL)], cht_project_wait=True, cht_project_wait_report_every=2, cht_project_wave_timeout=60
    )
    deadline = time.monotonic() + 120
    while ("staged", "/api/v1/upgrade/stage") not in kubelet.asked:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    cluster.kill(process, signal.SIGINT)
    assert tag(cluster, "staged") == "4.21.0", "users work with the old version while the new one is indexed"
    run = roll(cluster, ["staged"], "4.22.0")
    assert tag(cluster, "staged") == "4.22.0" and "1 changed" in run.text
    assert [path for namespace, path in kubelet.asked if path.endswith("/stage")] == ["/api/v1/upgrade/stage"], "the interrupted one is gone on with"
    assert roll(cluster, ["staged"], "4.22.0").changed == 0


def test_what_can_t_be_staged_wants_a_word_and_is_upgrading_for_long(cluster: Cluster, kubelet: Kubelet) -> None:
    roll(cluster, ["wordy"], "4.21.0")
    kubelet.builds = set()
    refused = roll(cluster, ["wordy"], "4.22.0", expect=2)
    assert "can't be staged: API gave up 4 times" in refused.row("wordy") and "cht_project_unstaged" in refused.row("wordy")
    without = cluster.counties(county("wordy", **SMALL), expect=2)
    assert "is not staged" in without.row("wordy") and "1,234,567 documents" in without.row("wordy")
    assert tag(cluster, "wordy") == "4.21.0"
    kubelet.indexing = 10
    run = roll(cluster, ["wordy"], "4.22.0", cht_project_unstaged="wordy")
    assert "upgrading: Indexing data" in run.text and "changed" in run.row("wordy") and "not staged, as it was asked for" in run.row("wordy")


def secret(cluster: Cluster, name: str) -> dict[str, str]:
    data = (cluster.get(f"/api/v1/namespaces/{name}/secrets/cht-couchdb-credentials") or {})["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_a_password_is_changed_in_couchdb_first(cluster: Cluster, kubelet: Kubelet) -> None:
    waiting = {"cht_project_wait": True, "cht_project_wait_timeout": 90, "cht_project_wave_timeout": 90}
    cluster.counties(county("pass", **SMALL), **waiting)
    old = kubelet.passwords["pass"] = secret(cluster, "pass")["COUCHDB_PASSWORD"]
    entry = county("pass", credentials={"password": "another-password-1"}, **SMALL)
    refused = cluster.counties(entry, expect=2, **waiting)
    assert "cht_project_change_password does it in the right order" in refused.row("pass")
    run = cluster.counties(entry, cht_project_change_password="pass", **waiting)
    assert kubelet.told == [old], "CouchDB is told while the Secret still has the old password"
    held = secret(cluster, "pass")
    assert held["COUCHDB_PASSWORD"] == kubelet.passwords["pass"] == "another-password-1"
    assert ":another-password-1@" in held["COUCH_URL"]
    assert old not in run.text and "another-password-1" not in run.text
    assert cluster.counties(entry, cht_project_change_password="pass", **waiting).changed == 0
    # As after an interruption between the two: CouchDB has the third password already, the Secret still the second.
    kubelet.passwords["pass"] = "third-password-01"
    third = county("pass", credentials={"password": "third-password-01"}, **SMALL)
    cluster.counties(third, cht_project_change_password=["pass"], **waiting)
    assert kubelet.told == [old] and secret(cluster, "pass")["COUCHDB_PASSWORD"] == "third-password-01"
