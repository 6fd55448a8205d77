#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_join
short_description: Bring a node to its membership of a k3s cluster
version_added: 1.0.0
description:
  - Runs on the node and brings it to the wanted membership. That is the binary, C(config.yaml), the token's file, C(registries.yaml),
    the systemd unit, the service, and then the facts that make a member. For a server these are an API that answers, a Ready node and a vote
    in etcd; for an agent a Ready node.
  - Looks at everything before it changes anything, and refuses what would hurt a cluster, like another token on existing data, a
    skipped release, a restart that would cost etcd its quorum, or a node that was installed by other means.
  - An agent whose node is Ready and whose service does not finish its start within half a minute is restarted once, with a warning.
  - Restarts k3s only when something it reads has changed since it was started, so an interrupted run is completed by the next one.
  - When a changed configuration does not come up in time, the last good one is put back.
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.k3s
options:
  role:
    description: What the node is. Required unless O(state=absent).
    type: str
    choices: [server, agent]
  state:
    description:
      - V(present) makes the node a member and waits for it.
      - V(installed) brings the binary alone.
      - V(stopped) stops the service and leaves it enabled.
      - V(started) starts the service of a member that is down, and does not wait. Several servers that are down need each other to come up.
      - V(absent) removes k3s with all it left behind. Delete the node from the cluster before; C(/etc/rancher/node) stays.
    type: str
    choices: [present, installed, absent, stopped, started]
    default: present
  version:
    description: Release of k3s, like V(v1.34.4+k3s1). Required with O(state=present) and O(state=installed).
    type: str
  release_url:
    description: URL below which the releases are, as on the project's release pages. Leave empty when the binary was copied to O(staged).
    type: str
    default: ''
  staged:
    description:
      - A binary that was copied to the node, in the directory of O(binary). It takes the place of O(binary) once it was found to be of O(version),
        to run here, and to have O(checksum) where that is given. A file that is not there is none.
    type: str
    default: ''
  checksum:
    description: SHA256 of the binary; that of the release's own list when left out.
    type: str
    default: ''
  config:
    description: Settings for C(config.yaml), by the names of k3s' flags. A key that the release does not know is refused.
    type: dict
    default: {}
  secret_config:
    description: Settings that must not be seen, like C(etcd-s3-secret-key).
    type: dict
    default: {}
  token:
    description: Token of the cluster. Kept in a file of its own, never on a command line. A first server without one makes its own.
    type: str
    default: ''
  servers:
    description: URLs of servers to join, the preferred one first. A member stays with the one it has while it is in the list.
    type: list
    elements: str
    default: []
  cluster_init:
    description: Whether a server without a datastore may begin a new cluster. Decide it from the state of all servers.
    type: bool
    default: false
  peers:
    description:
      - URLs of the other servers, for one that begins the cluster. Once it has its data, C(config.yaml) names the first of them in place of
        C(cluster-init), with which it would begin a second cluster if it lost its data.
    type: list
    elements: str
    default: []
  registries:
    description: Content of C(registries.yaml) without credentials.
    type: dict
    default: {}
  registries_auth:
    description: Credentials by registry host, each with C(username) and C(password), C(auth) or C(identity_token).
    type: dict
    default: {}
  environment:
    description: Environment of the service, for C(HTTP_PROXY), C(HTTPS_PROXY), C(NO_PROXY) and C(CONTAINERD_*). The binary is fetched through the same proxy.
    type: dict
    default: {}
  files:
    description: Content of more files that k3s reads at its start, by their path. They are kept for root alone.
    type: dict
    default: {}
  upgrade:
    description: Whether a member may be moved to another release.
    type: bool
    default: false
  cluster_version:
    description: Release of the servers, if it is known. With O(upgrade) an agent goes back to it, as after a restore of an older snapshot.
    type: str
    default: ''
  provider_id:
    description: The providerID that the Node must end up with; not checked when empty.
    type: str
    default: ''
  encryption:
    description:
      - Whether the cluster that a new server joins encrypts its Secrets. It beats C(secrets-encryption) in O(config), as does what a member runs
        with; where they differ a warning says so. Nothing when it is empty, as where a cluster is begun.
    type: str
    choices: ['', encrypted, plain]
    default: ''
  undecided:
    description:
      - Settings of a server for a cluster that is begun, by the names of k3s' flags, about which nothing else was said.
      - A member keeps its own instead, and a new server takes O(settings).
    type: dict
    default: {}
  settings:
    description: What the cluster that a new server joins has of O(undecided), as M(cht.k3s.k3s_server_info) says. Nothing where it is begun.
    type: dict
  keep_release:
    description: Whether k3s stays at the release that is installed, whatever O(version) says; O(staged) and O(checksum) then mean nothing.
    type: bool
    default: false
  repaired:
    description:
      - Names of the Nodes of servers that this run brings in order before it comes to this one. In check mode they count as healthy voters, so that
        a prediction does not refuse for what the run itself cures. Without check mode it means nothing.
    type: list
    elements: str
    default: []
  wait:
    description:
      - V(active) waits until the node is a Ready member and its service has started, and goes on for some seconds without a restart.
      - V(node) does not wait for the service, which on an agent starts only after the cloud provider has initialised the node.
      - V(none) returns after the service was told to start.
    type: str
    choices: [active, node, none]
    default: active
  timeout:
    description: Seconds to wait for the membership. A cause that waiting cannot cure ends it at once.
    type: int
    default: 300
