#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_drain
short_description: Empty a node before work on it, and take it back into use
version_added: 1.0.0
description:
  - Runs on a healthy server, for any node. Evicts pods as disruption budgets allow, asking again until time is up.
  - A node that people cordoned before stays cordoned; only what this module cordoned is taken back.
  - A node that has not been Ready for a minute ends no pod. There they are told to go, and neither they nor their volumes are waited for, as
    work on that machine is what cures it.
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  name:
    description: Name of the Node.
    type: str
    required: true
  state:
    description: What the node shall be.
    type: str
    choices: [drained, cordoned, uncordoned]
    default: drained
  timeout:
    description: Seconds to wait until the node is empty.
    type: int
    default: 300
  grace_period:
    description: Seconds that a pod gets to end; its own value when negative.
    type: int
    default: -1
  detach:
    description: Whether to wait until no volume is attached to the node any more.
    type: bool
    default: false
  reason:
    description: Written into the annotation C(k3s.cht/cordoned-by).
    type: str
    default: cht.k3s
attributes:
  check_mode:
    description: Shows which pods would be evicted.
    support: full
"""

EXAMPLES = r"""
- name: Empty a node
  cht.k3s.k3s_drain:
    name: agent-3
  delegate_to: control-plane-1
"""

RETURN = r"""
evicted:
  description: The pods that had to go.
  type: list
  elements: str
  returned: success
  sample: [county-a/cht-api-5d4f]
left:
  description: Pods that were told to go and are still there, as the node is silent.
  type: list
  elements: str
  returned: when the node is not Ready
  sample: [county-a/cht-api-5d4f]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.drain import Drainer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "cordoned", "uncordoned"], "default": "drained"},
            "timeout": {"type": "int", "default": 300},
            "grace_period": {"type": "int", "default": -1},
            "detach": {"type": "bool", "default": False},
            "reason": {"type": "str", "default": "cht.k3s"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        result = Drainer(System(), module.check_mode).run(
            params["name"], params["state"], params["timeout"], params["grace_period"], params["reason"], params["detach"]
        )
    except NodeError as error:
        module.fail_json(msg=str(error))
    if result.get("left"):
        module.warn(f"Node {params['name']} is not Ready, so these pods end only when its machine does: {', '.join(result['left'])}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
