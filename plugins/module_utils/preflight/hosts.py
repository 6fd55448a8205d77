# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the machines behind the VMs, made from what host_facts saw on them. Pure."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.k3s.cgroups import accepts_v1, refused
from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import node_name
from ansible_collections.cht.k3s.plugins.module_utils.preflight.findings import ERROR, WARNING, Finding
from ansible_collections.cht.k3s.plugins.module_utils.preflight.vms import Node
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.uuids import from_product_serial, same_machine

# Distribution -> oldest release that still gets fixes for containers and cgroups.
SYSTEMS = {
    "ubuntu": (20, 4),
    "debian": (11,),
    "rhel": (8,),
    "rocky": (8,),
    "almalinux": (8,),
    "ol": (8,),
    "centos": (9,),
    "sles": (15,),
    "opensuse-leap": (15,),
    "sle-micro": (5,),
}
OLDEST_KERNEL = (4, 18)
ARCHITECTURES = ("x86_64", "aarch64")


@dataclass(frozen=True)
class HostRequirements:
    """What the machines must have."""

    free_disk_gb: float = 10.0
    clock_offset: float = 2.0
    k3s: str = ""


def numbers(text: str) -> tuple[int, ...]:
    """'5.15.0-91' -> (5, 15, 0)."""
    match = re.match(r"\d+(\.\d+)*", text or "")
    return tuple(int(part) for part in match.group(0).split(".")) if match else ()


def check_host(
    node: Node, record: Mapping[str, Any] | None, requirements: HostRequirements, opening: Mapping[str, str] | None = None
) -> list[Finding]:
    """Everything that can be wrong with one machine. `opening` are the nodes whose firewall the role node is about to open, and which one it is."""
    if node.host_error or not node.host:
        reason = node.host_error or "it gave no facts"
        return [Finding("host-unreachable", node.name, f"the host cannot be examined: {reason}")]
    return [
        *_identity(node, record),
        *_system(node),
        *_cgroups(node, requirements),
        *_disk(node, requirements),
        *_needs(node),
        *_clock(node, requirements),
        *_foreign(node),
        *_ports(node),
        *_reach(node, opening or {}),
    ]


def _identity(node: Node, record: Mapping[str, Any] | None) -> list[Finding]:
    host = node.host
    findings = []
    if node_name(host["hostname"]) != node.registered:
        findings.append(Finding("host-name", node.name, f"the machine calls itself '{host['hostname']}', and its Node is to be '{node.registered}'"))
    if record is None or not record["vsphere_bios_uuid"]:
        return findings
    bios = record["vsphere_bios_uuid"]
    if not same_machine(bios, host["product_serial"], host["product_uuid"]):
        shown = from_product_serial(host["product_serial"]) or host["product_uuid"] or "nothing"
        findings.append(
            Finding("host-uuid", node.name, f"the machine's firmware shows {shown}, vCenter's BIOS UUID is {bios}")
        )
    return findings


def _system(node: Node) -> list[Finding]:
    host = node.host
    findings = []
    oldest = SYSTEMS.get(host["os_id"])
    if oldest is None:
        findings.append(Finding("host-os", node.name, f"'{host['os_id']}' is not among the tested systems"))
    elif numbers(host["os_version"]) < oldest:
        wanted = ".".join(map(str, oldest))
        findings.append(
            Finding("host-os", node.name, f"{host['os_id']} {host['os_version']}; {wanted} or newer is wanted")
        )
    if host["architecture"] not in ARCHITECTURES:
        findings.append(Finding("host-architecture", node.name, f"the machine is {host['architecture']}"))
    if numbers(host["kernel"])[:2] < OLDEST_KERNEL:
        wanted = ".".join(map(str, OLDEST_KERNEL))
        findings.append(Finding("host-kernel", node.name, f"kernel {host['kernel']}; {wanted} or newer is needed"))
    if host["swap_mb"]:
        findings.append(Finding("host-swap", node.name, f"{host['swap_mb']} MB of swap are in use by the system"))
    return findings


