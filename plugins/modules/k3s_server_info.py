#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_server_info
short_description: Ask a k3s server what it knows about its cluster
version_added: 1.0.0
description:
  - Runs on a server and reports whether it holds cluster data, in which datastore and of which cluster, whether its API answers, and the
    members of etcd, without changing anything.
  - From these answers of all servers is decided which one a node joins, and whether a cluster has to be begun at all.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.k3s
options:
  credentials:
    description:
      - Whether to return the token for joining and the administrator's kubeconfig of a healthy server.
      - Use C(no_log) on such a task.
    type: bool
    default: false
  wait:
    description:
      - Seconds to wait for a server that is on its way, one whose unit is up or activating and whose API does not answer yet.
      - A server that is off, or on which k3s is not installed, answers at once.
    type: int
    default: 0
  need:
    description: What is waited for, a server whose API answers or one that can be relied on.
    type: str
    choices: [healthy, well]
    default: healthy
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Ask a server
  cht.k3s.k3s_server_info:
  register: server
"""

RETURN = r"""
datastore:
  description: Whether the server holds cluster data.
  type: bool
  returned: always
  sample: true
datastore_kind:
  description:
    - Where the data is. C(etcd) is the embedded etcd, which other servers join; C(sqlite) a file that serves this server alone; C(external) a
      database that the server was pointed to. Empty where there is no data.
  type: str
  returned: always
  sample: etcd
cluster:
  description:
    - Which cluster the data is of. C(uid) is that of the namespace kube-system and C(since) its age, while the API answers; C(etcd_id) the ID of
      etcd's cluster, while etcd runs; C(ca_hash) the hash of the servers' authority as tokens carry it. What is not known is empty.
    - A server that lost its data and began anew has the same C(ca_hash) as before, and another C(uid) and C(etcd_id).
  type: dict
  returned: always
  sample: {"uid": "0b5c3f4e-6f7a-4a53-9f0e-2b6d7d0c9a11", "since": "2026-01-01T00:00:00Z", "ca_hash": "e3b0c442...", "etcd_id": "cdf818194e3a8c32"}
agents:
  description: How many nodes without the control plane its cluster has.
  type: int
  returned: always
  sample: 9
healthy:
  description: Whether its API answers, which needs etcd's quorum.
  type: bool
  returned: always
  sample: true
well:
  description: Whether it can be relied on. Its API answers, its service goes on without a restart, its Node is Ready and it is a voter of etcd.
  type: bool
  returned: always
  sample: true
starting:
  description: Whether its service runs and it is not well yet.
  type: bool
  returned: always
  sample: false
reason:
  description: Why it is not healthy, or not well.
  type: str
  returned: always
  sample: "its API does not answer: /etc/rancher/k3s/k3s.yaml does not exist yet"
adopted:
  description: Whether it has no k3s that was installed by other means.
  type: bool
  returned: always
  sample: true
node_name:
  description: Name of its Node.
  type: str
  returned: always
  sample: control-plane-1
registered_name:
  description: Name under which it is a member of etcd, from the time when it joined; its Node's name where it holds no data.
  type: str
  returned: always
  sample: control-plane-1
removed:
  description: Whether etcd has taken it out already.
  type: bool
  returned: always
  sample: false
unit:
  description: State of its systemd unit.
  type: dict
  returned: always
  sample: {"exists": true, "active": "active", "enabled": "enabled", "restarts": 0}
version:
  description: Release that runs, or the one of the binary while the API does not answer.
  type: str
  returned: always
  sample: v1.34.4+k3s1
encryption:
  description: Whether it is started with encryption of Secrets, V(encrypted) or V(plain); empty where it holds no data.
  type: str
  returned: always
  sample: encrypted
settings:
  description: Of the settings that a cluster is begun with, and keeps where the variables leave them open, those that the server holding data has.
  type: dict
  returned: always
  sample: {"disable": ["local-storage"], "etcd-snapshot-schedule-cron": "0 */12 * * *", "etcd-snapshot-retention": 5}
members:
  description: Servers with embedded etcd.
  type: list
  elements: dict
  returned: always
  sample: [{"name": "control-plane-1", "voter": true, "ready": true}]
token:
  description: Token for joining.
  type: str
  returned: when O(credentials) and healthy
  sample: K10...
kubeconfig:
  description: The administrator's kubeconfig.
  type: str
  returned: when O(credentials) and healthy
  sample: "apiVersion: v1..."
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.argument_spec import binary_spec
from ansible_collections.cht.k3s.plugins.module_utils.k3s.state import await_server
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(binary_spec(), credentials={"type": "bool", "default": False}, wait={"type": "int", "default": 0},
                           need={"type": "str", "choices": ["healthy", "well"], "default": "healthy"}),
        supports_check_mode=True,
    )
    try:
        info = await_server(System(), **module.params)
    except NodeError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **info)


if __name__ == "__main__":
    main()
