# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: csi_cluster_id
short_description: The id under which vCenter files a cluster's volumes
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - The id that the cluster already uses, else the one asked for, else the UID of the namespace C(kube-system), which is unique.
  - Refuses a change, since CSI would lose track of the volumes that exist.
positional: _input, secret, generated, system_uid
options:
  _input:
    description: The id asked for, or an empty string.
    type: str
    required: true
  secret:
    description: The cluster's Secret with the driver's configuration, or an empty mapping.
    type: dict
    required: true
  generated:
    description: The ConfigMap in which the driver keeps an id of its own making, or an empty mapping.
    type: dict
    required: true
  system_uid:
    description: UID of the namespace C(kube-system).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Keep the id that is in use
  ansible.builtin.debug:
    msg: "{{ '' | cht.k3s.csi_cluster_id(secret, {}, '2f1c7e3e-6d0e-4b55-9f7e-2f4a4f0c1c11') }}"
"""

RETURN = r"""
_value:
  description: The id; empty when the driver made its own.
  type: str
"""


def csi_cluster_id(wanted: str, secret: dict[str, Any], generated: dict[str, Any], system_uid: str) -> str:
    """The cluster id to write."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import csi
    from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError

    try:
        return csi.cluster_id(str(wanted or ""), secret or None, generated or None, str(system_uid))
    except SettingsError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters about the CSI driver."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"csi_cluster_id": csi_cluster_id}
