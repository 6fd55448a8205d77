#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_project_backup_info
short_description: The backup sets of counties
version_added: 1.0.0
description:
  - Lists the backup sets that the cluster has, also those of counties that it does not have any more. Credentials are not shown.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
  - cht.k3s.cht_backup
attributes:
  check_mode:
    description: Nothing is changed.
    support: full
"""

EXAMPLES = r"""
- name: List the backup sets
  cht.k3s.cht_project_backup_info:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
  register: found
"""

RETURN = r"""
sets:
  description: The sets of all counties, oldest first.
  returned: always
  type: list
  elements: dict
  sample:
    - set: nairobi-20260102-030405
      county: nairobi
      namespace: nairobi
      taken: "2026-01-02T03:04:05Z"
      live: false
      state: complete
      versions: [4.22.0]
      volumes: {couchdb-1-claim0: 20Gi}
lines:
  description: The same, one line for each.
  returned: always
  type: list
  elements: str
  sample: ["nairobi-20260102-030405  complete  1 volumes (20Gi)  CHT 4.22.0"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_arguments import sets_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import BackupError, Store, line
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import open_client


def argument_spec() -> dict[str, Any]:
    return sets_argument_spec()


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    client = open_client(module)
    if client is None:
        module.exit_json(sets=[], lines=[])
    store = Store(client, module.params["namespace"])
    try:
        found = store.all()
    except BackupError as error:
        module.fail_json(msg=f"The backup sets can't be read: {error}")
    except ApiError as error:
        module.fail_json(msg=f"The backup sets can't be read: {error.message}")
    finally:
        client.close()
    for text in store.damaged:
        module.warn(f"{text}; it is left out")
    module.exit_json(sets=[item.shown() for item in found], lines=[line(item) for item in found])


if __name__ == "__main__":
    main()
