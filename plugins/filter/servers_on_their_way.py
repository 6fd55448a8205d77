# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: servers_on_their_way
short_description: Servers that are starting, when no server answers yet
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes the results of a loop of M(cht.k3s.k3s_server_info) over the servers and names those that are worth waiting for. A server that is off, was
    stopped or was never installed is not.
options:
  _input:
    description: The C(results) of the loop.
    type: list
    elements: dict
    required: true
  member:
    description: The host it is asked for. One that holds data needs no other server, so nothing is waited for.
    type: str
    default: ''
  need:
    description: What one server must be, so that nothing is waited for. One is V(well) when it has been healthy for a while.
    type: str
    choices: [healthy, well]
    default: healthy
"""

EXAMPLES = r"""
- name: Say who is waited for
  ansible.builtin.debug:
    msg: "{{ answers.results | cht.k3s.servers_on_their_way }}"
"""

RETURN = r"""
_value:
  description: What each of them said, by name; empty when one is as needed.
  type: dict
  sample: {"control-plane-1": "its API does not answer: https://127.0.0.1:6443/api/v1/nodes: 503 apiserver not ready; k3s.service is activating"}
"""


def servers_on_their_way(results: list[Mapping[str, Any]], member: str = "", need: str = "healthy") -> dict[str, str]:
    """Why each is waited for."""
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.access import answers_by_server
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.plan import starting

    return starting(answers_by_server(results), member, need)


class FilterModule:
    """The filter servers_on_their_way."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"servers_on_their_way": servers_on_their_way}
