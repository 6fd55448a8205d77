#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UUIDs and places of VMs."""
from __future__ import annotations

DOCUMENTATION = r"""
module: vsphere_vm_uuid
short_description: Look up the UUIDs and provider ids of VMs
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Finds VMs in a vCenter by name, managed object id, path, address or guest host name and returns their UUIDs, the
    provider id that Kubernetes needs, and where they stand.
  - All VMs are looked up in one session. It changes nothing.
options:
  search_by:
    description:
      - What the entries of O(vms) are.
      - V(path) is the inventory path, as in V(/DC0/vm/cht/agent-1). V(ip) and V(guest_hostname) need running Tools.
    type: str
    choices: [name, moid, path, ip, guest_hostname, bios_uuid, instance_uuid]
    default: name
  source:
    description:
      - Which UUID RV(vms[].uuid) and RV(vms[].provider_id) are made of.
      - Leave it at V(bios). vSphere's cloud provider looks a node's VM up by the BIOS UUID (C(config.uuid) in the API).
        A node whose provider id carries the instance UUID is not found there, and the cloud provider then deletes it
        from the cluster.
      - V(instance) is here for tools that want C(config.instanceUuid), not for nodes.
    type: str
    choices: [bios, instance]
    default: bios
extends_documentation_fragment:
  - cht.k3s.vsphere
  - cht.k3s.vsphere.vms
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed.
seealso:
  - plugin: cht.k3s.vsphere
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Look up the nodes
  cht.k3s.vsphere_vm_uuid:
    vms: "{{ groups['control_plane'] + groups['agent'] }}"
  delegate_to: localhost
  run_once: true
  register: nodes

- name: Show the provider id of one
  ansible.builtin.debug:
    msg: "{{ nodes.by_query['agent-1'].provider_id }}"
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
    uuid:
      description: The UUID that O(source) asks for.
      type: str
      returned: success
      sample: 420e3f71-9f3c-11ee-8c90-0242ac120077
    bios_uuid:
      description: BIOS UUID, lower case.
      type: str
      returned: success
      sample: 420e3f71-9f3c-11ee-8c90-0242ac120077
    instance_uuid:
      description: Instance UUID, lower case.
      type: str
      returned: success
      sample: 500ed2a1-1111-2222-3333-0242ac120077
    provider_id:
      description: The provider id made of RV(vms[].uuid).
      type: str
      returned: success
      sample: vsphere://420e3f71-9f3c-11ee-8c90-0242ac120077
    moid:
      description: Managed object id.
      type: str
      returned: success
      sample: vm-1017
    path:
      description: Inventory path.
      type: str
      returned: success
      sample: /DC0/vm/cht/agent-1
    datacenter:
      description: Datacenter.
      type: str
      returned: success
      sample: DC0
    cluster:
      description: Cluster, or the host where there is none.
      type: str
      returned: success
      sample: DC0_C0
by_query:
  description: The same entries as a dictionary.
  returned: success
  type: dict
  sample: {"agent-1": {"provider_id": "vsphere://420e3f71-9f3c-11ee-8c90-0242ac120077"}}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import vms_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.lookup import SEARCH_BY, find_vms
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.module import run_module
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.uuids import represent

VARIABLES = ("vsphere_path", "vsphere_datacenter", "vsphere_cluster", "vsphere_bios_uuid", "vsphere_instance_uuid")


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=vms_argument_spec(
            search_by={"type": "str", "choices": list(SEARCH_BY), "default": "name"},
            source={"type": "str", "choices": ["bios", "instance"], "default": "bios"},
        ),
        supports_check_mode=True,
    )
    params = module.params

    def work(session: VsphereSession) -> dict[str, Any]:
        found = find_vms(session, params["vms"], params["search_by"], params["datacenters"], VARIABLES)
        vms = [represent(query, found[query], params["source"]) for query in params["vms"]]
        return {"changed": False, "vms": vms, "by_query": {vm["query"]: vm for vm in vms}}

    run_module(module, work)


if __name__ == "__main__":
    main()
