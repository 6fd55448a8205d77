# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: arithmetic, certificates, page."""

from __future__ import annotations

import datetime
import json
import subprocess
import typing as t
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import encryption
from ansible_collections.cht.k3s.plugins.module_utils.cht.capacity import Agent, Amount, Load, etcd_majority, fit, lose, losses, typical
from ansible_collections.cht.k3s.plugins.module_utils.cht.certificate import CertificateError, pem_expiry
from ansible_collections.cht.k3s.plugins.module_utils.cht.figures import figures
from ansible_collections.cht.k3s.plugins.module_utils.cht.findings import problems
from ansible_collections.cht.k3s.plugins.module_utils.cht.nodes import LOST, NONE, VOTER, clocks, vote
from ansible_collections.cht.k3s.plugins.module_utils.cht.report import RECOVERY, Wishes, build, headlines, natural, number, pod_needs, read_agents
from ansible_collections.cht.k3s.plugins.module_utils.cht.report_page import page
from ansible_collections.cht.k3s.plugins.module_utils.cht.upkeep import backups, parts, snapshot, volume_use
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError

GI = 2.0**30
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
COUNTY = Amount(4, 16 * GI, 8, 3)


def agent(name: str, *counties: str, cpu: float = 16, memory: float = 64 * GI, each: Amount = COUNTY) -> Agent:
    found = Agent(name, Amount(cpu, memory, 110, 59))
    for county in counties:
        found.loads.append(Load(county, f"{county}-pod", each))
        found.used = found.used + each
    return found


def test_what_fits_is_the_least_of_all_measures_on_each_agent() -> None:
    agents = [agent("a1", "c1"), agent("a2", "c2", "c3", cpu=32)]
    found = fit(agents, Amount(4, 16 * GI, 8, 3))
    assert found["by"] == {"cpu": 3 + 6, "memory": 3 + 2, "pods": 12 + 11, "volumes": 18 + 17, "disk": None}
    assert found["counties"] == 5 and found["limited_by"] == ["memory"]


def test_free_room_on_two_agents_is_not_room_for_one_county() -> None:
    agents = [agent("a1", cpu=3), agent("a2", cpu=3)]
    assert fit(agents, Amount(cpu=4))["counties"] == 0


def test_the_datastore_counts_when_it_is_known() -> None:
    found = fit([agent("a1")], Amount(volumes=3), storage_free=100 * GI, storage_need=30 * GI)
    assert found["counties"] == 3 and found["limited_by"] == ["disk"]
    assert fit([agent("a1")], Amount())["counties"] is None


def test_an_agent_that_is_not_usable_has_no_room() -> None:
    broken = agent("a1")
    broken.usable = False
    assert fit([broken], Amount(cpu=1))["counties"] == 0


def test_losing_agents() -> None:
    agents = [agent("a1", "c1", "c2"), agent("a2", "c3"), agent("a3", "c4", "c5", "c6")]
    assert lose(agents, ["a1"]) == {"lost": ["a1"], "stopped": ["c1", "c2"], "homeless": [], "survives": True}
    assert losses(agents, 1)["survives"]
    two = losses(agents, 2)
    assert two["bad"] == [["a1", "a2"], ["a1", "a3"], ["a2", "a3"]]
    assert len(two["worst"]["homeless"]) == 2
    alone = losses(agents[:1], 1)
    assert (alone["bad"], alone["reason"]) == ([["a1"]], "the cluster has only 1 agent")


def server(name: str, ready: bool = True, **etcd: str) -> dict[str, t.Any]:
    conditions = [{"type": "Ready", "status": str(ready)}, *([{"type": "EtcdIsVoter", **etcd}] if etcd else [])]
    labels = {"node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/etcd": "true"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"conditions": conditions}}


WELL = {"status": "True", "reason": "MemberNotLearner"}


