#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kube_absent
short_description: Delete Kubernetes objects, one after the other
version_added: 1.0.0
description:
  - Deletes the objects in the order given and waits for each until it is gone, with all that it owns, before the next is touched.
  - An object that is not there, or whose kind the cluster does not know, is done already.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  objects:
    description: The objects to delete, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      api_version:
        description: Its API version.
        type: str
        default: v1
      kind:
        description: Its kind.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
      name:
        description: Its name.
        type: str
        required: true
  timeout:
    description: Seconds to wait for each object.
    type: int
    default: 120
attributes:
  check_mode:
    description: Names what would be deleted.
    support: full
"""

EXAMPLES = r"""
- name: Take a class away, then its driver
  cht.k3s.kube_absent:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    objects:
      - api_version: storage.k8s.io/v1
        kind: StorageClass
        name: vmware-sc
      - api_version: storage.k8s.io/v1
        kind: CSIDriver
        name: csi.vsphere.vmware.com
"""

RETURN = r"""
removed:
  description: What was there and is gone, in order; also after a failure, for what was deleted before it.
  returned: always
  type: list
  elements: str
  sample: [StorageClass vmware-sc, CSIDriver csi.vsphere.vmware.com]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.kube.absent import Removal, RemovalError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, object_argument_spec, open_client


def main() -> None:
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            objects=object_argument_spec(name={"type": "str", "required": True}),
            timeout={"type": "int", "default": 120},
        ),
        supports_check_mode=True,
    )
    client = open_client(module)
    if client is None:
        module.exit_json(changed=False, removed=[])
    removal = Removal(client, module.params["timeout"], module.check_mode)
    problem = ""
    try:
        removal.run(module.params["objects"])
    except RemovalError as error:
        problem = f"{error}. Run again to go on from here."
    finally:
        client.close()
    result = {"changed": bool(removal.removed), "removed": removal.removed}
    if problem:
        module.fail_json(msg=problem, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
