"""Roles cpi, csi and storageclass through ansible-playbook against a real API server (no pods run here; the lab has those)."""
from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from apiserver import ApiServer

MANIFESTS = Path(__file__).parents[2] / "unit" / "data" / "manifests"
PASSWORD = 'p"w\\ #1;$2%3@4:5 \'6\' ü€'
UUID = "420e3f71-0000-4a5b-8c6d-000000000001"
DIGEST = hashlib.sha256((MANIFESTS / "csi-v3.3.1.manifest").read_bytes()).hexdigest()
LOCAL_PATH = {
    "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "rancher.io/local-path",
    "metadata": {"name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
}


@dataclass
class Done:
    """What a run said."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        return int(re.findall(r"changed=(\d+)", self.output)[-1])


class Site:
    """A playbook with our three roles, for one API server."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        (folder / "inventory.ini").write_text(f"[control_plane]\ncontrol-plane-1 vsphere_bios_uuid={UUID.upper()}\n")
        (folder / "site.yml").write_text(
            "- hosts: localhost\n  connection: local\n  gather_facts: false\n  roles: [cht.k3s.cpi, cht.k3s.csi, cht.k3s.storageclass]\n"
        )
        steps = [("k3s", "access"), ("cpi", "rotation_check"), ("csi", "rotation_check")]
        tasks = [{"name": part, "ansible.builtin.import_role": {"name": f"cht.k3s.{role}", "tasks_from": part}} for role, part in steps]
        (folder / "rotation_check.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))

    def run(self, *arguments: str, playbook: str = "site", **variables: Any) -> Done:
        values = {
            "k3s_kubeconfig": str(self.server.kubeconfig), "k3s_version": "v1.34.4+k3s1", "cpi_version": "1.31.0", "csi_version": "3.3.1",
            "cpi_manifest_file": str(MANIFESTS / "cpi-v1.31.manifest"), "csi_manifest_file": str(MANIFESTS / "csi-v3.3.1.manifest"),
            "vsphere_hostname": "vcenter.example.org", "vsphere_username": "k3s@vsphere.local", "vsphere_password": PASSWORD,
            "cpi_test_login": False, "csi_test_login": False, "csi_verify": ["objects"], "csi_timeout": 1, **variables,
        }
        (self.folder / "variables.json").write_text(json.dumps(values))
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.folder / "inventory.ini"), str(self.folder / f"{playbook}.yml"), "-e",
             f"@{self.folder / 'variables.json'}", "--skip-tags", "cpi_wait", *arguments],
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}, capture_output=True, text=True, check=False, cwd=self.folder,
        )
        return Done(done.returncode, done.stdout + done.stderr)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.server.kubectl("get", *arguments, "-o", "json"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ApiServer() as server:
        found = Site(server, tmp_path_factory.mktemp("site"))
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "control-plane-1"}, "spec": {"providerID": f"vsphere://{UUID}"}}
        server.kubectl("create", "-f", "-", stdin=json.dumps(node))
        server.kubectl("create", "-f", "-", stdin=json.dumps(LOCAL_PATH))
        yield found


@pytest.fixture(scope="module")
def applied(site: Site) -> Site:
    """Also where the tests that apply everything were not chosen."""
    if "vmware-sc" not in [item["metadata"]["name"] for item in site.get("storageclass")["items"]]:
        done = site.run()
        assert done.code == 0, done.output
    return site


def secret_value(site: Site, namespace: str, name: str, key: str) -> str:
    return base64.b64decode(site.get("secret", name, "-n", namespace)["data"][key]).decode()


def test_1_check_mode_writes_nothing(site: Site) -> None:
    done = site.run("--check", "--diff")
    assert done.code == 0, done.output
    assert done.changed == 4
    assert "DaemonSet kube-system/vsphere-cloud-controller-manager (not there)" in done.output
    assert PASSWORD not in done.output and base64.b64encode(PASSWORD.encode()).decode() not in done.output
    assert not site.get("daemonset", "-A")["items"]


