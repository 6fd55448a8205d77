#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_datastore
short_description: Move a lone server's data from SQLite to embedded etcd
version_added: 1.0.0
description:
  - A server that was started without C(cluster-init) keeps its data in SQLite, of which there are no snapshots and which no other server can
    join. k3s moves the data to etcd at its first start with C(cluster-init).
  - The server is stopped, its database and its token are copied, and it is started with that setting. Containers go on meanwhile; the API is
    away for about a minute.
  - Where not all of the data arrives, the server runs on SQLite again, as before. A run that was interrupted is finished by the next one.
  - A server on etcd is left alone.
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.k3s
options:
  kind:
    description: The datastore that the server shall have.
    type: str
    choices: [etcd]
    default: etcd
  timeout:
    description: Seconds to wait until the server is a voter of etcd.
    type: int
    default: 300
attributes:
  check_mode:
    description: Says whether the data would be moved, after the same checks.
    support: full
"""

EXAMPLES = r"""
- name: Move the cluster's data to etcd
  cht.k3s.k3s_datastore:
    kind: etcd
"""

RETURN = r"""
copy:
  description: Folder with the database and the token as they were.
  type: str
  returned: when the data was moved
  sample: /var/lib/rancher/k3s/server/db-sqlite-1763846400
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.argument_spec import binary_spec
from ansible_collections.cht.k3s.plugins.module_utils.k3s.migrate import Migrator
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, System


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            binary_spec(),
            kind={"type": "str", "choices": ["etcd"], "default": "etcd"},
            timeout={"type": "int", "default": 300},
        ),
        supports_check_mode=True,
    )
    migrator = Migrator(System(), module.params["binary"], module.params["timeout"], module.check_mode)
    try:
        result = migrator.to_etcd()
    except NodeError as error:
        module.fail_json(msg=str(error), cause=error.cause)
    for warning in migrator.warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
