"""cht.k3s.kube_apply's engine against a real API server."""
from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import Live, Outcome, apply_groups, connect
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client, Unreachable
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import WELL_KNOWN
from ansible_collections.cht.k3s.plugins.module_utils import versions
from ansible_collections.cht.k3s.plugins.module_utils.manifest import csi

from apiserver import ApiServer

MANIFESTS = Path(__file__).parents[2] / "unit" / "data" / "manifests"


@pytest.fixture
def client(api: ApiServer) -> Iterator[Client]:
    found = connect(str(api.kubeconfig))
    yield found
    found.close()


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    return "t-" + request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:50].rstrip("-").lower()


def county(namespace: str, replicas: int = 1) -> list[dict[str, Any]]:
    """Objects of the kinds and shapes that our roles make, with fields that the server fills in or writes its own way."""
    labels = {"app": "web"}
    meta = {"namespace": namespace}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", **meta, "labels": labels}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels}, "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels, "annotations": {"hash": "1"}}, "spec": {
                "enableServiceLinks": False, "automountServiceAccountToken": False,
                "containers": [{
                    "name": "web", "image": "example.org/web:1", "args": ["--a", "--b"],
                    "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}}],
                    "resources": {"requests": {"cpu": "1000m", "memory": "0.5Gi"}, "limits": {"memory": "1024Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "config", "mountPath": "/config"}],
                }],
                "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "podAffinityTerm": {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}},
                ]}},
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": labels}},
                ],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "config", "configMap": {"name": "c"}}],
                "imagePullSecrets": [],
            }},
        }},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", **meta}, "spec": {
            "selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        }},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", **meta}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}, "storageClassName": "none",
        }},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", **meta}, "stringData": {"password": "hunter2-hunter2"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", **meta}, "data": {"a": "1", "text": "line\nline\n"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web", **meta}, "automountServiceAccountToken": False},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "only-web", **meta}, "spec": {
            "podSelector": {}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 80}]}],
        }},
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web", **meta}, "spec": {
            "rules": [{"host": f"{namespace}.example.org", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            ]}}],
        }},
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota", **meta}, "spec": {"hard": {"requests.cpu": "2000m", "pods": 10}}},
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits", **meta}, "spec": {
            "limits": [{"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "0.1"}}],
        }},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", **meta}, "spec": {
            "maxUnavailable": 1, "selector": {"matchLabels": labels},
        }},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}},
    ]


def run(client: Client | None, objects: list[dict[str, Any]], **options: Any) -> Outcome:
    outcome = apply_groups(client, [{"name": "a", "objects": copy.deepcopy(objects)}], **options)
    assert not outcome.failed, outcome.message()
    return outcome


def results(outcome: Outcome) -> dict[str, str]:
    return {f"{item.kind}/{item.name}": item.result for item in outcome.items if item.result != "unchanged"}


def test_first_second_and_check(client: Client, namespace: str) -> None:
    objects = county(namespace)
    predicted = run(client, objects, check_mode=True)
    assert predicted.count("created") == len(objects)
    assert client.find(f"/api/v1/namespaces/{namespace}") is None, "check mode must not write"
    first = run(client, objects)
    assert results(first) == results(predicted)
    second = run(client, objects)
    assert not second.changed
    sent = [item.describe() for item in second.items if item.answer is not None]
    assert sent == [], "an unchanged object must not even be sent"


def test_without_an_api_everything_is_predicted(namespace: str) -> None:
    outcome = run(None, county(namespace), check_mode=True)
    assert {item.result for item in outcome.items} == {"created"}


