#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_projects
short_description: Bring the CHT projects of all counties into a cluster in one call
version_added: 1.0.0
description:
  - Checks the definitions of all counties, reads what the cluster has of them, builds all their objects for CHT 4.x and 5.x, and sends
    only what differs by server-side apply over parallel connections.
  - Every message carries the county's name. What is wrong with one county never keeps the others from being done, unless O(on_invalid=refuse).
  - Credentials that are not given are generated once and kept in the county's Secret, from which later runs read them.
  - CouchDB volumes that exist keep their class and never shrink. Images of CHT 4.x that the upgrade service made newer are kept.
  - Nothing is deleted but the upgrade service of a county that went from 4.x to 5.x, and the ResourceQuota, the LimitRange and the
    NetworkPolicies of this collection where they are not wanted any more. A county that leaves the list stays in the cluster.
  - Waiting for the pods is left to M(cht.k3s.cht_projects_wait).
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  projects:
    description:
      - The counties. The keys are those of the page I(Counties) of the documentation; RV(ignore:name), host and version are required.
      - Unknown keys are refused with the key that was probably meant.
    type: list
    elements: raw
    required: true
  defaults:
    description: What all counties share unless they say otherwise; the same keys.
    type: dict
    default: {}
  on_invalid:
    description:
      - What to do when the definition of a county is wrong.
      - V(refuse) fails before anything is changed, naming every problem of every county.
      - V(skip) deploys the good ones and reports the bad ones as failed.
    type: str
    choices: [refuse, skip]
    default: refuse
  on_newer:
    description:
      - What to do with a county that runs a newer CHT than wanted, which in 4.x its own upgrade page may have done.
      - V(keep) keeps the running images and says so (4.x; from 5.0 on, where only this role sets images, it is an error).
      - V(fail) makes it that county's error. V(force) downgrades, which CHT does not support and which may lose data.
    type: str
    choices: [keep, fail, force]
    default: keep
  downgrade:
    description:
      - Names of the counties that go back to the wanted version, as if O(on_newer=force) were for them alone. It is for a version that
        never started, as when its image does not exist. One that ran may have changed the database, which the older CHT does not know.
    type: list
    elements: str
    default: []
  adopt:
    description: Take over the objects of counties that were deployed by helm, under the same names; data and credentials are kept.
    type: bool
    default: false
  base_dir:
    description: Where relative paths of certificates and keys start.
    type: path
    default: .
  field_manager:
    description: The name under which the API server records which fields are ours.
    type: str
    default: cht.k3s
  force_conflicts:
    description: Take over fields that another manager set to another value, whoever it is.
    type: bool
    default: false
  only:
    description:
      - Names of the counties to deal with; all when left out. All definitions are checked together, as two counties must not share a host.
    type: list
    elements: str
  change_password:
    description:
      - Names of the counties whose C(credentials.password) may differ from the one in their Secret. CouchDB is told the new one first,
        through port forwarding; then the Secret is written and all pods that read it restart. CouchDB has to run.
    type: list
    elements: str
    default: []
  hold_restarts:
    description:
      - Leave counties alone that run and whose pods would restart, and return them as RV(held). They are changed later, in waves.
      - One that ran as it is and is down now, as during an outage, is left alone as well.
      - Counties that are new, or never came up as they are, have nothing to lose, and changes that restart no pod break none; both are
        done at once.
    type: bool
    default: false
  node_timeout:
    description:
      - The nodes of a clustered CouchDB that runs are changed one after the other. Seconds that each has to become ready; a county whose node takes longer
        fails, and its other nodes stay as they are.
      - API is stopped meanwhile, since it would end with each of them, and starts once.
    type: int
    default: 600
  shrink:
    description:
      - Percent of the cluster's counties that may be missing in O(projects); more is an error, as a list is empty or another cluster's sooner than meant.
      - Not looked at with O(only).
    type: int
    default: 100
  unstaged:
    description:
      - Names of the counties whose version is raised although it is not staged; C(all) stands for all. API indexes all views of the new version before it
        answers anybody, which takes hours or days on a county with much data.
      - Others that run are refused until M(cht.k3s.cht_projects_stage) has staged their version.
    type: list
    elements: str
    default: []
  parallel:
    description: How many connections are used at once.
    type: int
    default: 8
attributes:
  check_mode:
    description:
      - Objects that differ are sent as a dry run, so the API server itself predicts the result. Nothing is generated.
      - With an empty O(kubeconfig), or an API server that does not answer, all objects are predicted to be created.
    support: full
  diff_mode:
    description: One entry per object that changes; values of Secrets are masked.
    support: full
seealso:
  - module: cht.k3s.cht_projects_wait
  - module: cht.k3s.kube_apply
"""

EXAMPLES = r"""
- name: Deploy two counties
  cht.k3s.cht_projects:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    defaults:
      version: 4.22.0
    projects:
      - name: nairobi
        host: nairobi.health.example
      - name: kisumu
        host: kisumu.health.example
        couchdb:
          mode: single
          storage: 20Gi
