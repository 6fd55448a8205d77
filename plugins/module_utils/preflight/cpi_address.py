# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a VM's addresses the CPI makes those of the node (its nodemanager.go, DiscoverNode and discoverIPs). Pure."""
from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What the CPI looks for where its configuration has no ipFamily.
DEFAULT_FAMILY = "ipv4"


@dataclass(frozen=True)
class Reported:
    """An address of one of the VM's own cards, and the network of that card."""

    address: Any
    network: str

    def __str__(self) -> str:
        return f"{self.address} ({self.network})" if self.network else str(self.address)


@dataclass(frozen=True)
class Choice:
    """What the CPI takes for one side, and how many addresses it could have taken by the same rule."""

    taken: Reported | None = None
    rule: str = ""
    candidates: int = 0


def reported(record: Mapping[str, Any]) -> list[Reported]:
    """In the order in which the CPI reads them, without those that only the machine itself reaches."""
    networks = {address: str(nic.get("network") or "") for nic in record.get("vsphere_nics") or () for address in nic.get("ips") or ()}
    found = []
    for text in record["vsphere_ips"]:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if not (address.is_link_local or address.is_loopback or address.is_multicast or address.is_unspecified):
            found.append(Reported(address, networks.get(text, "")))
    return found


def networks_of(value: Any) -> list[Any]:
    """What is no network is refused by the role cpi."""
    found = []
    for text in value if isinstance(value, (list, tuple)) else str(value or "").split(","):
        try:
            found.append(ipaddress.ip_network(str(text).strip(), strict=False))
        except ValueError:
            continue
    return found


def _side(side: str, addresses: Sequence[Reported], settings: Mapping[str, Any]) -> Choice:
    networks = networks_of(settings.get(f"{side}_network_subnet_cidr"))
    for network in networks:
        inside = [one for one in addresses if one.address.version == network.version and one.address in network]
        if inside:
            return Choice(inside[0], f"{side}_network_subnet_cidr", len(inside))
    name = str(settings.get(f"{side}_vm_network_name") or "")
    named = [one for one in addresses if name and one.network.casefold() == name.casefold()]
    return Choice(named[0], f"{side}_vm_network_name", len(named)) if named else Choice()


def choose(addresses: Sequence[Reported], settings: Mapping[str, Any], version: int) -> tuple[Choice, Choice]:
    """(internal, external) of one family: by network, else by name, else the first of all, which is both."""
    family = [one for one in addresses if one.address.version == version]
    left = {}
    for side in ("internal", "external"):
        excluded = networks_of(settings.get(f"exclude_{side}_network_subnet_cidr"))
        left[side] = [one for one in family if not any(one.address.version == net.version and one.address in net for net in excluded)]
    internal, external = (_side(side, left[side], settings) for side in ("internal", "external"))
    if internal.taken is None and external.taken is None:
        internal, external = (Choice(found[0], "", len(found)) if found else Choice() for found in (left["internal"], left["external"]))
    return internal, external


def outside(own: Any, settings: Mapping[str, Any]) -> str:
    """The internal networks of cpi_nodes, where the node's address is in none of them."""
    given = networks_of(settings.get("internal_network_subnet_cidr"))
    return ", ".join(map(str, given)) if given and not any(own.version == net.version and own in net for net in given) else ""


def problem(own: Any, addresses: Sequence[Reported], settings: Mapping[str, Any], families: Sequence[str] = ()) -> tuple[str, bool]:
    """(what is wrong with the CPI's choice for a node that has the address `own`, whether it only may become wrong); ('', False) if nothing is."""
    shown = ", ".join(map(str, addresses))
    versions = [6 if family == "ipv6" else 4 for family in families]
    for family, version in zip(families, versions):
        if not any(one.address.version == version for one in addresses):
            return f"cpi_ip_family has {family}, of which the guest has no address: the CPI would give the node none at all; the guest's are {shown}", False
    if versions and own.version not in versions:
        return f"the CPI takes addresses of {' and '.join(families)} only, and the node's is {own}; set cpi_ip_family", False
    names = [str(settings.get(f"{side}_vm_network_name") or "") for side in ("internal", "external")]
    there = {one.network.casefold() for one in addresses}
    absent = [name for name in names if name and name.casefold() not in there]
    if all(names) and len(absent) == 2:
        return f"no card of the VM is in the networks {' and '.join(names)} of cpi_nodes, so the CPI fails; the guest's addresses are {shown}", False
    internal, dummy = choose(addresses, settings, own.version)
    by = f" by cpi_nodes.{internal.rule}" if internal.rule else ""
    if internal.taken is None:
        return f"the CPI would give the node no internal address by cpi_nodes; the guest's addresses are {shown}", False
    if internal.taken.address != own:
        return f"the CPI would take {internal.taken.address}{by} for the node's address and not {own}: the guest's addresses are {shown}", False
    if absent:
        return f"no card of the VM is in the network {' or '.join(absent)} of cpi_nodes: the CPI passes over that; the guest's addresses are {shown}", True
    if internal.candidates > 1:
        return f"the guest has several addresses{by}, {shown}: the CPI takes whichever Tools list first", True
    return "", False
