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
  - The setting takes effect when the VM is powered off and on; a reboot of the guest is not enough. A VM that runs is marked
    (C(cht.k3s.diskUuidSetInBoot) beside the setting), so that a later call still knows that it has to be. Any power cycle
    since, by this collection or by hand, ends that.
  - All VMs are read and set in one session.
extends_documentation_fragment:
  - cht.k3s.vsphere
  - cht.k3s.vsphere.vms
  - cht.k3s.vsphere.power
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
      description: Whether the VM must still be powered off and on for the setting to take effect, set now or by an earlier call.
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

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import power_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.disk_uuid import ensure_disk_uuid
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.module import run_module


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=power_argument_spec(), supports_check_mode=True)

    def work(session: VsphereSession) -> dict[str, Any]:
        return ensure_disk_uuid(session, module.params, module.check_mode)

    run_module(module, work)


if __name__ == "__main__":
    main()
