"""Every released manifest goes through the patcher, and only what is meant to changes."""
from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.module_utils import versions
from ansible_collections.cht.k3s.plugins.module_utils.manifest import cpi, csi, shape
from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError, documents
from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError

MANIFESTS = Path(__file__).parents[3] / "data" / "manifests"
CPI_FILES = sorted(MANIFESTS.glob("cpi-*.manifest"))
CSI_FILES = sorted(MANIFESTS.glob("csi-*.manifest"))
# An empty list would make tests that can't fail.
if len(CPI_FILES) < 8 or len(CSI_FILES) < 3:
    raise FileNotFoundError(f"the manifests in {MANIFESTS} are missing")
VCENTER = {"hostname": "vcenter.example.org", "username": "k3s@vsphere.local", "password": "secret-secret", "datacenters": ["DC"]}


def load(path: Path) -> list[dict[str, Any]]:
    return documents(path.read_bytes(), path.name)


def key(document: dict[str, Any]) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def differences(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Leaf path -> (before, after), lists by position."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in sorted(set(before) | set(after), key=str):
            found.update(differences(before.get(name), after.get(name), f"{path}.{name}"))
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        found = {}
        for number, (one, other) in enumerate(zip(before, after)):
            found.update(differences(one, other, f"{path}[{number}]"))
        return found
    return {} if before == after else {path: (before, after)}


def semantic_diff(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, dict[str, tuple[Any, Any]]]:
    old, new = {key(item): item for item in before}, {key(item): item for item in after}
    return {name: differences(old.get(name), new.get(name)) for name in sorted(set(old) | set(new)) if old.get(name) != new.get(name)}


def cpi_settings(path: Path, **more: Any) -> dict[str, Any]:
    version = path.stem.partition("-v")[2] + ".0"
    return {"vcenters": [dict(VCENTER)], "image": versions.cpi_image(version), **more}


def csi_settings(path: Path, **more: Any) -> dict[str, Any]:
    version = path.stem.partition("-v")[2]
    return {
        "vcenters": [dict(VCENTER)], "cluster_id": "c1", "replicas": 3, "images": versions.csi_images(version), "version": version, "max_volumes": 59, **more,
    }


@pytest.mark.parametrize("path", CPI_FILES, ids=lambda path: path.stem)
def test_cpi_only_what_is_meant_changes(path: Path) -> None:
    before = load(path)
    kept = copy.deepcopy(before)
    diff = semantic_diff(before, cpi.objects(before, cpi_settings(path)))
    assert before == kept, "the input must stay as it is"
    assert set(diff) == {"Secret/vsphere-cloud-secret", "ConfigMap/vsphere-cloud-config", "DaemonSet/vsphere-cloud-controller-manager"}
    assert {name.split(".")[1] for name in diff["Secret/vsphere-cloud-secret"]} == {"stringData"}
    assert {name.split(".")[1] for name in diff["ConfigMap/vsphere-cloud-config"]} == {"data"}
    changed = set(diff["DaemonSet/vsphere-cloud-controller-manager"])
    allowed = {".spec.template.metadata.annotations", ".spec.template.spec.tolerations", ".spec.template.spec.containers[0].image"}
    if "1.24" in path.stem:
        allowed |= {".spec.template.spec.nodeSelector", ".spec.template.spec.affinity"}
    assert changed <= allowed
    assert ".spec.template.spec.tolerations" in changed


@pytest.mark.parametrize("path", CSI_FILES, ids=lambda path: path.stem)
def test_csi_only_what_is_meant_changes(path: Path) -> None:
    before = load(path)
    kept = copy.deepcopy(before)
    after = csi.objects(before, csi_settings(path))
    assert before == kept, "the input must stay as it is"
    diff = semantic_diff(before, after)
    assert set(diff) == {
        "Namespace/vmware-system-csi", "Secret/vsphere-config-secret", "Deployment/vsphere-csi-controller", "DaemonSet/vsphere-csi-node",
        "DaemonSet/vsphere-csi-node-windows",
    }
    assert "DaemonSet/vsphere-csi-node-windows" not in {key(item) for item in after}
    images = {f".spec.template.spec.containers[{number}].image" for number in range(7)}
    allowed = images | {".spec.template.metadata.annotations", ".spec.template.spec.tolerations"}
    assert set(diff["DaemonSet/vsphere-csi-node"]) <= allowed
    if "2.7" in path.stem:
        allowed |= {".spec.template.spec.nodeSelector", ".spec.template.spec.affinity.nodeAffinity"}
    assert set(diff["Deployment/vsphere-csi-controller"]) <= allowed


def pod(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The pod of the first workload of that kind."""
    return next(document for document in found if document["kind"] == kind)["spec"]["template"]["spec"]


def as_cpi_master(found: list[dict[str, Any]]) -> None:
    """Up to 1.24, and again in 1.37: the label's former name, with an empty value."""
    target = pod(found, "DaemonSet")
    target["nodeSelector"] = {"node-role.kubernetes.io/master": ""}
    target["tolerations"] = [entry for entry in target["tolerations"] if entry["key"] != "node-role.kubernetes.io/control-plane"]
    del target["affinity"]


def as_cpi_1_20(found: list[dict[str, Any]]) -> None:
    """1.20 to 1.22: an annotation for the scheduler in the place of a priority class."""
    as_cpi_master(found)
    found[-1]["metadata"]["annotations"] = {"scheduler.alpha.kubernetes.io/critical-pod": ""}
    target = pod(found, "DaemonSet")
    del target["priorityClassName"]
    target["containers"][0]["image"] = "gcr.io/cloud-provider-vsphere/cpi/release/manager:v1.20.1"


def as_cpi_1_36(found: list[dict[str, Any]]) -> None:
    """1.36: one more rule."""
    role = next(document for document in found if document["kind"] == "ClusterRole")
    role["rules"].append({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["create", "get", "list", "watch", "update"]})


def as_csi_master(found: list[dict[str, Any]]) -> None:
    """2.4 to 2.6: the label's former name, images of a build, annotations on the Service, no snapshotter in the oldest."""
    target = pod(found, "Deployment")
    target["nodeSelector"] = {"node-role.kubernetes.io/master": ""}
    target["tolerations"] = [entry for entry in target["tolerations"] if entry["key"] != "node-role.kubernetes.io/control-plane"]
    target["containers"] = [entry for entry in target["containers"] if entry["name"] != "csi-snapshotter"]
    service = next(document for document in found if document["kind"] == "Service")
    service["metadata"]["annotations"] = {"prometheus.io/scrape": "true", "prometheus.io/port": "2113"}
    for container in (*target["containers"], *pod(found, "DaemonSet")["containers"]):
        container["image"] = container["image"].replace("csi/release/", "csi/ci/")


def as_csi_2_7_1(found: list[dict[str, Any]]) -> None:
    """2.7.1: one more variable."""
    for container in (*pod(found, "Deployment")["containers"], *pod(found, "DaemonSet")["containers"]):
        if container["name"] in ("vsphere-syncer", "vsphere-csi-node"):
            container["env"].append({"name": "GODEBUG", "value": "x509sha1=1"})


def as_csi_3_5_1(found: list[dict[str, Any]]) -> None:
    """3.5.1: hardly a switch is left, images of the staging registry, the namespace in the same file."""
    features = next(document for document in found if document["kind"] == "ConfigMap")
    features["data"] = {"trigger-csi-fullsync": "false", "pv-to-backingdiskobjectid-mapping": "false"}
    for container in (*pod(found, "Deployment")["containers"], *pod(found, "DaemonSet")["containers"]):
        container["image"] = container["image"].replace("registry.k8s.io/csi-vsphere/", "us-central1-docker.pkg.dev/k8s-staging-images/csi-vsphere/")
    found.insert(0, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": csi.NAMESPACE}})


def as_csi_3_7(found: list[dict[str, Any]]) -> None:
    """3.7: one more argument; and a manifest from which somebody took the part for Windows."""
    next(entry for entry in pod(found, "Deployment")["containers"] if entry["name"] == "vsphere-csi-controller")["args"].append("--enable-profile-server=false")
    found.remove(next(document for document in found if document["metadata"]["name"] == csi.WINDOWS_NODE))


def as_csi_3_8(found: list[dict[str, Any]]) -> None:
    """3.8: no variable for the number of volumes, one term for the control plane, another name of a port, images of the staging registry."""
    controller, node = pod(found, "Deployment"), pod(found, "DaemonSet")
    features = next(document for document in found if document["kind"] == "ConfigMap")
    features["data"] = {"trigger-csi-fullsync": "false", "pv-to-backingdiskobjectid-mapping": "false", "high-pv-node-density": "false"}
    del controller["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][1:]
    parts = {entry["name"]: entry for entry in (*controller["containers"], *node["containers"])}
    parts["csi-resizer"]["args"].append("--feature-gates=RecoverVolumeExpansionFailure=false")
    parts["vsphere-syncer"]["ports"][0]["name"] = "prometheus-sync"
    parts["vsphere-csi-node"]["env"] = [entry for entry in parts["vsphere-csi-node"]["env"] if entry["name"] != "MAX_VOLUMES_PER_NODE"]
    for part in parts.values():
        part["image"] = part["image"].replace("registry.k8s.io/csi-vsphere/", "us-central1-docker.pkg.dev/k8s-staging-images/csi-vsphere/")


@pytest.mark.parametrize(("base", "edit", "moved"), [
    ("cpi-v1.25", as_cpi_1_20, True), ("cpi-v1.31", as_cpi_master, True), ("cpi-v1.31", as_cpi_1_36, False),
    ("csi-v2.7.2", as_csi_master, True), ("csi-v2.7.2", as_csi_2_7_1, True), ("csi-v3.6.2", as_csi_3_5_1, False), ("csi-v3.6.2", as_csi_3_7, False),
    ("csi-v3.6.2", as_csi_3_8, False),
], ids=lambda value: getattr(value, "__name__", value))
def test_what_other_releases_differ_in_stays_as_it_is(base: str, edit: Any, moved: bool) -> None:
    """Releases whose files are not here, by what sets them apart: none is refused, and no more is changed in them than in the others."""
    path = MANIFESTS / f"{base}.manifest"
    before = load(path)
    edit(before)
    is_cpi = base.startswith("cpi")
    after = cpi.objects(before, cpi_settings(path)) if is_cpi else csi.objects(before, csi_settings(path))
    diff = semantic_diff(before, after)
    changed = {"Secret/vsphere-cloud-secret", "ConfigMap/vsphere-cloud-config", "DaemonSet/vsphere-cloud-controller-manager"} if is_cpi else {
        "Namespace/vmware-system-csi", "Secret/vsphere-config-secret", "Deployment/vsphere-csi-controller", "DaemonSet/vsphere-csi-node",
        *(["DaemonSet/vsphere-csi-node-windows"] if edit is not as_csi_3_7 else []),
    }
    assert set(diff) == changed
    pod_paths = {".spec.template.metadata.annotations", ".spec.template.spec.tolerations"}
    if moved:
        pod_paths |= {".spec.template.spec.nodeSelector", ".spec.template.spec.affinity", ".spec.template.spec.affinity.nodeAffinity"}
    for name in changed & {"DaemonSet/vsphere-cloud-controller-manager", "Deployment/vsphere-csi-controller", "DaemonSet/vsphere-csi-node"}:
        assert {place for place in diff[name] if not place.endswith(".image")} <= pod_paths, name
    text = yaml.safe_dump(after)
    for word in ("gcr.io/cloud-provider-vsphere", "k8s-staging-images", "ENTER", "hrwest"):
        assert word not in text
    workload = pod(after, "DaemonSet" if is_cpi else "Deployment")
    terms = workload["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert "nodeSelector" not in workload and {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"} in terms[0]["matchExpressions"]


@pytest.mark.parametrize("path", CSI_FILES, ids=lambda path: path.stem)
def test_topology_brings_the_arguments_that_the_manifest_holds_as_comments(path: Path) -> None:
    def arguments(**more: Any) -> dict[str, list[str]]:
        return {entry["name"]: entry.get("args", []) for entry in pod(csi.objects(load(path), csi_settings(path, **more)), "Deployment")["containers"]}

    plain, topology = arguments(), arguments(topology_categories=["k8s-region", "k8s-zone"])
    added = ["--feature-gates=Topology=true", "--strict-topology"]
    assert "#- \"--strict-topology\"" in path.read_text()
    assert topology == {**plain, "csi-provisioner": [*plain["csi-provisioner"], *added]}
    given = load(path)
    next(entry for entry in pod(given, "Deployment")["containers"] if entry["name"] == "csi-provisioner")["args"] += ["--feature-gates=A=true", added[1]]
    found = pod(csi.objects(given, csi_settings(path, topology_categories=["k8s-zone"])), "Deployment")["containers"]
    assert next(entry for entry in found if entry["name"] == "csi-provisioner")["args"][-2:] == ["--feature-gates=A=true,Topology=true", added[1]]


@pytest.mark.parametrize("path", CSI_FILES, ids=lambda path: path.stem)
def test_topology_set_later_restarts_the_node_plugin(path: Path) -> None:
    """Each node's labels are read when its plugin registers, so the pods have to start anew; nothing else of the topology changes them."""
    def template(**more: Any) -> dict[str, Any]:
        found = csi.objects(load(path), csi_settings(path, **more))
        return next(item for item in found if item["kind"] == "DaemonSet")["spec"]["template"]  # type: ignore[no-any-return]

    none, one, two = template(topology_categories=[]), template(topology_categories=["k8s-zone"]), template(topology_categories=["k8s-region", "k8s-zone"])
    hashes = [found["metadata"]["annotations"].pop(shape.HASH_ANNOTATION) for found in (template(), none, one, two)]
    assert hashes[0] == hashes[1] and len(set(hashes[1:])) == 3
    features = next(item for item in csi.objects(load(path), csi_settings(path)) if item["metadata"]["name"] == csi.FEATURES)["data"]
    read = [f"{key}={value}".encode() for key, value in sorted(features.items())]
    assert hashes[0] == shape.config_hash(f"{csi.NAMESPACE}/{csi.NODE}", *read), "a cluster without topology keeps its pods when the collection is updated"


@pytest.mark.parametrize("path", [*CPI_FILES, *CSI_FILES], ids=lambda path: path.stem)
def test_no_placeholder_and_no_dead_image(path: Path) -> None:
    after = cpi.objects(load(path), cpi_settings(path)) if path in CPI_FILES else csi.objects(load(path), csi_settings(path))
    text = yaml.safe_dump(after)
    for word in ("10.0.0.1", "1.2.3.4", "ENTER", "hrwest", "your-vcenter", "gcr.io/cloud-provider-vsphere", "k8s.gcr.io"):
        assert word not in text.replace("registry.k8s.io", "")


@pytest.mark.parametrize("path", CSI_FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("servers", [1, 2, 3])
def test_controllers_fit_the_servers(path: Path, servers: int) -> None:
    deployment = next(item for item in csi.objects(load(path), csi_settings(path, replicas=servers)) if item["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == servers
    pod = deployment["spec"]["template"]["spec"]
    assert "nodeSelector" not in pod
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert all(expression["operator"] == "Exists" for term in terms for expression in term["matchExpressions"])
    assert pod["affinity"]["podAntiAffinity"], "two controllers on one node stay forbidden"


def test_dead_image_in_the_manifest_is_refused_without_override() -> None:
    path = MANIFESTS / "cpi-v1.25.manifest"
    with pytest.raises(ManifestError, match="was deleted with its project"):
        cpi.objects(load(path), {"vcenters": [VCENTER]})
    with pytest.raises(ManifestError, match="was deleted with its project"):
        csi.objects(load(MANIFESTS / "csi-v2.7.2.manifest"), {"vcenters": [VCENTER], "version": "2.7.2"})


@pytest.mark.parametrize(("image", "registry", "wanted"), [
    ("registry.k8s.io/a/b:1", "", "registry.k8s.io/a/b:1"),
    ("registry.k8s.io/a/b:1", "mirror.example.org:5000", "mirror.example.org:5000/a/b:1"),
    ("registry.k8s.io/a/b@sha256:00", "mirror.example.org/k8s/", "mirror.example.org/k8s/a/b@sha256:00"),
    ("localhost:5000/b:1", "m.example", "m.example/b:1"),
    ("rancher/b:1", "m.example", "m.example/rancher/b:1"),
    ("b:1", "m.example", "m.example/b:1"),
])
def test_registry_prefix(image: str, registry: str, wanted: str) -> None:
    assert shape.with_registry(image, registry) == wanted


def test_images_one_by_one_and_by_registry() -> None:
    path = MANIFESTS / "csi-v3.3.1.manifest"
    images = {**versions.csi_images("3.3.1"), "csi-attacher": "example.org/my-attacher:9"}
    after = csi.objects(load(path), csi_settings(path, images=images, image_registry="mirror.example.org"))
    found = {
        container["image"] for item in after if item["kind"] in ("Deployment", "DaemonSet") for container in item["spec"]["template"]["spec"]["containers"]
    }
    assert "mirror.example.org/my-attacher:9" in found
    assert all(image.startswith("mirror.example.org/") for image in found)
    with pytest.raises(SettingsError, match="csi_images has csi-atacher"):
        csi.objects(load(path), csi_settings(path, images={"csi-atacher": "x"}))


def test_another_kubelet_root() -> None:
    path = MANIFESTS / "csi-v3.3.1.manifest"
    after = next(item for item in csi.objects(load(path), csi_settings(path, kubelet_root="/srv/kubelet/")) if item["kind"] == "DaemonSet")
    text = yaml.safe_dump(after)
    assert "/var/lib/kubelet" not in text
    assert text.count("/srv/kubelet") == 6


def test_the_hash_follows_what_pods_read_and_nothing_else() -> None:
    path = MANIFESTS / "cpi-v1.31.manifest"

    def annotation(**more: Any) -> str:
        settings = cpi_settings(path, **more)
        pod = next(item for item in cpi.objects(load(path), settings) if item["kind"] == "DaemonSet")["spec"]["template"]
        return str(pod["metadata"]["annotations"][shape.HASH_ANNOTATION])

    base = annotation()
    assert annotation() == base
    assert annotation(vcenters=[{**VCENTER, "password": "another"}]) != base
    assert annotation(labels={"zone": "z"}) != base
    assert annotation(image_registry="m.example") == base
    assert "secret-secret" not in base and len(base) == 32


UNKNOWN = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new-thing"}}


@pytest.mark.parametrize(("name", "edit", "words"), [
    ("cpi-v1.31", lambda docs: docs.append(dict(UNKNOWN)), "unknown: ConfigMap new-thing"),
    ("cpi-v1.31", lambda docs: docs.pop(0), "missing: ServiceAccount cloud-controller-manager"),
    ("cpi-v1.31", lambda docs: docs.append(dict(docs[0])), "twice"),
    ("cpi-v1.31", lambda docs: docs[-1]["spec"]["template"]["spec"]["containers"][0].update(name="other"), "no container vsphere-cloud-controller-manager"),
    ("cpi-v1.31", lambda docs: docs[-1]["spec"]["template"]["spec"]["containers"][0].update(args=["--x"]), "no argument --cloud-config"),
    ("cpi-v1.31", lambda docs: docs[-1]["spec"]["template"]["spec"].update(volumes=[]), "is not mounted"),
    ("cpi-v1.31", lambda docs: docs[-1]["spec"].pop("template"), "has no spec.template"),
    ("csi-v3.6.2", lambda docs: docs.append(dict(UNKNOWN)), "unknown: ConfigMap new-thing"),
    ("csi-v3.6.2", lambda docs: [docs.remove(doc) for doc in list(docs) if doc["kind"] == "CSIDriver"], "missing: CSIDriver"),
    ("csi-v3.6.2", lambda docs: [doc["spec"]["template"]["spec"].update(volumes=[]) for doc in docs if doc["kind"] == "Deployment"], "does not mount Secret"),
])
def test_a_manifest_of_another_shape_is_refused(name: str, edit: Any, words: str) -> None:
    path = MANIFESTS / f"{name}.manifest"
    found = load(path)
    edit(found)
    with pytest.raises(ManifestError, match=words.replace(".", r"\.")):
        if name.startswith("cpi"):
            cpi.objects(found, cpi_settings(path))
        else:
            csi.objects(found, csi_settings(path))


@pytest.mark.parametrize(("content", "words"), [
    (b"<!DOCTYPE html><html>", "holds a web page"),
    (b"  <html><body>login", "holds a web page"),
    (b"", "is empty"),
    (b"---\n---\n", "is empty"),
    (b"just words", "it is a str"),
    (b"kind: ConfigMap\nmetadata: {name: x}", "it has no apiVersion"),
    (b"apiVersion: v1\nkind: ConfigMap", "it has no metadata.name"),
    (b"a: [1, 2\n", "not valid YAML"),
    (b"\xff\xfe", "not UTF-8"),
])
def test_what_is_no_manifest_is_said(content: bytes, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        documents(content, "https://example.org/m.yaml")


def test_every_cut_of_a_manifest_is_refused() -> None:
    """A download that stops anywhere, even at a boundary between documents, never passes as a whole."""
    path = MANIFESTS / "cpi-v1.31.manifest"
    content = path.read_bytes()
    # Behind this stand two terms for the control plane; the API server refuses a half one.
    end = content.index(b"nodeSelectorTerms")
    for length in range(0, end, 23):
        with pytest.raises((ManifestError, SettingsError)):
            cpi.objects(documents(content[:length], path.name), cpi_settings(path))


def test_lists_are_unpacked() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [dict(UNKNOWN)]}
    assert documents(yaml.safe_dump(listed).encode(), "x") == [UNKNOWN]
