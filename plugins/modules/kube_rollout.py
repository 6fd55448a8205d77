#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kube_rollout
short_description: Wait until workloads are rolled out
version_added: 1.0.0
description:
  - Waits for Deployments, DaemonSets and StatefulSets together, and says for each that does not come up what its pods lack.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  workloads:
    description: What to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: Kind of the workload.
        type: str
        required: true
        choices: [Deployment, DaemonSet, StatefulSet]
      namespace:
        description: Its namespace.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
  timeout:
    description: Seconds to wait for all of them together.
    type: int
    default: 300
  hint:
    description: What to do about it, added to the message of a failure.
    type: str
    default: ""
attributes:
  check_mode:
    description: Does not wait in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Wait for the cloud provider
  cht.k3s.kube_rollout:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    workloads:
      - kind: DaemonSet
        namespace: kube-system
        name: vsphere-cloud-controller-manager
"""

RETURN = r"""
obstacles:
  description: What is missing, by workload; empty when all are rolled out.
  returned: always
  type: dict
  sample: {}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.kube import status
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def explain(client: Client, workloads: list[dict[str, str]], obstacles: dict[str, str]) -> str:
    lines = []
    for entry in workloads:
        name = f"{entry['kind']} {entry['namespace']}/{entry['name']}"
        if name not in obstacles:
            continue
        lines.append(f"- {name} {obstacles[name]}")
        live = client.find(status.workload_path(entry["kind"], entry["namespace"], entry["name"]))
        if live is not None:
            lines.extend(f"    {cause}" for cause in status.pod_obstacles(client, live))
    lines.extend(f"- {name}: {text}" for name, text in obstacles.items() if name == "API server")
    return "\n".join(lines)


def main() -> None:
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            workloads={
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "kind": {"type": "str", "required": True, "choices": ["Deployment", "DaemonSet", "StatefulSet"]},
                    "namespace": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                },
            },
            timeout={"type": "int", "default": 300},
            hint={"type": "str", "default": ""},
        ),
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, obstacles={})
    client = open_client(module)
    workloads, seconds = module.params["workloads"], module.params["timeout"]
    try:
        obstacles = status.wait_for(lambda: status.rollouts(client, workloads), seconds)
        if obstacles:
            text = explain(client, workloads, obstacles)
            hint = f"\n{module.params['hint']}" if module.params["hint"] else ""
            module.fail_json(msg=f"Not rolled out after {seconds} s:\n{text}{hint}", obstacles=obstacles)
    except ApiError as error:
        module.fail_json(msg=f"The workloads can't be read: {error.message}", obstacles={})
    finally:
        client.close()
    module.exit_json(changed=False, obstacles={})


if __name__ == "__main__":
    main()
