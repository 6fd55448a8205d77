# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking VMs up by what people know about them; every missing or ambiguous one is named at once."""
from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hostvars import ALL_VARIABLES
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import Tree, plain_name
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.vms import Accept, Selection, VmReader

Record = dict[str, Any]

# What a VM can be looked up by -> the host variable that holds it.
SEARCH_BY = {
    "name": "vsphere_name",
    "moid": "vsphere_moid",
    "path": "vsphere_path",
    "ip": "vsphere_ips",
    "guest_hostname": "vsphere_guest_hostname",
    "bios_uuid": "vsphere_bios_uuid",
    "instance_uuid": "vsphere_instance_uuid",
}


def keys_of(record: Record, search_by: str) -> list[str]:
    """Everything by which this VM may be asked for."""
    value = record[SEARCH_BY[search_by]]
    if search_by == "path":
        return [value, plain_name(value)]
    if isinstance(value, list):
        return [item.lower() for item in value]
    return [value.lower() if search_by.endswith("uuid") else value]


def normalise(query: str, search_by: str) -> str:
    """UUIDs and IPv6 addresses are compared without case; names are what they are."""
    return query.lower() if search_by.endswith("uuid") or search_by == "ip" else query


def assign(queries: Sequence[str], search_by: str, records: Iterable[Record]) -> dict[str, list[Record]]:
    """Query -> the VMs it stands for."""
    found: dict[str, list[Record]] = {query: [] for query in queries}
    wanted: dict[str, list[str]] = {}
    for query in found:
        wanted.setdefault(normalise(query, search_by), []).append(query)
    for record in records:
        for key in set(keys_of(record, search_by)):
            for query in wanted.get(key, ()):
                found[query].append(record)
    return found


def missing_hint(query: str, known: Sequence[str], elsewhere: Mapping[str, Sequence[str]]) -> str:
    """What may have been meant by a query that stands for no VM."""
    if elsewhere.get(query):
        return f" (it is {' and '.join(elsewhere[query])}, in a datacenter that is not listed)"
    close = difflib.get_close_matches(query, known, n=3, cutoff=0.7)
    return f" (similar: {', '.join(close)})" if close else ""


def problems(
    found: dict[str, list[Record]], search_by: str, seen: Iterable[str], elsewhere: Mapping[str, Sequence[str]]
) -> list[str]:
    """A sentence for each query that does not stand for exactly one VM."""
    known = sorted({key for key in seen if key})
    result = []
    for query, records in found.items():
        if not records:
            result.append(f"no VM has the {search_by} '{query}'{missing_hint(query, known, elsewhere)}")
        elif len(records) > 1:
            paths = " and ".join(sorted(record["vsphere_path"] for record in records))
            result.append(f"the {search_by} '{query}' stands for {paths}")
    return result


def _acceptor(queries: Sequence[str], search_by: str, seen: set[str]) -> Callable[[Record], bool]:
    wanted = {normalise(query, search_by) for query in queries}

    def test(record: Record) -> bool:
        keys = keys_of(record, search_by)
        seen.update(keys)
        return not wanted.isdisjoint(keys)

    return test


@dataclass
class SearchResult:
    """What was asked for, all keys seen on the way, and where everything stands."""

    found: dict[str, list[Record]]
    seen: set[str]
    tree: Tree
    # Query -> paths of VMs in datacenters that were not searched
    elsewhere: dict[str, list[str]] = field(default_factory=dict)


def search_vms(
    session: VsphereSession,
    queries: Sequence[str],
    search_by: str = "name",
    datacenters: Sequence[str] = (),
    variables: Iterable[str] = ALL_VARIABLES,
) -> SearchResult:
    """Read the VMs that were asked for."""
    seen: set[str] = set()
    accept = Accept([SEARCH_BY[search_by]], _acceptor(queries, search_by, seen))
    wanted = {*variables, "vsphere_path", "vsphere_datacenter", SEARCH_BY[search_by]}
    result = session.run(
        lambda: VmReader(session).read(Selection(datacenters=datacenters), variables=sorted(wanted), accept=accept)
    )
    found = assign(queries, search_by, result.records)
    missing = [query for query, records in found.items() if not records]
    elsewhere = _elsewhere(session, missing, search_by) if missing and datacenters else {}
    return SearchResult(found, seen, result.tree, elsewhere)


def _elsewhere(session: VsphereSession, missing: Sequence[str], search_by: str) -> dict[str, list[str]]:
    """Only for the message: where else the VMs are that were not found."""
    found = search_vms(session, missing, search_by, variables=("vsphere_path",)).found
    return {query: sorted(record["vsphere_path"] for record in records) for query, records in found.items() if records}


def find_vms(
    session: VsphereSession,
    queries: Sequence[str],
    search_by: str = "name",
    datacenters: Sequence[str] = (),
    variables: Iterable[str] = ALL_VARIABLES,
) -> dict[str, Record]:
    """Exactly one VM for each query, or an error that names all that are missing or ambiguous."""
    result = search_vms(session, queries, search_by, datacenters, variables)
    wrong = problems(result.found, search_by, result.seen, result.elsewhere)
    if wrong:
        raise VsphereError(
            "lookup",
            f"In vCenter {session.options.address}: {'; '.join(wrong)}.",
            "Correct the names, limit the datacenters, or give the account read right on the VMs.",
        )
    return {query: records[0] for query, records in result.found.items()}
