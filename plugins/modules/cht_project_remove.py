#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_project_remove
short_description: Take counties out of the cluster, asked for by name
version_added: 1.0.0
description:
  - Removes the workloads, Services and Ingress of counties. Namespace, volumes and credentials stay, so that a county that comes back to
    the list goes on with its data.
  - Removes the data, too, of those counties that O(data) names as well. Their credentials are kept as a Secret in O(namespace). Who names the disks in
    C(couchdb.volumes) gets them again.
  - A county that is gone already is no error, so that an interrupted removal can be repeated. A name of which there is neither a county, a backup set
    nor a volume is one.
  - Refuses a county that a backup, a restore or a move works on.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  counties:
    description: Names of the counties.
    type: list
    elements: str
    required: true
  data:
    description: Those of O(counties) whose namespace with its claims is removed as well; what becomes of the disks is their reclaim policy.
    type: list
    elements: str
    default: []
  namespace:
    description: Namespace of the backup sets, in which credentials are kept.
    type: str
    default: cht-backups
  timeout:
    description: Seconds to wait for each county until its pods, or its namespace, are gone.
    type: int
    default: 300
attributes:
  check_mode:
    description: Says what would be removed.
    support: full
"""

EXAMPLES = r"""
- name: Remove a county and keep its data
  cht.k3s.cht_project_remove:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    counties: [nairobi]

- name: Remove a county for good
  cht.k3s.cht_project_remove:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    counties: [kisumu]
    data: [kisumu]
"""

RETURN = r"""
counties:
  description: What was removed of each county, and what was kept.
  returned: always
  type: list
  elements: dict
  sample:
    - name: nairobi
      namespace: nairobi
      removed: [Ingress api-ingress, Deployment cht-api]
      kept: [Namespace nairobi, Secret cht-couchdb-credentials, PersistentVolumeClaim couchdb-claim0]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import NAMESPACE
from ansible_collections.cht.k3s.plugins.module_utils.cht.cluster import Removal, RemoveError, remove
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import end_by_sigterm
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def argument_spec() -> dict[str, Any]:
    return base_argument_spec(
        counties={"type": "list", "elements": "str", "required": True},
        data={"type": "list", "elements": "str", "default": []},
        namespace={"type": "str", "default": NAMESPACE},
        timeout={"type": "int", "default": 300},
    )


def represent(removal: Removal) -> dict[str, Any]:
    return {"name": removal.name, "namespace": removal.namespace, "removed": list(removal.removed), "kept": list(removal.kept)}


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    names, data = module.params["counties"], module.params["data"]
    alone = [name for name in data if name not in names]
    if alone:
        module.fail_json(msg=f"data names {', '.join(alone)}, which counties does not: name a county in both to remove its data")
    client = open_client(module)
    done: list[dict[str, Any]] = []
    if client is None:
        module.exit_json(changed=False, counties=done)
    # A job that is cancelled lets others have the county.
    end_by_sigterm()
    try:
        for name in names:
            done.append(represent(remove(client, name, name in data, module.params["timeout"], module.check_mode, module.params["namespace"])))
    except RemoveError as error:
        module.fail_json(msg=str(error), counties=done)
    except ApiError as error:
        module.fail_json(msg=f"The counties can't be removed: {error.message}", counties=done)
    finally:
        client.close()
    module.exit_json(changed=any(entry["removed"] for entry in done), counties=done)


if __name__ == "__main__":
    main()
