# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vSphere cloud provider's manifest with our settings in it."""

from __future__ import annotations

import copy
from typing import Any

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment]

from ansible_collections.cht.k3s.plugins.module_utils.manifest import shape, vcenters
from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError, VCenter

NAMESPACE = "kube-system"
SECRET = "vsphere-cloud-secret"
CONFIG = "vsphere-cloud-config"
DAEMON_SET = "vsphere-cloud-controller-manager"
CONTAINER = "vsphere-cloud-controller-manager"
_FOLDER = "/etc/cloud"
_KEY = "vsphere.conf"

EXPECTED: dict[tuple[str, str], bool] = {
    ("ServiceAccount", "cloud-controller-manager"): True,
    ("Secret", SECRET): True,
    ("ConfigMap", CONFIG): True,
    ("RoleBinding", "servicecatalog.k8s.io:apiserver-authentication-reader"): True,
    ("ClusterRoleBinding", "system:cloud-controller-manager"): True,
    ("ClusterRole", "system:cloud-controller-manager"): True,
    ("DaemonSet", DAEMON_SET): True,
}

_NODE_KEYS = {
    "internal_network_subnet_cidr": "internalNetworkSubnetCidr",
    "external_network_subnet_cidr": "externalNetworkSubnetCidr",
    "internal_vm_network_name": "internalVmNetworkName",
    "external_vm_network_name": "externalVmNetworkName",
    "exclude_internal_network_subnet_cidr": "excludeInternalNetworkSubnetCidr",
    "exclude_external_network_subnet_cidr": "excludeExternalNetworkSubnetCidr",
}
_SETTINGS = {"version", "vcenters", "image", "image_registry", "labels", "nodes", "ip_family", "log_level"}
# The pods belong on the control plane; k3s labels it "true", older manifests select "" and find nothing there.
_CONTROL_PLANE = [
    {"matchExpressions": [{"key": f"node-role.kubernetes.io/{role}", "operator": "Exists"}]} for role in ("control-plane", "master")
]
_TOLERATED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd")


def secret_data(found: list[VCenter]) -> dict[str, str]:
    """Keys of the Secret as CPI looks for them; an IPv6 address can't be part of a key, so it has a form of its own."""
    data: dict[str, str] = {}
    for number, vcenter in enumerate(found, 1):
        if vcenter.is_ipv6:
            data[f"server_{number}"] = vcenter.hostname
            data[f"username_{number}"] = vcenter.username
            data[f"password_{number}"] = vcenter.password
        else:
            data[f"{vcenter.hostname}.username"] = vcenter.username
            data[f"{vcenter.hostname}.password"] = vcenter.password
    return data


def render_config(found: list[VCenter], settings: dict[str, Any]) -> dict[str, str]:
    """Data of the ConfigMap: vsphere.conf, and the certificate authorities it names."""
    result: dict[str, str] = {}
    entries: dict[str, Any] = {}
    for number, vcenter in enumerate(found, 1):
        entry: dict[str, Any] = {"server": vcenter.hostname, "port": vcenter.port, "insecureFlag": not vcenter.validate_certs}
        if vcenter.datacenters:
            entry["datacenters"] = list(vcenter.datacenters)
        if vcenter.ca and vcenter.validate_certs:
            name = f"vcenter-{number}-ca.pem"
            result[name] = vcenter.ca
            entry["caFile"] = f"{_FOLDER}/{name}"
        if vcenter.thumbprint and vcenter.is_ipv6:
            raise SettingsError(
                f"The vCenter {vcenter.hostname} has an IPv6 address and a thumbprint, which CPI does not find again for such an address; "
                "give its host name, or its authority (ca_path) in place of the thumbprint."
            )
        if vcenter.thumbprint:
            entry["thumbprint"] = vcenter.thumbprint
        entries[vcenter.hostname] = entry
    # insecureFlag stays out of global: a true there can't be taken back for one vCenter.
    document: dict[str, Any] = {"global": {"port": 443, "secretName": SECRET, "secretNamespace": NAMESPACE}, "vcenter": entries}
    family = settings.get("ip_family") or []
    if family:
        if not set(family) <= {"ipv4", "ipv6"}:
            raise SettingsError(f"cpi_ip_family {family} may hold ipv4 and ipv6 only.")
        document["global"]["ipFamily"] = [str(name) for name in family]
    # Plain strings: those of Ansible remember where they come from, and YAML does not know how to write them.
    labels = {str(key): str(value) for key, value in (settings.get("labels") or {}).items() if value}
    if labels:
        if set(labels) - {"region", "zone"}:
            raise SettingsError(f"cpi_labels has the unknown key {sorted(set(labels) - {'region', 'zone'})[0]}; known are region and zone.")
        document["labels"] = labels
    nodes = _nodes(settings.get("nodes") or {})
    if nodes:
        document["nodes"] = nodes
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=False)
    if yaml.safe_load(text) != document:
        raise SettingsError("vsphere.conf does not read back as it was written; please report this with the names of your vCenter and datacenters.")
    result[_KEY] = text
    return result


