# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding VMs and reading what is wanted of them: names first where few of many are wanted, one pass otherwise."""
from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hostvars import (
    ALL_VARIABLES,
    host_vars,
    properties_for,
)
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.properties import (
    ObjectProperties,
    read_below,
    read_objects,
)
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tags import TagClient
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import (
    CLUSTER_KINDS,
    POOL_KINDS,
    TREE_PROPERTIES,
    Node,
    Tree,
    plain_name,
)


@dataclass
class Selection:
    """Which VMs are wanted. Empty means no restriction; several kinds must all hold, values of one kind are ORed."""

    names: Sequence[str] = ()
    folders: Sequence[str] = ()
    datacenters: Sequence[str] = ()
    clusters: Sequence[str] = ()
    pools: Sequence[str] = ()
    tags: Sequence[str] = ()
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def containers(self) -> bool:
        """Whether the VMs stand below named containers, which spares reading anything about the others."""
        return bool(self.folders or self.datacenters or self.clusters or self.pools)

    @property
    def restricted(self) -> bool:
        """Whether reading names first pays."""
        return bool(self.names or self.tags or self.attributes or self.containers)


def texts(value: Any, what: str) -> list[str]:
    """A list of texts; one text alone is a list of one, and a number or a truth is what people wrote."""
    values = value if isinstance(value, (list, tuple)) else [] if value in (None, "") else [value]
    wrong = [item for item in values if isinstance(item, (list, tuple, dict)) or item is None]
    if wrong or isinstance(value, dict):
        raise VsphereError("options", f"{what} is not a list of texts.", "Write it as [first, second].")
    # YAML's true and false are no names, but may be values of an attribute.
    return [str(item).lower() if isinstance(item, bool) else str(item) for item in values]


def name_matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Match exact names, shell patterns, or a regular expression after '~' as in Ansible's host patterns."""
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern[1:] if pattern.startswith("~") else fnmatch.translate(pattern)))
        except re.error as exc:
            raise VsphereError(
                "options", f"'{pattern}' is no regular expression ({exc}).", "Correct what follows the ~, or leave the ~ out for a shell pattern."
            ) from exc
    exact = set(patterns)
    return lambda name: name in exact or any(expression.match(name) for expression in compiled)


@dataclass
class Accept:
    """A last test of a candidate, and the host variables it looks at; only these are read of all candidates."""

    variables: Sequence[str]
    test: Callable[[dict[str, Any]], bool]


@dataclass
class VmRecords:
    """The wanted VMs as host variables."""

    records: list[dict[str, Any]]
    tree: Tree
    # Names of VMs that were deleted after they were found.
    gone: list[str] = field(default_factory=list)


def _split(objects: Iterable[ObjectProperties]) -> tuple[list[ObjectProperties], Tree]:
    vms: list[ObjectProperties] = []
    nodes: list[Node] = []
    for item in objects:
        if item.kind == "VirtualMachine":
            vms.append(item)
        else:
            parent = item.values.get("parent")
            nodes.append(
                Node(item.moid, item.kind, item.values.get("name", ""), parent._moId if parent is not None else None)
            )
    # The root folder is no member of its own view; its name never shows in a path.
    return vms, Tree(nodes)


def _custom_fields(session: VsphereSession) -> dict[int, str]:
    manager = session.content.customFieldsManager
    return {} if manager is None else {definition.key: definition.name for definition in manager.field or ()}


def _attributes(values: Any, names: dict[int, str]) -> dict[str, str]:
    return {names[item.key]: item.value for item in values or () if item.key in names}


