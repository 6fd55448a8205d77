# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: version_set
short_description: Versions of the vSphere CPI and CSI that belong to a k3s version
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Looks the minor of a k3s version up in the collection's one table of versions.
positional: _input, cpi, csi, snapshotter
options:
  _input:
    description: A k3s version such as C(v1.34.4+k3s1), or an empty string for the default one.
    type: str
    required: true
  cpi:
    description: A version of the CPI that differs from the table.
    type: str
  csi:
    description: A version of the CSI driver that differs from the table.
    type: str
  snapshotter:
    description: A version of the snapshot-controller that differs from the table.
    type: str
"""

EXAMPLES = r"""
- name: Show the CPI's version for a k3s version
  ansible.builtin.debug:
    msg: "{{ ('v1.34.4+k3s1' | cht.k3s.version_set).cpi }}"

- name: The k3s of the default set
  ansible.builtin.debug:
    msg: "{{ ('' | cht.k3s.version_set).k3s }}"
"""

RETURN = r"""
_value:
  description: The versions, the images and manifests that follow from them, and why they don't fit together if they don't.
  type: dict
  sample:
    kubernetes: "1.34"
    k3s: v1.34.4+k3s1
    cpi: 1.34.0
    csi: 3.6.3
    cpi_image: registry.k8s.io/cloud-pv-vsphere/cloud-provider-vsphere:v1.34.0
    problems: []
"""


def version_set(k3s: str, cpi: str | None = None, csi: str | None = None, snapshotter: str | None = None) -> dict[str, Any]:
    """The set of versions as a dictionary."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils import versions

    try:
        return versions.describe(str(k3s) if k3s else None, str(cpi) if cpi else None, str(csi) if csi else None, str(snapshotter) if snapshotter else None)
    except versions.VersionError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters about versions."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"version_set": version_set}