def _nodes(settings: dict[str, Any]) -> dict[str, str]:
    nodes = {}
    for key, value in settings.items():
        if key not in _NODE_KEYS:
            raise SettingsError(f"cpi_nodes has the unknown key {key}; known are {', '.join(_NODE_KEYS)}.")
        if not value:
            continue
        if not key.endswith("_cidr"):
            if not isinstance(value, str):
                raise SettingsError(f"cpi_nodes.{key} {value!r} has to be one name: CPI compares it as a whole with the name of each network.")
            nodes[_NODE_KEYS[key]] = str(value)
            continue
        # CPI takes what stands between commas as it is, blanks too.
        values = [part.strip() for text in (value if isinstance(value, list) else [value]) for part in str(text).split(",")]
        for text in values:
            if not vcenters.is_network(text):
                raise SettingsError(f"cpi_nodes.{key} {text!r} is not a network like 192.0.2.0/24.")
        nodes[_NODE_KEYS[key]] = ",".join(values)
    return nodes


def objects(documents: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifest's objects, patched; the input is not changed."""
    unknown = sorted(set(settings) - _SETTINGS)
    if unknown:
        raise SettingsError(f"cpi_objects has no setting {unknown[0]}; known are {', '.join(sorted(_SETTINGS))}.")
    found = vcenters.parse(settings.get("vcenters"), "cpi_vcenters")
    if settings.get("version"):
        vcenters.refuse_sha256(found, "cpi_vcenters", "CPI", str(settings["version"]), (1, 29))
    manifest = shape.Manifest("CPI", shape.plain(documents), EXPECTED)
    with shape.as_expected("CPI"):
        return _patched(manifest, found, settings)


def _patched(manifest: shape.Manifest, found: list[VCenter], settings: dict[str, Any]) -> list[dict[str, Any]]:
    secret = manifest.need("Secret", SECRET)
    secret.pop("data", None)
    secret["stringData"] = secret_data(found)
    config = manifest.need("ConfigMap", CONFIG)
    config["data"] = render_config(found, settings)

    workload = manifest.need("DaemonSet", DAEMON_SET)
    pod = shape.dig(workload, "spec.template.spec", "CPI")
    container = shape.containers(workload, "CPI").get(CONTAINER)
    if container is None:
        raise shape.ManifestError(f"The CPI manifest is not built as expected: DaemonSet {DAEMON_SET} has no container {CONTAINER}.")
    _check_mounts(pod, container)
    container["image"] = shape.with_registry(str(settings.get("image") or container["image"]), str(settings.get("image_registry") or ""))
    if settings.get("log_level") is not None:
        arguments = container["args"]
        place = next((number for number, text in enumerate(arguments) if str(text).startswith("--v=")), len(arguments))
        arguments[place:place + 1] = [f"--v={settings['log_level']}"]
    _place(pod)
    read = [f"{key}={value}".encode() for part in (secret["stringData"], config["data"]) for key, value in sorted(part.items())]
    shape.annotate(workload, shape.config_hash(f"{NAMESPACE}/{DAEMON_SET}", *read), "CPI")
    shape.refuse_leftovers(manifest.documents, "CPI")
    return manifest.documents


def _check_mounts(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Our files only count if the program reads them from the place we think."""
    wanted = f"--cloud-config={_FOLDER}/{_KEY}"
    if wanted not in (container.get("args") or []):
        raise shape.ManifestError(f"The CPI manifest is not built as expected: its container has no argument {wanted}.")
    volumes = [volume["name"] for volume in pod.get("volumes") or [] if (volume.get("configMap") or {}).get("name") == CONFIG]
    mounts = [mount["name"] for mount in container.get("volumeMounts") or [] if mount.get("mountPath") == _FOLDER]
    if not volumes or mounts != volumes:
        raise shape.ManifestError(f"The CPI manifest is not built as expected: ConfigMap {CONFIG} is not mounted at {_FOLDER}.")


def _place(pod: dict[str, Any]) -> None:
    selector = pod.get("nodeSelector") or {}
    roles = [key for key in selector if key.startswith("node-role.kubernetes.io/")]
    if roles:
        for key in roles:
            del selector[key]
        if not selector:
            del pod["nodeSelector"]
        affinity = pod.setdefault("affinity", {}).setdefault("nodeAffinity", {})
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": copy.deepcopy(_CONTROL_PLANE)}
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    if not (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms"):
        raise shape.ManifestError(f"The CPI manifest is not built as expected: DaemonSet {DAEMON_SET} is not bound to the control plane; it may be cut off.")
    tolerations = pod.setdefault("tolerations", [])
    for key in _TOLERATED:
        # Both effects: k3s' documentation taints servers with NoExecute.
        if not any(entry.get("key") == key and entry.get("operator") == "Exists" and not entry.get("effect") for entry in tolerations):
            tolerations[:] = [entry for entry in tolerations if entry.get("key") != key]
            tolerations.append({"key": key, "operator": "Exists"})
