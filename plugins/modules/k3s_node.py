#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_node
short_description: Prepare a machine for k3s
version_added: 1.0.0
description:
  - Loads kernel modules and sets kernel parameters, now and for every start, turns swap off, and limits the journal's size. All in one task,
    as a cluster has many machines.
  - What the kernel refuses is a warning.
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  modules:
    description: Kernel modules to load.
    type: list
    elements: str
    default: []
  sysctls:
    description: Kernel parameters by name.
    type: dict
    default: {}
  swap:
    description: Whether swap may stay on.
    type: bool
    default: false
  journal_size:
    description: Largest size of the journal on disk, like V(1G); left alone when empty.
    type: str
    default: ''
attributes:
  check_mode:
    description: Predicts every change.
    support: full
  diff_mode:
    description: Shows files and parameters.
    support: full
"""

EXAMPLES = r"""
- name: Prepare the machine
  cht.k3s.k3s_node:
    modules: [br_netfilter, overlay]
    sysctls:
      net.ipv4.ip_forward: 1
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode.
  type: list
  elements: str
  returned: success
  sample: ["file /etc/sysctl.d/90-cht-k3s.conf", "sysctl net.ipv4.ip_forward=1"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.node import Preparer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "modules": {"type": "list", "elements": "str", "default": []},
            "sysctls": {"type": "dict", "default": {}},
            "swap": {"type": "bool", "default": False},
            "journal_size": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    preparer = Preparer(System(), module.check_mode)
    try:
        result = preparer.run(module.params["modules"], module.params["sysctls"], module.params["swap"], module.params["journal_size"])
    except NodeError as error:
        module.fail_json(msg=str(error))
    for warning in preparer.warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
