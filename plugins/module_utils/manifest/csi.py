# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vSphere CSI driver's manifest with our settings in it, and its configuration file."""

from __future__ import annotations

import base64
import re
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.manifest import shape, vcenters
from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError
from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError, VCenter
from ansible_collections.cht.k3s.plugins.module_utils.versions import minor

NAMESPACE = "vmware-system-csi"
SECRET = "vsphere-config-secret"
CONFIG_KEY = "csi-vsphere.conf"
CONTROLLER = "vsphere-csi-controller"
NODE = "vsphere-csi-node"
WINDOWS_NODE = "vsphere-csi-node-windows"
FEATURES = "internal-feature-states.csi.vsphere.vmware.com"
DRIVER = "csi.vsphere.vmware.com"
# From 3.0 on the driver can make an id by itself and keeps it here; an id in the file beside it ends the controller.
GENERATED_ID = "vsphere-csi-cluster-id"
_FOLDER = "/etc/cloud"
_CA_KEY = "vcenter-ca.pem"
_SECTIONS = {"global": "Global", "virtualcenter": "VirtualCenter"}
_KUBELET_ROOT = "/var/lib/kubelet"
_TOPOLOGY_GATE = "Topology=true"
_MAX_VOLUMES = "MAX_VOLUMES_PER_NODE"
# The driver's own number of volumes for a node, and, from 3.7.1 on, the only other one that it knows, with its switch.
_USUAL_VOLUMES, _MANY_VOLUMES, _DENSITY = 59, 255, "high-pv-node-density"
# The parts that csi_images names by their role, however their images are called.
_PARTS = {"vsphere-csi-controller": "driver", "vsphere-csi-node": "driver", "vsphere-syncer": "syncer"}

EXPECTED: dict[tuple[str, str], bool] = {
    ("Namespace", NAMESPACE): False,
    ("CSIDriver", DRIVER): True,
    ("ServiceAccount", "vsphere-csi-controller"): True,
    ("ClusterRole", "vsphere-csi-controller-role"): True,
    ("ClusterRoleBinding", "vsphere-csi-controller-binding"): True,
    ("ServiceAccount", "vsphere-csi-node"): True,
    ("ClusterRole", "vsphere-csi-node-cluster-role"): True,
    ("ClusterRoleBinding", "vsphere-csi-node-cluster-role-binding"): True,
    ("Role", "vsphere-csi-node-role"): True,
    ("RoleBinding", "vsphere-csi-node-binding"): True,
    ("ConfigMap", FEATURES): True,
    ("Service", "vsphere-csi-controller"): True,
    ("Deployment", CONTROLLER): True,
    ("DaemonSet", NODE): True,
    ("DaemonSet", WINDOWS_NODE): False,
}
_SETTINGS = {
    "vcenters", "cluster_id", "cluster_distribution", "images", "image_registry", "replicas", "kubelet_root", "feature_states",
    "max_snapshots", "topology_categories", "max_volumes", "version",
}
# The driver's own check since 3.2; it ends at once when it does not like the name.
_USER = re.compile(r"^(?:[a-zA-Z0-9.-]+\\[a-zA-Z0-9._-]+|[a-zA-Z0-9._-]+@[a-zA-Z0-9.-]+)$")


# --- csi-vsphere.conf ------------------------------------------------------------------------------------------------


