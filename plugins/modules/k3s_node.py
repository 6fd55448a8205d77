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
  - Loads kernel modules and sets kernel parameters, now and for every start, turns swap off, limits the journal's size, sees that a time
    service runs, and opens ports where a firewall is active. All in one task, as a cluster has many machines.
  - Refuses a machine whose k3s was installed by other means, before anything is changed.
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
  time_sync:
    description: Whether a time service that is installed must run.
    type: bool
    default: false
  flannel_tx_checksum:
    description: Whether flannel's devices leave checksums to the hardware. With V(false) a rule of udev switches it off now and at every start.
    type: bool
    default: true
  firewall:
    description: What to open where ufw or firewalld is active. Nothing is opened when left out.
    type: dict
    suboptions:
      group:
        description: What the machine is.
        type: str
        choices: [control_plane, agent]
        required: true
      addresses:
        description: Addresses of the nodes, by C(control_plane) and C(agent).
        type: dict
        required: true
      server_config:
        description: The servers' settings of k3s; the ports follow C(flannel-backend) and C(embedded-registry).
        type: dict
        default: {}
      api:
        description: Addresses and networks besides the nodes that may reach the API on servers.
        type: list
        elements: str
        default: []
      caller:
        description: Whether the machine that Ansible is connected from may reach it, too.
        type: bool
        default: true
      networks:
        description: Networks of pods and services, trusted as a whole.
        type: list
        elements: str
        default: []
      public:
        description: TCP ports for everybody.
        type: list
        elements: int
        default: []
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
firewall:
  description: The firewall that is active, V(ufw), V(firewalld) or nothing.
  type: str
  returned: success
  sample: ufw
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.firewall import Firewall
from ansible_collections.cht.k3s.plugins.module_utils.k3s.node import Preparer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.ports import network, open_for
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "modules": {"type": "list", "elements": "str", "default": []},
            "sysctls": {"type": "dict", "default": {}},
            "swap": {"type": "bool", "default": False},
            "journal_size": {"type": "str", "default": ""},
            "time_sync": {"type": "bool", "default": False},
            "flannel_tx_checksum": {"type": "bool", "default": True},
            "firewall": {
                "type": "dict",
                "options": {
                    "group": {"type": "str", "choices": ["control_plane", "agent"], "required": True},
                    "addresses": {"type": "dict", "required": True},
                    "server_config": {"type": "dict", "default": {}},
                    "api": {"type": "list", "elements": "str", "default": []},
                    "caller": {"type": "bool", "default": True},
                    "networks": {"type": "list", "elements": "str", "default": []},
                    "public": {"type": "list", "elements": "int", "default": []},
                },
            },
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    system = System()
    preparer = Preparer(system, module.check_mode)
    wanted = params.pop("firewall")
    if wanted:
        api = [*wanted["api"], *([system.caller()] if wanted["caller"] else [])]
        rules = open_for(wanted["group"], wanted["addresses"], network(wanted["server_config"]), [address for address in api if address])
        params["firewall"] = Firewall(system, rules, wanted["networks"], wanted["public"])
    try:
        result = preparer.run(**params)
    except NodeError as error:
        module.fail_json(msg=str(error))
    for warning in preparer.warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
