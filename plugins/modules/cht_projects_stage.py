#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_projects_stage
short_description: Stage the next CHT version of counties while their users work
version_added: 1.0.0
description:
  - Asks API of each county to load the views of a version from the builds server and to index them (C(/api/v1/upgrade/stage)), and waits.
  - An API of that version, whose images M(cht.k3s.cht_projects) sets afterwards, then starts at once; without it API would index before it answers.
  - A county that is staged, or on its way as after a run that was interrupted, is not begun again.
  - API is asked through the API server's port forwarding, as CouchDB's administrator, who may do what CHT calls C(can_configure) or C(can_upgrade).
  - M(cht.k3s.cht_projects_waves) runs this module for each wave.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  counties:
    description: The counties, as M(cht.k3s.cht_projects) returns them.
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
      version:
        description: The version to stage.
        type: str
        required: true
  begin:
    description: Names of the counties that are begun where nothing is under way; the others are only looked at. All when left out.
    type: list
    elements: str
  timeout:
    description: Seconds to wait for all of them together.
    type: int
    default: 900
attributes:
  check_mode:
    description: Looks, begins nothing and does not wait.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
seealso:
  - module: cht.k3s.cht_projects
  - module: cht.k3s.cht_projects_waves
"""

EXAMPLES = r"""
- name: Stage the version of the list before the night
  cht.k3s.cht_projects_stage:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    counties:
      - name: nairobi
        namespace: nairobi
        version: 4.22.0
    timeout: 28800
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
    state:
      description: >-
        C(staged), C(staging), C(none) (nothing was begun), C(ended) (API gave up), C(refused) (can't be staged) or C(silent) (API did not answer just now).
      type: str
    text:
      description: The figure of the indexing, or what stands against it.
      type: str
  sample:
    - name: nairobi
      state: staging
      text: indexing 37% (medic/medic-client 12%)
waiting:
  description: Names of the counties that are on their way.
  returned: always
  type: list
  elements: str
  sample: [nairobi]
"""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.inside import InsideError, api_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.stage import SILENT, STAGING, Stage, begin, look
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client

_INTERVAL = 5.0


def argument_spec() -> dict[str, Any]:
    options = {name: {"type": "str", "required": True} for name in ("name", "namespace", "version")}
    return base_argument_spec(
        counties={"type": "list", "elements": "dict", "required": True, "options": options},
        begin={"type": "list", "elements": "str"},
        timeout={"type": "int", "default": 900},
    )


def ask(client: Client, county: dict[str, str], first: bool) -> Stage:
    try:
        api = api_of(client, county["namespace"])
        return begin(api, county["version"]) if first else look(api, county["version"])
    except InsideError as error:
        return Stage(SILENT, str(error))


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    counties = {county["name"]: county for county in module.params["counties"]}
    client = open_client(module)
    if client is None or not counties:
        module.exit_json(counties=[], waiting=[])
    names = counties if module.params["begin"] is None else module.params["begin"]
    first = set() if module.check_mode else set(names)
    deadline = time.monotonic() + module.params["timeout"]
    found: dict[str, Stage] = {}
    left = list(counties)
    changed = False
    try:
        with ThreadPoolExecutor(max_workers=min(8, len(counties))) as pool:
            while True:
                found.update(zip(left, pool.map(ask, repeat(client), [counties[name] for name in left], [name in first for name in left])))
                changed = changed or any(found[name].begun for name in left)
                first = set()
                left = [name for name in left if found[name].state == STAGING]
                if not left or module.check_mode or time.monotonic() >= deadline:
                    break
                time.sleep(max(0.0, min(_INTERVAL, deadline - time.monotonic())))
    finally:
        client.close()
    rows = [{"name": name, "state": stage.state, "text": stage.text} for name, stage in found.items()]
    module.exit_json(changed=changed, counties=rows, waiting=left)


if __name__ == "__main__":
    main()
