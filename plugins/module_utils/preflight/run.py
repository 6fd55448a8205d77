# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole preflight: reads vCenter once, then judges everything; no finding stops the others."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.preflight.account import (
    AccountView,
    account_findings,
    read_account,
)
from ansible_collections.cht.k3s.plugins.module_utils.preflight.findings import (
    Finding,
    blocking,
    mark_accepted,
)
from ansible_collections.cht.k3s.plugins.module_utils.preflight.hosts import HostRequirements, check_hosts
from ansible_collections.cht.k3s.plugins.module_utils.preflight.storage import StorageView, read_storage, storage_findings
from ansible_collections.cht.k3s.plugins.module_utils.preflight.vms import (
    Node,
    Requirements,
    candidates,
    check_names,
    check_uuids,
    check_vm,
    vcenter_version_findings,
)
from ansible_collections.cht.k3s.plugins.module_utils.versions import VersionError, conflicts, describe
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.lookup import missing_hint, search_vms
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import ConnectionOptions

Record = dict[str, Any]


@dataclass
class VcenterView:
    """What one session saw."""

    api_version: str = ""
    found: dict[str, list[Record]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    elsewhere: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # BIOS UUID of a node -> all VMs of the whole vCenter that have it
    alike: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    account: AccountView = field(default_factory=AccountView)
    storage: StorageView = field(default_factory=StorageView)
    # All that the account sees
    datacenters: Sequence[str] = ()
    error: VsphereError | None = None


def read_vcenter(
    options: ConnectionOptions, nodes: Sequence[Node], datacenters: Sequence[str], classes: Sequence[Mapping[str, Any]] = ()
) -> VcenterView:
    """One session for everything that is asked of vCenter. A failure is a finding like any other."""
    try:
        with VsphereSession(options) as session:
            result = search_vms(session, [node.vm for node in nodes], "name", datacenters)
            # Not those of another cluster that have the same name: the account needs no right on them.
            records = {record["vsphere_moid"]: record for node in nodes for record in candidates(node, result.found)}
            account = session.run(lambda: read_account(session, result.tree, list(records.values())))
            storage = session.run(lambda: read_storage(session, classes))
            # The CPI looks for the UUID in all of vCenter, whatever was selected here: a replica or a backup may stand elsewhere.
            uuids = sorted({record["vsphere_bios_uuid"] for record in records.values() if record["vsphere_bios_uuid"]})
            alike = search_vms(session, uuids, "bios_uuid", variables=("vsphere_moid",)).found if uuids else {}
            seen = sorted(result.tree.path(node.moid) for node in result.tree.nodes("Datacenter"))
            return VcenterView(session.content.about.apiVersion, result.found, result.seen, result.elsewhere, alike, account, storage, datacenters=seen)
    except VsphereError as exc:
        return VcenterView(error=exc)


def judge(
    nodes: Sequence[Node],
    view: VcenterView,
    where: str,
    requirements: Requirements,
    host_requirements: HostRequirements,
    verified: bool = True,
    classes: Sequence[Mapping[str, Any]] = (),
) -> list[Finding]:
    """All findings of the nodes that are to be checked. The others only serve to see duplicates."""
    mine = {node.name: candidates(node, view.found) for node in nodes}
    records = {name: found[0] for name, found in mine.items() if len(found) == 1}
    findings: list[Finding] = []
    if view.error is not None:
        findings.append(Finding("vcenter-connection", where, view.error.what, remedy=view.error.remedy))
    else:
        findings += vcenter_version_findings(view.api_version, where)
        if not verified:
            findings.append(Finding("vcenter-unverified", where, "its certificate is not verified: whoever is on the way can read the account's password"))
        findings += check_names(nodes, view.found, _similar(nodes, view), view.alike)
        findings += check_uuids(nodes, records)
        for node in nodes:
            if node.name in records:
                findings += check_vm(node, records[node.name], requirements)
        findings += account_findings(view.account)
        findings += storage_findings(classes, view.storage)
    checked = [node for node in nodes if node.checked]
    findings += check_hosts(checked, records, host_requirements)
    ignored = {node.name for node in nodes if not node.checked}
    return [finding for finding in findings if finding.object not in ignored]


def _similar(nodes: Sequence[Node], view: VcenterView) -> Mapping[str, str]:
    known = sorted(view.names)
    result = {}
    for node in nodes:
        if not view.found.get(node.vm):
            result[node.vm] = missing_hint(node.vm, known, view.elsewhere)
    return result


def version_findings(versions: Mapping[str, str | None]) -> list[Finding]:
    """Whether k3s, CPI and CSI belong together. What is not given follows from the table of versions."""
    try:
        chosen = describe(versions.get("k3s") or None, versions.get("cpi") or None, versions.get("csi") or None)
    except VersionError as exc:
        return [Finding("version-set", "cluster", str(exc))]
    return [Finding("version-set", part, problem) for part, problem in conflicts(chosen["k3s"], chosen["cpi"], chosen["csi"]).items()]


def summary(findings: Sequence[Finding], accept: Sequence[str]) -> dict[str, Any]:
    """The findings as data, worst first, in the order of the checks otherwise."""
    mark_accepted(findings, accept)
    ordered = sorted(findings, key=lambda finding: (finding.accepted, finding.severity))
    return {
        "findings": [finding.as_dict() for finding in ordered],
        "counts": {
            "error": len(blocking(findings)),
            "warning": sum(1 for finding in findings if finding.severity != "error" and not finding.accepted),
            "accepted": sum(1 for finding in findings if finding.accepted),
        },
    }