@pytest.mark.parametrize(("nodes", "voters", "healthy", "to_lose"), [
    ([server("a", **WELL)], 1, 1, 0),
    ([server("a", **WELL), server("b", **WELL)], 2, 2, 0),
    ([server("a", **WELL), server("b", **WELL), server("c", **WELL)], 3, 3, 1),
    # A machine that is off can't take its condition back.
    ([server("a", **WELL), server("b", ready=False, **WELL), server("c", **WELL)], 3, 2, 0),
    ([server("a", **WELL), server("b", status="False", reason="Unhealthy"), server("c", **WELL)], 3, 2, 0),
    ([server("a", **WELL), server("b"), server("c", **WELL)], 3, 2, 0),
    # Without a vote one neither helps nor counts for the majority.
    ([server("a", **WELL), server("b", **WELL), server("c", status="False", reason="MemberIsLearner")], 2, 2, 0),
    ([server("a", **WELL), server("b", **WELL), server("c", **WELL), server("d", status="False", reason="NotAMember")], 3, 3, 1),
    ([server(name, name != "e", **WELL) for name in "abcde"], 5, 4, 1),
])
def test_servers_that_may_be_lost_are_counted_from_healthy_voters(nodes, voters, healthy, to_lose) -> None:
    assert etcd_majority([vote(node) for node in nodes]) == {"voters": voters, "healthy_voters": healthy, "servers_to_lose": to_lose}


def test_one_of_three_servers_down_is_red() -> None:
    found = report()
    found["loss"].update(etcd_majority([VOTER, LOST, VOTER]))
    entry = next(entry for entry in problems(found, [], []) if entry["what"] == "control plane")
    assert (entry["level"], entry["text"]) == ("bad", "has 2 of 3 voters of etcd: the loss of one more stops the cluster's control")
    text = page(found)
    assert "<span class='pill bad'>servers</span> 0 of 3 may be lost: 2 of 3 voters of etcd are well" in text
    assert 'card bad"><b>two agents</b>' in text or 'card bad"><b>one agent</b>' in text
    assert headlines(found)[-2].endswith("; 0 of 3 servers may be lost")


def machine(*conditions: str, ready: bool = True, taints: tuple[str, ...] = (), **spec: t.Any) -> dict[str, t.Any]:
    """An agent with conditions that hold, and taints by their key."""
    found = [{"type": "Ready", "status": str(ready)}, *({"type": kind, "status": "True"} for kind in conditions)]
    spec = {"taints": [{"key": key, "effect": "NoExecute"} for key in taints], **spec}
    room = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    return {"metadata": {"name": "a1", "labels": {}}, "spec": spec, "status": {"conditions": found, "allocatable": room}}


OUT = "node.kubernetes.io/out-of-service"
FENCE = "ansible-playbook cht.k3s.fence_node -e k3s_fence=a1"


@pytest.mark.parametrize(("node", "off", "level", "step", "usable"), [
    (machine(), 0.0, "", "", True),
    (machine(), 119.0, "", "", True),
    (machine(taints=("dev-couchdb-only",)), 0.0, "", "", True),
    (machine(taints=(OUT,)), 0.0, "warning", f"{FENCE} --tags release", False),
    (machine(ready=False), 0.0, "bad", FENCE, False),
    (machine(ready=False, taints=(OUT,)), 0.0, "bad", f"start its machine, then {FENCE} --tags release", False),
    (machine(unschedulable=True), 0.0, "warning", "kubectl uncordon a1", False),
    (machine("MemoryPressure"), 0.0, "bad", "kubectl describe node a1", False),
    (machine("DiskPressure"), 0.0, "bad", "kubectl describe node a1", False),
    (machine("PIDPressure"), 0.0, "bad", "kubectl describe node a1", False),
    (machine(taints=("node.cloudprovider.kubernetes.io/uninitialized",)), 0.0, "bad", "ansible-playbook cht.k3s.site --tags cpi", False),
    (machine(), -3600.0, "bad", "ansible-playbook cht.k3s.site --tags node --limit a1", True),
    (server("a1", status="False", reason="Unhealthy"), 0.0, "bad", "ansible-playbook cht.k3s.site --tags control_plane --limit a1", True),
    (server("a1", status="False", reason="MemberIsLearner"), 0.0, "warning", "ansible-playbook cht.k3s.site --tags control_plane --limit a1", True),
])
def test_a_node_that_is_not_well_is_told_with_the_next_command_and_is_no_room(node, off, level, step, usable) -> None:
    found: t.Any = Cluster()
    found.nodes, found.pods, found.clocks = [node], [], {"a1": off}
    agents, rows = read_agents(found)
    assert [(fault["level"], fault["next"]) for fault in rows[0]["faults"]] == ([(level, step)] if level else [])
    assert agents[0].usable is rows[0]["usable"] is usable
    told = [entry for entry in problems({**report(0, 0), "nodes": rows}, [], []) if entry["what"] == "a1"]
    assert [entry["next"] for entry in told] == ([step] if step else [])


