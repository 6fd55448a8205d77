#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs of a list are still to be made."""
from __future__ import annotations

DOCUMENTATION = r"""
module: vsphere_vm_plan
short_description: Find out which VMs of a list are still to be made, and whether they can be
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Compares a list of machines with a vCenter and returns what is to be done for each that is missing, with the settings
    that cloud-init in its guest reads. It makes nothing itself; the role P(cht.k3s.vm#role) does.
  - A VM that exists in its folder is left out, whatever it looks like. A VM that an interrupted run left in the staging
    folder is gone on with.
  - All that is wrong with the list, and all that vCenter does not have, is reported at once.
options:
  machines:
    description: The machines that there are to be, those that exist already included.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the VM, of its host and of the node.
        type: str
        required: true
      role:
        description: What the node is to be.
        type: str
        choices: [control_plane, agent]
        required: true
      address:
        description: Address with the length of its network, for example V(192.0.2.11/24).
        type: str
        required: true
      cpu:
        description: Virtual processors. O(sizes) says how many if this is not given.
        type: int
      memory_mb:
        description: Memory in MB, likewise.
        type: int
      disk_gb:
        description: Size of the largest disk in GB, likewise. A larger disk of the template stays as it is.
        type: int
  sizes:
    description: The sizes of each role, a dictionary of role to C(cpu), C(memory_mb) and C(disk_gb).
    type: dict
    default: {}
  datacenter:
    description: Datacenter of the VMs, by name or path.
    type: str
    required: true
  cluster:
    description: Cluster of ESXi hosts on which they run.
    type: str
    required: true
  folder:
    description: Folder of the VMs, whole (V(/DC0/vm/k3s)) or from the datacenter's VM folder on (V(k3s)).
    type: str
    required: true
  staging_folder:
    description: Folder in which VMs are made. If not set, V(being-made) in O(folder).
    type: str
    default: ''
  template:
    description: Template, or VM that is off, to clone; by name or path. Empty if they come from a content library.
    type: str
    default: ''
  datastore:
    description: Datastore or datastore cluster.
    type: str
    default: ''
  network:
    description: Network (port group) of the first network card.
    type: str
    required: true
  gateway:
    description: The default gateway.
    type: str
    required: true
  nameservers:
    description: Addresses of name servers.
    type: list
    elements: str
    default: []
  search:
    description: Domains in which short names are looked up.
    type: list
    elements: str
    default: []
  guest_user:
    description: Account that Ansible logs in with; it may use sudo and has no password.
    type: str
    required: true
  ssh_keys:
    description: Public SSH keys of that account.
    type: list
    elements: str
    required: true
  cloud_config:
    description:
      - More for cloud-init, in the form of its C(cloud-config). Everybody who may read the VM in vCenter can read it.
    type: dict
    default: {}
  anti_affinity_rule:
    description: Name of the rule that keeps servers on different hosts. Empty if none is wanted.
    type: str
    default: ''
extends_documentation_fragment:
  - cht.k3s.vsphere
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed.
seealso:
  - module: cht.k3s.vsphere_vm_hardware
"""

EXAMPLES = r"""
- name: See what is to be made
  cht.k3s.vsphere_vm_plan:
    machines:
      - name: control-plane-1
        role: control_plane
        address: 192.0.2.11/24
    sizes:
      control_plane: {cpu: 4, memory_mb: 8192, disk_gb: 50}
    datacenter: Datacenter
    cluster: Cluster
    folder: k3s
    template: debian-12
    network: VM Network
    gateway: 192.0.2.1
    guest_user: ops
    ssh_keys: ["{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"]
  delegate_to: localhost
  register: plan
"""

