#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All findings of a cluster's VMs and machines."""
from __future__ import annotations

DOCUMENTATION = r"""
module: vsphere_preflight
short_description: Find everything about VMs and machines that would break a cluster
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Compares what vCenter says about the VMs of a cluster, what M(cht.k3s.host_facts) saw on the machines, and what the
    inventory says, and returns every finding at once.
  - One vCenter session reads everything. If it cannot be opened, that is a finding too, and what can be judged without
    it still is.
  - It only reads, and never fails because of a finding; the role P(cht.k3s.preflight#role) decides about that.
options:
  nodes:
    description: The hosts of the cluster.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name in the inventory, which has to be the node's name too.
        type: str
        required: true
      vm:
        description: Name of the VM, if it differs from O(nodes[].name).
        type: str
      moid:
        description:
          - Managed object ID of the VM, as the inventory plugin gives it (C(vsphere_moid)). Where several VMs have the
            name, this one is meant.
        type: str
        default: ''
      vcenter:
        description:
          - Name of the vCenter that the inventory read it from (C(vsphere_vcenter)). A host of another one than is asked here is
            not missing, but its VM is not checked, which is a warning.
        type: str
        default: ''
      role:
        description: What the node is to be.
        type: str
        choices: [control_plane, agent]
        default: agent
      address:
        description: The address in the inventory.
        type: str
        default: ''
      checked:
        description: Whether findings of this node are wanted. The others are only read to see duplicates.
        type: bool
        default: true
      node_name:
        description: What the Node is called, if not as the host.
        type: str
        default: ''
      cpi_nodes:
        description: Which of its addresses the CPI takes, as in the role cpi.
        type: dict
        default: {}
      cpi_ip_family:
        description: The address families that the CPI looks for. Empty where that is not known.
        type: list
        elements: str
        default: []
      kubelet_args:
        description: Arguments that its kubelet gets.
        type: list
        elements: str
        default: []
      udp:
        description: What M(cht.k3s.udp_probe) returned for it, by the addresses that it asked.
        type: dict
        default: {}
      opens_ports:
        description: Whether the role node opens k3s' ports in the machine's firewall, so that one that is still closed is only a warning.
        type: bool
        default: false
      host:
        description: What M(cht.k3s.host_facts) returned for it.
        type: dict
      host_error:
        description: Why there are no facts of the machine.
        type: str
        default: ''
  datacenters:
    description: Search only in these datacenters, by name or path.
    type: list
    elements: str
    default: []
  storage_classes:
    description:
      - The StorageClasses that are wanted, as the role storageclass takes them. vCenter must have the datastores (C(datastore_url)) and storage
        policies (C(storage_policy)) that they name.
    type: list
    elements: dict
    default: []
  hardware_version:
    description: Oldest virtual hardware version.
    type: int
    default: 15
  minimum:
    description:
      - Size that each role should have, as a dictionary of C(control_plane) and C(agent), each with C(cpu),
        C(memory_mb) and C(disk_gb). A smaller VM is a warning; one below k3s' own minimum is an error.
    type: dict
    default: {}
  free_disk_gb:
    description: Free space wanted on the machines, in GB.
    type: float
    default: 10
  clock_offset:
    description: By how many seconds a machine's clock may be off.
    type: float
    default: 2
  versions:
    description: Versions of C(k3s), C(cpi) and C(csi) that are to be installed. What is not given follows from k3s.
    type: dict
    suboptions:
      k3s:
        description: Version of k3s, for example V(v1.34.4+k3s1).
        type: str
      cpi:
        description: Version of vSphere's cloud provider.
        type: str
      csi:
        description: Version of vSphere's storage driver.
        type: str
  accept:
    description:
      - Findings to accept, by id (V(version-set)), or by id and object (V(vm-snapshots:agent-1)).
        They are still listed.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - cht.k3s.vsphere
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed.
"""

EXAMPLES = r"""
- name: Check the VMs of two nodes
  cht.k3s.vsphere_preflight:
    nodes:
      - name: control-plane-1
        role: control_plane
        address: 192.0.2.11
      - name: agent-1
        address: 192.0.2.21
  delegate_to: localhost
  register: preflight
"""

