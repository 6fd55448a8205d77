#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_rebalance
short_description: Plan, and when asked do, moves of whole counties to agents that carry fewer
version_added: 1.0.0
description:
  - The scheduler spreads counties when it places them and moves none afterwards, so that a new agent stays empty. This plans the fewest
    moves after which no agent carries two counties more than another that could take one.
  - A county goes to an agent only if all of it fits there by CPU, memory, pods and volumes, as the scheduler counts, and if labels, taints
    and the places of its volumes allow it. Counties with other placement than C(together), with C(placement.nodes), and those that are not
    well stay.
  - Counties whose pods are on several agents are brought together, and moves that were interrupted are finished.
  - With O(move), counties are moved one at a time by M(cht.k3s.cht_project_move). The first that does not come back ends the run, and no
    further county is moved until it is well again.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  move:
    description: Do the moves; without it they are only shown.
    type: bool
    default: false
  timeout:
    description: Seconds for each of the two halves of a move, stopping and starting.
    type: int
    default: 900
  health:
    description: Ask CouchDB and API of each moved county, besides looking at its pods.
    type: bool
    default: true
attributes:
  check_mode:
    description: Shows the moves and does none.
    support: full
seealso:
  - module: cht.k3s.cht_project_move
  - module: cht.k3s.cht_report
"""

EXAMPLES = r"""
- name: Show what would be moved
  cht.k3s.cht_rebalance:
    kubeconfig: "{{ k3s_access_kubeconfig }}"

- name: Move
  cht.k3s.cht_rebalance:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    move: true
"""

RETURN = r"""
moves:
  description: The moves, in their order.
  returned: always
  type: list
  elements: dict
  sample: [{"county": "nairobi", "namespace": "nairobi", "from": "agent-3", "to": "agent-10", "why": "agent-3 has 6 counties, agent-10 0"}]
agents:
  description: How many counties each agent carries, before and after.
  returned: always
  type: list
  elements: dict
  sample: [{"name": "agent-3", "counties": 6, "counties_after": 5}]
stays:
  description: Counties that can't be moved, and why.
  returned: always
  type: list
  elements: dict
  sample: [{"county": "kisumu", "why": "placement.nodes names its agent"}]
blocked:
  description: Why nothing is moved now although there are moves; empty when nothing stands against it.
  returned: always
  type: str
  sample: ""
stale:
  description: Namespaces with the note of an interrupted move that was put right by somebody else; with O(move) the note is taken away.
  returned: always
  type: list
  elements: str
  sample: [kisumu]
moved:
  description: The counties that were moved.
  returned: when O(move) is set
  type: list
  elements: str
  sample: [nairobi]
table:
  description: The plan for people.
  returned: always
  type: list
  elements: str
  sample: ["nairobi  agent-3 -> agent-10  (agent-3 has 6 counties, agent-10 0)", "1 move"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.rebalance import make_plan
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def argument_spec() -> dict[str, Any]:
    return base_argument_spec(
        move={"type": "bool", "default": False},
        timeout={"type": "int", "default": 900},
        health={"type": "bool", "default": True},
    )


def main() -> None:
    # The moves are done by the action plugin of this name, which calls this module for the plan.
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    client = open_client(module)
    if client is None:
        module.exit_json(changed=False, moves=[], agents=[], stays=[], blocked="", stale=[], table=[])
    try:
        plan = make_plan(client)
        if module.params["move"] and not module.check_mode:
            plan.tidy(client)
    except ApiError as error:
        module.fail_json(msg=f"The cluster can't be read: {error.message}")
    finally:
        client.close()
    module.exit_json(changed=module.params["move"] and bool(plan.stale), **plan.as_dict(), table=plan.lines())


if __name__ == "__main__":
    main()
