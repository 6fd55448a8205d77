# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: credentials_in_use
short_description: vCenters with the credentials that the cluster has for them now
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Puts the user and password of the cluster's Secrets in the place of those given, to see what else a change of the password would bring.
  - A vCenter that the Secrets do not name stays as it is.
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
- name: The settings as they are now
  ansible.builtin.set_fact:
    current_settings: "{{ settings | combine({'vcenters': vcenters | cht.k3s.credentials_in_use(cluster.objects.cpi, {})}) }}"
  no_log: true
"""

RETURN = r"""
_value:
  description: The vCenters.
  type: list
  elements: dict
"""


def credentials_in_use(vcenters: list[dict[str, Any]], cpi_secret: dict[str, Any], csi_secret: dict[str, Any]) -> list[dict[str, Any]]:
    """The vCenters."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import logins

    return logins.current(list(vcenters), cpi_secret or None, csi_secret or None)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"credentials_in_use": credentials_in_use}
