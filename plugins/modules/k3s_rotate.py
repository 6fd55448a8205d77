#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_rotate
short_description: Give a k3s node new certificates or another token
version_added: 1.0.0
description:
  - Renews a member's certificates, or moves it to another token. Restarts k3s only when something was renewed, and waits until the node
    is a healthy member again. A server whose restart would cost etcd its quorum is refused.
  - The token passes through no command line and no environment.
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.k3s
options:
  part:
    description:
      - V(ours) changes nothing, and fails on a node that was installed by other means. Run it on all nodes first.
      - V(certificates) renews all certificates of the node, but not its authorities, when one ends within O(within) days.
      - V(token_known) only asks whether this server has O(token) already.
      - V(token_changed) changes the token of the cluster through this server, once for all.
      - V(token) gives the node the token that was changed, and restarts it. A server that has the token in its files is asked whether it takes
        it, as k3s reads its passwords only at its start.
      - V(token_proven) fails unless this server takes O(token), and the one of before no more.
    type: str
    choices: [ours, certificates, token_known, token_changed, token, token_proven]
    required: true
  within:
    description: Days. New certificates last 365.
    type: int
    default: 364
  token:
    description: The new token, as a password without the secure form's prefix. Required with the parts that concern it.
    type: str
  supervisor_port:
    description: Port of k3s' supervisor, where it is not that of the API.
    type: int
    default: 6443
  timeout:
    description: Seconds to wait until the node is a healthy member again.
    type: int
    default: 300
attributes:
  check_mode:
    description: Says what would be renewed.
    support: full
"""

EXAMPLES = r"""
- name: Renew what ends within a month
  cht.k3s.k3s_rotate:
    part: certificates
    within: 30
"""

RETURN = r"""
known:
  description: Whether this server has the token.
  type: bool
  returned: with O(part=token_known)
  sample: false
renewed:
  description: Paths of the certificates that were renewed, or would be.
  type: list
  elements: str
  returned: with O(part=certificates)
  sample: ["/var/lib/rancher/k3s/server/tls/client-admin.crt"]
certificates:
  description: The node's certificates afterwards, as M(cht.k3s.k3s_certificates) gives them.
  type: list
  elements: dict
  returned: with O(part=certificates)
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.argument_spec import binary_spec
from ansible_collections.cht.k3s.plugins.module_utils.k3s.rotate import Rotator
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    tokens = ["token_known", "token_changed", "token", "token_proven"]
    module = AnsibleModule(
        argument_spec=dict(
            binary_spec(),
            part={"type": "str", "choices": ["ours", "certificates", *tokens], "required": True},
            within={"type": "int", "default": 364},
            token={"type": "str", "no_log": True},
            supervisor_port={"type": "int", "default": 6443},
            timeout={"type": "int", "default": 300},
        ),
        required_if=[("part", part, ("token",)) for part in tokens],
        supports_check_mode=True,
    )
    params = module.params
    try:
        rotator = Rotator(System(), params["binary"], params["timeout"], module.check_mode)
        if params["part"] == "ours":
            result = rotator.ours()
        elif params["part"] == "certificates":
            result = rotator.certificates(params["within"])
        elif params["part"] == "token_known":
            result = {"changed": False, "known": rotator.knows(params["token"])}
        elif params["part"] == "token_changed":
            result = rotator.change_token(params["token"], params["supervisor_port"])
        elif params["part"] == "token_proven":
            result = rotator.prove_token(params["token"], params["supervisor_port"])
        else:
            result = rotator.take_token(params["token"], params["supervisor_port"])
    except NodeError as error:
        module.fail_json(msg=str(error))
    for text in rotator.warnings:
        module.warn(text)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
