# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: server_answers
short_description: What each server answered last
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes the results of loops of M(cht.k3s.k3s_server_info) over the servers, also of one in rounds, and gives the last answer of each.
options:
  _input:
    description: The C(results) of the loops.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: See which servers are healthy
  ansible.builtin.debug:
    msg: "{{ (answers.results | cht.k3s.server_answers).values() | map(attribute='healthy') }}"
"""

RETURN = r"""
_value:
  description: The answers by server; C(healthy) and C(well) are false for one that could not be asked.
  type: dict
  sample: {"control-plane-1": {"healthy": true, "version": "v1.34.4+k3s1"}, "control-plane-2": {"healthy": false}}
"""


def server_answers(results: list[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last answers, with `healthy` and `well` in each."""
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.access import answers_by_server

    return {name: {"healthy": False, "well": False, **(answer or {})} for name, answer in answers_by_server(results).items()}


class FilterModule:
    """The filter server_answers."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"server_answers": server_answers}
