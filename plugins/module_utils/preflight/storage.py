# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether vCenter has what the StorageClasses name: CSI would look for it only when a claim is made."""
from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.preflight.findings import WARNING, Finding
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.policies import policy_names
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.properties import read_below


@dataclass
class StorageView:
    """What the account sees; `policies` is None where nobody asked, or where they could not be read for the reason in `error`."""

    # URL -> name
    datastores: dict[str, str] = field(default_factory=dict)
    policies: list[str] | None = None
    error: str = ""


def read_storage(session: VsphereSession, classes: Sequence[Mapping[str, Any]]) -> StorageView:
    """Only what a class names is read."""
    view = StorageView()
    if any(one.get("datastore_url") for one in classes):
        found = read_below(session, session.content.rootFolder, {"Datastore": ("name", "summary.url")})
        view.datastores = {str(item.values.get("summary.url", "")): str(item.values.get("name", item.moid)) for item in found}
    if any(one.get("storage_policy") for one in classes):
        try:
            view.policies = policy_names(session)
        except VsphereError as exc:
            view.error = exc.what
    return view


def storage_findings(classes: Sequence[Mapping[str, Any]], view: StorageView) -> list[Finding]:
    """A class whose volumes could not be made."""
    findings = []
    for one in classes:
        url, policy, name = str(one.get("datastore_url") or ""), str(one.get("storage_policy") or ""), str(one.get("name") or "")
        if url and url not in view.datastores:
            listed = ", ".join(f"{there} ({store})" for there, store in sorted(view.datastores.items(), key=lambda item: item[1])[:5]) or "none"
            findings.append(Finding("storage-datastore", name, f"vCenter shows the account no datastore with the URL {url}; it shows {listed}"))
        if policy and view.policies is None:
            findings.append(Finding("storage-policy", name, f"the storage policies could not be read: {view.error}", severity=WARNING))
        elif policy and policy not in (view.policies or []):
            close = difflib.get_close_matches(policy, view.policies or [], n=1, cutoff=0.5)
            hint = f"did you mean '{close[0]}'?" if close else f"it shows {', '.join(sorted(view.policies or [])[:5]) or 'none'}"
            findings.append(Finding("storage-policy", name, f"vCenter shows the account no storage policy '{policy}'; {hint}"))
    return findings
