#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: vsphere_permissions
short_description: Give an account its roles on objects of vCenter
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Gives an account one role on each of several objects, in one session.
  - Every object is found before the first role is given. A name that stands for several objects is refused, with their paths.
options:
  principal:
    description: The account, as DOMAIN\\user.
    type: str
    required: true
  permissions:
    description: One entry for each object.
    type: list
    elements: dict
    required: true
    suboptions:
      role:
        description: Name of the role. In check mode it may still be missing.
        type: str
        required: true
      type:
        description: Kind of the object.
        type: str
        choices: [Folder, Datacenter, ClusterComputeResource, Datastore]
        required: true
      name:
        description: Name, path or managed object id of the object. The folder V(rootFolder) is the root of vCenter.
        type: str
        required: true
      recursive:
        description: Whether all below it is meant too.
        type: bool
        default: true
extends_documentation_fragment:
  - cht.k3s.vsphere
attributes:
  check_mode:
    support: full
    description: Finds every object, and says which roles would be given.
"""

EXAMPLES = r"""
- name: Let the service account attach disks to the nodes
  cht.k3s.vsphere_permissions:
    principal: VSPHERE.LOCAL\svc-k3s
    permissions:
      - role: CNS-VM
        type: Folder
        name: /DC0/vm/prod/k3s
"""

RETURN = r"""
given:
  description: Roles that were given, or would be, with the paths of their objects.
  returned: success
  type: list
  elements: str
  sample: ["CNS-VM on /DC0/vm/prod/k3s"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.argument_spec import base_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.module import run_module
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.permissions import KINDS, ensure


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            principal={"type": "str", "required": True},
            permissions={
                "type": "list", "elements": "dict", "required": True,
                "options": {
                    "role": {"type": "str", "required": True},
                    "type": {"type": "str", "choices": list(KINDS), "required": True},
                    "name": {"type": "str", "required": True},
                    "recursive": {"type": "bool", "default": True},
                },
            },
        ),
        supports_check_mode=True,
    )

    def work(session: VsphereSession) -> dict[str, Any]:
        given = ensure(session, module.params["principal"], module.params["permissions"], module.check_mode)
        return {"changed": bool(given), "given": given}

    run_module(module, work)


if __name__ == "__main__":
    main()