EDITS = {
    "a scalar": ('{"spec":{"replicas":5}}', "deployment", "web"),
    "a value in a list of the server's": (
        '{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"example.org/web:2"}]}}}}', "deployment", "web"),
    "an argument": ('{"spec":{"template":{"spec":{"containers":[{"name":"web","args":["--a"]}]}}}}', "deployment", "web"),
    "a label": ('{"metadata":{"labels":{"app":"other"}}}', "deployment", "web"),
    "a label removed": ('{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":null}}}', "namespace", ""),
    "a secret": (json.dumps({"data": {"password": base64.b64encode(b"x").decode()}}), "secret", "s"),
    "a key of a map removed": ('{"data":{"a":null}}', "configmap", "c"),
    "a rule of a policy": ('{"spec":{"ingress":[{}]}}', "networkpolicy", "only-web"),
    "a quantity": ('{"spec":{"hard":{"requests.cpu":"3"}}}', "resourcequota", "quota"),
    "a port": ('{"spec":{"ports":[{"name":"http","port":80,"targetPort":8080}]}}', "service", "web"),
}


@pytest.mark.parametrize("edit", EDITS, ids=[name.replace(" ", "-") for name in EDITS])
def test_a_hand_edit_is_found_and_put_back(api: ApiServer, client: Client, namespace: str, edit: str) -> None:
    objects = county(namespace)
    run(client, objects)
    patch, kind, name = EDITS[edit]
    api.kubectl("patch", kind, name or namespace, "-n", namespace, "--type=strategic", "-p", patch)
    predicted = run(client, objects, check_mode=True)
    assert predicted.count("updated") == 1, results(predicted)
    repaired = run(client, objects)
    assert results(repaired) == results(predicted)
    assert not run(client, objects).changed


def test_an_edit_beside_our_fields_is_left_alone(api: ApiServer, client: Client, namespace: str) -> None:
    objects = county(namespace)
    run(client, objects)
    api.kubectl("annotate", "deployment", "web", "-n", namespace, "note=mine")
    api.kubectl("patch", "configmap", "c", "-n", namespace, "-p", '{"data":{"other":"x"}}')
    assert not run(client, objects).changed
    live = client.get(f"/api/v1/namespaces/{namespace}/configmaps/c")
    assert live["data"]["other"] == "x"


def test_a_field_that_we_no_longer_want_goes(client: Client, namespace: str) -> None:
    objects = county(namespace)
    run(client, objects)
    del next(item for item in objects if item["kind"] == "ConfigMap")["data"]["a"]
    assert results(run(client, objects, check_mode=True)) == {"ConfigMap/c": "updated"}
    assert results(run(client, objects)) == {"ConfigMap/c": "updated"}
    assert "a" not in client.get(f"/api/v1/namespaces/{namespace}/configmaps/c")["data"]


def test_a_conflict_names_the_other_manager(client: Client, namespace: str) -> None:
    objects = county(namespace)
    run(client, objects)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    client.apply(path, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace}, "spec": {"replicas": 7}},
                 "autoscaler", force=True)
    outcome = apply_groups(client, [{"name": "a", "objects": objects}])
    assert outcome.failed
    assert "autoscaler" in outcome.message() and ".spec.replicas" in outcome.message() and f"Deployment {namespace}/web" in outcome.message()
    assert client.get(path)["spec"]["replicas"] == 7
    assert results(run(client, objects, force_conflicts=True)) == {"Deployment/web": "updated"}
    assert client.get(path)["spec"]["replicas"] == 1


def test_an_error_stays_in_its_group(client: Client, namespace: str) -> None:
    good, bad = county(f"{namespace}-good"), county(f"{namespace}-bad")
    next(item for item in bad if item["kind"] == "PersistentVolumeClaim")["spec"]["resources"]["requests"]["storage"] = "much"
    outcome = apply_groups(client, [{"name": "good", "objects": good}, {"name": "bad", "objects": bad}])
    assert list(outcome.group_errors) == ["bad"]
    assert "PersistentVolumeClaim" in outcome.message()
    assert {item.result for item in outcome.items if item.group == "good"} == {"created"}
    skipped = {item.kind for item in outcome.items if item.result == "skipped"}
    assert skipped == {"Deployment", "Ingress"}, "what comes after the broken object is not started"