RETURN = r"""
findings:
  description: Everything that is not as it has to be, errors first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: What was checked.
      type: str
      returned: success
      sample: vm-disk-uuid
    severity:
      description: V(error) or V(warning).
      type: str
      returned: success
      sample: error
    object:
      description: The host or vCenter that it is about.
      type: str
      returned: success
      sample: agent-1
    message:
      description: What was found.
      type: str
      returned: success
      sample: "disk.EnableUUID is not set: the CSI driver will not find its volumes"
    remedy:
      description: What to do.
      type: str
      returned: success
      sample: Set disk.EnableUUID to TRUE, then power the VM off and on.
    playbook:
      description: The playbook of this collection that does it, if there is one.
      type: str
      returned: success
      sample: cht.k3s.prepare_vms
    accepted:
      description: Whether O(accept) names it.
      type: bool
      returned: success
      sample: false
counts:
  description: How many errors and warnings there are that are not accepted, and how many are.
  returned: success
  type: dict
  sample: {"error": 1, "warning": 0, "accepted": 1}
vcenter_api_version:
  description: API version of the vCenter; empty if it could not be asked.
  returned: success
  type: str
  sample: 7.0.3.0
vcenter_datacenters:
  description:
    - Paths of all datacenters that the account sees. VMs elsewhere, such as copies with a node's BIOS UUID, were not looked for.
  returned: success
  type: list
  elements: str
  sample: [/DC0]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.cht.k3s.plugins.module_utils.preflight.findings import accept_problems
from ansible_collections.cht.k3s.plugins.module_utils.preflight.hosts import HostRequirements
from ansible_collections.cht.k3s.plugins.module_utils.preflight.run import (
    judge,
    read_vcenter,
    summary,
    version_findings,
)
from ansible_collections.cht.k3s.plugins.module_utils.preflight.vms import Node, Requirements
from ansible_collections.cht.k3s.plugins.module_utils.versions import default
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import base_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import PYVMOMI_ERROR
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import connection_options


def _nodes(entries: list[dict[str, Any]], vcenter: str) -> list[Node]:
    nodes = []
    for entry in entries:
        other = entry["vcenter"] if entry["vcenter"].strip("[]").lower() != vcenter.strip("[]").lower() else ""
        nodes.append(Node(**{**entry, "vm": entry["vm"] or entry["name"], "host": entry["host"] or {}, "vcenter": other}))
    return nodes


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            nodes={
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "vm": {"type": "str"},
                    "moid": {"type": "str", "default": ""},
                    "vcenter": {"type": "str", "default": ""},
                    "role": {"type": "str", "choices": ["control_plane", "agent"], "default": "agent"},
                    "address": {"type": "str", "default": ""},
                    "node_name": {"type": "str", "default": ""},
                    "cpi_nodes": {"type": "dict", "default": {}},
                    "cpi_ip_family": {"type": "list", "elements": "str", "default": []},
                    "checked": {"type": "bool", "default": True},
                    "kubelet_args": {"type": "list", "elements": "str", "default": []},
                    "opens_ports": {"type": "bool", "default": False},
                    "udp": {"type": "dict", "default": {}},
                    "host": {"type": "dict"},
                    "host_error": {"type": "str", "default": ""},
                },
            },
            datacenters={"type": "list", "elements": "str", "default": []},
            storage_classes={"type": "list", "elements": "dict", "default": []},
            hardware_version={"type": "int", "default": 15},
            minimum={"type": "dict", "default": {}},
            free_disk_gb={"type": "float", "default": 10},
            clock_offset={"type": "float", "default": 2},
            versions={
                "type": "dict",
                "options": {"k3s": {"type": "str"}, "cpi": {"type": "str"}, "csi": {"type": "str"}},
            },
            accept={"type": "list", "elements": "str", "default": []},
        ),
        supports_check_mode=True,
    )
    params = module.params
    if PYVMOMI_ERROR is not None:
        module.fail_json(msg=missing_required_lib("pyvmomi"), exception=PYVMOMI_ERROR)
    wrong = accept_problems(params["accept"])
    if wrong:
        module.fail_json(msg="; ".join(wrong))
    try:
        options = connection_options(params)
    except VsphereError as exc:
        module.fail_json(msg=str(exc))
    nodes = _nodes(params["nodes"], options.hostname)
    view = read_vcenter(options, nodes, params["datacenters"], params["storage_classes"])
    findings = judge(
        nodes,
        view,
        options.address,
        Requirements(params["hardware_version"], params["minimum"]),
        HostRequirements(params["free_disk_gb"], params["clock_offset"], (params["versions"] or {}).get("k3s") or default().k3s),
        verified=options.validate_certs,
        classes=params["storage_classes"],
    )
    if params["versions"]:
        findings += version_findings(params["versions"])
    module.exit_json(changed=False, vcenter_api_version=view.api_version, vcenter_datacenters=list(view.datacenters), **summary(findings, params["accept"]))


if __name__ == "__main__":
    main()
