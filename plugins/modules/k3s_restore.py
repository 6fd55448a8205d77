#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_restore
short_description: Put a snapshot of etcd back
version_added: 1.0.0
description:
  - With O(state=reset) puts a snapshot back on one server and makes it the only member of etcd. With O(state=cleared) moves the data of
    another server aside, so that it joins the first one as a new member. The former data stays beside the new one.
  - k3s must be stopped on all servers before.
  - With O(state=begun) marks a server and disables its unit, so that neither M(cht.k3s.k3s_join) nor a reboot starts it while servers with the
    data of before and of after the restore could meet. O(state=reset) and O(state=cleared) take the mark away when they are done, and
    M(cht.k3s.k3s_join) enables the unit again; O(state=given_up) does both when nothing is to be done.
  - A reset that fails leaves the server's data as it was.
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.k3s
options:
  state:
    description: What happens to this server's data.
    type: str
    choices: [begun, reset, cleared, given_up]
    required: true
  snapshot:
    description: Path of the snapshot on the server; with O(state=begun) what the mark says. Required with both.
    type: path
  token:
    description: Token of the time of the snapshot, which decrypts it. Required with O(state=reset).
    type: str
  config:
    description: Settings for the reset when the server has no C(config.yaml) any more.
    type: dict
    default: {}
  timeout:
    description: Seconds that the reset may take.
    type: int
    default: 600
attributes:
  check_mode:
    description: Checks the inputs and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Put the snapshot back
  cht.k3s.k3s_restore:
    state: reset
    snapshot: /var/lib/rancher/k3s-restore/snapshot
    token: "{{ cluster_token }}"
"""

RETURN = r"""
marked_before:
  description: Whether the server bore the mark already, as an earlier restore was not finished. Then servers may hold different data.
  type: bool
  returned: with O(state=begun)
  sample: false
said:
  description: What k3s said at the end of the reset.
  type: str
  returned: when O(state=reset)
  sample: Managed etcd cluster membership has been reset, restart without --cluster-reset flag now.
moved_to:
  description: Where the former data is.
  type: str
  returned: when O(state=cleared) and there was data
  sample: /var/lib/rancher/k3s/server/db-old-1763846400
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.argument_spec import binary_spec
from ansible_collections.cht.k3s.plugins.module_utils.k3s.restore import Restorer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            binary_spec(),
            state={"type": "str", "choices": ["begun", "reset", "cleared", "given_up"], "required": True},
            snapshot={"type": "path"},
            token={"type": "str", "no_log": True},
            config={"type": "dict", "default": {}},
            timeout={"type": "int", "default": 600},
        ),
        required_if=[("state", "reset", ("snapshot", "token")), ("state", "begun", ("snapshot",))],
        supports_check_mode=True,
    )
    params = module.params
    restorer = Restorer(System(), params["binary"], module.check_mode)
    try:
        if params["state"] == "reset":
            result = restorer.reset(params["snapshot"], params["token"], params["config"], params["timeout"])
        elif params["state"] == "begun":
            result = restorer.begin(params["snapshot"])
        elif params["state"] == "given_up":
            result = restorer.give_up()
        else:
            result = restorer.clear()
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