def test_shapes_are_refused_by_name(client: Client) -> None:
    outcome = apply_groups(client, [{"name": "a", "objects": [
        {"kind": "ConfigMap", "metadata": {"name": "x"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}},
        {"apiVersion": "example.org/v1", "kind": "Unknown", "metadata": {"name": "x"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "twice"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "twice"}},
    ]}])
    text = outcome.message()
    for part in ("apiVersion is missing", "needs metadata.namespace", "knows no kind Unknown in example.org/v1", "is given twice"):
        assert part in text
    assert client.find("/api/v1/namespaces/twice") is None, "a group with a broken object is not begun"


def test_unknown_fields_are_refused(client: Client, namespace: str) -> None:
    objects = county(namespace)
    objects[0]["spec"]["replica"] = 3
    outcome = apply_groups(client, [{"name": "a", "objects": objects}])
    assert outcome.failed and "spec.replica" in outcome.message()


def test_a_new_kind_and_its_object_in_one_call(client: Client) -> None:
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.org"}, "spec": {
        "group": "example.org", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
        }}}],
    }}
    thing = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "one", "namespace": "default"}, "spec": {"size": 3}}
    assert run(client, [thing, crd], check_mode=True).count("created") == 2
    assert run(client, [thing, crd]).count("created") == 2
    assert not run(client, [thing, crd]).changed
    thing["spec"]["size"] = 4
    assert results(run(client, [thing, crd])) == {"Thing/one": "updated"}


def test_the_diff_shows_the_change_and_no_secret(client: Client, namespace: str) -> None:
    objects = county(namespace)
    created = yaml.safe_dump(run(client, objects).diff())
    assert "hunter2" not in created and base64.b64encode(b"hunter2-hunter2").decode() not in created
    next(item for item in objects if item["kind"] == "Secret")["stringData"]["password"] = "something-else"
    next(item for item in objects if item["kind"] == "ConfigMap")["data"]["a"] = "2"
    entries = {entry["after_header"]: entry for entry in run(client, objects, check_mode=True).diff()}
    assert set(entries) == {f"Secret {namespace}/s", f"ConfigMap {namespace}/c"}
    assert "(changed)" in entries[f"Secret {namespace}/s"]["after"]
    assert "something-else" not in str(entries)
    assert yaml.safe_load(entries[f"ConfigMap {namespace}/c"]["after"])["data"]["a"] == "2"


@pytest.mark.parametrize("files", [("cpi-v1.25", "csi-v2.7.2"), ("cpi-v1.28", "csi-v3.3.1"), ("cpi-v1.31", "csi-v3.6.2")], ids=str)
def test_upstream_manifests_settle(client: Client, files: tuple[str, str]) -> None:
    objects = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "vmware-system-csi"}}]
    for name in files:
        objects += [document for document in yaml.safe_load_all((MANIFESTS / f"{name}.manifest").read_text()) if document]
    run(client, objects)
    assert not run(client, objects).changed


def spec_of(client: Client, kind: str, name: str) -> dict[str, Any]:
    live = client.find(WELL_KNOWN[("apps/v1", kind)].path(name, "vmware-system-csi"))
    assert live is not None
    return live["spec"]["template"]["spec"]  # type: ignore[no-any-return]


@pytest.fixture
def by_hand(api: ApiServer, client: Client) -> Iterator[list[dict[str, Any]]]:
    """A driver that somebody installed with kubectl from an older manifest, and today's objects."""
    old = MANIFESTS / "csi-v2.7.2.manifest"
    objects = [document for document in yaml.safe_load_all(old.read_text()) if document]
    names = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "vmware-system-csi", "labels": {"team": "storage"}}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vsphere-config-secret", "namespace": "vmware-system-csi"},
              "stringData": {"csi-vsphere.conf": "password = old-old-old", "old.conf": "x"}}
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    deployment["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "image": "example.org/proxy:1"})
    given = [names, secret, *(item for item in objects if item["kind"] != "Namespace")]
    for item in given[1:]:
        # No controller empties a namespace here, so objects of another test may still be there.
        api.kubectl("delete", item["kind"], item["metadata"]["name"], "-n", item["metadata"].get("namespace", "default"), "--ignore-not-found")
    api.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(given))
    # Some objects have no record of who owns what, as older tools took it away: the server makes one at the first server-side apply.
    api.kubectl("patch", "namespace", "vmware-system-csi", "--type=merge", "-p", '{"metadata": {"managedFields": [{}]}}')
    api.kubectl("label", "deployment/vsphere-csi-controller", "-n", "vmware-system-csi", "watched-by=us")
    vcenter = {"hostname": "vc.example.org", "username": "k3s@vsphere.local", "password": "new-new-new"}
    wanted = csi.objects([document for document in yaml.safe_load_all(old.read_text()) if document], {
        "vcenters": [vcenter], "cluster_id": "x", "version": "2.7.2", "images": versions.csi_images("2.7.2")})
    yield wanted


