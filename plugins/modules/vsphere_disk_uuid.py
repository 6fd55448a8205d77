#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""disk.EnableUUID of VMs."""
from __future__ import annotations

DOCUMENTATION = r"""
module: vsphere_disk_uuid
short_description: Make VMs show their disks' UUIDs to the guest
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Sets C(disk.EnableUUID) of VMs to true. Without it the guest cannot tell which disk is which, and the CSI driver
    cannot mount volumes (C(disk not attached to node)).
  - Any spelling of the key and of true counts as set, and an existing key keeps its spelling.
  - The setting takes effect when the VM is powered off and on; a reboot of the guest is not enough.
  - All VMs are read and set in one session.
options:
  vms:
    description: The VMs.
    type: list
    elements: str
    required: true
  search_by:
    description: What the entries of O(vms) are.
    type: str
    choices: [name, moid, path]
    default: name
  datacenters:
    description: Search only in these datacenters, by name or path.
    type: list
    elements: str
    default: []
  power_cycle:
    description:
      - Whether VMs that were changed and are on are powered off and on to make the setting effective.
      - V(graceful) shuts the guest down through Tools, V(hard) switches off.
      - VMs are cycled strictly one after the other, each waiting until the Tools of the one before run again, so that
        two control planes are never down together. The first that fails ends it.
    type: str
    choices: [never, graceful, hard]
    default: never
  power_timeout:
    description: Seconds to wait for each VM to go off, and to come back.
    type: int
    default: 300
extends_documentation_fragment:
  - cht.k3s.vsphere
attributes:
  check_mode:
    support: full
    description: Reports what would be set and cycled.
  diff_mode:
    support: full
    description: Shows the setting of each VM before and after.
"""

EXAMPLES = r"""
- name: Make all nodes show their disks' UUIDs
  cht.k3s.vsphere_disk_uuid:
    vms: "{{ groups['control_plane'] + groups['agent'] }}"
  delegate_to: localhost
  run_once: true
  register: disk_uuid

- name: Show which VMs still have to be powered off and on
  ansible.builtin.debug:
    msg: "{{ disk_uuid.vms | selectattr('restart_required') | map(attribute='name') }}"
"""

RETURN = r"""
vms:
  description: One entry for each of O(vms), in their order.
  returned: success
  type: list
  elements: dict
  contains:
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
      description: Whether the setting was (or in check mode would be) changed.
      type: bool
      returned: success
      sample: true
    power_cycled:
      description: Whether the VM was (or in check mode would be) powered off and on.
      type: bool
      returned: success
      sample: false
    restart_required:
      description: Whether the VM must still be powered off and on for the setting to take effect.
      type: bool
      returned: success
      sample: true
restart_required:
  description: Whether any VM must still be powered off and on.
  returned: success
  type: bool
  sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import base_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.disk_uuid import ensure_disk_uuid
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.module import run_module


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            vms={"type": "list", "elements": "str", "required": True},
            search_by={"type": "str", "choices": ["name", "moid", "path"], "default": "name"},
            datacenters={"type": "list", "elements": "str", "default": []},
            power_cycle={"type": "str", "choices": ["never", "graceful", "hard"], "default": "never"},
            power_timeout={"type": "int", "default": 300},
        ),
        supports_check_mode=True,
    )

    def work(session: VsphereSession) -> dict[str, Any]:
        return ensure_disk_uuid(session, module.params, module.check_mode)

    run_module(module, work)


if __name__ == "__main__":
    main()
