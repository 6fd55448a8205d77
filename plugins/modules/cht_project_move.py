#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_project_move
short_description: Move one whole county to another agent
version_added: 1.0.0
description:
  - Stops the county's pods, waits until they are gone and its volumes are detached, starts them on the other agent, and waits until the
    county works there. Its data stays on its volumes.
  - The agent is kept as a preferred node affinity on the county's Deployments, under a field manager of its own, so that
    M(cht.k3s.cht_projects) leaves it there. It is weaker than the county's wish to stay together, and nothing keeps the county from
    running elsewhere when the agent is lost.
  - A move that is interrupted starts the county again. One that was killed leaves it stopped, with the annotation C(cht.k3s/moving-to) on
    its namespace, and is finished by the next run.
  - A county that another run works on, that is stopped, or whose restore is half done is refused.
  - Whether the county fits is for M(cht.k3s.cht_rebalance) to say; it is not asked here.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  county:
    description: Name of the county, for messages.
    type: str
    required: true
  namespace:
    description: Its namespace.
    type: str
    required: true
  agent:
    description: Name of the node to move it to.
    type: str
    required: true
  timeout:
    description: Seconds for each of the two halves of the move, stopping and starting.
    type: int
    default: 900
  health:
    description: Ask CouchDB and API, besides looking at the pods.
    type: bool
    default: true
attributes:
  check_mode:
    description: Says that the county would be moved.
    support: full
seealso:
  - module: cht.k3s.cht_rebalance
"""

EXAMPLES = r"""
- name: Move a county
  cht.k3s.cht_project_move:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    county: nairobi
    namespace: nairobi
    agent: agent-10
"""

RETURN = r"""
seconds:
  description: How long the move took, which is about as long as the county did not answer.
  returned: success
  type: float
  sample: 41.3
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.health import checker
from ansible_collections.cht.k3s.plugins.module_utils.cht.move import MoveError, Mover
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import end_by_sigterm
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def argument_spec() -> dict[str, Any]:
    return base_argument_spec(
        county={"type": "str", "required": True},
        namespace={"type": "str", "required": True},
        agent={"type": "str", "required": True},
        timeout={"type": "int", "default": 900},
        health={"type": "bool", "default": True},
    )


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    client = open_client(module)
    if client is None or module.check_mode:
        module.exit_json(changed=True, seconds=0.0)
    end_by_sigterm()
    begin = time.monotonic()
    try:
        ask = checker(client, module.params["health"])
        Mover(client, module.params["county"], module.params["namespace"], module.params["timeout"], ask).run(module.params["agent"])
    except MoveError as error:
        module.fail_json(msg=str(error))
    finally:
        client.close()
    module.exit_json(changed=True, seconds=round(time.monotonic() - begin, 1))


if __name__ == "__main__":
    main()