attributes:
  check_mode:
    description: Predicts every file, the unit, the service and the membership, also on a machine that has none of them.
    support: full
  diff_mode:
    description: Shows the files with secrets masked, the service and the membership.
    support: full
"""

EXAMPLES = r"""
- name: Begin a cluster
  cht.k3s.k3s_join:
    role: server
    version: v1.34.4+k3s1
    release_url: https://github.com/k3s-io/k3s/releases/download
    cluster_init: true
    config:
      node-ip: 198.18.0.11
      disable: [local-storage]

- name: Join an agent
  cht.k3s.k3s_join:
    role: agent
    version: v1.34.4+k3s1
    release_url: https://github.com/k3s-io/k3s/releases/download
    token: "{{ cluster_token }}"
    servers:
      - https://198.18.0.11:6443

- name: Take k3s off a machine
  cht.k3s.k3s_join:
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in order.
  type: list
  elements: str
  returned: success
  sample: ["binary /usr/local/bin/k3s v1.34.4+k3s1", "file /etc/rancher/k3s/config.yaml", "start k3s.service"]
restarted:
  description: Whether a running service was restarted.
  type: bool
  returned: success
  sample: false
membership:
  description: The membership after the run.
  type: dict
  returned: success
  sample: {"role": "server", "node": "control-plane-1", "joining": "begin a new cluster"}
version:
  description: The release before and after.
  type: dict
  returned: success
  sample: {"before": "", "after": "v1.34.4+k3s1"}
cause:
  description: Id of the known cause found in the journal, empty when it is none of them.
  type: str
  returned: failure
  sample: wrong-token
node:
  description: Name of the Node.
  type: str
  returned: failure
  sample: agent-3
steps:
  description: How long each step took.
  type: list
  elements: dict
  returned: success
  sample: [{"name": "look", "seconds": 0.2}, {"name": "etcd", "seconds": 9.1}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.argument_spec import binary_spec
from ansible_collections.cht.k3s.plugins.module_utils.k3s.join import Joiner, Wanted
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System
from ansible_collections.cht.k3s.plugins.module_utils.k3s.uninstall import Remover


def argument_spec() -> dict:
    return dict(
        binary_spec(),
        role={"type": "str", "choices": ["server", "agent"]},
        state={"type": "str", "choices": ["present", "installed", "absent", "stopped", "started"], "default": "present"},
        version={"type": "str"},
        release_url={"type": "str", "default": ""},
        staged={"type": "str", "default": ""},
        checksum={"type": "str", "default": ""},
        config={"type": "dict", "default": {}},
        secret_config={"type": "dict", "default": {}, "no_log": True},
        token={"type": "str", "default": "", "no_log": True},
        servers={"type": "list", "elements": "str", "default": []},
        cluster_init={"type": "bool", "default": False},
        peers={"type": "list", "elements": "str", "default": []},
        registries={"type": "dict", "default": {}},
        registries_auth={"type": "dict", "default": {}, "no_log": True},
        environment={"type": "dict", "default": {}},
        files={"type": "dict", "default": {}},
        upgrade={"type": "bool", "default": False},
        cluster_version={"type": "str", "default": ""},
        provider_id={"type": "str", "default": ""},
        encryption={"type": "str", "choices": ["", "encrypted", "plain"], "default": ""},
        undecided={"type": "dict", "default": {}},
        settings={"type": "dict"},
        keep_release={"type": "bool", "default": False},
        repaired={"type": "list", "elements": "str", "default": []},
        wait={"type": "str", "choices": ["active", "node", "none"], "default": "active"},
        timeout={"type": "int", "default": 300},
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[
            ("state", "present", ("role", "version")), ("state", "installed", ("role", "version")), ("state", "stopped", ("role",)),
            ("state", "started", ("role",)),
        ],
    )
    params = dict(module.params)
    state = params.pop("state")
    system = System()
    joiner = None
    try:
        if state == "absent":
            result = Remover(system, params["binary"], module.check_mode).absent()
        else:
            joiner = Joiner(system, Wanted(**dict(params, version=params["version"] or "")), module.check_mode)
            result = {"present": joiner.present, "installed": joiner.installed, "stopped": joiner.stopped, "started": joiner.started}[state]()
    except NodeError as error:
        module.fail_json(
            msg=str(error), cause=error.cause, node=joiner.name if joiner else "",
            actions=joiner.actions if joiner else [], steps=joiner.steps if joiner else [],
        )
    for warning in joiner.warnings if joiner else []:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
