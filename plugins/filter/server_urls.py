# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: server_urls
short_description: URL of the supervisor on each server
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes the node address of each host as the roles do, so that every play names a server alike.
positional: _input, hostvars
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
"""

EXAMPLES = r"""
- name: URLs of the servers
  ansible.builtin.debug:
    msg: "{{ groups['control_plane'] | cht.k3s.server_urls(hostvars) }}"
"""

RETURN = r"""
_value:
  description: URL by host name.
  type: dict
  sample: {"control-plane-1": "https://198.18.0.11:6443"}
"""


def server_urls(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> dict[str, str]:
    """URL by host name, in the order of the hosts."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.plan import shown_url
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import node_address

    urls = {}
    for host in hosts:
        known = hostvars[host]
        urls[str(host)] = shown_url(node_address(known) or str(host))
    return urls


class FilterModule:
    """The filter server_urls."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"server_urls": server_urls}
