# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""StorageClasses: exactly one default, nothing that deletes data by surprise, and no change that the API does not allow."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.k3s.yamltext import word
from ansible_collections.cht.k3s.plugins.module_utils.manifest.csi import DRIVER
from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError

DEFAULT = "storageclass.kubernetes.io/is-default-class"
_OLD_DEFAULT = "storageclass.beta.kubernetes.io/is-default-class"
_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")
_KEYS = ("name", "default", "fstype", "reclaim_policy", "allow_expansion", "binding_mode", "storage_policy", "datastore_url", "parameters", "mount_options")
_FILE_SYSTEMS = ("ext4", "ext3", "xfs", "ntfs")
# The API server refuses to change these; see objects().
_IMMUTABLE = (("provisioner", ""), ("parameters", {}), ("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate"))


def objects(classes: list[dict[str, Any]], live: list[dict[str, Any]], demote: list[str]) -> list[dict[str, Any]]:
    """The classes to apply, and those of others that lose their mark as default."""
    wanted = [_one(entry, number) for number, entry in enumerate(classes)]
    names = [document["metadata"]["name"] for document in wanted]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"storageclass_classes has {name} twice.")
    defaults = [document["metadata"]["name"] for document in wanted if _is_default(document)]
    if len(defaults) != 1:
        shown = ", ".join(defaults) or "none"
        raise SettingsError(f"storageclass_classes has to have exactly one class with default: true; it has: {shown}.")
    known = {document["metadata"]["name"]: document for document in live}
    problems = [problem for document in wanted for problem in _changes(document, known.get(document["metadata"]["name"]))]
    if problems:
        raise SettingsError(" ".join(problems))
    others = []
    for name, document in known.items():
        if name in names or not _is_default(document):
            continue
        if name not in demote:
            raise SettingsError(
                f"StorageClass {name} is marked as default too, and the newest default would win. Add {name} to storageclass_demote to take its mark away."
            )
        others.append(_demoted(document))
    return others + wanted


def _one(entry: dict[str, Any], number: int) -> dict[str, Any]:
    where = f"storageclass_classes[{number}]"
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise SettingsError(f"{where} has the unknown key {unknown[0]}; known are {', '.join(_KEYS)}.")
    name = str(entry.get("name") or "")
    if not _NAME.match(name):
        raise SettingsError(f"{where}.name {name!r} is no name for a StorageClass: lower-case letters, digits, dots and hyphens.")
    policy, mode = str(entry.get("reclaim_policy") or "Retain"), str(entry.get("binding_mode") or "Immediate")
    for key, value, allowed in (("reclaim_policy", policy, ("Retain", "Delete")), ("binding_mode", mode, ("Immediate", "WaitForFirstConsumer"))):
        if value not in allowed:
            raise SettingsError(f"{where}.{key} {value!r} has to be {' or '.join(allowed)}.")
    fstype = str(entry.get("fstype") or "ext4")
    if fstype not in _FILE_SYSTEMS:
        raise SettingsError(f"{where}.fstype {fstype!r} has to be one of {', '.join(_FILE_SYSTEMS)}.")
    parameters = {"csi.storage.k8s.io/fstype": fstype}
    if entry.get("storage_policy"):
        parameters["storagepolicyname"] = str(entry["storage_policy"])
    if entry.get("datastore_url"):
        # CSI compares it letter by letter with what vCenter shows.
        if not re.fullmatch(r"ds:///\S+/", str(entry["datastore_url"])):
            raise SettingsError(
                f"{where}.datastore_url {entry['datastore_url']!r} has to look like ds:///vmfs/volumes/.../ with its final slash (vCenter shows it as the"
                " datastore's URL)."
            )
        parameters["datastoreurl"] = str(entry["datastore_url"])
    parameters.update({str(key): word(value) for key, value in (entry.get("parameters") or {}).items()})
    document: dict[str, Any] = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": {DEFAULT: "true" if entry.get("default") else "false"}},
        "provisioner": DRIVER,
        "parameters": parameters,
        "reclaimPolicy": policy,
        "volumeBindingMode": mode,
        "allowVolumeExpansion": bool(entry.get("allow_expansion", True)),
    }
    if entry.get("mount_options"):
        document["mountOptions"] = [str(option) for option in entry["mount_options"]]
    return document


def _changes(wanted: dict[str, Any], live: dict[str, Any] | None) -> list[str]:
    if live is None:
        return []
    different = [
        f"{key} is {live.get(key) or fallback!r}, wanted {wanted.get(key)!r}" for key, fallback in _IMMUTABLE if (live.get(key) or fallback) != wanted.get(key)
    ]
    if not different:
        return []
    name = wanted["metadata"]["name"]
    return [
        f"StorageClass {name} exists with other settings, which Kubernetes does not let anyone change: {'; '.join(different)}. "
        f"Give the new class another name, or delete StorageClass {name} first (volumes that exist keep working and keep their old settings)."
    ]


def _is_default(document: dict[str, Any]) -> bool:
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    return "true" in (annotations.get(DEFAULT), annotations.get(_OLD_DEFAULT))


def _demoted(document: dict[str, Any]) -> dict[str, Any]:
    marks = {key: "false" for key in (DEFAULT, _OLD_DEFAULT) if (document["metadata"].get("annotations") or {}).get(key) == "true"}
    # The API wants the immutable fields in every apply that it can't merge; they are given as they are.
    result = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": document["metadata"]["name"], "annotations": marks}}
    result["provisioner"] = document["provisioner"]
    return result


def csi_node_problems(csi_nodes: list[dict[str, Any]], nodes: list[dict[str, Any]], topologies: list[dict[str, Any]] | None) -> list[str]:
    """Why the storage driver is not usable on every node; empty when it is."""
    registered = {
        node["metadata"]["name"]: next((driver for driver in (node.get("spec") or {}).get("drivers") or [] if driver.get("name") == DRIVER), None)
        for node in csi_nodes
    }
    states = {entry["metadata"]["name"]: (entry.get("status") or {}) for entry in topologies or []}
    problems = []
    for node in nodes:
        name = node["metadata"]["name"]
        driver = registered.get(name)
        uuid = str((node.get("spec") or {}).get("providerID") or "").rpartition("/")[2].lower()
        if driver is None:
            problems.append(f"{name}: the driver is not registered with its kubelet (CSINode lists no {DRIVER})")
        elif str(driver.get("nodeID") or "").lower() != uuid:
            problems.append(f"{name}: the driver takes it for the VM {driver.get('nodeID')}, its providerID says {uuid}")
        elif topologies is not None:
            state = states.get(name)
            if state is None:
                problems.append(f"{name}: it has no CSINodeTopology")
            elif state.get("status") != "Success":
                problems.append(f"{name}: CSINodeTopology is {state.get('status') or 'empty'}: {state.get('errorMessage') or 'no reason given'}")
    return problems
