"""The main job, in the order in which a user meets it. The tests of this file build on each other."""
from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from support.lab import AGENTS, NODES, SERVERS, Lab, Run
from support.layouts import lab_environment

PROJECT = "county-a"
TAINT = "node.cloudprovider.kubernetes.io/uninitialized"


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    """What earlier tests of this file have seen."""
    return {}


def effects(run: Run) -> dict[str, set[str]]:
    """What a run says it did, or would do, to each thing: files, units and membership of nodes, objects of the API."""
    objects = {f"{o['result']} {o['kind']} {o.get('namespace') or '-'}/{o['name']}"
               for r in run.results("kube_apply") + run.results("cht_projects") for o in r["objects"] if o["result"] != "unchanged"}
    nodes = {f"{r['_host']}: {action}" for r in run.results("k3s_join") for action in r["actions"]}
    return {"objects": objects, "nodes": nodes, "changed": set(run.changed)}


def test_check_mode_on_empty_machines_predicts_and_writes_nothing(fresh_lab: Lab, runs: dict[str, Any]) -> None:
    run = fresh_lab.playbook("--check", "--diff", name="site-check-fresh").expect()
    runs["prediction"] = effects(run)
    assert runs["prediction"]["objects"] and runs["prediction"]["nodes"]
    places = "/usr/local/bin/k3s /etc/rancher/k3s /etc/systemd/system/k3s.service /etc/systemd/system/k3s-agent.service /var/lib/rancher/k3s"
    for node in NODES:
        assert fresh_lab("ssh", node, f"ls -d {places} 2>/dev/null || true").strip() == ""


def test_site_builds_the_cluster(fresh_lab: Lab, runs: dict[str, Any]) -> None:
    fresh_lab.reset_logins()
    runs["first"] = fresh_lab.playbook("--diff", name="site-first").expect()
    runs["logins"] = fresh_lab.ansible_logins()


def test_the_prediction_was_right(runs: dict[str, Any]) -> None:
    real = effects(runs["first"])
    for what in ("objects", "nodes", "changed"):
        assert sorted(runs["prediction"][what]) == sorted(real[what])


def test_at_most_three_vcenter_sessions_all_closed(runs: dict[str, Any]) -> None:
    logins = runs["logins"]
    assert 1 <= logins["ok"] <= 3 and logins["failed"] == 0 and logins["open"] == 0, logins


def test_three_voters_and_twelve_ready_nodes(lab: Lab) -> None:
    nodes = {node["metadata"]["name"]: node for node in lab.kubectl("get", "nodes")["items"]}
    assert sorted(nodes) == sorted(NODES)
    voters = []
    for name, node in nodes.items():
        conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
        assert conditions["Ready"] == "True", name
        if conditions.get("EtcdIsVoter") == "True":
            voters.append(name)
    assert sorted(voters) == SERVERS


def test_the_real_cpi_adopted_every_node_by_its_bios_uuid(lab: Lab) -> None:
    vms = lab.vms()
    for node in lab.kubectl("get", "nodes")["items"]:
        name = node["metadata"]["name"]
        assert node["spec"]["providerID"] == f"vsphere://{vms[name]['bios_uuid']}"
        assert TAINT not in [taint["key"] for taint in node["spec"].get("taints", [])]
        addresses = {a["address"] for a in node["status"]["addresses"] if a["type"] in ("InternalIP", "ExternalIP")}
        assert vms[name]["ip"] in addresses
    pods = lab.kubectl("-n", "kube-system", "get", "pods", "-l", "name=vsphere-cloud-controller-manager")["items"]
    assert len(pods) == len(SERVERS) and all(p["status"]["phase"] == "Running" for p in pods)


def test_vmware_sc_is_the_only_default_class(lab: Lab) -> None:
    classes = lab.kubectl("get", "storageclass")["items"]
    mark = "storageclass.kubernetes.io/is-default-class"
    assert [c["metadata"]["name"] for c in classes if (c["metadata"].get("annotations") or {}).get(mark) == "true"] == ["vmware-sc"]
    assert next(c for c in classes if c["metadata"]["name"] == "vmware-sc")["reclaimPolicy"] == "Retain"


def test_csi_is_applied_with_its_secret(lab: Lab) -> None:
    namespace = "vmware-system-csi"
    assert lab.kubectl("-n", namespace, "get", "secret", "vsphere-config-secret")["data"]["csi-vsphere.conf"]
    deployment = lab.kubectl("-n", namespace, "get", "deployment", "vsphere-csi-controller")
    assert deployment["spec"]["replicas"] == len(SERVERS)


def test_the_county_stands_with_all_its_objects(lab: Lab) -> None:
    kinds = "namespace,deployment,service,secret,configmap,persistentvolumeclaim,ingress,networkpolicy,serviceaccount"
    found = {f"{o['kind']}/{o['metadata']['name']}" for o in lab.kubectl("-n", PROJECT, "get", kinds.replace("namespace,", ""))["items"]}
    wanted = {"Deployment/cht-api", "Deployment/cht-sentinel", "Deployment/cht-haproxy", "Deployment/cht-haproxy-healthcheck",
              "Service/api", "Service/haproxy", "Service/healthcheck", "Secret/cht-couchdb-credentials",
              "ConfigMap/couchdb-servers-configmap", "Ingress/api-ingress"}
    wanted |= {f"Deployment/cht-couchdb-{i}" for i in (1, 2, 3)} | {f"Service/couchdb-{i}" for i in (1, 2, 3)}
    wanted |= {f"PersistentVolumeClaim/couchdb-{i}-claim0" for i in (1, 2, 3)}
    assert wanted <= found, sorted(wanted - found)


