#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_projects_smoke
short_description: Meet counties as a user's browser does
version_added: 1.0.0
description:
  - Opens the login page of each county through the ingress controller. With the account of its key C(smoke_test) it logs in, too, and asks for the version.
  - Asked through the API server's port forwarding, so that it needs no DNS and no way to the nodes. No account and no document is created.
  - What a county's users meet is returned; it is no failure of this module. M(cht.k3s.cht_projects_waves) runs it after each upgrade.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  projects:
    description: The counties, as for M(cht.k3s.cht_projects).
    type: list
    elements: raw
    required: true
  defaults:
    description: What all counties share unless they say otherwise; the same keys.
    type: dict
    default: {}
  only:
    description: Names of the counties to test; all when left out.
    type: list
    elements: str
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: Nothing is changed.
    support: none
seealso:
  - module: cht.k3s.cht_projects_waves
"""

EXAMPLES = r"""
- name: Look at all counties as their users do
  cht.k3s.cht_projects_smoke:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    projects: "{{ cht_projects }}"
    defaults: "{{ cht_project_defaults }}"
"""

RETURN = r"""
counties:
  description: What the users of each county meet.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the county.
      type: str
    problem:
      description: What they meet instead of their county; empty when it is there.
      type: str
    untested:
      description: Why it could not be tested; empty when it was.
      type: str
  sample:
    - name: nairobi
      problem: ""
      untested: ""
"""

from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import hideable
from ansible_collections.cht.k3s.plugins.module_utils.cht.smoke import SmokeError, meet
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import County, read_counties, secret_values
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def main() -> None:
    # no_log keeps the definitions, which may hold passwords, out of the system's log.
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            projects={"type": "list", "elements": "raw", "required": True},
            defaults={"type": "dict", "default": {}},
            only={"type": "list", "elements": "str"},
        ),
        supports_check_mode=True,
        no_log=True,
    )
    projects, defaults, only = (module.params[name] for name in ("projects", "defaults", "only"))
    names = [str(entry.get(key)) for entry in projects if isinstance(entry, dict) for key in ("name", "namespace", "host") if entry.get(key)]
    module.no_log_values.update(hideable(secret_values([*projects, defaults]), names))
    module.params["projects"], module.params["defaults"] = f"{len(projects)} counties", f"{len(defaults)} keys"
    counties = [county for county in read_counties(projects, defaults)[0] if only is None or county.name in only]
    client = open_client(module)
    if client is None or not counties:
        module.exit_json(counties=[])

    def look(county: County) -> dict[str, str]:
        try:
            return {"name": county.name, "problem": meet(client, county), "untested": ""}
        except SmokeError as error:
            return {"name": county.name, "problem": "", "untested": str(error)}

    try:
        with ThreadPoolExecutor(max_workers=min(8, len(counties))) as pool:
            found = list(pool.map(look, counties))
    finally:
        client.close()
    module.exit_json(counties=found)


if __name__ == "__main__":
    main()
