# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a pod may run, as the scheduler decides it: labels, taints, and the places of its volumes."""

from __future__ import annotations

import typing as t

Object = dict[str, t.Any]


def tolerates(tolerations: list[Object], taint: Object) -> bool:
    """Tell whether one of the tolerations lets a pod onto a node with this taint."""
    return any(
        (not item.get("key") or item["key"] == taint["key"])
        and (item.get("operator") == "Exists" or (item.get("value") or "") == (taint.get("value") or ""))
        and (not item.get("effect") or item["effect"] == taint["effect"])
        for item in tolerations
    )


def selected(terms: list[Object], labels: dict[str, str]) -> bool:
    """Tell whether a node with these labels is in a node selector: all expressions of one term."""

    def met(expression: Object) -> bool:
        value, values = labels.get(expression["key"]), expression.get("values") or []
        found = {
            "In": value in values, "NotIn": value not in values, "Exists": value is not None, "DoesNotExist": value is None,
        }
        # Comparisons of numbers are for hardware; a county with one stays where it is.
        return found.get(expression["operator"], False)

    return any(all(met(item) for item in term.get("matchExpressions") or []) and not term.get("matchFields") for term in terms)


def may_run(pod: Object, node: Object, volumes: list[Object]) -> bool:
    """Tell whether a pod with its volumes may be on a node, room aside."""
    labels = node["metadata"].get("labels") or {}
    spec = pod["spec"]
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    taints = [taint for taint in (node.get("spec") or {}).get("taints") or [] if taint["effect"] != "PreferNoSchedule"]
    if not all(tolerates(spec.get("tolerations") or [], taint) for taint in taints):
        return False
    required = [(volume["spec"].get("nodeAffinity") or {}).get("required") for volume in volumes]
    required.append(((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution"))
    return all(selected(entry.get("nodeSelectorTerms") or [], labels) for entry in required if entry)
