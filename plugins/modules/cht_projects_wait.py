#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_projects_wait
short_description: Wait until the pods of counties are ready
version_added: 1.0.0
description:
  - Waits until every Deployment of the given counties has all its pods of the present template ready.
  - Then asks the first CouchDB node for C(/_membership) and its database, and API for C(/api/v2/monitoring), through the API server's port forwarding, so that
    no network policy stands in the way.
  - While it waits, it shows now and then how many counties are ready and what the next one waits for.
  - A county that is not ready in time is reported with its obstacle (an image that can't be pulled, a claim that is not bound, no
    agent with enough memory). That alone is no failure of this module; see RV(waiting).
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  counties:
    description: The counties to wait for, as M(cht.k3s.cht_projects) returns them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the county.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
        required: true
  timeout:
    description: Seconds to wait for all of them together.
    type: int
    default: 900
  upgrade_timeout:
    description: Seconds to wait for counties whose API indexes or migrates, which it answers with its progress; not counted before O(timeout) is over.
    type: int
    default: 172800
  health:
    description: Ask CouchDB and API, besides looking at the pods.
    type: bool
    default: true
  report_every:
    description: Seconds between two lines of progress.
    type: int
    default: 15
attributes:
  check_mode:
    description: Looks once and does not wait, since a predicted pod never gets ready.
    support: full
  diff_mode:
    description: Nothing is changed.
    support: none
seealso:
  - module: cht.k3s.cht_projects
"""

EXAMPLES = r"""
- name: Wait for what was just deployed
  cht.k3s.cht_projects_wait:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    counties: "{{ applied.counties | selectattr('name', 'in', applied.waiting) | list }}"
    timeout: 600
"""

RETURN = r"""
counties:
  description: How far each county is.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the county.
      type: str
    ready:
      description: How many of its Deployments are ready.
      type: int
    total:
      description: How many Deployments it has.
      type: int
    obstacle:
      description: What it waits for; empty when it is ready.
      type: str
    upgrading:
      description: Whether it waits for API, which indexes or migrates.
      type: bool
  sample:
    - name: nairobi
      ready: 7
      total: 8
      obstacle: "claim couchdb-3-claim0 is Pending (StorageClass vmware-sc)"
      upgrading: false
waiting:
  description: Names of the counties that are not ready.
  returned: always
  type: list
  elements: str
  sample: [nairobi]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.health import checker
from ansible_collections.cht.k3s.plugins.module_utils.cht.proof import note_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.wait import Target, growing, wait
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def argument_spec() -> dict[str, Any]:
    options = {"name": {"type": "str", "required": True}, "namespace": {"type": "str", "required": True}}
    return base_argument_spec(
        counties={"type": "list", "elements": "dict", "required": True, "options": options},
        timeout={"type": "int", "default": 900},
        upgrade_timeout={"type": "int", "default": 172800},
        health={"type": "bool", "default": True},
        report_every={"type": "int", "default": 15},
    )


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    targets = [Target(entry["name"], entry["namespace"]) for entry in module.params["counties"]]
    client = open_client(module)
    if client is None or not targets:
        module.exit_json(counties=[], waiting=[])
    try:
        ask = checker(client, module.params["health"])
        progress = wait(
            client, targets, 0 if module.check_mode else module.params["timeout"], ask=ask is not None,
            check=lambda space: growing(client, space) or (ask(space) if ask else ""),
        )
        if not module.check_mode:
            note_of(client, {target.namespace for target in targets})
    except ApiError as error:
        module.fail_json(msg=f"The pods of the counties can't be read: {error.message}")
    finally:
        client.close()
    counties = [
        {"name": name, "ready": found.ready, "total": found.total, "obstacle": found.obstacle, "upgrading": found.upgrading}
        for name, found in progress.items()
    ]
    module.exit_json(counties=counties, waiting=[name for name, found in progress.items() if not found.done])


if __name__ == "__main__":
    main()
