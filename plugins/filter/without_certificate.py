# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: without_certificate
short_description: Counties whose certificate is not on the proxy yet
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Names the counties that can't have HTTPS yet, since their certificate is still to be issued. A county that nginx serves by HTTPS now is
    never among them.
positional: _input, present, config
options:
  _input:
    description: What P(cht.k3s.proxy_servers#filter) returns.
    type: list
    elements: dict
    required: true
  present:
    description: Paths of the certificates that are there.
    type: list
    elements: str
    required: true
  config:
    description: The present configuration of nginx.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show them
  ansible.builtin.debug:
    msg: "{{ servers | cht.k3s.without_certificate(['/etc/ssl/nairobi.crt'], lookup('ansible.builtin.file', '/etc/nginx/nginx.conf')) }}"
"""

RETURN = r"""
_value:
  description: Names of counties.
  type: list
  elements: str
"""


def without_certificate(servers: list[dict[str, str]], present: list[str], config: str) -> list[str]:
    """Counties without HTTPS so far."""
    from ansible_collections.cht.k3s.plugins.module_utils.cht import access

    return access.without_certificate(list(servers), list(present), str(config))


class FilterModule:
    """Filters about access to counties."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"without_certificate": without_certificate}