def test_a_clock_is_off_by_what_most_others_say() -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)

    def signed(*ages: float) -> dict[str, datetime.datetime]:
        return {f"n{number}": now - datetime.timedelta(seconds=age) for number, age in enumerate(ages)}

    assert clocks(signed(3, 9, 1, 603), now)["n3"] == -598.0
    # The controller's own clock is 10 minutes behind: the nodes agree.
    assert max(map(abs, clocks(signed(-603, -591, -597), now).values())) < 10
    assert clocks(signed(-603), now) == {"n0": 608.0} and clocks({}, now) == {}


class Cluster:
    """What was read of three agents: the second has a label, the third a taint."""

    counties = [{"name": "c1", "namespace": "c1"}]
    limits: dict[str, int] = {}
    usage: dict[str, t.Any] = {}
    volumes: list[dict[str, t.Any]] = []
    clocks: dict[str, float] = {}

    def __init__(self, **spec: t.Any) -> None:
        status = {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]}
        self.nodes = [
            {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}, "spec": {"taints": taints}, "status": status}
            for name, labels, taints in (
                ("a1", {"tier": "data"}, []), ("a2", {"tier": "data"}, []), ("a3", {}, [{"key": "dev-couchdb-only", "value": "true", "effect": "NoSchedule"}]))
        ]
        self.pods = [{"metadata": {"name": "p", "namespace": "c1"}, "spec": {"nodeName": "a1", "containers": [], **spec}}]