def quote(value: str) -> str:
    """A value of the configuration file; the driver's parser knows these four escapes and refuses any other."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def render_config(found: list[VCenter], settings: dict[str, Any]) -> dict[str, str]:
    """Data of the Secret: the configuration file, and the certificate authorities that it names."""
    result: dict[str, str] = {}
    everywhere: dict[str, str] = {}
    if settings.get("cluster_id"):
        everywhere["cluster-id"] = str(settings["cluster_id"])
    if settings.get("cluster_distribution"):
        everywhere["cluster-distribution"] = str(settings["cluster_distribution"])
    authorities = sorted({vcenter.ca.strip() for vcenter in found if vcenter.ca and vcenter.validate_certs})
    if authorities:
        result[_CA_KEY] = "\n".join(authorities) + "\n"
        everywhere["ca-file"] = f"{_FOLDER}/{_CA_KEY}"
    # Drivers with one vCenter read it here, those with several in the section of each.
    if len(found) == 1 and found[0].thumbprint:
        everywhere["thumbprint"] = found[0].thumbprint
    sections: list[tuple[str, str, dict[str, str]]] = [("Global", "", everywhere)]
    for vcenter in found:
        entry = {
            "insecure-flag": "false" if vcenter.validate_certs else "true",
            "user": vcenter.username,
            "password": vcenter.password,
            "port": str(vcenter.port),
        }
        if vcenter.thumbprint and len(found) > 1:
            entry["thumbprint"] = vcenter.thumbprint
        if vcenter.datacenters:
            entry["datacenters"] = ", ".join(vcenter.datacenters)
        sections.append(("VirtualCenter", vcenter.hostname, entry))
    if settings.get("max_snapshots") is not None:
        sections.append(("Snapshot", "", {"global-max-snapshots-per-block-volume": str(settings["max_snapshots"])}))
    categories = settings.get("topology_categories") or []
    for category in categories:
        if "," in category:
            raise SettingsError(f"csi_topology_categories has {category!r} with a comma, which CSI can't be told; rename the category in vCenter.")
    if len(categories) > 5:
        raise SettingsError("csi_topology_categories has more than 5 entries; CSI takes at most 5.")
    if categories:
        sections.append(("Labels", "", {"topology-categories": ", ".join(categories)}))
    if len(found) > 1 and not categories:
        raise SettingsError("With several vCenters CSI needs csi_topology_categories.")
    text = _write(sections)
    if parse_config(text) != sections:
        raise SettingsError("csi-vsphere.conf does not read back as it was written: a value has a character that it can't hold.")
    result[CONFIG_KEY] = text
    return result


def _write(sections: list[tuple[str, str, dict[str, str]]]) -> str:
    lines: list[str] = []
    for name, label, values in sections:
        lines.append(f"[{name} {quote(label)}]" if label else f"[{name}]")
        lines.extend(f"{key} = {quote(value)}" for key, value in values.items())
        lines.append("")
    return "\n".join(lines)


def parse_config(text: str) -> list[tuple[str, str, dict[str, str]]]:
    """Read the file as the driver does; used on what we wrote, and on what a cluster has."""
    sections: list[tuple[str, str, dict[str, str]]] = []
    for line in text.split("\n"):
        stripped = line.strip(" \t\r")
        if not stripped or stripped[0] in "#;":
            continue
        if stripped.startswith("["):
            match = re.match(r'^\[\s*([A-Za-z0-9.-]+)\s*("(?:[^"\\]|\\.)*")?\s*\]', stripped)
            if not match:
                raise SettingsError(f"csi-vsphere.conf has a line that is no section: {stripped!r}.")
            sections.append((match.group(1), _unquote(match.group(2) or ""), {}))
            continue
        key, equals, value = stripped.partition("=")
        if not sections:
            raise SettingsError("csi-vsphere.conf does not begin with a section.")
        sections[-1][2][key.strip()] = _unquote(value.strip(" \t")) if equals else "true"
    return sections


def _unquote(text: str) -> str:
    out: list[str] = []
    inside = escaped = False
    kept = 0  # unquoted blanks at the end don't count
    for char in text:
        if escaped:
            if char not in '\\"nt':
                raise SettingsError("csi-vsphere.conf has an unknown escape sequence.")
            out.append({"n": "\n", "t": "\t"}.get(char, char))
            escaped = False
        elif char == "\\":
            escaped = True
            continue
        elif char == '"':
            inside = not inside
        elif not inside and char in "#;":
            break
        else:
            out.append(char)
            if not inside and char in " \t":
                continue
        kept = len(out)
    if inside or escaped:
        raise SettingsError("csi-vsphere.conf has a quote that is not closed.")
    return "".join(out[:kept])


def live_config(secret: dict[str, Any] | None) -> dict[tuple[str, str], dict[str, str]]:
    """The sections of the file in a cluster's Secret; empty when there is none that can be read."""
    data = ((secret or {}).get("data") or {}).get(CONFIG_KEY)
    if not data:
        return {}
    try:
        # The driver reads names in any case; who wrote the file by hand may have another than ours.
        return {
            (_SECTIONS.get(name.lower(), name), label): {key.lower(): value for key, value in values.items()}
            for name, label, values in parse_config(base64.b64decode(data).decode())
        }
    except (ValueError, UnicodeDecodeError):
        return {}


