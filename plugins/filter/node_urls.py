# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: node_urls
short_description: URLs of the ingress controller on every node
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Turns host names of the inventory into endpoints for M(cht.k3s.http_probe).
positional: _input, hostvars, schemes
options:
  _input:
    description: Host names.
    type: list
    elements: str
    required: true
  hostvars:
    description: The magic variable C(hostvars).
    type: dict
    required: true
  schemes:
    description: Protocols.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Endpoints of all nodes
  ansible.builtin.debug:
    msg: "{{ groups['agent'] | cht.k3s.node_urls(hostvars, ['http', 'https']) }}"
"""

RETURN = r"""
_value:
  description: One endpoint for each host and protocol.
  type: list
  elements: dict
  sample:
    - url: http://198.18.0.11/
"""


def node_urls(hosts: Iterable[str], hostvars: Mapping[str, Any], schemes: Iterable[str]) -> list[dict[str, str]]:
    """Endpoints of the hosts, IPv6 addresses in brackets."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import node_address

    urls = []
    for host in hosts:
        address = node_address(hostvars[host]) or str(host)
        shown = f"[{address}]" if ":" in address else address
        urls += [{"url": f"{scheme}://{shown}/"} for scheme in schemes]
    return urls


class FilterModule:
    """Filters about nodes."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"node_urls": node_urls}
