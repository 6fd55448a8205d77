# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A StorageClass names what vCenter has."""
from __future__ import annotations

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.preflight.storage import StorageView, storage_findings

VIEW = StorageView({"ds:///vmfs/volumes/1/": "shared"}, ["Gold", "vSAN Default Storage Policy"])


@pytest.mark.parametrize(("one", "found"), [
    ({"datastore_url": "ds:///vmfs/volumes/1/", "storage_policy": "Gold"}, []), ({}, []),
    ({"datastore_url": "ds:///vmfs/volumes/2/"}, [("storage-datastore", "error", "it shows ds:///vmfs/volumes/1/ (shared)")]),
    ({"storage_policy": "gold"}, [("storage-policy", "error", "did you mean 'Gold'?")]),
    ({"storage_policy": "zzzz"}, [("storage-policy", "error", "it shows Gold, vSAN Default Storage Policy")]),
])
def test_what_a_class_names_is_looked_for(one, found):
    findings = storage_findings([{"name": "vmware-sc", **one}], VIEW)
    assert [(item.id, item.severity) for item in findings] == [(check, severity) for check, severity, dummy in found]
    assert all(words in item.message and item.object == "vmware-sc" for item, (dummy, none, words) in zip(findings, found))


def test_policies_that_cannot_be_read_are_a_warning():
    (finding,) = storage_findings([{"name": "a", "storage_policy": "Gold"}], StorageView(error="no answer"))
    assert (finding.id, finding.severity) == ("storage-policy", "warning") and "no answer" in finding.message
