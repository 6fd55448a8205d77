# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of VMs as vCenter shows them. Pure: records in, findings out."""
from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import node_name
from ansible_collections.cht.k3s.plugins.module_utils.preflight import cpi_address
from ansible_collections.cht.k3s.plugins.module_utils.preflight.findings import ERROR, WARNING, Finding

Record = Mapping[str, Any]

# k3s' own minimum; below it a node does not work at all, whatever it is meant to carry.
FLOOR = {"control_plane": {"cpu": 2, "memory_mb": 2048}, "agent": {"cpu": 1, "memory_mb": 512}}
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
# Reported sizes are a little below what was asked for (firmware, rounding).
_TOLERANCE = 0.98


@dataclass
class Node:
    """One host of the inventory and what is known about it."""

    name: str
    vm: str
    role: str = "agent"
    address: str = ""
    checked: bool = True
    host: Mapping[str, Any] = field(default_factory=dict)
    host_error: str = ""
    moid: str = ""
    # The vCenter that the inventory read it from, if that is not the one that is asked
    vcenter: str = ""
    kubelet_args: Sequence[str] = ()
    # Which addresses the CPI takes
    cpi_nodes: Mapping[str, Any] = field(default_factory=dict)
    # The address families that it looks for; empty where that is not known
    cpi_ip_family: Sequence[str] = ()
    # What the Node is called, if not as the host
    node_name: str = ""
    # Whether the role node opens k3s' ports in the machine's firewall
    opens_ports: bool = False
    # Address of another node -> why no UDP came back from it on the port of the pod network, '' if it did
    udp: Mapping[str, str] = field(default_factory=dict)

    @property
    def registered(self) -> str:
        """The Node's name."""
        return node_name(self.node_name or self.name)


@dataclass(frozen=True)
class Requirements:
    """What the VMs must have."""

    hardware_version: int = 15
    minimum: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def candidates(node: Node, found: Mapping[str, Sequence[Record]]) -> Sequence[Record]:
    """The VMs that a host may stand for. Where several have its name, as with two clusters, the one that the inventory read is meant."""
    records = found.get(node.vm, ())
    own = [record for record in records if record["vsphere_moid"] == node.moid]
    if node.vcenter:
        # The same vCenter may have two names; a VM of another one is none of these.
        return own
    return own if len(records) > 1 and own else records


def check_names(
    nodes: Sequence[Node], found: Mapping[str, Sequence[Record]], similar: Mapping[str, str], alike: Mapping[str, Sequence[Record]] | None = None
) -> list[Finding]:
    """Every host has exactly one VM, and no VM is two hosts. alike: BIOS UUID -> the VMs that have it, wherever they stand."""
    findings = []
    # Two nodes of one UUID are a finding of their own.
    others = {records[0]["vsphere_moid"] for node in nodes if len(records := candidates(node, found)) == 1}
    by_vm: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        records = candidates(node, found)
        if not records and node.vcenter:
            findings.append(Finding("vm-other-vcenter", node.name, f"'{node.vm}' is in vCenter {node.vcenter}: nothing of the VM was checked"))
        elif not records:
            findings.append(Finding("vm-missing", node.name, f"vCenter has no VM '{node.vm}'{similar.get(node.vm, '')}"))
        elif len(records) > 1:
            paths = " and ".join(sorted(record["vsphere_path"] for record in records))
            findings.append(Finding("vm-ambiguous", node.name, f"'{node.vm}' stands for {paths}"))
        else:
            by_vm[records[0]["vsphere_moid"]].append(node.name)
            findings += _copies(node, records[0], [*found.get(node.vm, ()), *(alike or {}).get(records[0]["vsphere_bios_uuid"], ())], others)
        if not _NODE_NAME.match(node.registered) or len(node.registered) > 63:
            findings.append(Finding("vm-node-name", node.name, f"Kubernetes does not accept '{node.registered}' as a node's name"))
        same = [other.name for other in nodes if other.registered == node.registered and other is not node]
        if same:
            findings.append(Finding("vm-node-name", node.name, f"the Node would be called '{node.registered}' like that of {', '.join(same)}"))
    for names in by_vm.values():
        if len(names) > 1:
            findings.extend(
                Finding("vm-duplicate", name, f"the hosts {', '.join(names)} are one and the same VM") for name in names
            )
    return findings


def _copies(node: Node, own: Record, alike: Sequence[Record], nodes: set[str]) -> list[Finding]:
    """A copy with the same BIOS UUID, as a replica or a restored backup, is no other cluster's VM: the CPI could take it for the node."""
    uuid = own["vsphere_bios_uuid"]
    copies = {
        record["vsphere_path"] for record in alike
        if uuid and record["vsphere_bios_uuid"] == uuid and record["vsphere_moid"] not in nodes
    }
    if not copies:
        return []
    return [Finding("vm-bios-uuid-duplicate", node.name, f"the BIOS UUID {uuid} belongs to {' and '.join(sorted({own['vsphere_path'], *copies}))}")]


def check_uuids(nodes: Sequence[Node], records: Mapping[str, Record]) -> list[Finding]:
    """Clones can share a BIOS UUID; to the CPI and CSI they are one machine then."""
    by_uuid: dict[str, list[str]] = defaultdict(list)
    findings = []
    for node in nodes:
        record = records.get(node.name)
        if record is None:
            continue
        if not record["vsphere_bios_uuid"]:
            findings.append(Finding("vm-bios-uuid", node.name, "vCenter shows no BIOS UUID"))
        else:
            by_uuid[record["vsphere_bios_uuid"]].append(node.name)
    for uuid, names in by_uuid.items():
        if len({records[name]["vsphere_moid"] for name in names}) > 1:
            findings.extend(
                Finding("vm-bios-uuid-duplicate", name, f"the BIOS UUID {uuid} belongs to {' and '.join(names)}")
                for name in names
            )
    return findings


