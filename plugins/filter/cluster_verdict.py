# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: cluster_verdict
short_description: Whether the servers of the inventory are one cluster
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes the results of a loop of M(cht.k3s.k3s_server_info) over the servers and says whether they are of one cluster, on a datastore that they
    can share. Where they are not, it names the ones that are odd, by the number of servers, of etcd's members and of agents, and by age.
  - A server that does not answer is no evidence.
positional: _input, servers
options:
  _input:
    description: The C(results) of the loop.
    type: list
    elements: dict
    required: true
  servers:
    description: All servers of the inventory.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse servers of two clusters
  ansible.builtin.fail:
    msg: "{{ verdict.problem }}"
  vars:
    verdict: "{{ answers.results | cht.k3s.cluster_verdict(groups['control_plane']) }}"
  when: verdict.problem | length > 0
"""

RETURN = r"""
_value:
  description: The servers that agree, those that are odd, what is wrong and what puts it back, and what is allowed but worth knowing.
  type: dict
  sample:
    right: [control-plane-2, control-plane-3]
    odd: [control-plane-1]
    problem: "The servers of the inventory are of ..."
    note: ""
    foreign: false
"""


def cluster_verdict(results: list[Mapping[str, Any]], servers: list[str], name: str = "", rename: str = "") -> dict[str, Any]:
    """The verdict as plain data."""
    from dataclasses import asdict

    from ansible_collections.cht.k3s.plugins.module_utils.k3s.access import answers_by_server
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.clusters import judge

    return asdict(judge(answers_by_server(results), list(servers), str(name), str(rename)))


class FilterModule:
    """The filter cluster_verdict."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"cluster_verdict": cluster_verdict}