PINNED = [{"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "c1", "name": "couchdb-claim0"}, "nodeAffinity": {"required": {
    "nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["a1"]}]}]}}}}]
CLAIM = {"volumes": [{"persistentVolumeClaim": {"claimName": "couchdb-claim0"}}]}


@pytest.mark.parametrize(("spec", "lost", "survives"), [
    ({}, ["a1"], True), ({}, ["a1", "a2"], False), ({"tolerations": [{"operator": "Exists"}]}, ["a1", "a2"], True),
    ({"nodeSelector": {"kubernetes.io/hostname": "a1"}}, ["a1"], False), ({"nodeSelector": {"tier": "data"}}, ["a1"], True),
    ({"nodeSelector": {"tier": "data"}, "tolerations": [{"operator": "Exists"}]}, ["a1", "a2"], False), (CLAIM, ["a1"], False),
])
def test_room_where_a_county_may_not_run_is_no_room(spec: dict[str, t.Any], lost: list[str], survives: bool) -> None:
    found: t.Any = Cluster(**spec)
    found.volumes = PINNED
    assert lose(read_agents(found)[0], lost)["survives"] is survives


@pytest.mark.parametrize("waiting", [False, True])
def test_room_that_somebody_waits_for_is_no_room(waiting: bool) -> None:
    agents = [agent("a1", cpu=4), agent("a2", "c1", cpu=4)]
    if not waiting:  # its pods still are on an agent that is silent, else they wait for a place
        agents[1].usable, agents[1].lost = False, True
    loads = [Load("c1", "c1-pod", COUNTY)] if waiting else []
    assert fit(agents, Amount(cpu=4), waiting=loads)["counties"] == 0
    assert losses(agents, 1, loads)["survives"] is False


def test_what_is_not_known_is_grey_and_said() -> None:
    found: t.Any = Cluster(containers=[{"resources": {}}])
    found.nodes[2]["spec"]["taints"] = []
    client: t.Any = _EmptyCluster()
    client.items = lambda path, *dummy: {"/api/v1/nodes": found.nodes, "/api/v1/pods": found.pods, "/api/v1/namespaces": [
        {"metadata": {"name": "c1", "labels": {"cht.k3s/county": "c1"}}}]}.get(path, [])
    seen = build(client, NOW, Wishes())
    assert seen["loss"]["one_agent"]["survives"] and seen["loss"]["unknown"] == ["1 of 1 counties request no CPU or no memory (c1): give them resources"]
    assert seen["capacity"]["unknown"][1:] == ["the size of the datastore: set cht_project_report_storage"]
    text = page(seen)
    assert '<div class="card "><b>at most 329</b>' in text and "not known: 1 of 1 counties request no CPU" in text
    assert "<span class='pill '>one agent</span>" in text and "pill good'>one agent" not in text
    lines = headlines(seen)
    assert lines[-3].startswith("at most 329 more counties fit (limit: pods); not known: 1 of 1 counties") and "loss of one agent: not known" in lines[-2]
    found.pods[0]["spec"]["containers"] = [{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]
    known = build(client, NOW, Wishes(storage_total=100 * GI))
    assert known["loss"]["unknown"] == known["capacity"]["unknown"] == []


def test_the_next_county_is_like_the_largest() -> None:
    assert typical([(Amount(1, 8, 8, 3), 10.0), (Amount(2, 4, 8, 1), 20.0)]) == (Amount(2, 8, 8, 3), 20.0)


@pytest.mark.parametrize(("text", "value"), [("250m", 0.25), ("1Gi", GI), ("500000000n", 0.5), ("20u", 2e-5), (None, 0.0), ("x", 0.0)])
def test_numbers(text: str | None, value: float) -> None:
    assert number(text) == pytest.approx(value)


def test_what_the_scheduler_counts_of_a_pod() -> None:
    def container(cpu: str) -> dict[str, t.Any]:
        return {"resources": {"requests": {"cpu": cpu}}}

    claims = [{"name": "data", "persistentVolumeClaim": {"claimName": "x"}}, {"name": "tmp", "emptyDir": {}}]
    pod = {"spec": {"containers": [container("1"), container("500m"), {}], "initContainers": [container("2")], "volumes": claims}}
    assert pod_needs(pod) == Amount(2.0, 0.0, 1, 1)


def test_names_with_numbers_are_sorted_as_people_do() -> None:
    assert sorted(["agent-10", "agent-9", "agent-1"], key=natural) == ["agent-1", "agent-9", "agent-10"]


@pytest.mark.parametrize("days", [20, 20000])
def test_expiry_of_a_certificate(tmp_path: Path, days: int) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(days), "-subj", "/CN=x"]
    subprocess.run([*command, "-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c")], check=True, capture_output=True)
    left = pem_expiry((tmp_path / "c").read_text()) - datetime.datetime.now(datetime.timezone.utc)
    assert abs(left - datetime.timedelta(days=days)) < datetime.timedelta(minutes=5)


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate(text: str) -> None:
    with pytest.raises(CertificateError):
        pem_expiry(text)


SAVED = {"set": "one-20251231-030405", "taken": "2025-12-31T03:04:05Z", "days": 0.9, "size": 60 * GI}
FAULTS = {
    4: [{"level": "bad", "text": "is not ready: its kubelet does not report", "next": "ansible-playbook cht.k3s.fence_node -e k3s_fence=agent-5"}],
    6: [{"level": "warning", "text": "is cordoned: no new pods are placed on it", "next": "kubectl uncordon agent-7"}],
}


def report(agents: int = 9, counties: int = 50) -> dict[str, t.Any]:
    """A report of an invented cluster, large enough to see the page as it will be."""
    names = [f"county-{number:02d}" for number in range(counties)]
    each = Amount(1.5, 5 * GI, 8, 3)
    machines = [agent(f"agent-{place + 1}", *names[place::agents], cpu=16, memory=40 * GI, each=each) for place in range(agents)]
    nodes = [
        {
            "name": f"control-plane-{server}", "role": "server", "ready": True, "etcd": VOTER, "faults": [], "usable": True, "version": "v1.34.4+k3s1",
            "counties": [],
            "allocatable": Amount(4, 8 * GI, 110, 59).as_dict(), "requested": Amount(0.9, 1.2 * GI, 12, 0).as_dict(), "usage": {"cpu": 1.3, "memory": 3 * GI},
        }
        for server in (1, 2, 3)
    ]
    for place, machine in enumerate(machines):
        nodes.append({
            "name": machine.name, "role": "agent", "etcd": NONE, "ready": place != 4, "faults": FAULTS.get(place, []), "version": "v1.34.4+k3s1",
            "usable": place not in FAULTS, "counties": machine.counties, "allocatable": machine.allocatable.as_dict(), "requested": machine.used.as_dict(),
            "usage": {"cpu": 4.0 + place, "memory": 20 * GI},
        })
    rows = [
        {
            "name": name, "namespace": name, "host": f"{name}.health.example",
            "versions": ["4.22.0" if number % 3 else "5.2.0"], "ready": 8 - (number in (4, 13)),
            "total": 8, "obstacle": "claim couchdb-1-claim0 is Pending (StorageClass vmware-sc)", "nodes": [f"agent-{number % agents + 1}"],
            "needs": each.as_dict(), "storage": 60 * GI, "growing": [], "full": {}, "backup": SAVED, "tls": [{"secret": "api-tls-secret", "state": "there"}],
            "figures": {"version": "4.22.0", "documents": 1234567, "users": 310, "sentinel": 3, "outbound": 0, "messages": None, "silent": ""},
        }
        for number, name in enumerate(names)
    ]
    capacity = {**fit(machines, each, 4096 * GI - counties * 60 * GI, 60 * GI), "unknown": []}
    return {
        "cluster": "guide", "time": "2026-01-01 00:00 UTC", "nodes": nodes, "counties": rows, "capacity": capacity,
        "certificates": [{"name": "county county-07", "expires": "2026-01-13", "days": 12}, {"name": "API server", "expires": "2026-12-24", "days": 357}],
        "encryption": [{"server": f"control-plane-{number}", "state": "encrypted", "stage": "start", "hash": "ab" * 32} for number in (1, 2, 3)],
        "versions": {"kubernetes": {"v1.34.4+k3s1": [node["name"] for node in nodes]}, "cht": {"4.22.0": names[1::3] + names[2::3], "5.2.0": names[::3]}},
        "parts": {"cpi": "1.34.0", "csi": "3.6.3", "table": {"k3s": "v1.34.11+k3s1", "cpi": "1.34.0", "csi": "3.6.3"}, "conflicts": {}},
        "snapshot": {"name": "etcd-1", "node": "control-plane-1", "taken": "2025-12-31T12:00:00Z", "days": 0.5, "size": 8e6}, "listed": names,
        "next_county": {**each.as_dict(), "storage": 60 * GI}, "storage": {"total": 4096 * GI, "used": counties * 60 * GI},
        "loss": {"servers": 3, **etcd_majority([VOTER] * 3), "one_agent": losses(machines, 1), "two_agents": losses(machines, 2),
                 "unknown": [], "recovery": RECOVERY},
        "problems": [
            {"what": "agent-5", **FAULTS[4][0]},
            {"level": "bad", "what": "county county-04", "text": "7 of 8 Deployments ready; claim couchdb-1-claim0 is Pending (StorageClass vmware-sc)"},
            {"what": "agent-7", **FAULTS[6][0]},
            {"level": "warning", "what": "county county-07", "text": "its certificate expires on 2026-01-13, in 12 days"},
        ],
    }


class Balance(HTMLParser):
    """Counts tags that are opened and not closed, and notes what would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing() -> None:
    found = Balance()
    text = page(report())
    found.feed(text)
    assert found.open == [] and found.links == []
    assert "url(" not in text and "@import" not in text
    assert text.index("Needs attention") < text.index("Nodes and their counties") < text.index("Counties</h2>")


def test_the_page_has_what_counties_say_of_themselves() -> None:
    text = page(report(1, 1))
    assert "<td class=n>1,234,567</td><td class=n>310</td><td>3 for Sentinel</td>" in text


def test_figures_of_a_county() -> None:
    answer: t.Any = {
        "version": {"app": "4.22.0"}, "couchdb": {"medic": {"doc_count": 20000}}, "connected_users": {"count": 7}, "sentinel": {"backlog": 0},
        "outbound_push": {"backlog": -1}, "messaging": {"outgoing": {"total": {"due": 4}}}, "conflict": {"count": ""},
    }
    assert figures(lambda *dummy: (200, answer)) == {
        "version": "4.22.0", "documents": 20000, "users": 7, "sentinel": 0, "outbound": None, "messages": 4, "conflicts": None, "feedback": None, "silent": "",
    }
    assert figures(lambda *dummy: (503, None))["silent"] == "API answers /api/v2/monitoring with 503"


def test_a_silent_county_and_pods_that_an_agent_left_are_told() -> None:
    seen = report(1, 2)
    seen["counties"][0]["figures"] = {"silent": "API does not run"}
    seen["counties"][1]["left_pods"] = ["cht-api-1 (Evicted)"]
    found = {(entry["level"], entry["what"]): entry["text"] for entry in problems(seen, [], [])}
    assert found["bad", "county county-00"] == "all its pods are ready, and it does not tell its figures: API does not run"
    assert "cht-api-1 (Evicted)" in found["warning", "county county-01"]


def test_names_can_t_break_the_page() -> None:
    wicked = report(2, 2)
    wicked["counties"][0]["name"] = "<script>alert(1)</script>"
    wicked["nodes"][3]["counties"] = ["<b>"]
    assert "<script>" not in page(wicked) and "<b>&lt;" in page(wicked)


def test_headlines() -> None:
    lines = headlines(report())
    assert lines[0] == "agent-5 is not ready: its kubelet does not report (next: ansible-playbook cht.k3s.fence_node -e k3s_fence=agent-5)"
    assert lines[-3] == "18 more counties fit (limit: disk)"
    assert lines[-2].startswith("loss of one agent: room for all its counties; of two agents: ") and lines[-2].endswith("; 1 of 3 servers may be lost")
    assert "until its machine is back or a person fences it" in lines[-1] and "fence_node" in lines[-1]


def test_a_page_of_an_empty_cluster() -> None:
    empty = report(0, 0)
    empty.update(nodes=empty["nodes"][:1], problems=[], certificates=[])
    assert "Nothing needs attention" in page(empty)


if __name__ == "__main__":  # a look at the page: python3 test_report.py FILE
    import sys

    Path(sys.argv[1]).write_text(page(report()), encoding="utf-8")


def findings(seen: dict[str, t.Any], volumes: list[dict[str, t.Any]] | None = None) -> dict[tuple[str, str], tuple[str, str]]:
    """Level and what -> text and next command."""
    return {(entry["level"], entry["what"]): (entry["text"], entry["next"]) for entry in problems(seen, [], volumes or [], 7, 2)}


def test_backups_that_are_old_or_missing() -> None:
    seen = report(1, 3)
    assert not [key for key in findings(seen) if key[1] in ("backups", "etcd")]
    seen["counties"][0]["backup"] = {**SAVED, "days": 9.4}
    seen["counties"][1]["backup"] = None
    seen["snapshot"] = {**seen["snapshot"], "days": 2.6}
    found = findings(seen)
    assert found["bad", "backups"] == (
        "the newest sets of county-00 are up to 9 days old, more than 7", "ansible-playbook cht.k3s.backup_project -e cht_project_backup=county-00")
    assert found["warning", "backups"] == ("county-01: no backup set", "ansible-playbook cht.k3s.backup_project -e cht_project_backup=county-01")
    assert found["bad", "etcd"] == ("its newest snapshot is 3 days old, more than 2", "ansible-playbook cht.k3s.backup")
    text = page(seen)
    assert "<td>9 days ago, 60 GiB</td>" in text and '<td><span class="soft">none</span></td>' in text and "3 days ago, 7.63 MiB" in text
    assert not [entry for entry in problems(seen, [], []) if entry["what"] in ("backups", "etcd")], "0 days switch it off"
    assert findings({**seen, "snapshot": {}})["bad", "etcd"][0] == "has no snapshot"
    assert ("bad", "etcd") not in findings({**seen, "snapshot": None}) and "not known: this k3s" in page({**seen, "snapshot": None})


def test_counties_of_the_list_and_of_the_cluster_are_compared() -> None:
    seen = report(1, 2)
    seen["listed"] = ["county-00", "mombasa"]
    found = findings(seen)
    assert found["warning", "county county-01"][1] == "ansible-playbook cht.k3s.projects --check", "what may be a lost line takes nothing away"
    assert found["warning", "counties"] == ("mombasa: in the list, but not in the cluster", "ansible-playbook cht.k3s.projects")
    assert not [text for text, dummy in findings({**seen, "listed": None}).values() if "list" in text]
    found = findings({**seen, "list_problems": ["the folder of counties /gone does not exist"]})
    assert found["bad", "the list of counties"][0] == "the folder of counties /gone does not exist"
    assert ("warning", "county county-01") not in found, "nobody knows what the rest of the list says"


@pytest.mark.parametrize(("tls", "text", "shown"), [
    ([], "", "not in the cluster"), ([{"secret": "x", "state": "there"}], "", 'pill good">there'),
    ([{"secret": "x", "state": "missing"}], "its TLS Secret x is missing: browsers refuse its address", 'pill bad">missing'),
    ([{"secret": "x", "state": "unreadable"}], "its TLS Secret x holds no certificate: browsers refuse its address", 'pill bad">unreadable'),
])
def test_tls_of_a_county(tls: list[dict[str, str]], text: str, shown: str) -> None:
    seen = report(1, 1)
    seen["counties"][0]["tls"] = tls
    assert findings(seen).get(("bad", "county county-00"), ("",))[0] == text and shown in page(seen)


def test_versions_against_the_table_and_the_name_of_the_cluster() -> None:
    class Parts(_EmptyCluster):
        def find(self, path: str) -> t.Any:
            name = path.rpartition("/")[2]
            image = {"vsphere-cloud-controller-manager": "r.example/cpi:v1.31.1", "vsphere-csi-controller": "r.example/driver:v3.6.3"}[name]
            return {"spec": {"template": {"spec": {"containers": [{"name": name, "image": image}]}}}}

    seen = report(1, 1)
    seen["parts"] = parts(t.cast(t.Any, Parts()), ["v1.34.4+k3s1", "v1.33.1+k3s1"])
    assert (seen["parts"]["cpi"], seen["parts"]["csi"], seen["parts"]["table"]["cpi"]) == ("1.31.1", "3.6.3", "1.34.0")
    text, step = findings(seen)["warning", "versions"]
    assert text.startswith("CPI 1.31.1 is made for Kubernetes 1.31, not 1.34") and step == "ansible-playbook cht.k3s.site --tags cpi"
    shown = page(seen)
    assert "<title>Cluster guide</title>" in shown and "<b>1.31.1</b></td><td></td><td class=soft>the table has 1.34.0" in shown
    empty = parts(t.cast(t.Any, _EmptyCluster()), ["v1.99.0+k3s1"])
    assert empty == {"cpi": "", "csi": "", "table": {}, "conflicts": {}} and "the table has no row" in page({**seen, "parts": empty})


def test_how_full_volumes_are_as_the_kubelets_tell() -> None:
    class Kubelets(_EmptyCluster):
        def raw(self, method: str, path: str, **dummy: t.Any) -> bytes:
            if "a2" in path:
                raise ApiError(503, "no answer")
            claim = {"namespace": "c1", "name": "couchdb-claim0"}
            volumes = [{"name": "tmp", "usedBytes": 1, "capacityBytes": 2}, {"pvcRef": claim, "usedBytes": 96, "capacityBytes": 100}, {"pvcRef": claim}]
            return json.dumps({"pods": [{"volume": volumes}, {}]}).encode() if "a1" in path else b"<html>"

    assert volume_use(t.cast(t.Any, Kubelets()), ["a1", "a2", "a3"]) == {("c1", "couchdb-claim0"): 0.96}
    seen = {**report(1, 3), "certificates": []}
    for county, share in zip(seen["counties"], (0.8, 0.9, 0.96)):
        county["full"] = {"couchdb-claim0": share}
    found = findings(seen)
    assert [key for key in found if key[1].startswith("county ")] == [("bad", "county county-02"), ("warning", "county county-01")]
    assert found["bad", "county county-02"] == ("the volume of couchdb-claim0 is 96% full: raise couchdb.storage", "ansible-playbook cht.k3s.projects")
    assert "60 GiB, 96% full</td>" in page(seen)


def test_every_problem_has_a_next_command() -> None:
    seen = report()
    seen["counties"][0].update(ready=0, left_pods=["p (Evicted)"], versions=["4.21.0", "4.22.0"], growing=["claim c has 4Gi, and 6Gi are wanted"])
    seen["counties"][1].update(figures={"silent": "API does not run"})
    seen["versions"]["kubernetes"]["v1.33.1+k3s1"] = ["x"]
    seen["nodes"][0]["requested"] = seen["nodes"][0]["allocatable"]
    seen["loss"].update(etcd_majority([VOTER, LOST, VOTER]), one_agent=losses([], 1))
    seen["encryption"][0]["hash"] = "cd"
    seen["certificates"][0]["days"] = -1
    claims = [{"metadata": {"namespace": "n", "name": "c"}, "status": {"phase": "Lost"}}]
    left = {"claimRef": {"namespace": "gone", "name": "couchdb-claim0"}, "capacity": {"storage": "4Gi"}}
    found = problems(seen, claims, [{"metadata": {"name": "pv-1"}, "spec": left, "status": {"phase": "Released"}}], 7, 2)
    assert len({entry["what"] for entry in found}) > 9 and all(entry["next"] for entry in found)
    assert [entry["level"] for entry in found] == sorted(entry["level"] for entry in found)
    assert ("is Released; it was gone/couchdb-claim0's and still takes 4Gi: couchdb.volumes uses it again", "kubectl describe pv pv-1") in [
        (entry["text"], entry["next"]) for entry in found]


def test_ages_of_sets_and_snapshots() -> None:
    class Saved(_EmptyCluster):
        def items(self, path: str, *dummy: object) -> list[dict[str, t.Any]]:
            if path.endswith("etcdsnapshotfiles"):
                return [{"metadata": {"name": name}, "spec": {"nodeName": "s1", "snapshotName": name}, "status": {
                    "readyToUse": name != "broken", "creationTime": when, "size": "1000"}}
                    for name, when in (("old", "2025-12-01T00:00:00Z"), ("new", "2025-12-31T00:00:00Z"), ("broken", "2025-12-31T12:00:00Z"))]
            return []

    cluster: t.Any = Saved()
    assert snapshot(cluster, NOW) == {"name": "new", "node": "s1", "taken": "2025-12-31T00:00:00Z", "days": 1.0, "size": 1000.0}
    assert snapshot(t.cast(t.Any, _EmptyCluster()), NOW) == {} and backups(t.cast(t.Any, _EmptyCluster()), NOW) == {}


class _EmptyCluster:
    """A cluster in which nothing is."""

    def items(self, *dummy: object) -> list[dict[str, t.Any]]:
        return []

    def find(self, *dummy: object) -> None:
        return None

    def dedicated(self) -> t.Any:
        return self

    def connect(self) -> None:
        raise OSError

    def close(self) -> None:
        pass


def test_what_the_servers_say_of_their_cluster_comes_first_and_in_red() -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    two = build(t.cast(t.Any, _EmptyCluster()), now, Wishes(cluster_problem="The servers of the inventory are of different clusters"))
    assert (two["problems"][0]["level"], two["problems"][0]["text"]) == ("bad", "The servers of the inventory are of different clusters")
    assert headlines(two)[0].startswith("the cluster: The servers of the inventory are of different clusters (next: ")
    assert "the cluster" not in [entry["what"] for entry in build(t.cast(t.Any, _EmptyCluster()), now, Wishes())["problems"]]


# -- Secrets -------------------------------------------------------------------------------------


def server_node(name: str, told: str = "") -> dict[str, t.Any]:
    return {"metadata": {"name": name, "annotations": {"k3s.io/encryption-config-hash": told} if told else {}}}


def said(name: str, flag: bool = True, kind: str = "encrypted", digest: str = "a1") -> dict[str, t.Any]:
    return {"node": name, "flag": flag, "kind": kind, "hash": digest}


@pytest.mark.parametrize(("nodes", "answers", "states", "level", "text"), [
    ([server_node("a", "start-a1"), server_node("b", "start-a1")], [said("a"), said("b")], ["encrypted", "encrypted"], None, ""),
    ([server_node("a"), server_node("b", "start-old")], [said("a", False, "none", ""), said("b", False, "encrypted", "old")],
     ["not encrypted", "not encrypted"], None, ""),
    ([server_node("a", "start-a1"), server_node("b", "start-b2")], [said("a"), said("b", digest="b2")], ["encrypted", "encrypted"], "bad", "a: a1; b: b2"),
    # One that can't be reached, but k3s wrote on its Node.
    ([server_node("a", "start-a1"), server_node("b", "start-b2")], [said("a")], ["encrypted", "not asked"], "bad", "a: a1; b: b2"),
    ([server_node("a", "start-a1"), server_node("b")], [said("a")], ["encrypted", "not asked"], None, ""),
    ([server_node("a", "start-a1"), server_node("b")], [said("a"), said("b", False, "none", "")], ["encrypted", "not encrypted"], "bad", "b: none"),
    ([server_node("a", "rotate-a1"), server_node("b", "rotate-a1")], [said("a"), said("b")], ["encrypted", "encrypted"], "warning", "not finished on a, b"),
    ([server_node("a", "start-a1")], [said("a", kind="identity")], ["prepared, not encrypted yet"], "warning", "not finished on a"),
])
def test_secrets_of_each_server(nodes, answers, states, level, text) -> None:
    rows = encryption.servers(nodes, answers)
    assert [row["state"] for row in rows] == states
    found = encryption.problems(rows)
    assert [entry["level"] for entry in found] == ([level] if level else [])
    assert all(text in entry["text"] and entry["next"] == "ansible-playbook cht.k3s.secrets_encryption" for entry in found)


def test_a_server_with_another_configuration_is_red_on_the_page_and_first_of_the_problems() -> None:
    odd = report()
    assert page(odd).count("<span class='pill good'>encrypted</span>") == 3
    odd["encryption"][2]["hash"] = "cd" * 32
    text = page(odd)
    assert text.count("<span class='pill bad'>encrypted</span>") == 1 and "cdcdcdcd</td>" in text
    assert problems(odd, [], [])[0]["text"].startswith("the servers have different encryption configurations")
