# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: traefik_config
short_description: k3s' HelmChartConfig for its Traefik
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - The object by which k3s changes its packaged Traefik. Which proxies are believed, how long a request may take, how large it may be, and
    whether it sees who asks.
positional: _input, read_timeout, idle_timeout, body_size, client_address
options:
  _input:
    description: Addresses or networks of proxies whose C(X-Forwarded-*) headers are believed.
    type: list
    elements: str
    required: true
  read_timeout:
    description: How long Traefik reads one request.
    type: str
    required: true
  idle_timeout:
    description: How long an unused connection is kept.
    type: str
    required: true
  body_size:
    description: Largest body of a request; empty for no limit.
    type: str
    required: true
  client_address:
    description: Whether Traefik is to see the addresses of clients, for which it runs on each node.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ ['192.0.2.10'] | cht.k3s.traefik_config('3600s', '3600s', '') }}"
"""

RETURN = r"""
_value:
  description: The object.
  type: dict
"""


def traefik_config(trusted: list[str], read_timeout: str, idle_timeout: str, body_size: str, client_address: bool = True) -> dict[str, Any]:
    """The object."""
    from ansible_collections.cht.k3s.plugins.module_utils.cht import access

    try:
        return access.traefik_config([str(entry) for entry in trusted], str(read_timeout), str(idle_timeout), str(body_size), bool(client_address))
    except access.AccessError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters about access to counties."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"traefik_config": traefik_config}