def test_a_driver_installed_by_hand_becomes_ours_as_a_whole(api: ApiServer, client: Client, by_hand: list[dict[str, Any]]) -> None:
    """A nodeSelector that only kubectl owns would keep the pods from every node of k3s, whatever is applied."""
    assert spec_of(client, "Deployment", "vsphere-csi-controller")["nodeSelector"] == {"node-role.kubernetes.io/control-plane": ""}
    predicted = run(client, by_hand, check_mode=True, adopt=True)
    assert spec_of(client, "Deployment", "vsphere-csi-controller")["nodeSelector"], "check mode must not write"
    first = run(client, by_hand, adopt=True)
    assert results(first) == results(predicted) and "Deployment/vsphere-csi-controller" in results(first)
    pod = spec_of(client, "Deployment", "vsphere-csi-controller")
    assert "nodeSelector" not in pod and "proxy" not in [container["name"] for container in pod["containers"]]
    secret = json.loads(api.kubectl("get", "secret", "vsphere-config-secret", "-n", "vmware-system-csi", "-o", "json"))
    assert set(secret["data"]) == {"csi-vsphere.conf"} and "annotations" not in secret["metadata"]
    labels = json.loads(api.kubectl("get", "deployment", "vsphere-csi-controller", "-n", "vmware-system-csi", "-o", "json"))["metadata"]["labels"]
    assert labels["watched-by"] == "us", "a label beside the manifest stays"
    assert not run(client, by_hand, adopt=True).changed


def test_a_cluster_that_was_applied_over_before_heals_too(api: ApiServer, client: Client, by_hand: list[dict[str, Any]]) -> None:
    run(client, by_hand)
    assert "nodeSelector" in spec_of(client, "Deployment", "vsphere-csi-controller") and not run(client, by_hand).changed
    run(client, by_hand, adopt=True)
    assert "nodeSelector" not in spec_of(client, "Deployment", "vsphere-csi-controller")
    api.kubectl("patch", "deployment", "vsphere-csi-controller", "-n", "vmware-system-csi", "-p", '{"spec":{"revisionHistoryLimit":3}}')
    assert not run(client, by_hand, adopt=True).changed, "an edit beside our fields is the administrator's"


def test_a_shared_list_is_asked_once(client: Client, namespace: str) -> None:
    objects = county(namespace)
    run(client, objects)
    live = Live(client)
    assert any(item["metadata"]["namespace"] == namespace for item in live.list(WELL_KNOWN[("v1", "Secret")]))
    before = client.requests
    live.list(WELL_KNOWN[("v1", "Secret")])
    assert client.requests == before
    assert not apply_groups(client, [{"name": "a", "objects": objects}], live=live).changed


def test_an_unreachable_server_is_named(api: ApiServer, tmp_path: Path) -> None:
    config = yaml.safe_load(api.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    client = Client.from_kubeconfig(str(path), patience=0.5)
    assert not client.reachable(0.5)
    with pytest.raises(Unreachable, match="127.0.0.1:1 does not answer"):
        client.get("/version")


def test_an_untrusted_server_is_refused(api: ApiServer, tmp_path: Path) -> None:
    config = yaml.safe_load(api.kubeconfig.read_text())
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(Unreachable, match="is not trusted"):
        connect(str(path)).get("/version")
