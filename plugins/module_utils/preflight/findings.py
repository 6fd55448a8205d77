# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings: every check's id, how bad it is, what to do about it and which playbook does it."""
from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.k3s.cgroups import REMEDY

ERROR = "error"
WARNING = "warning"

PREPARE = "cht.k3s.prepare_vms"
ROLES = "cht.k3s.vcenter_roles"


@dataclass(frozen=True)
class Check:
    """What is always true of a finding with this id."""

    severity: str
    remedy: str
    playbook: str = ""


# The ids are an interface: people name them in preflight_accept, so they are never renamed.
CHECKS: dict[str, Check] = {
    "vcenter-connection": Check(ERROR, "Correct the connection variables of the role vsphere."),
    "vcenter-unverified": Check(
        WARNING, "Give vsphere_ca_path or vsphere_thumbprint, with which the certificate is verified whatever VMWARE_VALIDATE_CERTS says."
    ),
    "vcenter-version": Check(ERROR, "Upgrade vCenter to 6.7 U3 or newer."),
    "vm-missing": Check(
        ERROR,
        "Create the VM, correct its name in the inventory, list its datacenter (vsphere_datacenters), or give the account "
        "read right on it.",
    ),
    "vm-other-vcenter": Check(WARNING, "Run the preflight once more for these hosts, with --limit and vsphere_hostname of their vCenter."),
    "vm-ambiguous": Check(
        ERROR, "Read the inventory anew from vCenter (its vsphere_moid tells them apart), limit vsphere_datacenters, or rename one of the VMs."
    ),
    "vm-template": Check(ERROR, "Name the VM made from the template, or convert the template to a VM."),
    "vm-power": Check(ERROR, "Power the VM on.", PREPARE),
    "vm-connection": Check(ERROR, "Bring the VM's ESXi host back into vCenter, or its datastore, until vCenter shows it as connected."),
    "vm-hardware-version": Check(ERROR, "Upgrade the VM's compatibility while it is powered off.", PREPARE),
    "vm-disk-uuid": Check(ERROR, "Set disk.EnableUUID to TRUE, then power the VM off and on.", PREPARE),
    "vm-pvscsi": Check(ERROR, "Add a paravirtual SCSI controller.", PREPARE),
    "vm-tools": Check(ERROR, "Install open-vm-tools in the guest and start vmtoolsd."),
    "vm-guest-name": Check(ERROR, "Give the guest the Node's name (hostnamectl), or set k3s_node_name to the guest's, and wait until Tools report it."),
    "vm-node-name": Check(ERROR, "Rename the host, or set k3s_node_name: letters, digits, '-' and '.' only, and each name once."),
    "vm-bios-uuid": Check(ERROR, "Power the VM off and give it a BIOS UUID of its own (uuid.bios)."),
    "vm-bios-uuid-duplicate": Check(ERROR, "Power one of the VMs off and give it a BIOS UUID of its own (uuid.bios)."),
    "vm-duplicate": Check(ERROR, "Give every host of the inventory a VM of its own (vsphere_name)."),
    "vm-ip": Check(ERROR, "Correct ansible_host or the guest's address; Tools must report it."),
    "vm-cpi-address": Check(
        ERROR,
        "Set cpi_nodes.internal_network_subnet_cidr to the nodes' network (a VIP outside of it, or in exclude_internal_network_subnet_cidr), or"
        " k3s_node_ip to that address.",
    ),
    "vm-snapshots": Check(WARNING, "Consolidate: volumes cannot be expanded or detached cleanly while a VM has snapshots."),
    "vm-size": Check(WARNING, "Give the VM what the guide asks for, or lower the minimum (preflight_minimum)."),
    "vm-size-floor": Check(ERROR, "Give the VM at least what k3s itself needs."),
    "vm-datastores": Check(ERROR, "Mount one datastore on all hosts: a volume must be able to follow its pod anywhere."),
    "storage-datastore": Check(
        ERROR, "Give the datastore's URL letter by letter as vCenter shows it (storageclass_classes), or the account read right on the datastore."
    ),
    "storage-policy": Check(ERROR, "Correct the policy's name (storageclass_classes), make the policy in vCenter, or let the account view it.", ROLES),
    "privilege": Check(ERROR, "Grant the account a role with this privilege there.", ROLES),
    "host-unreachable": Check(ERROR, "Check address, SSH key, user and sudo of the host."),
    "host-name": Check(ERROR, "Set the host name to the Node's name: hostnamectl set-hostname; or set k3s_node_name to the machine's."),
    "host-uuid": Check(ERROR, "Correct ansible_host: it leads to another machine than the VM of that name."),
    "host-os": Check(WARNING, "Use an operating system that k3s is tested on (Ubuntu, Debian, RHEL and its kin, SLES)."),
    "host-architecture": Check(ERROR, "Use x86_64 or aarch64 machines."),
    "host-kernel": Check(ERROR, "Install a newer kernel."),
    "host-cgroup": Check(ERROR, f"{REMEDY}."),
    "host-disk": Check(ERROR, "Free space or enlarge the file system."),
    "host-noexec": Check(
        ERROR, "Mount a file system without noexec there (/var/lib/rancher may have one of its own), or take noexec out of /etc/fstab and remount it."
    ),
    "host-route": Check(ERROR, "Give the machine a default route that survives a restart; its gateway need not answer."),
    "host-clock": Check(ERROR, "Synchronise the clock (chrony, or Tools' periodic synchronisation, not both)."),
    "host-foreign": Check(ERROR, "Run playbooks/adopt.yml, which first reports what is there and then takes it over."),
    "host-port": Check(ERROR, "Stop what listens there; k3s needs the port."),
    "host-swap": Check(WARNING, "Switch swap off, or know what the kubelet does with it."),
    "host-dns": Check(ERROR, "Correct the resolver of the host (/etc/resolv.conf)."),
    "host-connect": Check(ERROR, "Open the connection in the firewalls between the two."),
    "host-udp": Check(
        WARNING,
        "Let 8472/udp (WireGuard: 51820/udp) pass between all nodes, in firewalls and in NSX, whole frames too, or pods of different nodes do not reach each"
        " other. verify_pod_network tests it once the nodes have joined.",
    ),
    "version-set": Check(ERROR, "Choose versions that belong together (k3s_version, cpi_version, csi_version)."),
}


@dataclass
class Finding:
    """One thing that is not as it has to be."""

    id: str
    object: str
    message: str
    severity: str = ""
    remedy: str = ""
    playbook: str = ""
    accepted: bool = False

    def __post_init__(self) -> None:
        check = CHECKS[self.id]
        self.severity = self.severity or check.severity
        self.remedy = self.remedy or check.remedy
        self.playbook = self.playbook or check.playbook

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def accept_problems(accept: Sequence[str]) -> list[str]:
    """Entries of preflight_accept that stand for no check: a typo there would silently accept nothing."""
    problems = []
    for entry in accept:
        check = entry.partition(":")[0]
        if check not in CHECKS:
            close = difflib.get_close_matches(check, CHECKS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(CHECKS))}"
            problems.append(f"'{check}' in preflight_accept is no check: {hint}")
    return problems


def mark_accepted(findings: Iterable[Finding], accept: Sequence[str]) -> None:
    """Accept by id ('version-set') or for one object only ('vm-snapshots:agent-1')."""
    for finding in findings:
        finding.accepted = finding.id in accept or f"{finding.id}:{finding.object}" in accept


def blocking(findings: Iterable[Finding]) -> list[Finding]:
    """What stops a run."""
    return [finding for finding in findings if finding.severity == ERROR and not finding.accepted]
