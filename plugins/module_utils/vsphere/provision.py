# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs of a list are still to be made, and what each is told about itself. No network in here."""
from __future__ import annotations

import base64
import difflib
import ipaddress
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ROLES = ("control_plane", "agent")
# etcd needs a majority; more than five members only slow it down.
SERVERS = (1, 3, 5)
OLDEST_HARDWARE = 15
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_KEY = re.compile(r"(ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/=]+")

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Machine:
    """One line of the list."""

    name: str
    role: str
    address: str
    cpu: int
    memory_mb: int
    disk_gb: int


@dataclass(frozen=True)
class Guest:
    """What all guests are told."""

    gateway: str
    nameservers: Sequence[str]
    search: Sequence[str]
    user: str
    ssh_keys: Sequence[str]
    cloud_config: Mapping[str, Any]


@dataclass
class Site:
    """What vCenter has."""

    vms: Sequence[Record] = ()
    folder: str = ""
    staging: str = ""
    # Names, as often as there are such objects
    datastores: Sequence[str] = ()
    networks: Sequence[str] = ()
    # Rule -> names of its VMs
    rules: Mapping[str, set[str]] = field(default_factory=dict)


def machines(entries: Iterable[Mapping[str, Any]], sizes: Mapping[str, Mapping[str, int]]) -> list[Machine]:
    """The list, each size that is not given taken from the role's."""
    return [
        Machine(
            entry["name"],
            entry["role"],
            entry["address"],
            **{key: int(entry.get(key) or sizes.get(entry["role"], {}).get(key) or 0) for key in ("cpu", "memory_mb", "disk_gb")},
        )
        for entry in entries
    ]


def _repeated(values: Iterable[str]) -> list[str]:
    seen: dict[str, int] = defaultdict(int)
    for value in values:
        seen[value] += 1
    return [value for value, count in seen.items() if count > 1]


def _interface(text: str) -> Any:
    try:
        return ipaddress.ip_interface(text) if "/" in text else None
    except ValueError:
        return None