def test_2_first_run_applies_all(site: Site) -> None:
    done = site.run()
    assert done.code == 0, done.output
    assert secret_value(site, "kube-system", "vsphere-cloud-secret", "vcenter.example.org.password") == PASSWORD
    assert set(site.get("secret", "vsphere-cloud-secret", "-n", "kube-system")["data"]) == {"vcenter.example.org.username", "vcenter.example.org.password"}
    config = yaml.safe_load(site.get("configmap", "vsphere-cloud-config", "-n", "kube-system")["data"]["vsphere.conf"])
    assert PASSWORD not in str(config) and list(config["vcenter"]) == ["vcenter.example.org"]
    uid = site.get("namespace", "kube-system")["metadata"]["uid"]
    assert f'cluster-id = "{uid}"' in secret_value(site, "vmware-system-csi", "vsphere-config-secret", "csi-vsphere.conf")
    assert site.get("deployment", "vsphere-csi-controller", "-n", "vmware-system-csi")["spec"]["replicas"] == 1
    defaults = [
        item["metadata"]["name"] for item in site.get("storageclass")["items"]
        if item["metadata"].get("annotations", {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    ]
    assert defaults == ["vmware-sc"]


def test_3_second_run_changes_nothing(site: Site) -> None:
    before = {name: site.get(name, "-A")["items"] for name in ("daemonset", "deployment", "secret", "configmap")}
    done = site.run()
    assert (done.code, done.changed) == (0, 0), done.output
    assert {name: site.get(name, "-A")["items"] for name in before} == before


@pytest.mark.extensive
@pytest.mark.usefixtures("applied")
def test_4_one_changed_variable_changes_what_reads_it(site: Site) -> None:
    generation = site.get("daemonset", "vsphere-cloud-controller-manager", "-n", "kube-system")["metadata"]["generation"]
    done = site.run("--check", "--diff", vsphere_password="another-password")
    assert done.code == 0 and done.changed == 2, done.output
    assert "another-password" not in done.output
    assert secret_value(site, "kube-system", "vsphere-cloud-secret", "vcenter.example.org.password") == PASSWORD
    assert site.run(vsphere_password="another-password").changed == 2
    assert site.get("daemonset", "vsphere-cloud-controller-manager", "-n", "kube-system")["metadata"]["generation"] == generation + 1
    assert site.get("daemonset", "vsphere-csi-node", "-n", "vmware-system-csi")["metadata"]["generation"] == 1, "its pods read no password"
    assert site.run().changed == 2


@pytest.mark.parametrize(("variables", "words"), [
    ({}, ""),
    pytest.param({"cpi_labels": {"zone": "k8s-zone"}}, "ConfigMap kube-system/vsphere-cloud-config differs from the variables in more than that",
                 marks=pytest.mark.extensive),
    ({"csi_max_snapshots": 5}, "Secret vmware-system-csi/vsphere-config-secret differs from the variables in more than that.* --tags csi"),
    pytest.param({"vsphere_hostname": "other.example.org"}, "Secret kube-system/vsphere-cloud-secret differs", marks=pytest.mark.extensive),
], ids=["password-only", "label", "csi-setting", "another-vcenter"])
@pytest.mark.usefixtures("applied")
def test_4b_a_rotation_carries_the_password_only(site: Site, variables: dict[str, Any], words: str) -> None:
    before = {name: site.get(name, "-A")["items"] for name in ("daemonset", "deployment", "secret", "configmap")}
    done = site.run(playbook="rotation_check", vsphere_password="the-next-password", **variables)
    text = re.sub(r"\s+", " ", done.output)
    assert (done.code == 0) is not bool(words), done.output
    assert re.search(words, text) and "the-next-password" not in text, done.output
    assert not words or ("Only the password may change here" in text and "Nothing was changed" in text)
    assert {name: site.get(name, "-A")["items"] for name in before} == before


@pytest.mark.parametrize(("role", "variables", "words"), [
    ("csi", {"csi_cluster_id": "domain-c8"}, "volumes are filed under"),
    pytest.param("cpi", {"cpi_labels": {"regoin": "x"}}, "unknown key regoin", marks=pytest.mark.extensive),
    ("storageclass", {"storageclass_classes": [{"name": "vmware-sc", "default": True, "reclaim_policy": "Delete"}]}, "does not let anyone change"),
    pytest.param("csi", {"csi_images": {"drivr": "x"}}, "csi_images has drivr", marks=pytest.mark.extensive),
    ("cpi", {"cpi_manifest_file": str(MANIFESTS / "README.md"), "cpi_manifest_checksum": ""}, "no Kubernetes object|not valid YAML"),
    ("cpi", {"cpi_manifest_file": str(MANIFESTS / "cpi-v1.28.manifest")}, "expected 61502c21"),
    pytest.param("cpi", {"cpi_manifest_file": "", "cpi_manifest_url": "http://127.0.0.1:9/cpi"}, "can't be fetched", marks=pytest.mark.extensive),
    pytest.param("cpi", {"cpi_vcenters": [{"hostname": "vc", "username": "u", "password": "p", "datacentre": "x"}]}, "datacentre",
                 marks=pytest.mark.extensive),
    # Gone after the preflight: port 9 answers nobody.
    ("cpi", {"cpi_test_login": True, "vsphere_hostname": "127.0.0.1", "vsphere_port": 9, "vsphere_password": "next"}, r"vCenter 127.0.0.1.*refused"),
    pytest.param("csi", {"csi_test_login": True, "vsphere_hostname": "127.0.0.1", "vsphere_port": 9, "vsphere_password": "next"},
                 r"vCenter 127.0.0.1.*refused", marks=pytest.mark.extensive),
], ids=["cluster-id", "label", "immutable", "image", "no-manifest", "checksum", "unreachable", "unknown-key", "cpi-vcenter-down", "csi-vcenter-down"])
@pytest.mark.usefixtures("applied")
def test_5_bad_input_is_named_and_changes_nothing(site: Site, role: str, variables: dict[str, Any], words: str) -> None:
    before = {name: site.get(name, "-A")["items"] for name in ("daemonset", "deployment", "secret", "configmap", "storageclass")}
    done = site.run("--tags", role, **variables)
    assert done.code != 0
    assert re.search(words, re.sub(r"\s+", " ", done.output)), done.output
    assert {name: site.get(name, "-A")["items"] for name in before} == before


def test_6_a_node_that_the_cloud_provider_would_remove_stops_the_run(site: Site) -> None:
    # One node is of the inventory: a cluster with none of its machines is another one.
    inventory, agent = site.folder / "inventory.ini", "420e3f71-0000-4a5b-8c6d-0000000000a1"
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "agent-1"}, "spec": {"providerID": f"vsphere://{agent}"}}
    site.server.kubectl("create", "-f", "-", stdin=json.dumps(node))
    before = inventory.read_text()
    inventory.write_text("[control_plane]\ncontrol-plane-1 vsphere_bios_uuid=420e3f71-0000-4a5b-8c6d-00000000000f\n"
                         f"[agent]\nagent-1 vsphere_bios_uuid={agent}\n")
    done = site.run("--tags", "cpi", vsphere_password="one-more-password")
    inventory.write_text(before)
    site.server.kubectl("delete", "node", "agent-1")
    assert done.code != 0
    assert "wanted vsphere://420e3f71-0000-4a5b-8c6d-00000000000f" in re.sub(r"\s+", " ", done.output)
    assert secret_value(site, "kube-system", "vsphere-cloud-secret", "vcenter.example.org.password") == PASSWORD