def check_vm(node: Node, record: Record, requirements: Requirements) -> list[Finding]:
    """Everything that can be wrong with one VM."""
    findings = []

    def add(check: str, message: str, **more: str) -> None:
        findings.append(Finding(check, node.name, message, **more))

    if record["vsphere_template"]:
        add("vm-template", f"{record['vsphere_path']} is a template")
        return findings
    on = record["vsphere_power_state"] == "on"
    if not on:
        lost = record.get("vsphere_connection_state", "connected") not in ("connected", "unknown")
        if lost:
            add("vm-connection", f"vCenter does not reach the VM ({record['vsphere_connection_state']}): what it shows of it is what it saw last")
        else:
            add("vm-power", f"the VM is {record['vsphere_power_state']}")
    if record["vsphere_hardware_version"] < requirements.hardware_version:
        add(
            "vm-hardware-version",
            f"hardware version {record['vsphere_hardware_version']}, at least {requirements.hardware_version} needed",
        )
    if not record["vsphere_disk_enable_uuid"]:
        add("vm-disk-uuid", "disk.EnableUUID is not set: the CSI driver will not find its volumes")
    elif record["vsphere_restart_required"]:
        add(
            "vm-disk-uuid",
            "disk.EnableUUID was set while the VM ran, and it was not powered off and on since: the CSI driver will not find its volumes",
            remedy="Power the VM off and on (vm_prepare_power_cycle: graceful); a reboot of the guest is not enough.",
        )
    if not record["vsphere_pvscsi"]:
        add("vm-pvscsi", "there is no paravirtual SCSI controller")
    if record["vsphere_snapshot_count"]:
        count = f"the VM has {record['vsphere_snapshot_count']} snapshots"
        if node.role == "control_plane":
            add(
                "vm-snapshots",
                f"{count}, and it is a server: put back to one, its etcd would be older than the cluster knows and would not start again",
                remedy="Delete the VM's snapshots, and never put a server back to one: playbooks/backup.yml and restore.yml are for that.",
            )
        else:
            add("vm-snapshots", count)
    if on:
        findings.extend(_check_guest(node, record))
    findings.extend(_check_size(node, record, requirements))
    return findings


def _check_guest(node: Node, record: Record) -> list[Finding]:
    if record["vsphere_tools_status"] != "running":
        status = str(record["vsphere_tools_status"]).replace("_", " ")
        return [Finding("vm-tools", node.name, f"VMware Tools are {status}: no name and address of the guest known")]
    findings = []
    guest = record["vsphere_guest_hostname"]
    if guest != node.registered:
        shown = f"is '{guest}'" if guest else "is not reported"
        findings.append(
            Finding("vm-guest-name", node.name, f"the guest's host name {shown}; the CPI compares it letter by letter with the Node's name '{node.registered}'")
        )
    if not record["vsphere_ips"]:
        findings.append(Finding("vm-ip", node.name, "the guest reports no address"))
    elif _is_address(node.address) and not _same_address(node.address, record["vsphere_ips"]):
        findings.append(
            Finding(
                "vm-ip",
                node.name,
                f"{node.address} of the inventory is not among the guest's addresses {', '.join(record['vsphere_ips'])}",
            )
        )
    elif _is_address(node.address):
        findings.extend(_check_choice(node, record))
    return findings


def _check_choice(node: Node, record: Record) -> list[Finding]:
    """What the CPI would make the node's address."""
    own = ipaddress.ip_address(node.address)
    networks = cpi_address.outside(own, node.cpi_nodes)
    if networks:
        return [Finding("vm-ip", node.name, f"{own} is not in cpi_nodes.internal_network_subnet_cidr {networks}")]
    message, later = cpi_address.problem(own, cpi_address.reported(record), node.cpi_nodes, node.cpi_ip_family)
    return [Finding("vm-cpi-address", node.name, message, severity=WARNING if later else ERROR)] if message else []


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _same_address(address: str, reported: Iterable[str]) -> bool:
    wanted = ipaddress.ip_address(address)
    return any(_is_address(text) and ipaddress.ip_address(text) == wanted for text in reported)


def _check_size(node: Node, record: Record, requirements: Requirements) -> list[Finding]:
    findings = []
    floor = FLOOR[node.role]
    minimum = requirements.minimum.get(node.role, {})
    sizes = (
        ("cpu", record["vsphere_cpu_count"], "vCPU"),
        ("memory_mb", record["vsphere_memory_mb"], "MB memory"),
        ("disk_gb", max((disk["size_gb"] for disk in record["vsphere_disks"]), default=0), "GB disk"),
    )
    for key, found, unit in sizes:
        if found < floor.get(key, 0) * _TOLERANCE:
            findings.append(
                Finding("vm-size-floor", node.name, f"{found} {unit}; k3s needs at least {floor[key]}")
            )
        elif found < int(minimum.get(key, 0)) * _TOLERANCE:
            findings.append(
                Finding(
                    "vm-size",
                    node.name,
                    f"{found} {unit}; {minimum[key]} are the minimum for {node.role}",
                    severity=WARNING,
                )
            )
    return findings


def vcenter_version_findings(api_version: str, where: str) -> list[Finding]:
    """The CPI's and CSI's minimum."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", api_version)[:3])
    if numbers and numbers < (6, 7, 3):
        return [Finding("vcenter-version", where, f"API version {api_version}; 6.7.3 is the oldest that works")]
    return []
