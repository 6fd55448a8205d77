# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: server_config
short_description: A server's config.yaml
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Builds the settings of a server from the variables of the role P(cht.k3s.control_plane#role).
positional: _input, node, server
options:
  _input:
    description: Settings to add, by the names of k3s' flags.
    type: dict
    required: true
  node:
    description: The node (ip, name, provider_id, cloud_provider, runtime, kubelet_args, labels, taints, protect_kernel_defaults).
    type: dict
    required: true
  server:
    description: The server (cluster_cidr, service_cidr, tls_san, disable, secrets_encryption, taint, etcd_args, ...).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Settings of a server
  ansible.builtin.debug:
    msg: "{{ {} | cht.k3s.server_config({'ip': '198.18.0.11'}, {'disable': ['local-storage']}) }}"
"""

RETURN = r"""
_value:
  description: Settings for M(cht.k3s.k3s_join).
  type: dict
  sample: {"node-ip": "198.18.0.11", "disable": ["local-storage"]}
"""


def server_config(extra: Mapping[str, Any], node: Mapping[str, Any], server: Mapping[str, Any]) -> dict[str, Any]:
    """A server's settings."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s import settings

    try:
        return settings.server_config(dict(extra), dict(node), dict(server))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter server_config."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"server_config": server_config}