def test_a_pod_reaches_a_service_by_name_on_another_node(lab: Lab) -> None:
    manifest = {"apiVersion": "v1", "kind": "List", "items": [_pod("dns-server", "agent-1", ["sleep", "600"]), {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns-server", "namespace": "default"},
        "spec": {"selector": {"run": "dns-server"}, "ports": [{"port": 8000}]}},
        _pod("dns-client", "agent-2", ["sleep", "600"])]}
    lab("ssh", SERVERS[0], f"echo '{json.dumps(manifest)}' | sudo k3s kubectl apply -f -")
    try:
        lab("kubectl", "wait", "--for=condition=Ready", "pod/dns-server", "pod/dns-client", "--timeout=120s")
        lab("kubectl", "exec", "dns-server", "--", "sh", "-c", "mkdir -p /tmp/www && echo across > /tmp/www/index.html && httpd -p 8000 -h /tmp/www")
        deadline = time.monotonic() + 30
        answer = ""
        while "across" not in answer and time.monotonic() < deadline:
            answer = lab("kubectl", "exec", "dns-client", "--", "curl", "-s", "-m", "5",
                         "http://dns-server.default.svc.cluster.local:8000/", check=False)
        assert answer.strip() == "across"
    finally:
        lab("kubectl", "delete", "pod/dns-server", "pod/dns-client", "service/dns-server", "--now", check=False)


def _pod(name: str, node: str, command: list[str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"run": name}},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0,
                     "containers": [{"name": "main", "image": "docker.io/lab/client:1", "command": command}]}}


def test_a_second_run_changes_and_restarts_nothing_and_says_no_secret(lab: Lab) -> None:
    before = lab.pids()
    run = lab.playbook("-vvv", "--diff", name="site-second").expect()
    assert run.changed == []
    assert lab.pids() == before
    assert [name for name, value in secrets(lab).items() if value in run.output] == []


@pytest.mark.extensive
def test_check_mode_on_a_built_cluster_predicts_nothing(lab: Lab) -> None:
    assert lab.playbook("--check", "--diff", name="site-check-built").expect().changed == []


def test_one_changed_variable_shows_exactly_that_change(lab: Lab) -> None:
    run = lab.playbook("--check", "--diff", "-e", '{"agent_labels": {"cht.example/zone": "north"}}', name="site-check-label").expect()
    assert {t["host"] for t in run.tasks if t["changed"]} == set(AGENTS)
    assert "cht.example/zone" in run.output
    assert "cht.example/zone" not in lab("ssh", "agent-1", "sudo cat /etc/rancher/k3s/config.yaml")


@pytest.mark.parametrize("role", ["control_plane", "agent", "csi", "cht_project", *(
    pytest.param(role, marks=pytest.mark.extensive) for role in ("preflight", "node", "cpi", "storageclass", "verify"))])
def test_each_role_alone_by_its_tag(lab: Lab, role: str) -> None:
    run = lab.playbook("--tags", role, name=f"site-tag-{role}").expect()
    assert run.changed == []
    expected = {role, "cpi", "csi", "storageclass", "cht_project"} if role == "preflight" else {role}
    assert run.roles() - {"k3s", "vsphere"} == expected


def test_limit_to_one_agent(lab: Lab) -> None:
    run = lab.playbook("--limit", "agent-3", name="site-limit").expect()
    assert run.changed == []
    assert set(run.stats) <= {"agent-3", *SERVERS, "localhost"} and "agent" in run.roles()
    assert not [t for t in run.tasks if t["host"] not in ("agent-3",) and t["role"].endswith(("node", "agent"))]


@pytest.mark.extensive
def test_skip_tags(lab: Lab) -> None:
    run = lab.playbook("--skip-tags", "cht_project", name="site-skip").expect()
    assert "cht_project" not in run.roles() and "storageclass" in run.roles() and run.changed == []


def secrets(lab: Lab) -> dict[str, str]:
    """What no output may show."""
    token = lab("ssh", SERVERS[0], "sudo cat /var/lib/rancher/k3s/server/token").strip()
    key = lab("ssh", SERVERS[0], "sudo grep client-key-data /etc/rancher/k3s/k3s.yaml").split()[-1]
    couch = lab.kubectl("-n", PROJECT, "get", "secret", "cht-couchdb-credentials")["data"]
    password = lab_environment(lab)["VMWARE_PASSWORD"]
    return {
        "token": token, "token password": token.rpartition(":")[2], "client key": key, "vCenter password": password,
        "CouchDB password": _plain(couch["COUCHDB_PASSWORD"]), "CouchDB secret": _plain(couch["COUCHDB_SECRET"]),
    }


def _plain(value: str) -> str:
    return base64.b64decode(value).decode()