def test_7_a_node_without_provider_id_stops_the_storage_driver(site: Site) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "agent-1"}}
    site.server.kubectl("create", "-f", "-", stdin=json.dumps(node))
    done = site.run("--tags", "csi", csi_max_snapshots=2)
    assert done.code != 0
    assert "agent-1 has no providerID. Apply the cloud provider" in re.sub(r"\s+", " ", done.output)
    site.server.kubectl("delete", "node", "agent-1")


HELM_CHART_CONFIG = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "helmchartconfigs.helm.cattle.io"},
    "spec": {"group": "helm.cattle.io", "scope": "Namespaced", "names": {"kind": "HelmChartConfig", "plural": "helmchartconfigs"}, "versions": [
        {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {"valuesContent": {"type": "string"}}}}}}}]},
}


@pytest.mark.extensive
def test_what_somebody_set_in_traefik_is_a_conflict(site: Site) -> None:
    """A cluster that is adopted may have a HelmChartConfig of its own: its values are the way into the cluster."""
    (site.folder / "traefik.yml").write_text("- hosts: localhost\n  connection: local\n  gather_facts: false\n  roles: [cht.k3s.traefik]\n")
    site.server.kubectl("create", "-f", "-", stdin=json.dumps(HELM_CHART_CONFIG))
    site.server.kubectl("wait", "--for=condition=Established", "crd/helmchartconfigs.helm.cattle.io")
    by_hand = {"apiVersion": "helm.cattle.io/v1", "kind": "HelmChartConfig", "metadata": {"name": "traefik", "namespace": "kube-system"},
               "spec": {"valuesContent": "service:\n  spec:\n    externalTrafficPolicy: Local\n"}}
    site.server.kubectl("apply", "-f", "-", stdin=json.dumps(by_hand))
    refused = site.run(playbook="traefik")
    assert refused.code != 0 and "kubectl" in refused.output and "force_conflicts" in refused.output, refused.output
    assert site.get("helmchartconfig", "traefik", "-n", "kube-system")["spec"] == by_hand["spec"]
    assert site.run(playbook="traefik", traefik_force_conflicts=True).changed == 1
    assert site.run(playbook="traefik").changed == 0


