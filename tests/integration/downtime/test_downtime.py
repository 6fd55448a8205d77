# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many seconds a county with three CouchDB nodes does not answer, asked through Traefik four times a second, while it is changed.

CHT's services need the time of the real ones here (stub_time of cluster.yml). DOWNTIME_LAB=keep uses the lab that runs and leaves it running, to
work on a test. Seconds are written to tests/output/downtime.json. The tests build on each other.
"""

from __future__ import annotations

import json
import os
import threading
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.lab import OUTPUT, Lab, Run, own_lab

HERE = Path(__file__).parent
KEEP = os.environ.get("DOWNTIME_LAB") == "keep"
NAME, HOST = "nairobi", "nairobi.lab.example"
COUNTY: dict[str, t.Any] = {
    "name": NAME, "host": HOST, "version": "4.21.0", "couchdb": {"nodes": 3, "storage": "1Gi"}, "builds_url": "http://198.18.0.2:8080/builds",
    "credentials": {"password": "first-password-of-nairobi"},
}
SETTINGS = {"control_plane_taint": True, "cht_project_wait_timeout": 600}
# What a real county of CHT 4.22.0 was away for, before nodes of CouchDB followed one another.
BEFORE = {"memory limits": 37, "password": 48, "drain": 70, "version": 37}
PROBE = """
import http.client, sys, time
while True:
    begin, good = time.time(), 0
    try:
        connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=2)
        connection.request("GET", "/api/v2/monitoring", headers={"Host": sys.argv[2], "Accept": "application/json"})
        answer = connection.getresponse()
        good = int(answer.status == 200 and b"version" in answer.read())
        connection.close()
    except (OSError, http.client.HTTPException):
        pass
    print(f"{begin:.2f} {good}", flush=True)
    time.sleep(max(0, begin + 0.25 - time.time()))
"""


def gaps(seen: list[tuple[float, bool]], begin: float) -> list[float]:
    """The silences after a moment: from the first request without an answer to the next one with."""
    found: list[float] = []
    since = None
    for moment, good in seen:
        if good and since is not None:
            found.append(round(moment - since, 1))
            since = None
        elif not good and since is None and moment >= begin:
            since = moment
    return found


class County:
    """The county, and what its users see of it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.seen: list[tuple[float, bool]] = []
        self.seconds: dict[str, t.Any] = {}
        self.wanted = dict(COUNTY)

    def play(self, playbook: str, name: str, **variables: t.Any) -> Run:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        extra = OUTPUT / f"downtime-{name}.json"
        extra.write_text(json.dumps({**SETTINGS, "cht_projects": [self.wanted], **variables}))
        return self.lab.playbook("-e", f"@{extra}", playbook=f"playbooks/{playbook}.yml", name=f"downtime-{name}").expect()

    def curl(self, *arguments: str) -> t.Any:
        address = self.lab.vms()["control-plane-1"]["ip"]
        answer = self.lab("exec", "--", "curl", "-s", "-m", "10", "-H", f"Host: {HOST}", *arguments[:-1], f"http://{address}{arguments[-1]}", check=False)
        return json.loads(answer) if answer.startswith(("{", "[")) else {}

    def documents(self) -> int:
        return int(self.curl("/api/v2/monitoring").get("couchdb", {}).get("medic", {}).get("doc_count", 0))

    @contextmanager
    def watched(self) -> Iterator[None]:
        process = self.lab.start("python3", "-u", "-c", PROBE, self.lab.vms()["control-plane-1"]["ip"], HOST)

        def note() -> None:
            assert process.stdout
            for line in process.stdout:
                moment, good = line.split()
                self.seen.append((float(moment), good == "1"))

        thread = threading.Thread(target=note, daemon=True)
        thread.start()
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
            thread.join(30)

    def steady(self, seconds: float = 20, timeout: float = 300) -> None:
        """Wait until it has answered for a while."""
        deadline = time.monotonic() + timeout
        while not self.seen or not all(good for moment, good in self.seen if moment > time.time() - seconds) or self.seen[-1][0] < time.time() - 5:
            assert time.monotonic() < deadline, f"{HOST} does not answer: {gaps(self.seen, 0)}"
            time.sleep(1)

    def away(self, what: str, change: t.Callable[[], object]) -> float:
        """Make a change; return how many seconds nobody got an answer."""
        self.steady()
        documents, begin = self.documents(), time.time()
        change()
        self.steady()
        found = gaps(self.seen, begin)
        pods = self.lab.kubectl("get", "pods", "-n", NAME, "-l", "cht.service=api")["items"]
        restarts = sum(status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"])
        self.seconds[what] = {"away": round(sum(found), 1), "gaps": found, "api restarts": restarts, "before": BEFORE[what]}
        (OUTPUT / "downtime.json").write_text(json.dumps(self.seconds, indent=2) + "\n")
        assert documents and self.documents() == documents
        return sum(found)


@pytest.fixture(scope="module", name="county")
def fixture_county() -> Iterator[County]:
    with own_lab("downtime", HERE / "cluster.yml", keep=KEEP) as lab:
        county = County(lab)
        county.play("site", "site")
        documents = json.dumps({"docs": [{"_id": f"document-{number}"} for number in range(200)]})
        login = ("-u", f"medic:{COUNTY['credentials']['password']}", "-H", "Content-Type: application/json")
        county.curl(*login, "-X", "POST", "-d", documents, "/medic/_bulk_docs")
        assert county.documents() >= 200
        with county.watched():
            yield county


def test_1_memory_limits(county: County) -> None:
    county.wanted["resources"] = {name: {"limits": {"memory": "512Mi"}} for name in ("api", "couchdb")}
    county.away("memory limits", lambda: county.play("projects", "memory"))


def test_2_password(county: County) -> None:
    county.wanted["credentials"] = {"password": "second-password-of-nairobi"}
    county.away("password", lambda: county.play("projects", "password", cht_project_change_password=[NAME]))


def test_3_drain(county: County) -> None:
    pods = county.lab.kubectl("get", "pods", "-n", NAME)["items"]
    (agent,) = {pod["spec"]["nodeName"] for pod in pods}

    def drain() -> None:
        county.lab("kubectl", "drain", agent, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=400s", timeout=450)

    county.away("drain", drain)
    county.lab("kubectl", "uncordon", agent)


def test_4_version(county: County) -> None:
    """The views of the new version are indexed while users work."""
    county.wanted["version"] = "4.22.0"
    county.away("version", lambda: county.play("projects", "version"))
    assert county.curl("/api/v2/monitoring")["version"]["app"] == "4.22.0"
    assert county.play("projects", "again").changed == []


def test_5_it_is_away_once_for_each_change_and_api_never_ends_in_a_run(county: County) -> None:
    """The seconds themselves depend on the machine that runs this; they are in downtime.json beside those of the real one.

    While a node is drained nobody keeps API from ending with each CouchDB node.
    """
    assert set(county.seconds) == set(BEFORE)
    assert {what: found["gaps"] for what, found in county.seconds.items() if len(found["gaps"]) > 1} == {}
    assert {what for what, found in county.seconds.items() if found["api restarts"]} <= {"drain"}
