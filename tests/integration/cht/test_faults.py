# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fifty counties: a run that is killed in the middle, and one county that is bad.

An API server of its own, without controllers: nobody waits here for pods, and fifty counties would burden the other tests.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from apiserver import ApiServer
from conftest import Cluster, county

ENTRIES = [county(f"f{number:02d}", couchdb={"mode": "single"}) for number in range(50)]


@pytest.fixture(scope="module", name="fifty")
def fixture_fifty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ApiServer() as server:
        cluster = Cluster(server, tmp_path_factory.mktemp("play"))
        yield cluster
        cluster.client.close()


def secrets(cluster: Cluster) -> dict[str, str]:
    """The passwords that are in the cluster."""
    found = cluster.items("/api/v1/secrets")
    return {item["metadata"]["namespace"]: item["data"]["COUCHDB_PASSWORD"] for item in found if item["metadata"]["name"] == "cht-couchdb-credentials"}


def own(cluster: Cluster, path: str, how: signal.Signals) -> int:
    """How many objects there are of the counties of one test."""
    return sum(item["metadata"]["namespace"].startswith(how.name.lower()) for item in cluster.items(path))


@pytest.mark.parametrize("how", [signal.SIGINT])
def test_a_run_that_is_killed_in_the_middle_is_finished_by_the_next(fifty: Cluster, how: signal.Signals) -> None:
    entries = [county(f"{how.name.lower()}-{entry['name']}", couchdb={"mode": "single"}) for entry in ENTRIES[:25]]
    process = fifty.start("projects", cht_projects=entries)
    deadline = time.monotonic() + 240
    while not own(fifty, "/api/v1/services", how):
        assert time.monotonic() < deadline and process.poll() is None
    fifty.kill(process, how)
    kept = secrets(fifty)
    assert own(fifty, "/apis/apps/v1/deployments", how) < 25 * 6, "it was over already"
    fifty.counties(*entries)
    assert kept.items() <= secrets(fifty).items(), "what was generated stays"
    assert fifty.counties(*entries).changed == 0


def test_one_bad_county_among_fifty(fifty: Cluster) -> None:
    entries = [*ENTRIES[:25], county("bad", couchdb={"mode": "triple"}), *ENTRIES[25:]]
    run = fifty.counties(*entries, expect=2)
    assert "couchdb.mode" in run.row("bad") and "51 counties: 1 failed, 50 changed" in run.text
    again = fifty.counties(*entries, expect=2)
    assert again.changed == 0 and "51 counties: 1 failed, 50 unchanged" in again.text
