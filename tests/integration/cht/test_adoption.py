# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A county that was deployed by helm is taken over under the same names, with its claims and credentials."""

from __future__ import annotations

import base64
import typing as t

import pytest
from conftest import Cluster, county
from test_volumes import until

HELD = {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "helm-password-1", "COUCHDB_SECRET": "helm-secret-000000", "COUCHDB_UUID": "helm-uuid-00000000"}
META = {"annotations": {"meta.helm.sh/release-name": "adopted"}}
SINGLE = {"mode": "single", "storage": "3Gi"}


def deployment(name: str, service: str, env: list[dict[str, t.Any]], **more: t.Any) -> dict[str, t.Any]:
    image = "upgrade-service:0.32" if name == "upgrade-service" else f"{name}:4.20.0"
    spec = {"containers": [{"name": name, "image": f"public.ecr.aws/medic/{image}", "env": env, "resources": {}}], "restartPolicy": "Always", **more}
    labels = {"cht.service": service}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {**labels, "app.kubernetes.io/managed-by": "Helm"}, **META},
        # As in the chart: no strategy, so that the API server fills in RollingUpdate with 25%.
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "strategy": {}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def mounted(volume: str, **source: t.Any) -> dict[str, t.Any]:
    """The data of the chart's CouchDB on a volume, as a strategic part of its Deployment."""
    places = (("/opt/couchdb/data", "data"), ("/opt/couchdb/etc/local.d", "local.d"))
    mounts = [{"name": volume, "mountPath": path, "subPath": folder} for path, folder in places]
    return {"mounts": mounts, "volumes": [{"name": volume, **source}]}


