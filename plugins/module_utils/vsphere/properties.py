# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading many objects at once through the PropertyCollector: never one request per object."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession

try:
    from pyVmomi import vim, vmodl
except ImportError:
    vim = vmodl = None

# Large enough that round trips do not matter, small enough that one answer stays at a few MB.
PAGE_SIZE = 1000


@dataclass
class ObjectProperties:
    """One object's answer."""

    moid: str
    kind: str
    values: dict[str, Any] = field(default_factory=dict)


def _kind(name: str) -> Any:
    return getattr(vim, name)


def _property_specs(properties: Mapping[str, Sequence[str]]) -> list[Any]:
    return [
        vmodl.query.PropertyCollector.PropertySpec(type=_kind(kind), pathSet=list(paths), all=False)
        for kind, paths in properties.items()
    ]


def _refuse_ended_session(item: Any) -> None:
    """Without a session the request succeeds, and each property is missing instead."""
    for missing in item.missingSet or ():
        if isinstance(missing.fault, vim.fault.NotAuthenticated):
            raise missing.fault


def _retrieve(session: VsphereSession, filter_spec: Any) -> list[ObjectProperties]:
    collector = session.content.propertyCollector
    options = vmodl.query.PropertyCollector.RetrieveOptions(maxObjects=PAGE_SIZE)
    found: list[ObjectProperties] = []
    page = collector.RetrievePropertiesEx([filter_spec], options)
    while page is not None:
        for item in page.objects or ():
            _refuse_ended_session(item)
            found.append(
                ObjectProperties(
                    moid=item.obj._moId,
                    kind=item.obj._wsdlName,
                    values={prop.name: prop.val for prop in item.propSet},
                )
            )
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    return found


def read_below(
    session: VsphereSession, container: Any, properties: Mapping[str, Sequence[str]]
) -> list[ObjectProperties]:
    """All objects of the given kinds below a container."""
    view = session.content.viewManager.CreateContainerView(
        container=container, type=[_kind(kind) for kind in properties], recursive=True
    )
    try:
        traverse = vmodl.query.PropertyCollector.TraversalSpec(
            name="view", path="view", skip=False, type=vim.view.ContainerView
        )
        return _retrieve(
            session,
            vmodl.query.PropertyCollector.FilterSpec(
                objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=view, skip=True, selectSet=[traverse])],
                propSet=_property_specs(properties),
            ),
        )
    finally:
        view.DestroyView()


def read_objects(
    session: VsphereSession, kind: str, moids: Iterable[str], paths: Sequence[str], missing_ok: bool = False
) -> list[ObjectProperties]:
    """The named objects. An object that was deleted meanwhile fails the whole request, or with missing_ok is left out."""
    objects = [
        vmodl.query.PropertyCollector.ObjectSpec(obj=session.reference(kind, moid), skip=False) for moid in moids
    ]
    if not objects:
        return []
    return _retrieve(
        session,
        vmodl.query.PropertyCollector.FilterSpec(
            objectSet=objects, propSet=_property_specs({kind: paths}), reportMissingObjectsInResults=missing_ok or None
        ),
    )
