# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the account may do and of what the hosts of the VMs share."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.preflight.findings import ERROR, WARNING, Finding
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.privileges import DATASTORE_ROLE, Missing, Place, missing_privileges
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.properties import read_objects
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import Tree, plain_name

Record = Mapping[str, Any]


@dataclass
class AccountView:
    """What was read about account and hosts."""

    user: str = ""
    # ESXi host -> the datastores it reaches
    mounts: dict[str, set[str]] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    # How many datastores all hosts reach
    shared: int = 0


def read_account(session: VsphereSession, tree: Tree, records: Sequence[Record]) -> AccountView:
    """Read the hosts' datastores and ask for the privileges: six requests, however many VMs."""
    hosts = _hosts(tree, records)
    mounted = {
        item.moid: {reference._moId for reference in item.values.get("datastore") or ()}
        for item in read_objects(session, "HostSystem", hosts, ("datastore",))
    }
    shared = set.intersection(*mounted.values()) if mounted else set()
    names = {
        item.moid: item.values.get("name", item.moid)
        for item in read_objects(session, "Datastore", sorted(set().union(*mounted.values())), ("name",))
    }
    return AccountView(
        user=session.content.sessionManager.currentSession.userName,
        mounts={hosts[moid]: {names[store] for store in stores} for moid, stores in mounted.items()},
        missing=missing_privileges(session, _places(session, tree, records, hosts, {moid: names[moid] for moid in shared})),
        shared=len(shared),
    )


def _hosts(tree: Tree, records: Sequence[Record]) -> dict[str, str]:
    """Every host on which the VMs may run: those of their clusters, since a VM can move."""
    running = {record["vsphere_host"] for record in records if record["vsphere_host"]}
    nodes = tree.nodes("HostSystem")
    parents = {node.parent for node in nodes if plain_name(node.name) in running}
    return {node.moid: plain_name(node.name) for node in nodes if node.parent in parents}


def _places(
    session: VsphereSession,
    tree: Tree,
    records: Sequence[Record],
    hosts: Mapping[str, str],
    shared: Mapping[str, str],
) -> dict[str, list[Place]]:
    root = session.content.rootFolder
    above = {node.moid: node for moid in hosts for node in tree.ancestors(moid)}
    return {
        "root": [Place("Folder", root._moId, "the root of vCenter")],
        "datastores": [Place("Datastore", moid, f"datastore {name}") for moid, name in shared.items()],
        "vms": [Place("VirtualMachine", record["vsphere_moid"], record["vsphere_path"]) for record in records],
        "readable": [
            *(Place("HostSystem", moid, f"host {name}") for moid, name in hosts.items()),
            *(Place(node.kind, node.moid, tree.path(node.moid)) for node in above.values()),
        ],
    }


def account_findings(view: AccountView) -> list[Finding]:
    """Each missing privilege with its object, and hosts that share no datastore."""
    closed = [item for item in view.missing if item.role == DATASTORE_ROLE]
    # One datastore is enough to keep volumes on; others, such as one for ISO images, may be closed to the account on purpose.
    severity = WARNING if len(closed) < view.shared else ERROR
    findings = [
        Finding("privilege", item.path, f"'{view.user}' lacks {item.privilege} (role {item.role}): CSI cannot place volumes there", severity=severity)
        if item.role == DATASTORE_ROLE
        else Finding("privilege", item.path, f"'{view.user}' lacks {item.privilege} (role {item.role})")
        for item in view.missing
    ]
    if len(view.mounts) > 1 and not set.intersection(*view.mounts.values()):
        listed = "; ".join(f"{host}: {', '.join(sorted(stores)) or 'none'}" for host, stores in sorted(view.mounts.items()))
        findings.append(
            Finding("vm-datastores", "cluster", f"no datastore is reached by all hosts of the VMs ({listed})")
        )
    return findings