"""

RETURN = r"""
counties:
  description: What became of each county.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the county.
      type: str
    namespace:
      description: Its namespace.
      type: str
    host:
      description: Its host name.
      type: str
    version:
      description: The wanted version of CHT.
      type: str
    upgrade_from:
      description: The version that runs, or ran until now, where the wanted one is newer; else empty.
      type: str
    stage:
      description: Whether the wanted version has to be staged before.
      type: bool
    state:
      description: C(changed), C(unchanged), C(waiting) for its wave, or C(failed).
      type: str
    ready:
      description: How many of its Deployments are ready.
      type: int
    total:
      description: How many Deployments it has.
      type: int
    created:
      description: How many of its objects were created.
      type: int
    updated:
      description: How many of its objects were changed.
      type: int
    removed:
      description: How many objects were removed, as the county went to 5.x or no longer asks for them.
      type: int
    growing:
      description: Whether a volume is smaller than it is to be.
      type: bool
    notes:
      description: What is worth knowing, such as an image that is newer than wanted.
      type: list
      elements: str
    errors:
      description: Why it failed.
      type: list
      elements: str
  sample:
    - name: nairobi
      namespace: nairobi
      host: nairobi.health.example
      version: 4.22.0
      upgrade_from: ""
      stage: false
      state: changed
      ready: 0
      total: 8
      created: 29
      updated: 0
      removed: 0
      growing: false
      notes: [credentials generated and kept in Secret cht-couchdb-credentials]
      errors: []
waiting:
  description: Names of the counties whose pods are not all ready, or whose volumes have not their size yet.
  returned: always
  type: list
  elements: str
  sample: [nairobi]
held:
  description: Names of the counties that O(hold_restarts) left alone.
  returned: always
  type: list
  elements: str
  sample: []
objects:
  description: The objects that were created or changed, or failed. Unchanged ones are left out.
  returned: always
  type: list
  elements: dict
  sample:
    - kind: Service
      namespace: nairobi
      name: api
      group: nairobi
      result: created
table:
  description: The counties as a table, for people.
  returned: always
  type: list
  elements: str
  sample:
    - "COUNTY   STATE    VERSION  HOST                    REMARK"
    - "nairobi  changed  4.22.0   nairobi.health.example  29 objects created"
    - "1 county: 1 changed"
summary:
  description: Number of objects by result, and of requests to the API server.
  returned: always
  type: dict
  sample: {"created": 29, "updated": 0, "unchanged": 0, "failed": 0, "skipped": 0, "requests": 41}
"""

import gc
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import hideable
from ansible_collections.cht.k3s.plugins.module_utils.cht.run import ListError, Settings, deploy, problems_message
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import read_counties, secret_values
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import FIELD_MANAGER
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def argument_spec() -> dict[str, Any]:
    return base_argument_spec(
        projects={"type": "list", "elements": "raw", "required": True},
        defaults={"type": "dict", "default": {}},
        on_invalid={"type": "str", "choices": ["refuse", "skip"], "default": "refuse"},
        on_newer={"type": "str", "choices": ["keep", "fail", "force"], "default": "keep"},
        downgrade={"type": "list", "elements": "str", "default": []},
        adopt={"type": "bool", "default": False},
        base_dir={"type": "path", "default": "."},
        field_manager={"type": "str", "default": FIELD_MANAGER},
        force_conflicts={"type": "bool", "default": False},
        parallel={"type": "int", "default": 8},
        only={"type": "list", "elements": "str"},
        change_password={"type": "list", "elements": "str", "default": [], "no_log": False},
        hold_restarts={"type": "bool", "default": False},
        node_timeout={"type": "int", "default": 600},
        unstaged={"type": "list", "elements": "str", "default": []},
        shrink={"type": "int", "default": 100},
    )


def take_projects(module: AnsibleModule) -> tuple[list[Any], dict[str, Any]]:
    """Return the definitions; the parameters forget them, as Ansible shows parameters and passwords must not be seen."""
    projects, defaults = module.params["projects"], module.params["defaults"]
    names = [str(entry.get(key)) for entry in projects if isinstance(entry, dict) for key in ("name", "namespace", "host") if entry.get(key)]
    module.no_log_values.update(hideable(secret_values([*projects, defaults]), names))
    module.params["projects"] = f"{len(projects)} counties"
    module.params["defaults"] = f"{len(defaults)} keys"
    return projects, defaults


def main() -> None:
    # Nearly everything here lives to the end; to search it for cycles again and again takes a third of the time.
    gc.disable()
    # no_log keeps the definitions, which may hold passwords, out of the system's log.
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True, no_log=True)
    projects, defaults = take_projects(module)
    counties, problems = read_counties(projects, defaults)
    if problems and module.params["on_invalid"] == "refuse":
        module.fail_json(msg=problems_message(problems))
    settings = Settings(
        check_mode=module.check_mode,
        with_diff=module._diff,
        on_newer=module.params["on_newer"],
        adopt=module.params["adopt"],
        base_dir=module.params["base_dir"],
        field_manager=module.params["field_manager"],
        force_conflicts=module.params["force_conflicts"],
        parallel=module.params["parallel"],
        only=None if module.params["only"] is None else frozenset(module.params["only"]),
        change_password=frozenset(module.params["change_password"]),
        hold_restarts=module.params["hold_restarts"],
        downgrade=frozenset(module.params["downgrade"]),
        node_timeout=module.params["node_timeout"],
        unstaged=frozenset(module.params["unstaged"]),
        shrink=module.params["shrink"],
    )
    client = open_client(module)
    try:
        result = deploy(client, counties, problems, settings, module.no_log_values.update)
    except ListError as error:
        module.fail_json(msg=str(error))
    except ApiError as error:
        module.fail_json(msg=f"The counties can't be compared with the cluster: {error.message}")
    finally:
        if client is not None:
            client.close()
    failed = [county["name"] for county in result["counties"] if county["state"] == "failed"]
    if failed:
        module.fail_json(msg=f"{len(failed)} of {len(result['counties'])} counties failed:\n" + "\n".join(result["table"]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
