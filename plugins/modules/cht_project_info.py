#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_project_info
short_description: What the cluster has of the counties
version_added: 1.0.0
description:
  - Lists the counties in the cluster, found by the label on their namespaces, with versions, readiness, agents and volumes.
  - Shows their CouchDB credentials when asked to.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  counties:
    description: Names of the counties; all when left out.
    type: list
    elements: str
  credentials:
    description: Return the entries of each county's Secret, too. Keep such output away from logs.
    type: bool
    default: false
attributes:
  check_mode:
    description: Nothing is changed.
    support: full
"""

EXAMPLES = r"""
- name: See what is there
  cht.k3s.cht_project_info:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
  register: found
"""

RETURN = r"""
counties:
  description: The counties, by name.
  returned: always
  type: list
  elements: dict
  sample:
    - name: nairobi
      namespace: nairobi
      host: nairobi.health.example
      versions: [4.22.0]
      ready: 7
      total: 8
      obstacle: "pod cht-api-6d4 is not ready"
      nodes: [agent-3]
      volumes: {couchdb-1-claim0: 4Gi}
      growing: ["claim couchdb-1-claim0 has 4Gi, and 6Gi are wanted since 2026-01-02T03:04:05Z"]
missing:
  description: Names that were asked for and are not in the cluster.
  returned: always
  type: list
  elements: str
  sample: []
unknown:
  description: The same as messages, with the nearest name that the cluster has.
  returned: always
  type: list
  elements: str
  sample: ["counties: 'nairobbi' is not known; did you mean 'nairobi'?"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.cluster import describe, places
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client
from ansible_collections.cht.k3s.plugins.module_utils.names import unknown


def argument_spec() -> dict[str, Any]:
    return base_argument_spec(counties={"type": "list", "elements": "str"}, credentials={"type": "bool", "default": False})


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    names = module.params["counties"]
    client = open_client(module)
    if client is None:
        module.exit_json(counties=[], missing=names or [], unknown=[])
    try:
        counties = describe(client, names, module.params["credentials"])
        wrong = unknown({"counties": names or []}, [name for name, dummy in places(client)])
    except ApiError as error:
        module.fail_json(msg=f"The counties can't be read: {error.message}")
    finally:
        client.close()
    found = {county["name"] for county in counties}
    module.exit_json(counties=counties, missing=[name for name in names or [] if name not in found], unknown=wrong)


if __name__ == "__main__":
    main()
