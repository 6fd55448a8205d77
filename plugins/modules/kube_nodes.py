#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kube_nodes
short_description: Wait until the cloud provider has taken over nodes
version_added: 1.0.0
description:
  - Waits until nodes have their providerID, an address and no C(uninitialized) taint, and says for each one that has not, why.
  - Lines of the cloud provider's log about such a node are added to the message.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  nodes:
    description:
      - The nodes to wait for. Each has to be in the cluster.
      - When left out, all nodes that are in the cluster are waited for.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the node.
        type: str
        required: true
      provider_id:
        description: The providerID that it should have.
        type: str
        default: ""
      ip:
        description: The InternalIP that it should have.
        type: str
        default: ""
  only_existing:
    description: Leave out nodes of O(nodes) that are not in the cluster.
    type: bool
    default: false
  wait_for:
    description:
      - V(initialized) waits for all that the cloud provider does.
      - V(provider_id) waits until the nodes have a providerID, which the storage driver needs.
      - V(no_conflict) only looks whether a node has another providerID than it should; such a node must not meet the cloud provider.
    type: str
    choices: [initialized, provider_id, no_conflict]
    default: initialized
  wait_ready:
    description: Also wait until the nodes are Ready.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for all of them together; 0 looks once.
    type: int
    default: 300
  log_namespace:
    description: Namespace of the cloud provider's pods.
    type: str
    default: kube-system
  log_selector:
    description: Label selector of the cloud provider's pods.
    type: str
    default: name=vsphere-cloud-controller-manager
attributes:
  check_mode:
    description: Does not wait in check mode; it returns the nodes as they are.
    support: full
"""

EXAMPLES = r"""
- name: Wait until every node that has joined is initialised
  cht.k3s.kube_nodes:
    kubeconfig: "{{ k3s_access_kubeconfig }}"

- name: Wait for one node with its providerID
  cht.k3s.kube_nodes:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    nodes:
      - name: agent-1
        provider_id: vsphere://420e3f5c-0000-4000-8000-000000000021
"""

RETURN = r"""
nodes:
  description: The nodes of the cluster.
  returned: always
  type: list
  elements: dict
  sample:
    - name: agent-1
      provider_id: vsphere://420e3f5c-0000-4000-8000-000000000021
      initialized: true
      ready: true
      internal_ips: [192.0.2.21]
      control_plane: false
obstacles:
  description: Why nodes are not initialised, by name.
  returned: always
  type: dict
  sample: {}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.kube import status
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


class Watch:
    """Looks at the nodes again and again and keeps what it saw last."""

    def __init__(self, client: Client, params: dict[str, Any]) -> None:
        self._client = client
        self._params = params
        self.seen: dict[str, dict[str, Any]] = {}

    def look(self) -> dict[str, str]:
        self.seen = status.nodes(self._client)
        wanted = self._params["nodes"]
        if wanted is None:
            if not self.seen:
                return {"cluster": "has no nodes"}
            wanted = [{"name": name, "provider_id": "", "ip": ""} for name in self.seen]
        obstacles = {}
        for entry in wanted:
            facts = self.seen.get(entry["name"])
            if facts is None and self._params["only_existing"]:
                continue
            obstacle = self._obstacle(facts, entry)
            if not obstacle and self._params["wait_ready"] and facts is not None and not facts["ready"]:
                obstacle = "is not Ready"
            if obstacle:
                obstacles[entry["name"]] = obstacle
        return obstacles

    def _obstacle(self, facts: dict[str, Any] | None, entry: dict[str, str]) -> str:
        if self._params["wait_for"] == "initialized" or facts is None:
            return status.node_obstacle(facts, entry["provider_id"], entry["ip"])
        if self._params["wait_for"] == "provider_id" and not facts["provider_id"]:
            return "has no providerID. Apply the cloud provider (role cpi) first"
        return status.provider_conflict(facts, entry["provider_id"])

    def message(self, obstacles: dict[str, str]) -> str:
        logs = status.log_lines(self._client, self._params["log_namespace"], self._params["log_selector"], list(obstacles))
        lines = []
        for name, obstacle in obstacles.items():
            lines.append(f"- {name} {obstacle}.")
            lines.extend(f"    cloud provider: {line}" for line in logs.get(name, []))
        return f"{len(obstacles)} nodes are not as they should be after {self._params['timeout']} s:\n" + "\n".join(lines)


def main() -> None:
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            nodes={
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "provider_id": {"type": "str", "default": ""},
                    "ip": {"type": "str", "default": ""},
                },
            },
            only_existing={"type": "bool", "default": False},
            wait_for={"type": "str", "choices": ["initialized", "provider_id", "no_conflict"], "default": "initialized"},
            wait_ready={"type": "bool", "default": False},
            timeout={"type": "int", "default": 300},
            log_namespace={"type": "str", "default": "kube-system"},
            log_selector={"type": "str", "default": "name=vsphere-cloud-controller-manager"},
        ),
        supports_check_mode=True,
    )
    client = open_client(module)
    if client is None:
        module.exit_json(changed=False, nodes=[], obstacles={})
    watch = Watch(client, module.params)
    try:
        obstacles = status.wait_for(watch.look, 0 if module.check_mode else module.params["timeout"])
        # What needs no waiting is wrong in check mode as well.
        wrong = obstacles and (not module.check_mode or module.params["wait_for"] == "no_conflict")
        message = watch.message(obstacles) if wrong else ""
    except ApiError as error:
        module.fail_json(msg=f"The nodes can't be read: {error.message}", nodes=[], obstacles={})
    finally:
        client.close()
    result = {"nodes": list(watch.seen.values()), "obstacles": obstacles}
    if message:
        module.fail_json(msg=message, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
