#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of a Kubernetes cluster in vCenter."""
from __future__ import annotations

DOCUMENTATION = r"""
module: vsphere_cns_info
short_description: List the volumes that vCenter files under a cluster id
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Asks vCenter's storage service (CNS) for the volumes of one Kubernetes cluster, as the CSI driver names it. It changes nothing.
  - Two clusters with one id take each other's volumes for lost ones; an id that has volumes before the driver is installed is in use.
options:
  cluster_id:
    description: The cluster id in C(csi-vsphere.conf).
    type: str
    required: true
extends_documentation_fragment:
  - cht.k3s.vsphere
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed.
"""

EXAMPLES = r"""
- name: List the volumes of a cluster
  cht.k3s.vsphere_cns_info:
    hostname: vcenter.example.org
    username: k3s@vsphere.local
    password: "{{ vsphere_password }}"
    cluster_id: 2f1c7e3e-6d0e-4b55-9f7e-2f4a4f0c1c11
  delegate_to: localhost
  register: volumes
"""

RETURN = r"""
volumes:
  description: The volumes.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Id of the volume, the handle of its PersistentVolume.
      type: str
      returned: success
      sample: a822a0e5-8209-4537-9b39-9f9c07b1ac4c
    name:
      description: Its name, that of the PersistentVolume.
      type: str
      returned: success
      sample: pvc-e3a479fb-00b6-43bf-a470-8d8eaee6e795
    datastore_url:
      description: URL of its datastore.
      type: str
      returned: success
      sample: ds:///vmfs/volumes/5f1c7e3e-6d0e4b55-9f7e-2f4a4f0c1c11/
    capacity_mb:
      description: Its size.
      type: int
      returned: success
      sample: 4096
    clusters:
      description: All clusters that it is filed under.
      type: list
      elements: str
      returned: success
      sample: [2f1c7e3e-6d0e-4b55-9f7e-2f4a4f0c1c11]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import base_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.cns import volumes
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.module import run_module


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=base_argument_spec(cluster_id={"type": "str", "required": True}), supports_check_mode=True)

    def work(session: VsphereSession) -> dict[str, Any]:
        return {"changed": False, "volumes": volumes(session, module.params["cluster_id"])}

    run_module(module, work)


if __name__ == "__main__":
    main()