def cluster_id(wanted: str, secret: dict[str, Any] | None, generated: dict[str, Any] | None, system_uid: str) -> str:
    """The id under which vCenter files this cluster's volumes; '' when the driver made its own.

    Two clusters with one id take each other's volumes for lost ones, so it is unique by default, and once used it stays.
    """
    if generated is not None:
        if wanted:
            raise SettingsError(
                f"csi_cluster_id is {wanted!r}, but the driver has made an id of its own (ConfigMap {NAMESPACE}/{GENERATED_ID}); leave csi_cluster_id empty."
            )
        return ""
    current = live_config(secret).get(("Global", ""), {}).get("cluster-id", "")
    if current:
        if wanted and wanted != current:
            raise SettingsError(
                f"csi_cluster_id is {wanted!r}, but this cluster's volumes are filed under {current!r}; with another id CSI would lose track of them. "
                f"Set csi_cluster_id to {current!r} or leave it empty."
            )
        return current
    if not wanted and ((secret or {}).get("data") or {}).get(CONFIG_KEY) and not live_config(secret):
        raise SettingsError(
            f"The file {CONFIG_KEY} in Secret {NAMESPACE}/{SECRET} can't be read, so the id of this cluster's volumes is not known; "
            "set csi_cluster_id to the cluster-id in it. With another id CSI would lose track of the volumes."
        )
    result = wanted or system_uid
    if len(result) > 64:
        raise SettingsError(f"csi_cluster_id {result!r} has {len(result)} characters; at most 64 are allowed.")
    return result


# --- the manifest ----------------------------------------------------------------------------------------------------


