#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual hardware of VMs."""
from __future__ import annotations

DOCUMENTATION = r"""
module: vsphere_vm_hardware
short_description: Give VMs the virtual hardware that nodes need
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Makes sure that VMs have at least a hardware version, a paravirtual SCSI controller and, if wanted, a number of
    processors, an amount of memory and a size of the largest disk. Nothing is ever made smaller or taken away.
  - The hardware version, processors and memory can only be changed while a VM is off. VMs that are on are switched off
    and on again if O(power_cycle) allows it, strictly one after the other, each waiting until the Tools of the one
    before run again, so that two control planes are never down together. The first that fails ends it.
  - What cannot be done is reported for all VMs before anything is changed.
options:
  hardware_version:
    description: Least virtual hardware version. The CSI driver needs 15. An upgrade cannot be taken back.
    type: int
    default: 15
  pvscsi:
    description: Whether there must be a paravirtual SCSI controller. One is added beside those that are there.
    type: bool
    default: true
  cpu:
    description: Least number of virtual processors.
    type: int
  memory_mb:
    description: Least memory in MB.
    type: int
  disk_gb:
    description:
      - Least size of the largest disk in GB. The file system in the guest has to be enlarged separately.
    type: int
  snapshot:
    description:
      - Whether to take a snapshot before an upgrade of the hardware version. Remove it when the VM has proved itself,
        as nodes must not have snapshots.
    type: bool
    default: false
  power_on:
    description: Whether VMs that are off are powered on when they have what they need.
    type: bool
    default: false
extends_documentation_fragment:
  - cht.k3s.vsphere
  - cht.k3s.vsphere.vms
  - cht.k3s.vsphere.power
attributes:
  check_mode:
    support: full
    description: Reports what would be changed and which VMs would be switched off and on.
  diff_mode:
    support: full
    description: Shows what each VM has and would have.
"""

EXAMPLES = r"""
- name: Bring the agents to what the guide asks for, one after the other
  cht.k3s.vsphere_vm_hardware:
    vms: "{{ groups['agent'] }}"
    cpu: 48
    memory_mb: 196608
    power_cycle: graceful
  delegate_to: localhost
  run_once: true
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
      sample: agent-1
    name:
      description: Name of the VM.
      type: str
      returned: success
      sample: agent-1
    path:
      description: Inventory path.
      type: str
      returned: success
      sample: /DC0/vm/cht/agent-1
    changed:
      description: Whether the VM was (or in check mode would be) changed.
      type: bool
      returned: success
      sample: true
    changes:
      description: What it got.
      type: dict
      returned: success
      sample: {"hardware_version": 15, "pvscsi": true, "power": "on"}
    power_cycled:
      description: Whether the VM was (or in check mode would be) switched off and on.
      type: bool
      returned: success
      sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import power_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hardware import ensure_hardware
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.module import run_module


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=power_argument_spec(
            hardware_version={"type": "int", "default": 15},
            pvscsi={"type": "bool", "default": True},
            cpu={"type": "int"},
            memory_mb={"type": "int"},
            disk_gb={"type": "int"},
            snapshot={"type": "bool", "default": False},
            power_on={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )

    def work(session: VsphereSession) -> dict[str, Any]:
        return ensure_hardware(session, module.params, module.check_mode)

    run_module(module, work)


if __name__ == "__main__":
    main()
