#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: vsphere_vm_power
short_description: Make sure that VMs are off
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Reads the power state of VMs, fails when one is on that should be off, or powers it off.
  - All VMs are looked up in one session.
options:
  search_by:
    description: What the entries of O(vms) are.
    type: str
    choices: [name, moid, path, bios_uuid]
    default: name
  state:
    description:
      - V(off) fails when one of the VMs is on or suspended.
      - V(powered_off) pulls the plug of those that are not off.
    type: str
    choices: ["off", powered_off]
    default: "off"
  timeout_power:
    description: Seconds to wait until a VM is off.
    type: int
    default: 300
extends_documentation_fragment:
  - cht.k3s.vsphere
  - cht.k3s.vsphere.vms
attributes:
  check_mode:
    support: full
    description: Says which VMs would be powered off.
"""

EXAMPLES = r"""
- name: Make sure that a lost machine does not write to its disks
  cht.k3s.vsphere_vm_power:
    vms: [agent-3]
    state: "off"
  delegate_to: localhost
"""

RETURN = r"""
vms:
  description: One entry for each of O(vms), in their order.
  returned: success
  type: list
  elements: dict
  contains:
    query:
      description: The entry of O(vms).
      type: str
      returned: success
      sample: agent-3
    path:
      description: Inventory path.
      type: str
      returned: success
      sample: /DC0/vm/cht/agent-3
    power_state:
      description: The state before the run.
      type: str
      returned: success
      sample: "on"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import vms_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.module import run_module
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.power import ensure_off


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=vms_argument_spec(
            search_by={"type": "str", "choices": ["name", "moid", "path", "bios_uuid"], "default": "name"},
            state={"type": "str", "choices": ["off", "powered_off"], "default": "off"},
            timeout_power={"type": "int", "default": 300},
        ),
        supports_check_mode=True,
    )
    params = module.params

    def work(session: VsphereSession) -> dict[str, Any]:
        return ensure_off(
            session, params["vms"], params["search_by"], params["datacenters"], params["state"] == "powered_off", params["timeout_power"], module.check_mode,
        )

    run_module(module, work)


if __name__ == "__main__":
    main()