class VmReader:
    """Reads VMs in one session. Every method may be repeated, which is what a dropped session needs."""

    def __init__(self, session: VsphereSession) -> None:
        self._session = session

    @property
    def _root(self) -> Any:
        return self._session.content.rootFolder

    def read_tree(self, more: Mapping[str, Sequence[str]] | None = None) -> Tree:
        """Everything but VMs, and kinds of objects that stand in no way to one."""
        return _split(read_below(self._session, self._root, {**TREE_PROPERTIES, **(more or {})}))[1]

    def _containers(self, tree: Tree, selection: Selection) -> list[list[Node]]:
        kinds = (
            (("Folder",), selection.folders, "folder"),
            (("Datacenter",), selection.datacenters, "datacenter"),
            (CLUSTER_KINDS, selection.clusters, "cluster"),
            (POOL_KINDS, selection.pools, "resource pool"),
        )
        return [
            [tree.one(kind, wanted, what) for wanted in values]
            for kind, values, what in kinds
            if values
        ]

    def _candidates(self, tree: Tree, selection: Selection, paths: Sequence[str]) -> list[ObjectProperties]:
        """Names (and little else) of the VMs that stand where they should."""
        groups = self._containers(tree, selection)
        if not groups:
            return read_below(self._session, self._root, {"VirtualMachine": paths})
        common: dict[str, ObjectProperties] | None = None
        for group in groups:
            found = {
                item.moid: item
                for node in group
                for item in read_below(
                    self._session, self._session.reference(node.kind, node.moid), {"VirtualMachine": paths}
                )
            }
            common = found if common is None else {moid: item for moid, item in found.items() if moid in common}
        return list((common or {}).values())

    def read(
        self,
        selection: Selection | None = None,
        variables: Iterable[str] = ALL_VARIABLES,
        tags: TagClient | None = None,
        with_attributes: bool = False,
        accept: Accept | None = None,
    ) -> VmRecords:
        """Read the wanted VMs. ``accept`` narrows further, before anything but its own variables is read."""
        selection = selection or Selection()
        paths = properties_for(variables)
        with_attributes = with_attributes or bool(selection.attributes)
        fields = _custom_fields(self._session) if with_attributes else {}
        if with_attributes:
            paths = [*paths, "customValue"]
        gone: list[str] = []
        if not selection.restricted and accept is None:
            vms, tree = _split(read_below(self._session, self._root, {"VirtualMachine": paths, **TREE_PROPERTIES}))
        else:
            vms, tree, gone = self._read_few(selection, paths, fields, tags, accept)
        records = [self._record(item, tree, fields if with_attributes else None) for item in vms]
        if tags is not None:
            attached = tags.tags_of(record["vsphere_moid"] for record in records)
            for record in records:
                record["vsphere_tags"] = attached.get(record["vsphere_moid"], {})
        return VmRecords(records, tree, gone)

    @staticmethod
    def _record(item: ObjectProperties, tree: Tree, fields: dict[int, str] | None) -> dict[str, Any]:
        record = host_vars(item.moid, item.values, tree)
        if fields is not None:
            record["vsphere_custom_attributes"] = _attributes(item.values.get("customValue"), fields)
        return record

    def _read_few(
        self,
        selection: Selection,
        paths: Sequence[str],
        fields: dict[int, str],
        tags: TagClient | None,
        accept: Accept | None,
    ) -> tuple[list[ObjectProperties], Tree, list[str]]:
        tree = self.read_tree()
        first = properties_for(accept.variables if accept else ())
        if fields:
            first.append("customValue")
        found = self._candidates(tree, selection, first)
        if selection.names:
            matches = name_matcher(selection.names)
            found = [item for item in found if matches(plain_name(item.values.get("name", "")))]
        for attribute, wanted in selection.attributes.items():
            matches = name_matcher(texts(wanted, f"attributes.{attribute}"))
            found = [
                item for item in found if matches(_attributes(item.values.get("customValue"), fields).get(attribute, ""))
            ]
        if selection.tags and tags is not None:
            tagged = tags.vms_with(selection.tags)
            found = [item for item in found if item.moid in tagged]
        if accept is not None:
            attached = tags.tags_of(item.moid for item in found) if tags is not None else {}
            found = [
                item
                for item in found
                if accept.test(
                    {**self._record(item, tree, fields or None), "vsphere_tags": attached.get(item.moid, {})}
                )
            ]
        vms = read_objects(self._session, "VirtualMachine", [item.moid for item in found], paths, missing_ok=True)
        left = {item.moid for item in vms}
        return vms, tree, [plain_name(item.values.get("name", item.moid)) for item in found if item.moid not in left]
