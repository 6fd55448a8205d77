# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: proxy_servers
short_description: What a reverse proxy needs of each county
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Name, host, certificate and key of each county. Refuses hosts that are none or that two counties share, and counties without a certificate.
positional: _input, certificate, private_key, own
options:
  _input:
    description: The counties.
    type: list
    elements: dict
    required: true
  certificate:
    description: Path of the certificate; C(%s) stands for the county's host.
    type: str
    required: true
  private_key:
    description: Path of the key; C(%s) stands for the county's host.
    type: str
    required: true
  own:
    description: Pairs of C(certificate) and C(private_key) of single counties, by name.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ [{'name': 'nairobi', 'host': 'nairobi.health.example'}] | cht.k3s.proxy_servers('/etc/ssl/%s.crt', '/etc/ssl/%s.key', {}) }}"
"""

RETURN = r"""
_value:
  description: The servers.
  type: list
  elements: dict
"""


def proxy_servers(counties: list[dict[str, Any]], certificate: str, private_key: str, own: dict[str, Any]) -> list[dict[str, str]]:
    """The servers of the proxy."""
    from ansible_collections.cht.k3s.plugins.module_utils.cht import access

    try:
        return access.proxy_servers(list(counties), str(certificate), str(private_key), dict(own))
    except access.AccessError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters about access to counties."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"proxy_servers": proxy_servers}
