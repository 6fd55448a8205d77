#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_project_backup
short_description: Save the volumes and settings of counties as backup sets
version_added: 1.0.0
description:
  - Makes a snapshot of each CouchDB volume of a county, and keeps it with the county's Secret and ConfigMap as one set in a namespace of its own,
    so that the set outlives the county.
  - The county is stopped until the storage has taken the snapshots, so that all volumes are of the same moment; or it goes on running, when
    O(live) says so.
  - Never leaves more than O(keep) sets of a county's volumes, and removes the oldest only after the new one can be restored from. Sets of volumes
    that the county no longer has, and those that are being restored, stay.
  - Refuses a county that another backup, a restore or a move works on.
  - Repairs what an interrupted run left. A county that it stopped is started, and half a set is removed.
  - A county that can't be saved does not keep the others from being saved. One that is not well afterwards does, and so do two in a row that were
    stopped for snapshots which did not come.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
  - cht.k3s.cht_backup
  - cht.k3s.cht_backup.restart
options:
  counties:
    description: Names of the counties; V(all) alone stands for all counties of the cluster.
    type: list
    elements: str
    default: []
  remove:
    description: Names of sets to remove with their snapshots. One that is gone already is no error, a name that no set can have is.
    type: list
    elements: str
    default: []
  live:
    description: Save counties while they run. The volumes of a set are then not of the same moment.
    type: bool
    default: false
  keep:
    description: How many sets of each county stay, V(1) or V(2); vSphere advises at most three snapshots of a volume, and a third is there meanwhile.
    type: int
    default: 2
  snapshot_class:
    description: The VolumeSnapshotClass; the default one of the volumes' driver when left out.
    type: str
    default: ''
  dir:
    description: Folder on the host that runs this module for a copy of each set's description and credentials; none when left out.
    type: path
    default: ''
  timeout:
    description: Seconds to wait for the end of a county's pods, and for its snapshots.
    type: int
    default: 300
attributes:
  check_mode:
    description: Says what would be saved and removed.
    support: full
  diff_mode:
    description: Shows the list of sets before and after.
    support: full
"""

EXAMPLES = r"""
- name: Save two counties
  cht.k3s.cht_project_backup:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    counties: [nairobi, kisumu]
"""

RETURN = r"""
counties:
  description: What became of each county.
  returned: always
  type: list
  elements: dict
  sample:
    - name: nairobi
      set: nairobi-20260102-030405
      removed: [nairobi-20251231-030405]
      seconds_down: 12.5
      notes: []
      errors: []
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
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.backup import Backup, Saved, Settings, in_use
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_arguments import restart_argument_spec
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import BackupError, Store
from ansible_collections.cht.k3s.plugins.module_utils.cht.health import checker
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import OperationError, end_by_sigterm
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import open_client


# A set that is gone already is told by its form from one that never was.
SET = re.compile(r"^.+-\d{8}-\d{6}$")


def argument_spec() -> dict[str, Any]:
    return restart_argument_spec(
        counties={"type": "list", "elements": "str", "default": []},
        remove={"type": "list", "elements": "str", "default": []},
        live={"type": "bool", "default": False},
        keep={"type": "int", "default": 2},
        snapshot_class={"type": "str", "default": ""},
        dir={"type": "path", "default": ""},
        timeout={"type": "int", "default": 300},
    )


def represent(saved: Saved) -> dict[str, Any]:
    return {
        "name": saved.county, "set": saved.set, "removed": saved.removed, "seconds_down": saved.seconds_down, "notes": saved.notes, "errors": saved.errors,
    }


def work(module: AnsibleModule, client: Client) -> dict[str, Any]:
    """Remove, then save; the result of the module without what failed."""
    params = module.params
    store = Store(client, params["namespace"], params["dir"], params["timeout"])
    before = store.all()
    for name in params["remove"]:
        if name in store.damaged_names:
            raise BackupError(
                f"the set {name} can't be read, so it is not known what belongs to it. To remove it by hand: kubectl -n {store.namespace} get volumesnapshots, "
                f"delete those whose names begin with {name}-, then kubectl -n {store.namespace} delete secret {name}. Nothing was changed"
            )
    gone = [item for item in before if item.name in params["remove"]]
    strange = [name for name in params["remove"] if name not in {item.name for item in gone} and not SET.match(name)]
    if strange:
        known = ", ".join(item.name for item in before) or "none"
        raise BackupError(f"there is no backup set {', '.join(strange)} to remove; there are: {known}. Nothing was changed")
    used = in_use(client) if gone else {}
    for item in gone:
        if item.name in used:
            raise BackupError(f"the set {item.name} is being restored into the namespace {used[item.name]}: finish that first. Nothing was changed")
    if not module.check_mode:
        for item in gone:
            store.remove(item)
    ask = checker(client, params["health"])
    settings = Settings(params["live"], params["keep"], params["snapshot_class"], module.check_mode, params["wait_timeout"])
    saved = Backup(client, store, settings, ask).run(params["counties"]) if params["counties"] else []
    after = store.all()
    names = [item.name for item in after]
    if module.check_mode:
        left_out = {*params["remove"], *(name for item in saved for name in item.removed)}
        names = [name for name in names if name not in left_out] + [item.set for item in saved if item.set]
    return {
        "changed": bool(gone) or any(item.changed for item in saved),
        "counties": [represent(item) for item in saved],
        "sets": [item.shown() for item in after],
        "warnings": [f"{text}; it is left out" for text in store.damaged],
        "diff": {"before": "".join(f"{item.name}\n" for item in before), "after": "".join(f"{name}\n" for name in sorted(names))},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    client = open_client(module)
    if client is None:
        module.exit_json(changed=False, counties=[], sets=[])
    # The county is started again on the way out.
    end_by_sigterm()
    try:
        result = work(module, client)
    except (BackupError, OperationError) as error:
        module.fail_json(msg=f"Nothing can be saved: {error}.")
    except ApiError as error:
        module.fail_json(msg=f"The backup sets can't be read or removed: {error.message}")
    finally:
        client.close()
    for text in result.pop("warnings"):
        module.warn(text)
    for entry in result["counties"]:
        for note in entry["notes"]:
            module.warn(f"{entry['name']}: {note}")
    failed = [f"{entry['name']}: {error}" for entry in result["counties"] for error in entry["errors"]]
    if failed:
        module.fail_json(msg=f"{len(failed)} of {len(result['counties'])} counties: " + "; ".join(failed), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
