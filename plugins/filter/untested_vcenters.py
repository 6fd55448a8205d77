# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: untested_vcenters
short_description: Positions of the vCenters whose credentials no running part of the cluster uses yet
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - A changed password is tried with one login before it is written; one that the CPI or CSI driver already uses needs no login.
positional: _input, cpi_secret, csi_secret
options:
  _input:
    description: vCenters with hostname, username and password.
    type: list
    elements: dict
    required: true
  cpi_secret:
    description: The CPI's Secret in the cluster, or an empty mapping.
    type: dict
  csi_secret:
    description: The CSI driver's Secret in the cluster, or an empty mapping.
    type: dict
"""

EXAMPLES = r"""
- name: Count the logins to try
  ansible.builtin.debug:
    msg: "{{ vcenters | cht.k3s.untested_vcenters({}, {}) | length }}"
"""

RETURN = r"""
_value:
  description: Positions in the list.
  type: list
"""


def untested_vcenters(vcenters: list[dict[str, Any]], cpi_secret: dict[str, Any], csi_secret: dict[str, Any]) -> list[int]:
    """Positions of the vCenters to try."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import logins

    return logins.untested(list(vcenters), cpi_secret or None, csi_secret or None)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"untested_vcenters": untested_vcenters}
