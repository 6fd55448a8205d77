#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_project_restore
short_description: Restore a backup set into its county or into another one
version_added: 1.0.0
description:
  - Makes new volumes from the snapshots of a set, gives them to the county's claims, and puts the Secret and ConfigMap of that time back.
  - Nothing of the county is touched before all new volumes are there. The volumes that it had stay as retained PersistentVolumes.
  - A county that is not in the cluster gets its namespace, settings and claims; the counties' play then brings up the rest.
  - An interrupted restore is finished by running it again.
  - Refuses a county that a backup, another restore or a move works on, a set that is of a newer CHT than the county runs, and a quota without room
    for old and new volumes.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
  - cht.k3s.cht_backup
  - cht.k3s.cht_backup.restart
options:
  set:
    description: Name of the set, or the path of its file on the host that runs this module.
    type: str
    required: true
  into:
    description: Name of the county to restore into; that of the set when left out.
    type: str
    default: ''
  into_namespace:
    description: Namespace of O(into) if the cluster does not have it; its name, or that of the set, when left out.
    type: str
    default: ''
  confirm:
    description: The county's name again, needed when it has volumes.
    type: str
    default: ''
  stop:
    description: Stop the county if it runs. It is started again at the end.
    type: bool
    default: false
  again:
    description: Restore a set once more into a county whose volumes were made from it.
    type: bool
    default: false
  storage_class:
    description: StorageClass of the new volumes; that of the set's volumes when left out, or the default one of their driver where they had none.
    type: str
    default: ''
  dir:
    description: Folder with the copies of sets, where a set that the cluster does not know is looked for.
    type: path
    default: ''
  timeout:
    description: Seconds to wait for each step.
    type: int
    default: 300
attributes:
  check_mode:
    description: Checks all that can be in the way, and says what would be restored.
    support: full
  diff_mode:
    description: Shows which claim has which volume before and after.
    support: full
"""

EXAMPLES = r"""
- name: Put a county back to what it was
  cht.k3s.cht_project_restore:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    set: nairobi-20260102-030405
    confirm: nairobi
    stop: true
"""

RETURN = r"""
county:
  description: The county that was restored into.
  returned: success
  type: str
  sample: nairobi
namespace:
  description: Its namespace.
  returned: success
  type: str
  sample: nairobi
volumes:
  description: The volume of each claim.
  returned: success
  type: dict
  sample: {couchdb-claim0: pvc-77b30000-0000-4000-8000-000000000002}
replaced:
  description: The volume that each claim had; it is still there.
  returned: success
  type: dict
  sample: {couchdb-claim0: pvc-0e1a0000-0000-4000-8000-000000000001}
started:
  description: Whether the county runs again.
  returned: success
  type: bool
  sample: true
notes:
  description: What else is to be known.
  returned: success
  type: list
  elements: str
  sample: ["its credentials are those of the set again"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_arguments import restart_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import BackupError, Store
from ansible_collections.cht.k3s.plugins.module_utils.cht.health import checker
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import OperationError, end_by_sigterm
from ansible_collections.cht.k3s.plugins.module_utils.cht.pause import PauseError
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore import Request, Restore, Restored, describe
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import open_client


def argument_spec() -> dict[str, Any]:
    return restart_argument_spec(
        set={"type": "str", "required": True},
        into={"type": "str", "default": ""},
        into_namespace={"type": "str", "default": ""},
        confirm={"type": "str", "default": ""},
        stop={"type": "bool", "default": False},
        again={"type": "bool", "default": False},
        storage_class={"type": "str", "default": ""},
        dir={"type": "path", "default": ""},
        timeout={"type": "int", "default": 300},
    )


def represent(done: Restored) -> dict[str, Any]:
    replaced = {claim: volume for claim, volume in done.old.items() if volume and done.new.get(claim) != volume}
    return {
        "changed": done.changed, "county": done.county, "namespace": done.namespace, "volumes": done.new, "replaced": replaced,
        "started": done.started, "notes": done.notes, "diff": {"before": describe(done.old), "after": describe(done.new)},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    client = open_client(module)
    if client is None:
        module.exit_json(changed=False, county=params["into"], namespace="", volumes={}, replaced={}, started=False, notes=[])
    request = Request(
        params["set"], params["into"], params["into_namespace"], params["confirm"], params["stop"], params["again"], params["storage_class"],
        module.check_mode, params["wait_timeout"],
    )
    # A job that is cancelled lets others have the county. It is started again when it was only being stopped; later the run says that it is down.
    end_by_sigterm()
    ask = checker(client, params["health"])
    try:
        done = Restore(client, Store(client, params["namespace"], params["dir"], params["timeout"]), request, ask).run()
    except (BackupError, OperationError, PauseError) as error:
        module.fail_json(msg=f"The set can't be restored: {error}.")
    except ApiError as error:
        module.fail_json(msg=f"The restore can't go on: {error.message}. Run it again to finish it.")
    finally:
        client.close()
    result = represent(done)
    if done.error:
        module.fail_json(msg=done.error, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
