#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_fence
short_description: Free the volumes of a lost node
version_added: 1.0.0
description:
  - Runs on a healthy server. Marks a node that no longer reports as out of service, so that Kubernetes deletes its pods and detaches
    its volumes at once, and waits until they are free.
  - Only call it when the node's machine is certainly off. A node that is Ready is refused.
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  name:
    description: Name of the Node.
    type: str
    required: true
  state:
    description:
      - V(silent) changes nothing and fails when the node is Ready.
      - V(fenced) sets the taint C(node.kubernetes.io/out-of-service) and waits until no pod with a claim and no volume is left on the node.
      - V(released) waits until the node is Ready again and takes the taint away.
    type: str
    choices: [silent, fenced, released]
    default: fenced
  timeout:
    description: Seconds to wait.
    type: int
    default: 600
attributes:
  check_mode:
    description: Says whether the taint would be set or taken away.
    support: full
"""

EXAMPLES = r"""
- name: Free the volumes of agent-3, which is off
  cht.k3s.k3s_fence:
    name: agent-3
"""

RETURN = r"""
attached:
  description: Volumes that were attached to the node.
  type: list
  elements: str
  returned: unless O(state=released)
  sample: ["pvc-5f0ee8c2-0c0c-4a7e-9a0e-0c3cf6a9d0f1"]
pods:
  description: Pods with claims that were on the node.
  type: list
  elements: str
  returned: unless O(state=released)
  sample: ["nairobi/cht-couchdb-1-0"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.fence import Fencer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["silent", "fenced", "released"], "default": "fenced"},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    try:
        result = Fencer(System(), module.check_mode).run(module.params["name"], module.params["state"], module.params["timeout"])
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
