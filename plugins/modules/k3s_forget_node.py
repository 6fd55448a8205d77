#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_forget_node
short_description: Make the cluster forget a node whose machine is gone
version_added: 1.0.0
description:
  - Runs on a healthy server. Deletes the Node, waits until its finalizer has removed the etcd member of a server, and removes the node's password,
    so that a rebuilt machine of the same name can join.
  - A node that still reports is left alone unless O(alive=true).
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  name:
    description: Name of the Node.
    type: str
    required: true
  alive:
    description: Whether to remove the node even when it reports. Drain it before.
    type: bool
    default: false
  quorum:
    description: Whether a server is kept while etcd would not outlive its removal. Only after a reset of etcd's membership is that beside the point.
    type: bool
    default: true
  password_only:
    description: Whether to remove the node's password alone, so that a new machine may take its place without registering anew.
    type: bool
    default: false
  timeout:
    description: Seconds to wait until the Node is gone.
    type: int
    default: 120
attributes:
  check_mode:
    description: Predicts whether something would be removed.
    support: full
"""

EXAMPLES = r"""
- name: Forget the machine that was rebuilt
  cht.k3s.k3s_forget_node:
    name: control-plane-1
  delegate_to: control-plane-2
"""

RETURN = r"""
removed:
  description: What was removed, V(node), V(password) or nothing.
  type: str
  returned: success
  sample: node
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.forget import Forgetter
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "alive": {"type": "bool", "default": False},
            "quorum": {"type": "bool", "default": True},
            "password_only": {"type": "bool", "default": False, "no_log": False},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        result = Forgetter(System(), module.check_mode).forget(**module.params)
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