def objects(documents: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifest's objects, patched, with the Secret that they need; the input is not changed."""
    unknown = sorted(set(settings) - _SETTINGS)
    if unknown:
        raise SettingsError(f"csi_objects has no setting {unknown[0]}; known are {', '.join(sorted(_SETTINGS))}.")
    found = vcenters.parse(settings.get("vcenters"), "csi_vcenters")
    version = tuple(int(part) for part in minor(settings.get("version") or "3.2").split("."))
    if settings.get("version"):
        vcenters.refuse_sha256(found, "csi_vcenters", "CSI", str(settings["version"]), (3, 0))
    for vcenter in found:
        if version >= (3, 2) and not _USER.match(vcenter.username):
            raise SettingsError(
                f"CSI since 3.2 does not accept the user {vcenter.username!r} of {vcenter.hostname}: it has to be user@domain or DOMAIN\\user, "
                "with letters, digits, dots and hyphens (underscores before the @ or behind the backslash). Make such an account in vCenter."
            )
    manifest = shape.Manifest("CSI", shape.plain(documents), EXPECTED)
    with shape.as_expected("CSI"):
        return _patched(manifest, found, settings)


def _patched(manifest: shape.Manifest, found: list[VCenter], settings: dict[str, Any]) -> list[dict[str, Any]]:
    manifest.drop("DaemonSet", WINDOWS_NODE)
    if manifest.get("Namespace", NAMESPACE) is None:
        manifest.documents.insert(0, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    namespace = next(document for document in manifest.documents if document["kind"] == "Namespace")
    # The node plugin mounts disks on the host: wherever a stricter default is set, it needs this.
    namespace["metadata"].setdefault("labels", {}).update({f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")})

    data = render_config(found, settings)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": NAMESPACE}, "type": "Opaque", "stringData": data}
    features = manifest.need("ConfigMap", FEATURES)
    # A release that has no switch left may leave them out.
    switches = features["data"] = features.get("data") or {}
    for key, value in (settings.get("feature_states") or {}).items():
        if key not in switches:
            raise SettingsError(f"csi_feature_states has the unknown feature {key}; this version has {', '.join(sorted(switches)) or 'none'}.")
        switches[key] = str(value).lower()

    controller = manifest.need("Deployment", CONTROLLER)
    node = manifest.need("DaemonSet", NODE)
    _check_mounts(controller)
    controller["spec"]["replicas"] = int(settings.get("replicas") or 1)
    _place(shape.dig(controller, "spec.template.spec", "CSI"))
    _images([controller, node], settings)
    _kubelet_root(node, str(settings.get("kubelet_root") or _KUBELET_ROOT).rstrip("/"))
    if settings.get("topology_categories"):
        _topology(controller)
    if settings.get("max_volumes"):
        _volumes(node, switches, settings)
    feature_text = [f"{key}={value}".encode() for key, value in sorted(switches.items())]
    read = [f"{key}={value}".encode() for key, value in sorted(data.items())]
    shape.annotate(controller, shape.config_hash(f"{NAMESPACE}/{CONTROLLER}", *read, *feature_text), "CSI")
    # Labels of the topology are read when a node's plugin registers: others need new pods. None leave running clusters' pods alone.
    topology = [f"topology-categories={name}".encode() for name in settings.get("topology_categories") or []]
    shape.annotate(node, shape.config_hash(f"{NAMESPACE}/{NODE}", *feature_text, *topology), "CSI")
    manifest.documents.append(secret)
    shape.refuse_leftovers(manifest.documents, "CSI")
    return manifest.documents


def _check_mounts(controller: dict[str, Any]) -> None:
    volumes = [
        volume["name"] for volume in shape.dig(controller, "spec.template.spec.volumes", "CSI") if (volume.get("secret") or {}).get("secretName") == SECRET
    ]
    readers = [
        name for name, container in shape.containers(controller, "CSI").items()
        if any(mount["name"] in volumes and mount.get("mountPath") == _FOLDER for mount in container.get("volumeMounts") or [])
    ]
    for name in ("vsphere-csi-controller", "vsphere-syncer"):
        if name not in readers:
            raise ManifestError(f"The CSI manifest is not built as expected: container {name} does not mount Secret {SECRET} at {_FOLDER}.")


def _place(pod: dict[str, Any]) -> None:
    """Up to 3.2 a nodeSelector asks for an empty label value, which k3s does not have; later ones ask that it exists."""
    selector = pod.get("nodeSelector") or {}
    roles = [key for key in selector if key.startswith("node-role.kubernetes.io/")]
    if roles:
        for key in roles:
            del selector[key]
        if not selector:
            del pod["nodeSelector"]
        affinity = pod.setdefault("affinity", {}).setdefault("nodeAffinity", {})
        terms = [{"matchExpressions": [{"key": f"node-role.kubernetes.io/{role}", "operator": "Exists"}]} for role in ("control-plane", "master")]
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    tolerations = pod.setdefault("tolerations", [])
    for key in ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd"):
        tolerations[:] = [entry for entry in tolerations if entry.get("key") != key]
        tolerations.append({"key": key, "operator": "Exists"})


def _images(workloads: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Replace images: by role (driver, syncer) or by the last part of their name (csi-attacher, livenessprobe, ...)."""
    wanted = dict(settings.get("images") or {})
    known: set[str] = set()
    for workload in workloads:
        for part, container in shape.containers(workload, "CSI").items():
            name = _PARTS.get(part) or container["image"].rpartition("/")[2].partition("@")[0].partition(":")[0]
            known.add(name)
            image = wanted.get(name) or re.sub(r"^k8s\.gcr\.io/", "registry.k8s.io/", container["image"])
            container["image"] = shape.with_registry(image, str(settings.get("image_registry") or ""))
    unknown = sorted(set(wanted) - known)
    if unknown:
        raise SettingsError(f"csi_images has {unknown[0]}, which this version does not use; it uses {', '.join(sorted(known))}.")


def _topology(controller: dict[str, Any]) -> None:
    """Without these arguments the driver is never told where a volume is wanted; the manifests hold them as comments."""
    container = shape.containers(controller, "CSI").get("csi-provisioner")
    if container is None:
        raise ManifestError(f"The CSI manifest is not built as expected: Deployment {CONTROLLER} has no container csi-provisioner.")
    arguments = container.setdefault("args", [])
    gates = [number for number, text in enumerate(arguments) if text.startswith("--feature-gates=")]
    if not gates:
        arguments.append(f"--feature-gates={_TOPOLOGY_GATE}")
    elif _TOPOLOGY_GATE not in arguments[gates[0]]:
        arguments[gates[0]] += f",{_TOPOLOGY_GATE}"
    if "--strict-topology" not in arguments:
        arguments.append("--strict-topology")


def _kubelet_root(node: dict[str, Any], root: str) -> None:
    if root == _KUBELET_ROOT:
        return

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [moved(item) for item in value]
        if isinstance(value, str):
            return re.sub(rf"(?<![\w/-]){re.escape(_KUBELET_ROOT)}(?=/|$)", root, value)
        return value

    node["spec"]["template"]["spec"] = moved(node["spec"]["template"]["spec"])


def _volumes(node: dict[str, Any], switches: dict[str, str], settings: dict[str, Any]) -> None:
    """How many volumes a node may have: a variable up to 3.7.0, a switch between two numbers from 3.7.1 on."""
    wanted = int(settings["max_volumes"])
    for entry in shape.containers(node, "CSI")["vsphere-csi-node"].get("env") or []:
        if entry.get("name") == _MAX_VOLUMES:
            entry["value"] = str(wanted)
            return
    if wanted == _MANY_VOLUMES and _DENSITY in switches:
        if str((settings.get("feature_states") or {}).get(_DENSITY, True)).lower() != "true":
            raise SettingsError(f"csi_max_volumes is {_MANY_VOLUMES}, which csi_feature_states takes back with {_DENSITY}: false; remove one of them.")
        switches[_DENSITY] = "true"
    elif wanted != _USUAL_VOLUMES:
        many = f" or {_MANY_VOLUMES}" if _DENSITY in switches else ""
        raise SettingsError(
            f"csi_max_volumes is {wanted}, but this version of CSI can't be told: {_MAX_VOLUMES} was removed in 3.7.1, and the driver allows "
            f"{_USUAL_VOLUMES}{many} volumes on each node. Set csi_max_volumes to {_USUAL_VOLUMES}{many}."
        )
