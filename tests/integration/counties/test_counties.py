# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counties that run on the lab: requests by host name through Traefik, and packets that must not arrive.

CHT's services are the lab's stand-ins, volumes too (tests/lab/README.md). Policies are enforced by the stand-in for kube-router that the lab's k3s has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.lab import NODES, OUTPUT, Lab, Run

NEW = {
    "name": "lab-new", "host": "lab-new.health.example", "version": "5.2.0", "couchdb": {"mode": "single", "storage": "1Gi"},
    "ingress": {"tls_in_front": True},
}
OLD = {"name": "lab-old", "host": "lab-old.health.example", "version": "4.22.0", "couchdb": {"nodes": 3, "storage": "1Gi"}}
PORTS = {
    "lab-new": ["api:5988", "haproxy:5984", "couchdb:5984", "couchdb:4369", "couchdb:9100", "healthcheck:5555", "nouveau:5987"],
    "lab-old": ["api:5988", "haproxy:5984", "couchdb-1:5984", "couchdb-2:4369", "couchdb-3:9100", "upgrade-service:5008"],
}
# What answers by HTTP, to know that a refusal is the policy's doing.
OPEN = {
    "lab-new": ["api:5988", "haproxy:5984", "couchdb:5984", "couchdb:9100", "nouveau:5987"],
    "lab-old": ["api:5988", "couchdb-1:5984", "couchdb-3:9100", "upgrade-service:5008"],
}


def projects(lab: Lab, name: str, *arguments: str, playbook: str = "playbooks/projects.yml", **variables: object) -> Run:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    extra = OUTPUT / f"{name}.json"
    extra.write_text(json.dumps(variables))
    return lab.playbook("-e", f"@{extra}", *arguments, playbook=playbook, name=name)


@pytest.fixture(scope="module", name="counties")
def fixture_counties(lab: Lab) -> Iterator[Lab]:
    """The lab with a cluster and both counties ready."""
    servers = lab("ssh", "control-plane-1", "test -e /etc/rancher/k3s/k3s.yaml && echo there || true")
    if "there" not in servers:
        lab.playbook(name="counties-site").expect(0)
    # The county of `site` is not among them.
    values = {"cht_projects": [NEW, OLD], "cht_project_expect": 2, "cht_project_wait": True, "cht_project_wait_timeout": 300}
    projects(lab, "counties-deploy", **values).expect(0)
    again = projects(lab, "counties-again", **values).expect(0)
    assert again.changed == []
    yield lab
    gone = {"cht_projects": [], "cht_project_remove": ["lab-new", "lab-old"], "cht_project_remove_data": ["lab-new", "lab-old"]}
    projects(lab, "counties-remove", playbook="playbooks/remove_project.yml", **gone).expect(0)


@pytest.mark.parametrize("county", [NEW, OLD], ids=lambda county: county["name"])
def test_every_node_answers_for_every_county_by_its_host_name(counties: Lab, county: dict[str, str]) -> None:
    for node in NODES:
        address = counties.vms()[node]["ip"]
        answer = counties("exec", "--", "curl", "-s", "-m", "10", "-H", f"Host: {county['host']}", f"http://{address}/api/v2/monitoring")
        assert json.loads(answer)["version"]["app"] == county["version"], f"{node}: {answer}"


def test_a_county_keeps_its_pods_on_one_agent(counties: Lab) -> None:
    pods = counties.kubectl("get", "pods", "-n", "lab-old")["items"]
    assert len(pods) == 8
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 1


@pytest.fixture(name="probe", params=["lab-new", "lab-old", "cht-probe"])
def fixture_probe(counties: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[Lab, str]]:
    """A pod with curl in a county or in a namespace that is none."""
    space = request.param
    if space == "cht-probe":
        counties("kubectl", "create", "namespace", space)
    try:
        counties("kubectl", "run", "probe", "-n", space, "--image=lab/client:1", "--restart=Never", "--command", "--", "sleep", "600")
        counties("kubectl", "wait", "-n", space, "--for=condition=Ready", "pod/probe", "--timeout=60s")
        yield counties, space
    finally:
        target = ("namespace", space) if space == "cht-probe" else ("pod", "probe", "-n", space, "--grace-period=1")
        counties("kubectl", "delete", *target)


def reached(lab: Lab, space: str, target: str, county: str) -> bool:
    name, port = target.split(":")
    url = f"http://{name}.{county}.svc.cluster.local:{port}/"
    code = lab("kubectl", "exec", "-n", space, "probe", "--", "curl", "-s", "-m", "4", "-o", "/dev/null", "-w", "%{http_code}", url, check=False)
    return code.strip() not in ("", "000")


def test_packets_arrive_within_a_county_and_nowhere_else(probe: tuple[Lab, str]) -> None:
    lab, space = probe
    for county, targets in PORTS.items():
        if county == space:
            assert [target for target in OPEN[county] if not reached(lab, space, target, county)] == []
        else:
            assert [target for target in targets if reached(lab, space, target, county)] == []
