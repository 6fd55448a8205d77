#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kube_info
short_description: Read a few Kubernetes objects
version_added: 1.0.0
description:
  - Reads objects by kind and name over one connection. An object that does not exist is an empty mapping, no error.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  objects:
    description: The objects to read.
    type: list
    elements: dict
    required: true
    suboptions:
      key:
        description: The name under which the object is returned.
        type: str
        required: true
      api_version:
        description: Its API version.
        type: str
        default: v1
      kind:
        description: Its kind.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
      name:
        description: Its name; all objects of the kind (and namespace) are returned as a list when it is left out.
        type: str
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode. Without a cluster every object is empty.
    support: full
"""

EXAMPLES = r"""
- name: Read the cluster's own id and its storage classes
  cht.k3s.kube_info:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    objects:
      - key: system
        kind: Namespace
        name: kube-system
      - key: classes
        api_version: storage.k8s.io/v1
        kind: StorageClass
  register: cluster
"""

RETURN = r"""
objects:
  description: The objects by the key given, without their managedFields.
  returned: success
  type: dict
  sample:
    system:
      metadata:
        name: kube-system
        uid: 2f1c7e3e-6d0e-4b55-9f7e-2f4a4f0c1c11
reachable:
  description: Whether there is a cluster; false is possible in check mode only.
  returned: success
  type: bool
  sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, object_argument_spec, open_client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import Resources


def without_bookkeeping(item: dict[str, Any]) -> dict[str, Any]:
    item.get("metadata", {}).pop("managedFields", None)
    return item


def read(client: Client, resources: Resources, entry: dict[str, Any]) -> Any:
    resource = resources.of(entry["api_version"], entry["kind"])
    if resource is None:
        return {} if entry["name"] else []
    if not entry["name"]:
        return [without_bookkeeping(item) for item in client.items(resource.collection(entry["namespace"]))]
    return without_bookkeeping(client.find(resource.path(entry["name"], entry["namespace"])) or {})


def main() -> None:
    module = AnsibleModule(
        argument_spec=base_argument_spec(objects=object_argument_spec(key={"type": "str", "required": True, "no_log": False})),
        supports_check_mode=True,
    )
    client = open_client(module)
    if client is None:
        empty = {entry["key"]: {} if entry["name"] else [] for entry in module.params["objects"]}
        module.exit_json(changed=False, objects=empty, reachable=False)
    resources = Resources(client)
    found = {}
    try:
        for entry in module.params["objects"]:
            found[entry["key"]] = read(client, resources, entry)
    except ApiError as error:
        module.fail_json(msg=f"{entry['kind']} {entry['name'] or ''} can't be read: {error.message}")
    finally:
        client.close()
    module.exit_json(changed=False, objects=found, reachable=True)


if __name__ == "__main__":
    main()
