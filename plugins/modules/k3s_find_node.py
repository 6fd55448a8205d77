#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_find_node
short_description: Find the Node that a machine is
version_added: 1.0.0
description:
  - Runs on a healthy server, for any machine of the cluster, also for one that no longer answers.
  - The name of a Node is the machine's own host name, which may differ from its name in the inventory.
  - So the machine is looked up by its provider ID, then by its address, and last by its name in the inventory.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  host:
    description: Name of the machine in the inventory.
    type: str
    required: true
  name:
    description: Name of the Node where it is fixed; then nothing else is looked at.
    type: str
    default: ''
  provider_id:
    description: What the cloud provider knows the machine by.
    type: str
    default: ''
  address:
    description: Address of the machine inside the cluster.
    type: str
    default: ''
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Find the Node of a machine
  cht.k3s.k3s_find_node:
    host: "{{ inventory_hostname }}"
    address: 198.51.100.21
  delegate_to: control-plane-1
  register: node
"""

RETURN = r"""
name:
  description: Name of the Node, or what it would be called.
  type: str
  returned: success
  sample: agent-3
found:
  description: Whether the cluster has it.
  type: bool
  returned: success
  sample: true
ready:
  description: Whether it is Ready.
  type: bool
  returned: success
  sample: true
cordoned_by:
  description: The O(cht.k3s.k3s_drain#module:reason) for which it is cordoned; empty if it is not, or was by people.
  type: str
  returned: success
  sample: ''
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.find import find_node
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "name": {"type": "str", "default": ""},
            "provider_id": {"type": "str", "default": ""},
            "address": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        found = find_node(System(), params["name"], params["provider_id"], params["address"], params["host"])
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
