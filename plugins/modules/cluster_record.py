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
    description: What the entry is to say.
    type: raw
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
"""

RETURN = r"""
record:
  description: The entries as they are after the task; one that was never written is not among them.
  returned: always
  type: dict
  sample: {"told": ["bad agent-3: is not ready: its kubelet does not report"]}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.kube import record
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def argument_spec() -> dict[str, Any]:
    return base_argument_spec(entry={"type": "str", "choices": list(record.ENTRIES)}, value={"type": "raw"})


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True, required_by={"entry": ("value",)})
    client = open_client(module)
    if client is None:
        module.exit_json(changed=False, record={})
    entry, value = module.params["entry"], module.params["value"]
    try:
        before = record.read(client)
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
