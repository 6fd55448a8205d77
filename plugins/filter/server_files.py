# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: server_files
short_description: Files that a server reads beside config.yaml
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Gives the audit policy by its path, for the option C(files) of M(cht.k3s.k3s_join), or nothing while there is no audit log.
options:
  _input:
    description: The audit log's settings, with C(enabled) and C(policy).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the policy
  ansible.builtin.debug:
    msg: "{{ {'enabled': true, 'policy': {}} | cht.k3s.server_files }}"
"""

RETURN = r"""
_value:
  description: Content by path.
  type: dict
  sample: {"/etc/rancher/k3s/audit-policy.yaml": "apiVersion: audit.k8s.io/v1"}
"""


def server_files(audit: Mapping[str, Any]) -> dict[str, str]:
    """Content by path."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s import settings

    return settings.server_files(dict(audit))


class FilterModule:
    """The filter server_files."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"server_files": server_files}