RETURN = r"""
existing:
  description: Names of the machines that exist and are left alone.
  returned: success
  type: list
  elements: str
  sample: [agent-1]
todo:
  description: The machines that are to be made or gone on with.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the VM.
      type: str
      returned: success
      sample: control-plane-1
    path:
      description: Where it is made.
      type: str
      returned: success
      sample: /Datacenter/vm/k3s/being-made/control-plane-1
    role:
      description: What the node is to be.
      type: str
      returned: success
      sample: control_plane
    cpu:
      description: Virtual processors.
      type: int
      returned: success
      sample: 4
    memory_mb:
      description: Memory in MB.
      type: int
      returned: success
      sample: 8192
    disk_gb:
      description: Size of the largest disk in GB.
      type: int
      returned: success
      sample: 50
    moid:
      description: Managed object id, if an interrupted run has begun it.
      type: str
      returned: success
      sample: ''
    complete:
      description: Whether only its place is missing.
      type: bool
      returned: success
      sample: false
    settings:
      description: Advanced settings of the VM.
      type: list
      elements: dict
      returned: success
      sample: [{"key": "disk.EnableUUID", "value": "TRUE"}]
sizes:
  description: The paths of RV(todo[].path) by size, those that are complete left out.
  returned: success
  type: list
  elements: dict
  sample: [{"cpu": 4, "memory_mb": 8192, "disk_gb": 50, "vms": ["/Datacenter/vm/k3s/being-made/control-plane-1"]}]
servers:
  description: Names of all machines of the role control_plane.
  returned: success
  type: list
  elements: str
  sample: [control-plane-1]
rule_missing:
  description: Whether the anti-affinity rule has to be made or names other VMs.
  returned: success
  type: bool
  sample: false
folder:
  description: Whole path of the VMs' folder.
  returned: success
  type: str
  sample: /Datacenter/vm/k3s
staging_folder:
  description: Whole path of the folder in which VMs are made.
  returned: success
  type: str
  sample: /Datacenter/vm/k3s/being-made
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import base_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.module import run_module
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.provision import (
    Guest,
    Machine,
    guest_problems,
    list_problems,
    machines,
    plan,
    site_problems,
)
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.site import read_site

MACHINE = {
    "name": {"type": "str", "required": True},
    "role": {"type": "str", "choices": ["control_plane", "agent"], "required": True},
    "address": {"type": "str", "required": True},
    "cpu": {"type": "int"},
    "memory_mb": {"type": "int"},
    "disk_gb": {"type": "int"},
}


def _refuse(problems: list[str]) -> None:
    if problems:
        raise VsphereError(
            "plan",
            f"The VMs cannot be made: {'; '.join(problems)}.",
            "Correct the variables of the role vm. Nothing was changed.",
        )


def work(session: VsphereSession, params: dict[str, Any], wanted: list[Machine], guest: Guest) -> dict[str, Any]:
    """Compare the list with vCenter."""
    site = read_site(session, params["datacenter"], params["cluster"], params["folder"], params["staging_folder"])
    _refuse(site_problems(wanted, site, params["template"], params["datastore"], params["network"]))
    result = plan(wanted, guest, site, params["anti_affinity_rule"])
    return {"changed": False, "folder": site.folder, "staging_folder": site.staging, **result}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            machines={"type": "list", "elements": "dict", "required": True, "options": MACHINE},
            sizes={"type": "dict", "default": {}},
            datacenter={"type": "str", "required": True},
            cluster={"type": "str", "required": True},
            folder={"type": "str", "required": True},
            staging_folder={"type": "str", "default": ""},
            template={"type": "str", "default": ""},
            datastore={"type": "str", "default": ""},
            network={"type": "str", "required": True},
            gateway={"type": "str", "required": True},
            nameservers={"type": "list", "elements": "str", "default": []},
            search={"type": "list", "elements": "str", "default": []},
            guest_user={"type": "str", "required": True},
            ssh_keys={"type": "list", "elements": "str", "required": True, "no_log": False},
            cloud_config={"type": "dict", "default": {}},
            anti_affinity_rule={"type": "str", "default": ""},
        ),
        supports_check_mode=True,
    )
    params = module.params
    wanted = machines(params["machines"], params["sizes"])
    told = ("gateway", "nameservers", "search", "ssh_keys", "cloud_config")
    guest = Guest(user=params["guest_user"], **{name: params[name] for name in told})
    try:
        # Before anything else: what is wrong with the list needs no vCenter to be said.
        _refuse(list_problems(wanted) + guest_problems(wanted, guest))
    except VsphereError as exc:
        module.fail_json(msg=str(exc), kind=exc.kind)
    run_module(module, lambda session: work(session, params, wanted, guest))


if __name__ == "__main__":
    main()
