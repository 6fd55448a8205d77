#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_snapshot
short_description: Save etcd on a server
version_added: 1.0.0
description:
  - Saves the cluster's data to the server's disk and makes sure that the file is there. Each run makes a new one.
  - With O(state=pruned) deletes all but the newest ones of that name, once they were copied off the server.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.k3s
options:
  state:
    description: Whether to save one now, or to delete old ones.
    type: str
    choices: [saved, pruned]
    default: saved
  keep:
    description: How many stay with O(state=pruned), at least one.
    type: int
    default: 3
  name:
    description: Beginning of the file's name; k3s adds the node's name and the time.
    type: str
    default: backup
  timeout:
    description: Seconds that saving may take.
    type: int
    default: 300
attributes:
  check_mode:
    description: Saves nothing.
    support: full
"""

EXAMPLES = r"""
- name: Save etcd before an upgrade
  cht.k3s.k3s_snapshot:
    name: before-upgrade
"""

RETURN = r"""
deleted:
  description: Names of the snapshots that were deleted, or would be.
  type: list
  elements: str
  returned: with O(state=pruned)
  sample: [before-upgrade-control-plane-1-1763846400]
snapshot:
  description: The new snapshot.
  type: dict
  returned: when not in check mode
  sample:
    name: before-upgrade-control-plane-1-1763846400
    path: /var/lib/rancher/k3s/server/db/snapshots/before-upgrade-control-plane-1-1763846400
    time: 1763846400
    sha256: 0f343b0931126a20f133d67c2b018a3b
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.argument_spec import binary_spec
from ansible_collections.cht.k3s.plugins.module_utils.k3s.snapshots import prune, save
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            binary_spec(),
            state={"type": "str", "choices": ["saved", "pruned"], "default": "saved"},
            keep={"type": "int", "default": 3},
            name={"type": "str", "default": "backup"},
            timeout={"type": "int", "default": 300},
        ),
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode and params["state"] == "saved":
        module.exit_json(changed=True)
    try:
        if params["state"] == "pruned":
            deleted = prune(System(), params["binary"], params["name"], params["keep"], params["timeout"], module.check_mode)
            result = {"changed": bool(deleted), "deleted": deleted}
        else:
            result = {"changed": True, "snapshot": save(System(), params["binary"], params["name"], params["timeout"])}
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
