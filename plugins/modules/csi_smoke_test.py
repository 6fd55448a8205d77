#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: csi_smoke_test
short_description: Bind, write, snapshot and delete a claim of 1 Gi
version_added: 1.0.0
description:
  - Makes the namespace C(csi-smoke-test) with one claim and a pod that writes to it, and takes all of it away again, the volume included,
    whatever the class's reclaim policy is. Nothing is left, also when a step fails; the next run takes away what an interrupted one left.
  - It is a test and changes nothing that lasts, so it never reports a change.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  storage_class:
    description: The class to test.
    type: str
    required: true
  image:
    description: An image with C(sh), C(sync) and C(grep).
    type: str
    default: docker.io/rancher/mirrored-library-busybox:1.37.0
  snapshots:
    description: Whether a snapshot is taken too, with the default VolumeSnapshotClass.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for each step.
    type: int
    default: 180
attributes:
  check_mode:
    description: Does nothing.
    support: full
"""

EXAMPLES = r"""
- name: See that claims work
  cht.k3s.csi_smoke_test:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    storage_class: vmware-sc
"""

RETURN = r"""
steps:
  description: Seconds that each step took.
  returned: always
  type: dict
  sample: {"bound": 2.1, "written": 6.4, "deleted": 9.0}
volume:
  description: Name of the PersistentVolume.
  returned: always
  type: str
  sample: pvc-5d7c6f0b-2a55-4c26-8a3c-1fe7f7a0c9a1
handle:
  description: The volume's id in vCenter.
  returned: always
  type: str
  sample: a822a0e5-8209-4537-9b39-9f9c07b1ac4c
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client
from ansible_collections.cht.k3s.plugins.module_utils.kube.smoke import SmokeTest, SmokeTestError


def main() -> None:
    module = AnsibleModule(
        argument_spec=base_argument_spec(
            storage_class={"type": "str", "required": True},
            image={"type": "str", "default": "docker.io/rancher/mirrored-library-busybox:1.37.0"},
            snapshots={"type": "bool", "default": False},
            timeout={"type": "int", "default": 180},
        ),
        supports_check_mode=True,
    )
    client = open_client(module)
    if client is None or module.check_mode:
        module.exit_json(changed=False, steps={}, volume="", handle="")
    params = module.params
    test = SmokeTest(client, params["storage_class"], params["image"], params["snapshots"], params["timeout"])
    problem = ""
    try:
        test.run()
    except SmokeTestError as error:
        problem = f"The storage does not work: {error}."
    except ApiError as error:
        problem = f"The storage can't be tested: {error.message}"
    finally:
        client.close()
    result = {"changed": False, "steps": test.steps, "volume": test.volume, "handle": test.handle}
    if problem:
        module.fail_json(msg=problem, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
