# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose an object is, and how helm's fields become ours."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.adopt import handed_over, made_by_helm


def entry(manager: str, operation: str = "Update", subresource: str = "", **fields: t.Any) -> dict[str, t.Any]:
    found = {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields}
    return {**found, "subresource": subresource} if subresource else found


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([entry("helm")], True),
        ([entry("helm"), entry("kube-controller-manager", subresource="status")], True),
        ([entry("helm"), entry("cht.k3s", "Apply")], False),
        ([entry("kubectl-create")], False),
        ([entry("helm", subresource="status")], False),
        ([], False),
    ],
)
def test_helm_s_objects_are_those_we_never_applied(entries: list[dict[str, t.Any]], expected: bool) -> None:
    assert made_by_helm({"metadata": {"managedFields": entries}}, "cht.k3s") is expected


def test_helm_s_fields_become_ours_and_others_stay() -> None:
    status = entry("kube-controller-manager", subresource="status", **{"f:status": {}})
    first, second = entry("helm", **{"f:spec": {"f:a": {}}}), entry("helm", "Apply", **{"f:spec": {"f:b": {}}})
    assert handed_over([first, status, second], "cht.k3s") == [status, entry("cht.k3s", "Apply", **{"f:spec": {"f:a": {}, "f:b": {}}})]
