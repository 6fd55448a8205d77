# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: arithmetic, certificates, page."""

from __future__ import annotations

import datetime
import subprocess
import typing as t
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import encryption
from ansible_collections.cht.k3s.plugins.module_utils.cht.capacity import Agent, Amount, Load, etcd_majority, fit, lose, losses, typical
from ansible_collections.cht.k3s.plugins.module_utils.cht.certificate import CertificateError, pem_expiry
from ansible_collections.cht.k3s.plugins.module_utils.cht.figures import figures
from ansible_collections.cht.k3s.plugins.module_utils.cht.nodes import LOST, NONE, VOTER, clocks, vote
from ansible_collections.cht.k3s.plugins.module_utils.cht.report import RECOVERY, build, headlines, natural, number, pod_needs, problems, read_agents
from ansible_collections.cht.k3s.plugins.module_utils.cht.report_page import page

GI = 2.0**30
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
    seen = build(client, {}, 0.0, datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc))
    assert seen["loss"]["one_agent"]["survives"] and seen["loss"]["unknown"] == ["1 of 1 counties request no CPU or no memory (c1): give them resources"]
    assert seen["capacity"]["unknown"][1:] == ["the size of the datastore: set cht_project_report_storage"]
    text = page(seen)
    assert '<div class="card "><b>at most 329</b>' in text and "not known: 1 of 1 counties request no CPU" in text
    assert "<span class='pill '>one agent</span>" in text and "pill good'>one agent" not in text
    lines = headlines(seen)
    assert lines[-3].startswith("at most 329 more counties fit (limit: pods); not known: 1 of 1 counties") and "loss of one agent: not known" in lines[-2]
    found.pods[0]["spec"]["containers"] = [{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]
    known = build(client, {}, 100 * GI, datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc))
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
            "needs": each.as_dict(), "storage": 60 * GI,
            "figures": {"version": "4.22.0", "documents": 1234567, "users": 310, "sentinel": 3, "outbound": 0, "messages": None, "silent": ""},
        }
        for number, name in enumerate(names)
    ]
    capacity = {**fit(machines, each, 4096 * GI - counties * 60 * GI, 60 * GI), "unknown": []}
    return {
        "time": "2026-01-01 00:00 UTC", "nodes": nodes, "counties": rows, "capacity": capacity,
        "certificates": [{"name": "county county-07", "expires": "2026-01-13", "days": 12}, {"name": "API server", "expires": "2026-12-24", "days": 357}],
        "encryption": [{"server": f"control-plane-{number}", "state": "encrypted", "stage": "start", "hash": "ab" * 32} for number in (1, 2, 3)],
        "versions": {"kubernetes": {"v1.34.4+k3s1": [node["name"] for node in nodes]}, "cht": {"4.22.0": names[1::3] + names[2::3], "5.2.0": names[::3]}},
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


class _EmptyCluster:
    """A cluster in which nothing is."""

    def items(self, *dummy: object) -> list[dict[str, t.Any]]:
        return []

    def dedicated(self) -> t.Any:
        return self

    def connect(self) -> None:
        raise OSError

    def close(self) -> None:
        pass


def test_what_the_servers_say_of_their_cluster_comes_first_and_in_red() -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    two = build(t.cast(t.Any, _EmptyCluster()), {}, 0.0, now, "The servers of the inventory are of different clusters")
    assert two["problems"][0] == {"level": "bad", "what": "the cluster", "text": "The servers of the inventory are of different clusters"}
    assert headlines(two)[0] == "the cluster: The servers of the inventory are of different clusters"
    assert "the cluster" not in [entry["what"] for entry in build(t.cast(t.Any, _EmptyCluster()), {}, 0.0, now)["problems"]]


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
    assert all(text in entry["text"] and "secrets_encryption.yml" in entry["text"] for entry in found)


def test_a_server_with_another_configuration_is_red_on_the_page_and_first_of_the_problems() -> None:
    odd = report()
    assert page(odd).count("<span class='pill good'>encrypted</span>") == 3
    odd["encryption"][2]["hash"] = "cd" * 32
    text = page(odd)
    assert text.count("<span class='pill bad'>encrypted</span>") == 1 and "cdcdcdcd</td>" in text
    assert problems(odd, [], [])[0]["text"].startswith("the servers have different encryption configurations")