def _ip(text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def list_problems(wanted: Sequence[Machine]) -> list[str]:
    """What is wrong with the list itself."""
    result = [f"the name {name} is there twice" for name in _repeated(machine.name for machine in wanted)]
    parsed = {machine: _interface(machine.address) for machine in wanted}
    result += [f"the address {text} is there twice" for text in _repeated(str(address.ip) for address in parsed.values() if address)]
    for machine, address in parsed.items():
        if not _NAME.match(machine.name):
            result.append(f"'{machine.name}' cannot be a node's name: lower case letters, digits and '-' only, 63 at most")
        if machine.role not in ROLES:
            result.append(f"{machine.name}: the role '{machine.role}' is none of {', '.join(ROLES)}")
        if address is None:
            result.append(f"{machine.name}: '{machine.address}' is no address with its network, such as 192.0.2.11/24")
        elif address.network.num_addresses > 2 and address.ip in (address.network.network_address, address.network.broadcast_address):
            result.append(f"{machine.name}: {machine.address} is the network's own or broadcast address")
        for key in ("cpu", "memory_mb", "disk_gb"):
            if getattr(machine, key) <= 0:
                result.append(f"{machine.name}: no {key} is given, neither for it nor for its role")
    servers = sum(1 for machine in wanted if machine.role == "control_plane")
    if servers not in SERVERS:
        result.append(f"the list has {servers} machines of the role control_plane; it must have 1, 3 or 5")
    return result


def guest_problems(wanted: Sequence[Machine], guest: Guest) -> list[str]:
    """What is wrong with what the guests are told."""
    result = []
    gateway = _ip(guest.gateway)
    if gateway is None:
        result.append(f"the gateway '{guest.gateway}' is no address")
    else:
        outside = [m.name for m in wanted if (own := _interface(m.address)) and gateway not in own.network]
        if outside:
            result.append(f"the gateway {guest.gateway} is not in the network of {', '.join(outside)}")
        if any((own := _interface(m.address)) and own.ip == gateway for m in wanted):
            result.append(f"the gateway {guest.gateway} is also the address of a machine")
    result += [f"the name server '{text}' is no address" for text in guest.nameservers if _ip(text) is None]
    if not guest.ssh_keys:
        result.append("no SSH key is given, so nobody could log in")
    for number, key in enumerate(guest.ssh_keys, start=1):
        # Never shown: it may be a private key.
        if not _KEY.match(key.strip()):
            result.append(f"SSH key number {number} is no public key, such as 'ssh-ed25519 AAAA... name'")
    return result


def site_problems(wanted: Sequence[Machine], site: Site, template: str, datastore: str, network: str) -> list[str]:
    """What does not fit vCenter. Machines that exist are not judged, except for standing elsewhere."""
    result = []
    if template:
        found = [vm for vm in site.vms if template in (vm["vsphere_name"], vm["vsphere_path"])]
        if not found:
            known = sorted(vm["vsphere_name"] for vm in site.vms if vm["vsphere_template"])
            result.append(f"there is no template '{template}'{_hint(template, known)}")
        elif len(found) > 1:
            paths = " and ".join(sorted(vm["vsphere_path"] for vm in found))
            result.append(f"the template '{template}' stands for {paths}; give its path")
        elif not found[0]["vsphere_template"] and found[0]["vsphere_power_state"] != "off":
            result.append(f"{found[0]['vsphere_path']} is a VM that is on, and no template")
    for what, name, known_names in (("datastore", datastore, site.datastores), ("network", network, site.networks)):
        if name and name not in known_names:
            result.append(f"the hosts of the cluster reach no {what} '{name}'{_hint(name, sorted(set(known_names)))}")
        elif list(known_names).count(name) > 1:
            result.append(f"the hosts of the cluster reach {list(known_names).count(name)} of the {what} '{name}', so which is meant is not known; rename one")
    by_name = _by_name(site.vms)
    users = {address: vm["vsphere_path"] for vm in site.vms for address in vm["vsphere_ips"]}
    for machine in wanted:
        here = {f"{folder}/{machine.name}" for folder in (site.folder, site.staging)}
        elsewhere = sorted(vm["vsphere_path"] for vm in by_name.get(machine.name, ()) if vm["vsphere_path"] not in here)
        if elsewhere:
            result.append(f"{machine.name} exists as {' and '.join(elsewhere)}, outside {site.folder}")
        address = _interface(machine.address)
        user = users.get(str(address.ip)) if address else None
        if user and user not in here:
            result.append(f"the address {address.ip} of {machine.name} is used by {user}")
    return result


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f" (similar: {', '.join(close)})"
    return f" (there are: {', '.join(known[:10]) or 'none'})"


def _by_name(vms: Iterable[Record]) -> dict[str, list[Record]]:
    result: dict[str, list[Record]] = defaultdict(list)
    for vm in vms:
        result[vm["vsphere_name"]].append(vm)
    return result


def network_config(machine: Machine, guest: Guest) -> dict[str, Any]:
    """Netplan's version 2. Routes are written as numbers: the word 'default' is unknown to older releases."""
    address = ipaddress.ip_interface(machine.address)
    return {
        "version": 2,
        "ethernets": {
            "primary": {
                "match": {"name": "e*"},
                "dhcp4": False,
                "dhcp6": False,
                "addresses": [str(address)],
                "routes": [{"to": "::/0" if address.version == 6 else "0.0.0.0/0", "via": guest.gateway}],
                "nameservers": {"addresses": list(guest.nameservers), "search": list(guest.search)},
            }
        },
    }


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def guest_settings(machine: Machine, guest: Guest) -> list[dict[str, str]]:
    """The VM's advanced settings: what cloud-init's VMware data source reads, and disk.EnableUUID. JSON is YAML."""
    metadata = {
        "instance-id": machine.name,
        "local-hostname": machine.name,
        "network": network_config(machine, guest),
    }
    user = {
        "name": guest.user,
        "ssh_authorized_keys": [key.strip() for key in guest.ssh_keys],
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "lock_passwd": True,
    }
    config = {"hostname": machine.name, "preserve_hostname": False, "ssh_pwauth": False, "users": [user], **guest.cloud_config}
    return [
        {"key": "disk.EnableUUID", "value": "TRUE"},
        {"key": "guestinfo.metadata", "value": _encoded(json.dumps(metadata))},
        {"key": "guestinfo.metadata.encoding", "value": "base64"},
        {"key": "guestinfo.userdata", "value": _encoded("#cloud-config\n" + json.dumps(config))},
        {"key": "guestinfo.userdata.encoding", "value": "base64"},
    ]


def plan(wanted: Sequence[Machine], guest: Guest, site: Site, rule: str) -> dict[str, Any]:
    """What is to be done.

    A VM is made in the staging folder and moved when it is complete. So one that stands in its own folder is done and
    never touched again, and one that an interrupted run left is found in the staging folder and gone on with.
    """
    by_path = {vm["vsphere_path"]: vm for vm in site.vms}
    existing, todo = [], []
    for machine in wanted:
        if f"{site.folder}/{machine.name}" in by_path:
            existing.append(machine.name)
            continue
        begun = by_path.get(f"{site.staging}/{machine.name}")
        todo.append(
            {
                "name": machine.name,
                "path": f"{site.staging}/{machine.name}",
                "role": machine.role,
                "cpu": machine.cpu,
                "memory_mb": machine.memory_mb,
                "disk_gb": machine.disk_gb,
                "moid": begun["vsphere_moid"] if begun else "",
                # A VM that was begun and is on has all it needs, except its place.
                "complete": bool(begun and begun["vsphere_power_state"] == "on"),
                "settings": guest_settings(machine, guest),
            }
        )
    servers = [machine.name for machine in wanted if machine.role == "control_plane"]
    return {
        "existing": existing,
        "todo": todo,
        "sizes": _sizes(todo),
        "servers": servers,
        "rule_missing": bool(rule) and len(servers) > 1 and site.rules.get(rule) != set(servers),
    }


def _sizes(todo: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """VMs of one size together: they can be seen to in one session."""
    groups: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for vm in todo:
        if not vm["complete"]:
            groups[(vm["cpu"], vm["memory_mb"], vm["disk_gb"])].append(vm["path"])
    return [{"cpu": cpu, "memory_mb": memory, "disk_gb": disk, "vms": paths} for (cpu, memory, disk), paths in groups.items()]