class Pages(SimpleHTTPRequestHandler):
    """A mirror with one answer for each kind of trouble."""

    good = (MANIFESTS / "csi-v3.3.1.manifest").read_bytes()
    answers = {
        "good": good,
        "login-page": b"<!DOCTYPE html><html><body>Log in to the proxy</body></html>",
        "cut": good[: len(good) // 2],
        "unknown": good + b"\n---\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: surprise\n",
    }

    def do_GET(self) -> None:
        content = self.answers.get(self.path.split("/")[1])
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
        """Say nothing."""


@pytest.fixture(scope="module")
def mirror() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(("page", "words"), [
    pytest.param("absent", "can't be fetched: 404 .*Check the version, or the mirror's folders", marks=pytest.mark.extensive),
    ("login-page", "holds a web page, not a manifest"),
    pytest.param("cut", "not built as expected|not valid YAML", marks=pytest.mark.extensive),
    ("unknown", "unknown: Job surprise.*Expected .*Deployment vsphere-csi-controller"),
])
@pytest.mark.usefixtures("applied")
def test_8_what_a_mirror_may_answer_is_named_and_changes_nothing(site: Site, mirror: str, page: str, words: str) -> None:
    before = {name: site.get(name, "-A")["items"] for name in ("daemonset", "deployment", "secret", "configmap")}
    digest = hashlib.sha256(Pages.answers.get(page, b"")).hexdigest()
    done = site.run("--tags", "csi", csi_manifest_file="", csi_manifest_url=f"{mirror}/{page}", csi_manifest_checksum=digest)
    assert done.code != 0
    assert re.search(words, re.sub(r"\s+", " ", done.output)), done.output
    assert {name: site.get(name, "-A")["items"] for name in before} == before


def test_8b_what_is_not_pinned_is_refused_until_its_digest_is_given(site: Site, mirror: str) -> None:
    pinned = site.run("--tags", "csi_apply", "--check", csi_manifest_file="", csi_manifest_url=f"{mirror}/good")
    assert pinned.code == 0, pinned.output
    refused = site.run("--tags", "csi_apply", "--check", csi_manifest_file="", csi_manifest_url=f"{mirror}/good", csi_version="3.99.0", csi_images={})
    text = re.sub(r"\s+", "", refused.output)
    assert refused.code != 0 and "its version is not in the table".replace(" ", "") in text, refused.output
    assert f"What came has {DIGEST}.".replace(" ", "") in text and "set csi_manifest_checksum to that digest".replace(" ", "") in text, refused.output


def test_9_a_second_default_class_is_named_until_it_is_listed(site: Site) -> None:
    other = {**LOCAL_PATH, "metadata": {**LOCAL_PATH["metadata"], "name": "nfs"}}  # type: ignore[dict-item]
    site.server.kubectl("create", "-f", "-", stdin=json.dumps(other))
    done = site.run("--tags", "storageclass")
    assert done.code != 0
    assert "StorageClass nfs is marked as default too" in re.sub(r"\s+", " ", done.output)
    assert site.run("--tags", "storageclass", storageclass_demote=["local-path", "nfs"]).changed == 1
    classes = site.get("storageclass")["items"]
    marks = {item["metadata"]["name"]: item["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] for item in classes}
    assert marks == {"local-path": "false", "nfs": "false", "vmware-sc": "true"}


def crd(name: str) -> dict[str, Any]:
    """Upstream's, with no more than its name and that any field is allowed."""
    plural, _dot, group = name.partition(".")
    kind = {"volumesnapshotclasses": "VolumeSnapshotClass", "volumesnapshotcontents": "VolumeSnapshotContent", "volumesnapshots": "VolumeSnapshot"}[plural]
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter/pull/814"}},
        "spec": {
            "group": group, "scope": "Namespaced" if kind == "VolumeSnapshot" else "Cluster", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def snapshot_manifests(folder: Path) -> list[str]:
    """Five files, as upstream has them."""
    rbac, meta = {"apiVersion": "rbac.authorization.k8s.io/v1"}, {"namespace": "kube-system"}
    reference = {"apiGroup": "rbac.authorization.k8s.io"}
    controller = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "snapshot-controller", **meta}},
        {**rbac, "kind": "ClusterRole", "metadata": {"name": "snapshot-controller-runner"}, "rules": []},
        {**rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "snapshot-controller-role"},
         "roleRef": {**reference, "kind": "ClusterRole", "name": "snapshot-controller-runner"}},
        {**rbac, "kind": "Role", "metadata": {"name": "snapshot-controller-leaderelection", **meta}, "rules": []},
        {**rbac, "kind": "RoleBinding", "metadata": {"name": "snapshot-controller-leaderelection", **meta},
         "roleRef": {**reference, "kind": "Role", "name": "snapshot-controller-leaderelection"}},
    ]
    labels = {"app": "snapshot-controller"}
    workload = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "snapshot-controller", **meta}, "spec": {
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "containers": [{"name": "snapshot-controller", "image": "registry.k8s.io/sig-storage/snapshot-controller:v8.2.0"}]}}}}
    names = [f"{plural}.snapshot.storage.k8s.io" for plural in ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots")]
    files = []
    for number, documents in enumerate([*([crd(name)] for name in names), controller, [workload]]):
        files.append(folder / f"snapshots-{number}.yaml")
        files[-1].write_text(yaml.safe_dump_all(documents))
    return [str(path) for path in files]


@pytest.mark.extensive
@pytest.mark.usefixtures("applied")
def test_9b_a_second_default_class_of_snapshots_is_refused(site: Site) -> None:
    """As after csi_snapshot_class was renamed; nothing is applied then."""
    variables = {"csi_snapshots": True, "csi_snapshot_manifest_files": snapshot_manifests(site.folder), "csi_snapshot_class": "snap"}
    first = site.run("--tags", "csi_snapshots", **variables)
    assert first.code == 0 and first.changed == 1, first.output
    again = site.run("--tags", "csi_snapshots", **variables)
    assert again.code == 0 and again.changed == 0, again.output
    renamed = site.run("--tags", "csi_snapshots", **{**variables, "csi_snapshot_class": "other"})
    assert renamed.code != 0 and "VolumeSnapshotClass snap is the default of csi.vsphere.vmware.com too" in renamed.output
    assert [item["metadata"]["name"] for item in site.get("volumesnapshotclass")["items"]] == ["snap"]
