# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable

DOCUMENTATION = r"""
name: kubeconfig_for_people
short_description: A server's kubeconfig for use elsewhere
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Puts a reachable address in place of the loopback one, and the cluster's name in place of C(default), so that several clusters' files
    can be used together.
positional: _input, url, name
options:
  _input:
    description: The kubeconfig as k3s wrote it.
    type: str
    required: true
  url:
    description: Address of the API.
    type: str
    required: true
  name:
    description: Name of the cluster, its user and its context.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ kubeconfig | cht.k3s.kubeconfig_for_people('https://198.18.0.11:6443', 'moh') }}"
"""

RETURN = r"""
_value:
  description: The kubeconfig. It is a secret.
  type: str
  sample: "apiVersion: v1..."
"""


def kubeconfig_for_people(kubeconfig: str, url: str, name: str) -> str:
    """The kubeconfig with another address and other names."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.access import with_names, with_server

    return with_names(with_server(kubeconfig, url), name)


class FilterModule:
    """The filter kubeconfig_for_people."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"kubeconfig_for_people": kubeconfig_for_people}
