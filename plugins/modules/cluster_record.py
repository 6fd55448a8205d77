#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_record
short_description: Keep what the collection has to know about a cluster in the cluster
version_added: 1.0.0
description:
  - Reads and writes the ConfigMap C(kube-system/cht-k3s). Each of its entries is a JSON text that belongs to one part of the collection.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  entry:
    description: The entry to write. Without it everything is only read.
    type: str
    choices: [cluster, told, watch]
  value:
    description: What the entry is to say. That of the cluster is made from O(name).
    type: raw
  name:
    description:
      - How the inventory calls the cluster. Where another name stands in the cluster the task fails.
    type: str
    default: ''
  rename:
    description: The name that may stand there instead.
    type: str
    default: ''
  whole:
    description: Whether the entry of the cluster also says which versions, nodes and counties it has.
    type: bool
    default: false
  uids:
    description: UIDs of kube-system as the servers of the inventory gave them; a cluster with another one is refused.
    type: list
    elements: str
    default: []
  machines:
    description: UUIDs of the inventory's VMs, as far as they are known; used where no server said anything. A cluster with none of them is refused.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Says whether the entry would change, and writes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Note what was told
  cht.k3s.cluster_record:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    entry: told
    value: "{{ report.news.told }}"

- name: Refuse another cluster than the inventory's, and keep its name
  cht.k3s.cluster_record:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    entry: cluster
    name: "{{ k3s_cluster_name }}"
"""

RETURN = r"""
record:
  description: The entries as they are after the task; one that was never written is not among them.
  returned: always
  type: dict
  sample:
    told: ["bad agent-3: is not ready: its kubelet does not report"]
    cluster:
      name: lab
      id: 0b5c3f4e-6f7a-4a53-9f0e-2b6d7d0c9a11
      versions: {k3s: [v1.35.4+k3s1], cpi: 1.35.0, csi: 3.7.0, counties: {nairobi: 4.22.0}}
      nodes: {agent-1: "vsphere://42105bd8-54e3-4b32-9b41-bb6f8a8d3a5c"}
      changed: "2026-01-02T03:04:05Z"
"""

import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht import record
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def argument_spec() -> dict[str, Any]:
    texts = {"type": "list", "elements": "str", "default": []}
    return base_argument_spec(
        entry={"type": "str", "choices": list(record.ENTRIES)},
        value={"type": "raw"},
        name={"type": "str", "default": ""},
        rename={"type": "str", "default": ""},
        whole={"type": "bool", "default": False},
        uids=texts,
        machines=texts,
    )


def main() -> None:
    needs = [("entry", "cluster", ("name",)), ("entry", "told", ("value",)), ("entry", "watch", ("value",))]
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True, required_if=needs)
    client = open_client(module)
    if client is None:
        # Check mode of a cluster that is not there yet.
        module.exit_json(changed=bool(module.params["entry"]), record={})
    entry, value = module.params["entry"], module.params["value"]
    try:
        before = record.read(client)
        if module.params["name"]:
            given = [module.params[option] for option in ("name", "rename", "uids", "machines")]
            problem = record.judged(client, before, *given)
            if problem:
                module.fail_json(msg=problem)
        if entry == "cluster":
            now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            value = record.described(client, before, module.params["name"], module.params["whole"], now)
        changed = bool(entry) and before.get(entry) != value
        if changed and not module.check_mode:
            record.write(client, entry, value)
    except ApiError as error:
        module.fail_json(msg=f"The record of the cluster ({record.NAMESPACE}/{record.NAME}) can't be kept: {error.message}")
    finally:
        client.close()
    module.exit_json(changed=changed, record={**before, entry: value} if changed else before)


if __name__ == "__main__":
    main()
