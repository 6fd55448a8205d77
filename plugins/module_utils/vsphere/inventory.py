# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory plugin decides about VMs that were read: addresses, groups, duplicates. No network in here."""
from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tags import ambiguous, meant
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.vms import name_matcher, texts

Record = dict[str, Any]
RULE_KEYS = ("names", "tags", "attributes", "expression")


def networks(cidrs: Iterable[str]) -> list[Any]:
    """The networks of the option ansible_host_cidr."""
    result = []
    for cidr in cidrs:
        try:
            result.append(ipaddress.ip_network(str(cidr), strict=False))
        except ValueError as exc:
            raise VsphereError(
                "options",
                f"'{cidr}' in ansible_host_cidr is not a network.",
                "Give networks such as 192.0.2.0/24 or 2001:db8::/64.",
            ) from exc
    return result


def _address(text: str) -> Any:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def pick_address(addresses: Sequence[str], wanted: Sequence[Any]) -> str | None:
    """The address to connect to: in the first of the given networks that holds one, else the guest's first usable."""
    parsed = [(text, address) for text in addresses if (address := _address(text)) is not None]
    for network in wanted:
        for text, address in parsed:
            if address.version == network.version and address in network:
                return text
    if wanted:
        return None
    for text, address in parsed:
        if not address.is_link_local and not address.is_loopback:
            return text
    return None


def carried(records: Iterable[Record]) -> set[tuple[str, str]]:
    """All (category, tag) of VMs."""
    return {(category, tag) for record in records for category, names in record.get("vsphere_tags", {}).items() for tag in names}


def _one_tag(group: str, wanted: str, known: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """The tag that a rule names. Those of two categories are different things, which must not make one group."""
    found = meant(wanted, known)
    if len(found) > 1:
        raise ambiguous(f"In the rule of group {group}", wanted, found)
    return set(found)


def rule_matcher(
    group: str, rule: Mapping[str, Any], evaluate: Callable[[str, Record], bool], known: Iterable[tuple[str, str]]
) -> Callable[[Record], bool]:
    """A group's rule; a VM belongs to the group if any part of the rule holds. `known` are the tags that VMs carry."""
    unknown = sorted(set(rule) - set(RULE_KEYS))
    if unknown:
        raise VsphereError(
            "options",
            f"The rule of group {group} has unknown keys: {', '.join(unknown)}.",
            f"Use {', '.join(RULE_KEYS)}.",
        )
    by_name = name_matcher(texts(rule.get("names"), f"{group}.names"))
    tags = set().union(*(_one_tag(group, tag, known) for tag in texts(rule.get("tags"), f"{group}.tags")))
    given = rule.get("attributes") or {}
    if not isinstance(given, Mapping):
        raise VsphereError("options", f"{group}.attributes is not a dictionary.", "Write it as {attribute: value}.")
    attributes = {key: name_matcher(texts(value, f"{group}.attributes.{key}")) for key, value in given.items()}
    expression = rule.get("expression")

    def matches(record: Record) -> bool:
        own = record.get("vsphere_custom_attributes", {})
        return (
            by_name(record["vsphere_name"])
            or bool(tags & carried([record]))
            or any(test(own.get(key, "")) for key, test in attributes.items())
            # As it is: a copy would lose the mark by which Ansible trusts templates of the inventory file.
            or bool(expression and evaluate(expression, record))
        )

    return matches


def refuse_duplicates(hosts: Sequence[tuple[str, Record]]) -> None:
    """Two hosts of one name would hide each other; two VMs of one BIOS UUID would be one node to the CPI."""
    names: dict[str, list[str]] = defaultdict(list)
    uuids: dict[str, list[str]] = defaultdict(list)
    for name, record in hosts:
        names[name].append(record["vsphere_path"])
        if record["vsphere_bios_uuid"]:
            uuids[record["vsphere_bios_uuid"]].append(record["vsphere_path"])
    found = []
    for name, paths in names.items():
        if len(paths) > 1:
            found.append(f"the host name {name} stands for {' and '.join(sorted(paths))}")
    for uuid, paths in uuids.items():
        if len(paths) > 1:
            found.append(f"the BIOS UUID {uuid} belongs to {' and '.join(sorted(paths))}")
    if found:
        raise VsphereError(
            "duplicates",
            f"VMs cannot be told apart: {'; '.join(found)}.",
            "Select fewer VMs (folders, datacenters, names), rename one, or give cloned VMs a BIOS UUID of their own "
            "(power off, change uuid.bios).",
        )


def refuse_both_groups(members: Mapping[str, Iterable[str]]) -> None:
    """A node is a server or an agent, never both."""
    both = sorted(set(members.get("control_plane", ())) & set(members.get("agent", ())))
    if both:
        raise VsphereError(
            "groups",
            f"These VMs match the rules of both control_plane and agent: {', '.join(both)}.",
            "Make the rules control_plane and agent of the inventory file exclude each other.",
        )
