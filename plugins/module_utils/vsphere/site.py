# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a vCenter matters to new VMs, read in one session."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.properties import read_below, read_objects
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.provision import Site
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import plain_name
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.vms import VmReader

VARIABLES = ("vsphere_name", "vsphere_path", "vsphere_template", "vsphere_power_state", "vsphere_ips")
# A datastore cluster can stand for a datastore, a distributed port group is a network.
_PLACES = {"Datastore": ("name",), "StoragePod": ("name",), "Network": ("name",)}


def _folder(datacenter: str, folder: str, option: str) -> str:
    """The whole path of a VM folder, given whole or from the datacenter's VM folder on."""
    root = f"{datacenter}/vm"
    path = folder.rstrip("/") if folder.startswith("/") else f"{root}/{folder.rstrip('/')}"
    if not path.startswith(f"{root}/") or "//" in path:
        raise VsphereError(
            "options",
            f"{option} '{folder}' is no folder below {root}.",
            f"Give it whole ({root}/k3s), or from there on (k3s).",
        )
    return path


def read_site(session: VsphereSession, datacenter: str, cluster: str, folder: str, staging: str) -> Site:
    """Four requests, however many VMs there are."""
    return session.run(lambda: _read(session, datacenter, cluster, folder, staging))


def _read(session: VsphereSession, datacenter: str, cluster: str, folder: str, staging: str) -> Site:
    # Of all datacenters: the modules that make VMs look for a name everywhere, and would change one found elsewhere.
    result = VmReader(session).read(variables=VARIABLES)
    tree = result.tree
    center = tree.one(("Datacenter",), datacenter, "datacenter")
    home = tree.one(("ClusterComputeResource",), cluster, "cluster")
    values: Mapping[str, Any] = read_objects(
        session, "ClusterComputeResource", [home.moid], ("datastore", "network", "configurationEx")
    )[0].values
    reached = {reference._moId for kind in ("datastore", "network") for reference in values.get(kind) or ()}
    names: dict[str, list[str]] = {kind: [] for kind in _PLACES}
    for item in read_below(session, session.reference("Datacenter", center.moid), _PLACES):
        if item.kind == "StoragePod" or item.moid in reached:
            kind = item.kind if item.kind in ("Datastore", "StoragePod") else "Network"
            names[kind].append(plain_name(item.values.get("name", "")))
    by_moid = {record["vsphere_moid"]: record["vsphere_name"] for record in result.records}
    rules = getattr(values.get("configurationEx"), "rule", None) or ()
    whole = _folder(tree.path(center.moid), folder, "vm_folder")
    return Site(
        vms=result.records,
        folder=whole,
        staging=_folder(tree.path(center.moid), staging, "vm_staging_folder") if staging else f"{whole}/being-made",
        datastores=names["Datastore"] + names["StoragePod"],
        networks=names["Network"],
        rules={rule.name: {by_moid.get(vm._moId, "") for vm in getattr(rule, "vm", None) or ()} for rule in rules},
    )
