#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_adopt
short_description: Take over a k3s node that was installed by hand
version_added: 1.0.0
description:
  - Reads the settings of a node from its unit, its environment file and C(config.yaml), and says where they differ from the wanted ones.
  - Moves them into C(config.yaml), the token into a file of its own, and restarts the node. No setting gets another meaning. The files as
    they were are kept beside, with the ending C(.before-adoption).
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.k3s
options:
  role:
    description: What the node is.
    type: str
    choices: [server, agent]
    required: true
  state:
    description:
      - V(reported) changes nothing.
      - V(moved) moves the settings. A node that has none of other means is left alone.
    type: str
    choices: [reported, moved]
    default: reported
  config:
    description:
      - The settings that the roles would give the node, by the names of k3s' flags.
      - What says the same as a setting that was found is written in this form, so that the roles find nothing to change afterwards.
    type: dict
    default: {}
  secret_config:
    description: Those of the settings that must not be seen.
    type: dict
    default: {}
  undecided:
    description: Settings of a cluster that is begun, about which the variables say nothing. The node keeps what it has of them.
    type: dict
    default: {}
  servers:
    description: The URLs by which the roles would let an agent join.
    type: list
    elements: str
    default: []
  environment:
    description: The environment of the service that the roles would set.
    type: dict
    default: {}
  registries:
    description: Content of C(registries.yaml) that the roles would write, without credentials.
    type: dict
    default: {}
  timeout:
    description: Seconds to wait until the node is a healthy member again.
    type: int
    default: 300
attributes:
  check_mode:
    description: Says whether settings would be moved.
    support: full
"""

EXAMPLES = r"""
- name: Compare a server with what is wanted
  cht.k3s.k3s_adopt:
    role: server
    config:
      disable: [local-storage]
  register: adoption
"""

RETURN = r"""
installed:
  description: Whether the machine has k3s or data of it.
  type: bool
  returned: with O(state=reported)
  sample: true
adopted:
  description: Whether the node is managed by this collection.
  type: bool
  returned: with O(state=reported)
  sample: false
datastore:
  description: A server's datastore on its disk, V(etcd) or V(sqlite); empty for an agent or where there is none.
  type: str
  returned: with O(state=reported)
  sample: sqlite
places:
  description: Files with settings of other means.
  type: list
  elements: str
  returned: success
  sample: ["/etc/systemd/system/k3s.service"]
settings:
  description: All settings that are in force, secrets masked.
  type: dict
  returned: with O(state=reported)
  sample: {"cluster-init": true, "docker": true}
differences:
  description: What site.yml would change after the adoption; with C(refused) why a node is not adopted with that setting.
  type: list
  elements: dict
  returned: with O(state=reported)
  sample: [{"key": "disable", "found": null, "wanted": ["local-storage"]}]
provider_id:
  description: The Node's provider ID.
  type: str
  returned: with O(state=reported)
  sample: vsphere://420e3f71-9f3c-11ee-8c90-0242ac120077
runtime:
  description: The container runtime.
  type: str
  returned: with O(state=reported)
  sample: docker
cluster_ids:
  description: The cluster IDs in the storage driver's settings.
  type: list
  elements: str
  returned: with O(state=reported) on a server whose API answers
  sample: ["moh-prod"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.adopt import Adopter
from ansible_collections.cht.k3s.plugins.module_utils.k3s.argument_spec import binary_spec
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            binary_spec(),
            role={"type": "str", "choices": ["server", "agent"], "required": True},
            state={"type": "str", "choices": ["reported", "moved"], "default": "reported"},
            config={"type": "dict", "default": {}},
            secret_config={"type": "dict", "default": {}, "no_log": True},
            undecided={"type": "dict", "default": {}},
            servers={"type": "list", "elements": "str", "default": []},
            environment={"type": "dict", "default": {}},
            registries={"type": "dict", "default": {}},
            timeout={"type": "int", "default": 300},
        ),
        supports_check_mode=True,
    )
    params = module.params
    adopter = Adopter(
        System(), params["role"], params["binary"], params["timeout"], module.check_mode, params["config"], params["secret_config"],
        params["undecided"],
    )
    try:
        result = adopter.move() if params["state"] == "moved" else None
        if result is None:
            result = dict(adopter.report(params["environment"], params["registries"], params["servers"]), changed=False)
    except NodeError as error:
        module.fail_json(msg=str(error))
    for text in adopter.warnings:
        module.warn(text)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
