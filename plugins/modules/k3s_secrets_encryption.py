#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_secrets_encryption
short_description: Encrypt the Secrets of a k3s cluster that runs, step by step
version_added: 1.0.0
description:
  - Runs on a server. Reads how Secrets are encrypted there, takes one step of C(k3s secrets-encrypt) for the whole cluster, or brings the server to
    what another one has.
  - The order of the steps is that of P(cht.k3s.encryption_plan#filter); C(playbooks/secrets_encryption.yml) goes through them.
  - A server whose restart would cost etcd its quorum is refused. Keys are never returned.
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.k3s
options:
  state:
    description:
      - V(read) says what the server has, and changes nothing.
      - V(operated) takes the step O(operation) for the whole cluster on this server, and proves that the others can have what came of it.
      - V(taken) sets C(secrets-encryption) in the server's config.yaml, and restarts k3s where it does not have the configuration O(hash).
    type: str
    choices: [read, operated, taken]
    default: read
  operation:
    description: The step, by the name of its command; empty only proves that the bootstrap data holds the server's configuration.
    type: str
    choices: ['', enable, rotate-keys, prepare, rotate, reencrypt]
    default: ''
  hash:
    description: RV(hash) of the server that took the step. In check mode it is empty while nobody has taken it.
    type: str
    default: ''
  leader:
    description: Whether this is the server that took the step. It is restarted as well, with the same configuration.
    type: bool
    default: false
  secrets:
    description: Whether O(state=read) reads every Secret through this server, and asks k3s whether all servers have the same.
    type: bool
    default: false
  supervisor_port:
    description: Port of k3s' supervisor, where it is not that of the API.
    type: int
    default: 6443
  timeout:
    description: Seconds to wait for a step, or until the server is a healthy member again.
    type: int
    default: 300
attributes:
  check_mode:
    description: Says what would be done.
    support: full
"""

EXAMPLES = r"""
- name: See how Secrets are encrypted
  cht.k3s.k3s_secrets_encryption:
  register: encryption
"""

RETURN = r"""
flag:
  description: Whether the server is started with C(secrets-encryption).
  type: bool
  returned: with O(state=read)
  sample: true
kind:
  description:
    - What k3s hands to the API server. V(none), V(identity) (prepared, nothing is encrypted), V(encrypted), V(disabled) (what is encrypted is still
      read), V(damaged).
  type: str
  returned: with O(state=read)
  sample: encrypted
keys:
  description: Names of its keys, the one in use first.
  type: list
  elements: str
  returned: with O(state=read)
  sample: ["aescbckey"]
provider:
  description: Their provider.
  type: str
  returned: with O(state=read)
  sample: aescbc
hash:
  description: Hash of the configuration, which is the same on all servers.
  type: str
  returned: with O(state=read) and O(state=operated)
  sample: 0f343b0931126a20f133d67c2b018a3b5e7a4a3f2a8b6f7f0c0c7b1d1e1f2a3b
stage:
  description: What k3s tells on the Node.
  type: str
  returned: with O(state=read)
  sample: reencrypt_finished
node_hash:
  description: The hash that k3s tells on the Node.
  type: str
  returned: with O(state=read)
  sample: 0f343b0931126a20f133d67c2b018a3b5e7a4a3f2a8b6f7f0c0c7b1d1e1f2a3b
matching:
  description: Whether all servers have the same, by C(k3s secrets-encrypt status).
  type: bool
  returned: with O(state=read) and O(secrets)
  sample: true
mismatch:
  description: What C(k3s secrets-encrypt status) says where they do not.
  type: str
  returned: with O(state=read)
  sample: hash does not match between control-plane-1 and control-plane-2
problem:
  description: Why nothing can be begun with this server, empty when nothing speaks against it.
  type: str
  returned: with O(state=read)
  sample: ''
node:
  description: Name of the Node.
  type: str
  returned: with O(state=read)
  sample: control-plane-1
version:
  description: Release of the binary.
  type: str
  returned: with O(state=read)
  sample: v1.34.4+k3s1
secrets:
  description: How many Secrets were read through this server.
  type: int
  returned: with O(secrets) or O(state=taken), not in check mode
  sample: 57
restarted:
  description: Whether k3s was restarted.
  type: bool
  returned: with O(state=taken)
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.argument_spec import binary_spec
from ansible_collections.cht.k3s.plugins.module_utils.k3s.secrets_encryption import Encryptor
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            binary_spec(),
            state={"type": "str", "choices": ["read", "operated", "taken"], "default": "read"},
            operation={"type": "str", "choices": ["", "enable", "rotate-keys", "prepare", "rotate", "reencrypt"], "default": ""},
            hash={"type": "str", "default": ""},
            leader={"type": "bool", "default": False},
            secrets={"type": "bool", "default": False},
            supervisor_port={"type": "int", "default": 6443},
            timeout={"type": "int", "default": 300},
        ),
        supports_check_mode=True,
    )
    params = module.params
    try:
        encryptor = Encryptor(System(), params["binary"], params["timeout"], params["supervisor_port"], module.check_mode)
        if params["state"] == "read":
            result = encryptor.read(params["secrets"])
        elif params["state"] == "operated":
            result = encryptor.operate(params["operation"])
        else:
            result = encryptor.take(params["hash"], params["leader"])
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