def _cgroups(node: Node, requirements: HostRequirements) -> list[Finding]:
    host = node.host
    if host["cgroup_version"] != 1 or not refused(requirements.k3s) or host["cgroup_v1_configured"] or accepts_v1(node.kubelet_args):
        return []
    return [Finding("host-cgroup", node.name, f"the machine has version 1 of control groups; k3s {requirements.k3s} does not start with it")]


def _disk(node: Node, requirements: HostRequirements) -> list[Finding]:
    findings = []
    for disk in node.host["disks"]:
        free = disk["free_gb"]
        if free < requirements.free_disk_gb:
            # An installed node may run near the limit; only a new one must not start there.
            severity = WARNING if node.host["k3s_installed"] else ERROR
            findings.append(
                Finding(
                    "host-disk",
                    node.name,
                    f"{free} GB free at {disk['path']}; {requirements.free_disk_gb:g} are needed",
                    severity=severity,
                )
            )
    return findings


def _needs(node: Node) -> list[Finding]:
    """What k3s would end for at its start."""
    findings = [
        Finding("host-noexec", node.name, f"the file system at {path} is mounted noexec: k3s cannot run its programs there")
        for path in node.host.get("noexec") or ()
    ]
    if not node.host.get("default_route", True):
        findings.append(Finding("host-route", node.name, "the machine has no default route, without which k3s and flannel do not start"))
    return findings


def _clock(node: Node, requirements: HostRequirements) -> list[Finding]:
    """The offset is at least what is left when the whole duration of the request is given to the network."""
    offset = node.host.get("clock_offset")
    if offset is None or abs(offset) <= requirements.clock_offset:
        return []
    side = "ahead of" if offset > 0 else "behind"
    return [Finding("host-clock", node.name, f"the clock is at least {abs(offset):.1f} s {side} this controller's")]


def _foreign(node: Node) -> list[Finding]:
    signs = node.host["k3s_foreign"]
    return [Finding("host-foreign", node.name, f"k3s was installed by other means: {'; '.join(signs)}")] if signs else []


def _ports(node: Node) -> list[Finding]:
    if node.host["k3s_installed"]:
        return []
    return [
        Finding("host-port", node.name, f"port {port} is in use")
        for port in node.host["ports_in_use"]
    ]


def _reach(node: Node, opening: Mapping[str, str]) -> list[Finding]:
    findings = []
    for result in node.host["reach"]:
        if result["ok"]:
            continue
        check = "host-dns" if result["error"].startswith("name") else "host-connect"
        purpose = result["purpose"]
        shown = f"{purpose} ({result['target']})" if purpose else result["target"]
        # A node that has k3s already downloads nothing until the next upgrade.
        severity = WARNING if purpose == "download" and node.host["k3s_installed"] else ERROR
        message = f"{shown} cannot be reached: {result['error']}"
        if check == "host-connect" and purpose in opening:
            findings.append(
                Finding(check, node.name, f"{message}; {opening[purpose]} is active there, and the role node opens k3s' ports in it", severity=WARNING)
            )
            continue
        findings.append(Finding(check, node.name, message, severity=severity))
    return findings


def _udp(node: Node, names: Mapping[str, str], opening: Mapping[str, str]) -> list[Finding]:
    """A warning, as what comes back may be dropped where what goes there is not; the pod network sends both ways by itself."""
    findings = []
    for address, error in node.udp.items():
        if not error:
            continue
        name = names.get(address, address)
        more = f"; {opening[name]} is active there, and the role node opens k3s' ports in it" if name in opening else ""
        findings.append(Finding("host-udp", node.name, f"{name} does not answer on the UDP port of the pod network: {error}{more}"))
    return findings


def check_hosts(
    nodes: Sequence[Node], records: Mapping[str, Mapping[str, Any]], requirements: HostRequirements
) -> list[Finding]:
    """All machines."""
    names = {node.address or node.name: node.name for node in nodes}
    opening = {node.name: str(node.host["firewall"]) for node in nodes if node.opens_ports and node.host.get("firewall")}
    return [
        finding for node in nodes
        for finding in [*check_host(node, records.get(node.name), requirements, opening), *_udp(node, names, opening)]
    ]