def release(cluster: Cluster, space: str, folder: str = "") -> None:
    """Create what the chart creates for a single CouchDB, with helm as the field manager; with a folder, as for k3s: on an agent, without a claim."""

    def create(path: str, body: dict[str, t.Any]) -> None:
        cluster.client.json("POST", path, {"fieldManager": "helm"}, body)

    url = f"http://admin:helm-password-1@haproxy.{space}.svc.cluster.local:5984/medic"
    create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    data = {key: base64.b64encode(value.encode()).decode() for key, value in {**HELD, "COUCH_URL": url}.items()}
    core = f"/api/v1/namespaces/{space}"
    create(f"{core}/secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cht-couchdb-credentials", **META}, "data": data})
    claim = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-storage", "volumeName": f"pv-{space}", "resources": {"requests": {"storage": "3Gi"}}}
    meta = {"name": "couchdb-claim0", "labels": {"cht.service": "couchdb-claim0"}}
    if not folder:
        create(f"{core}/persistentvolumeclaims", {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim})
    for name, port in (("api", 5988), ("haproxy", 5984), ("couchdb", 5984)):
        ports = [{"name": f"{name}-service", "port": port, "targetPort": port, "protocol": "TCP"}]
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports, "selector": {"cht.service": name}}}
        create(f"{core}/services", body)
    apps = f"/apis/apps/v1/namespaces/{space}/deployments"
    create(apps, deployment("cht-api", "api", [{"name": "COUCH_URL", "value": url}, {"name": "API_PORT", "value": "5988"}]))
    create(apps, deployment("cht-haproxy", "haproxy", [{"name": "HAPROXY_PORT", "value": "5984"}], hostname="haproxy"))
    data = mounted("local-volume", hostPath={"path": folder}) if folder else mounted("couchdb-claim0", persistentVolumeClaim={"claimName": "couchdb-claim0"})
    couchdb = deployment("cht-couchdb", "couchdb", [{"name": "COUCHDB_LOG_LEVEL", "value": "debug"}], volumes=data["volumes"])
    couchdb["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = data["mounts"]
    create(apps, couchdb)
    create(apps, deployment("upgrade-service", "upgrade-service", []))
    # As chart 5.0.0 has it, and no other.
    create(apps, deployment("cht-couchdb-nouveau", "nouveau", []))


@pytest.mark.parametrize("version", ["4.22.0", pytest.param("5.0.0", marks=pytest.mark.extensive)])
def test_a_helm_county_is_adopted_when_asked_for(cluster: Cluster, version: str) -> None:
    space = f"adopted-{version[0]}"
    release(cluster, space)
    before = cluster.get(f"/api/v1/namespaces/{space}/persistentvolumeclaims/couchdb-claim0") or {}
    entry = county(space, version=version, couchdb=SINGLE)
    refused = cluster.counties(entry, expect=2)
    assert "was deployed by helm: cht_project_adopt takes such counties over" in refused.row(space)
    shown = cluster.counties(entry, arguments=("--check", "--diff"), cht_project_adopt=True)
    assert "4 Deployments of helm would be taken over" in shown.row(space) or version[0] == "5"
    untouched = cluster.get(f"/apis/apps/v1/namespaces/{space}/deployments/cht-api") or {}
    assert {entry["manager"] for entry in untouched["metadata"]["managedFields"]} <= {"helm", "kube-controller-manager"}
    run = cluster.counties(entry, cht_project_adopt=True)
    assert "changed" in run.row(space)
    secret = cluster.get(f"/api/v1/namespaces/{space}/secrets/cht-couchdb-credentials") or {}
    assert {key: base64.b64decode(secret["data"][key]).decode() for key in HELD} == HELD
    claim = cluster.get(f"/api/v1/namespaces/{space}/persistentvolumeclaims/couchdb-claim0") or {}
    assert claim["metadata"]["uid"] == before["metadata"]["uid"]
    assert (claim["spec"]["storageClassName"], claim["spec"]["resources"]["requests"]["storage"]) == ("local-storage", "3Gi")
    api = cluster.get(f"/apis/apps/v1/namespaces/{space}/deployments/cht-api") or {}
    container = api["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"public.ecr.aws/medic/cht-api:{version}"
    urls = [item for item in container["env"] if item["name"] == "COUCH_URL"]
    assert urls == [{"name": "COUCH_URL", "valueFrom": {"secretKeyRef": {"name": "cht-couchdb-credentials", "key": "COUCH_URL"}}}]
    assert api["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "cht.k3s"
    couchdb = cluster.get(f"/apis/apps/v1/namespaces/{space}/deployments/cht-couchdb") or {}
    assert couchdb["spec"]["strategy"] == {"type": "Recreate"}
    for gone in ("upgrade-service", "cht-couchdb-nouveau"):
        assert (cluster.get(f"/apis/apps/v1/namespaces/{space}/deployments/{gone}") is None) is (version[0] == "5")
    assert cluster.counties(entry).changed == 0


@pytest.mark.extensive
def test_a_helm_county_on_a_folder_of_its_agent_is_taken_over_with_a_volume_only(cluster: Cluster) -> None:
    space = "on-agent"
    claim, couchdb = f"/api/v1/namespaces/{space}/persistentvolumeclaims/couchdb-claim0", f"/apis/apps/v1/namespaces/{space}/deployments/cht-couchdb"
    release(cluster, space, folder="/srv/couchdb1")
    before = cluster.get(couchdb) or {}
    refused = cluster.counties(county(space, couchdb=SINGLE), expect=2, cht_project_adopt=True)
    assert "lacks the CouchDB volumes couchdb-claim0, and CouchDB would start empty" in refused.row(space)
    assert cluster.get(claim) is None and (cluster.get(couchdb) or {})["metadata"]["generation"] == before["metadata"]["generation"]
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["agent-1"]}]}]
    spec = {
        "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
        "local": {"path": "/srv/couchdb1"}, "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
    }
    cluster.create("/api/v1/persistentvolumes", {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "on-agent-pv"}, "spec": spec})
    entry = county(space, couchdb={**SINGLE, "storage": "5Gi", "volumes": ["on-agent-pv"]})
    assert "claim couchdb-claim0 gets the volume on-agent-pv" in cluster.counties(entry, cht_project_adopt=True).row(space)
    made = (cluster.get(claim) or {})["spec"]
    assert (made["volumeName"], made["resources"]["requests"]["storage"]) == ("on-agent-pv", "5Gi")
    pod = (cluster.get(couchdb) or {})["spec"]["template"]["spec"]
    assert [item["persistentVolumeClaim"]["claimName"] for item in pod["volumes"]] == ["couchdb-claim0"]
    assert {(item["name"], item["subPath"]) for item in pod["containers"][0]["volumeMounts"]} == {("couchdb-claim0", "data"), ("couchdb-claim0", "local.d")}
    until(lambda: ((cluster.get(claim) or {}).get("status") or {}).get("phase") == "Bound")
    assert cluster.counties(entry).changed == 0
