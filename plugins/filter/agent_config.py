# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: agent_config
short_description: An agent's config.yaml
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Builds the settings of an agent from the variables of the role P(cht.k3s.agent#role).
positional: _input, node
options:
  _input:
    description: Settings to add, by the names of k3s' flags.
    type: dict
    required: true
  node:
    description: The node (ip, name, provider_id, cloud_provider, runtime, kubelet_args, labels, taints, protect_kernel_defaults).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Settings of an agent
  ansible.builtin.debug:
    msg: "{{ {} | cht.k3s.agent_config({'ip': '198.18.0.21'}) }}"
"""

RETURN = r"""
_value:
  description: Settings for M(cht.k3s.k3s_join).
  type: dict
  sample: {"node-ip": "198.18.0.21"}
"""


def agent_config(extra: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """An agent's settings."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s import settings

    try:
        return settings.agent_config(dict(extra), dict(node))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter agent_config."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"agent_config": agent_config}
