#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_watch
short_description: Decide whether a silent agent is to be fenced
version_added: 1.0.0
description:
  - Reads the nodes and says of each that is silent what is done about it, and why. Nothing is changed.
  - Never names a server, nor an agent while another one is fenced, nor any while more than O(share) percent of all agents are silent, which is
    rather the network than the machines.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  auto:
    description:
      - What may be done without a person. V(when_off) fences an agent whose VM vCenter shows as off, V(power_off) also powers it off.
      - YAML reads a bare V(off) as false, which is the same here.
    type: str
    default: 'off'
  after:
    description: Seconds for which an agent must have been silent.
    type: int
    default: 180
  share:
    description: Percentage of agents above which none is fenced.
    type: int
    default: 34
  hosts:
    description: The agents of the inventory.
    type: list
    elements: str
    required: true
  names:
    description: Names of their Nodes in the same order; empty where it is the host's name.
    type: list
    elements: str
    default: []
  cluster:
    description: Name of the cluster, for what is told.
    type: str
    default: ''
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Decide
  cht.k3s.k3s_watch:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    auto: when_off
    hosts: "{{ groups['agent'] }}"
"""

RETURN = r"""
host:
  description: The host to fence; empty for none.
  returned: always
  type: str
  sample: agent-3
auto:
  description: What may be done without a person.
  returned: always
  type: str
  sample: when_off
news:
  description: What is decided, as M(cht.k3s.cht_report) gives its news.
  returned: always
  type: dict
  sample: {"changed": true, "level": "bad", "subject": "cht: 1 new, 0 gone; 1 red and 0 yellow in all", "told": [], "new": [], "gone": []}
findings:
  description: What is decided of each silent node.
  returned: always
  type: list
  elements: dict
  sample:
    - level: bad
      what: agent-3
      text: "is silent since 2026-01-02 03:04:05 UTC; is fenced when vCenter shows its VM as off"
      next: ansible-playbook cht.k3s.fence_node -e k3s_fence=agent-3
"""

import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht import record
from ansible_collections.cht.k3s.plugins.module_utils.cht.news import news
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import NODES
from ansible_collections.cht.k3s.plugins.module_utils.kube.watch import Policy, decide, permission


def argument_spec() -> dict[str, Any]:
    return base_argument_spec(
        auto={"type": "str", "default": "off"},
        after={"type": "int", "default": 180},
        share={"type": "int", "default": 34},
        hosts={"type": "list", "elements": "str", "required": True},
        names={"type": "list", "elements": "str", "default": []},
        cluster={"type": "str", "default": ""},
    )


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        policy = Policy(permission(params["auto"]), params["after"], params["share"])
    except ValueError as error:
        module.fail_json(msg=f"k3s_fence_auto: {error}")
    client = open_client(module)
    if client is None:
        module.exit_json(changed=False, host="", auto=policy.auto, findings=[], news={})
    names = params["names"] or [""] * len(params["hosts"])
    try:
        now = datetime.datetime.now(datetime.timezone.utc)
        found = decide(list(client.items(NODES.collection())), {name or host: host for host, name in zip(params["hosts"], names)}, now, policy)
        told = record.read(client).get("watch")
    except ApiError as error:
        module.fail_json(msg=f"The cluster can't be read, so nothing is decided: {error.message}")
    finally:
        client.close()
    said = news({"cluster": params["cluster"], "time": now.strftime("%Y-%m-%d %H:%M UTC"), "problems": found.findings}, told)
    module.exit_json(changed=False, host=found.host, auto=policy.auto, findings=found.findings, news=said)


if __name__ == "__main__":
    main()
