#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: kube_apply
short_description: Bring many objects into a Kubernetes cluster in one fast call
version_added: 1.0.0
description:
  - Reads what is there by a few list calls, compares what we own, and sends only what differs, by server-side apply over parallel
    keep-alive connections, ordered by kind.
  - A field of ours that was edited by hand is found and put back. A field that another manager (a controller, an operator, helm) set
    to another value is a conflict, which is reported with that manager's name.
  - Objects can be given in groups. An error stays within its group; the others are done.
  - No object is ever deleted. Values of Secrets appear in no output.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  objects:
    description: The objects to apply, as mappings. They form one group named C(objects).
    type: list
    elements: dict
    default: []
  groups:
    description: Objects in named groups, such as one group per project.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the group, used in messages and results.
        type: str
        required: true
      objects:
        description: The objects of the group.
        type: list
        elements: dict
        required: true
  field_manager:
    description: The name under which the API server records which fields are ours.
    type: str
    default: cht.k3s
  force_conflicts:
    description: Take over fields that another manager set to another value, whoever it is.
    type: bool
    default: false
  take_over:
    description:
      - Names (shell patterns) of managers whose values on fields of ours are overwritten without asking, as they are people's tools.
      - The default lists C(kubectl) in all its forms, and the common dashboards and consoles.
    type: list
    elements: str
  adopt:
    description:
      - Make whole objects ours that people made with C(kubectl). Without it, fields that only C(kubectl) owns stay as they are, whatever
        is applied; with it, those that are not given here go, and so does C(kubectl)'s copy of the object in an annotation.
      - Of an object that we have applied before, only what C(kubectl apply) put over it is taken. Labels and annotations
        from C(kubectl label) and C(kubectl annotate) stay.
    type: bool
    default: false
  parallel:
    description: How many connections are used at once.
    type: int
    default: 8
  crd_timeout:
    description: Seconds to wait until a new CustomResourceDefinition is served, before objects of its kind are sent.
    type: int
    default: 60
attributes:
  check_mode:
    description:
      - Objects that differ are sent as a dry run, so the API server itself predicts the result.
      - With an empty O(kubeconfig), or an API server that does not answer, all objects are predicted to be created.
    support: full
  diff_mode:
    description: One entry per object that changes; values of Secrets are masked.
    support: full
"""

EXAMPLES = r"""
- name: Apply a namespace and a configuration
  cht.k3s.kube_apply:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    objects:
      - apiVersion: v1
        kind: Namespace
        metadata:
          name: county-a
      - apiVersion: v1
        kind: ConfigMap
        metadata:
          name: settings
          namespace: county-a
        data:
          colour: blue

- name: Apply the objects of many projects; one that fails does not stop the others
  cht.k3s.kube_apply:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    groups:
      - name: county-a
        objects: "{{ county_a_objects }}"
      - name: county-b
        objects: "{{ county_b_objects }}"
"""

RETURN = r"""
objects:
  description: What became of each object.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
    namespace:
      description: Its namespace; empty for objects of the cluster.
      type: str
    name:
      description: Its name.
      type: str
    group:
      description: The group that it was given in.
      type: str
    result:
      description: One of C(created), C(updated), C(unchanged), C(failed), and C(skipped) after a failure in its group.
      type: str
    error:
      description: Why it failed.
      type: str
    taken_from:
      description: Managers from which a field was taken back.
      type: list
      elements: str
  sample:
    - kind: ConfigMap
      namespace: county-a
      name: settings
      group: objects
      result: updated
      taken_from: [kubectl-edit]
summary:
  description: Number of objects by result, and of requests to the API server.
  returned: always
  type: dict
  sample: {"created": 2, "updated": 0, "unchanged": 25, "failed": 0, "skipped": 0, "requests": 9}
failed_groups:
  description: The groups in which an object failed, with all errors.
  returned: always
  type: list
  elements: dict
  sample:
    - name: county-b
      errors: ["Deployment county-b/cht-api: spec.replicas belongs to hpa-controller, which set another value"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import FIELD_MANAGER, TAKE_OVER, Outcome, apply_groups, secret_values
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client


def argument_spec() -> dict[str, Any]:
    return base_argument_spec(
        objects={"type": "list", "elements": "dict", "default": []},
        groups={
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "objects": {"type": "list", "elements": "dict", "required": True},
            },
        },
        field_manager={"type": "str", "default": FIELD_MANAGER},
        force_conflicts={"type": "bool", "default": False},
        take_over={"type": "list", "elements": "str"},
        adopt={"type": "bool", "default": False},
        parallel={"type": "int", "default": 8},
        crd_timeout={"type": "int", "default": 60},
    )


def take_objects(module: AnsibleModule) -> list[dict[str, Any]]:
    """The groups to apply; the parameters forget them, as Ansible shows parameters and Secrets must not be seen."""
    groups = list(module.params["groups"])
    if module.params["objects"]:
        groups.insert(0, {"name": "objects", "objects": module.params["objects"]})
    module.no_log_values.update(secret_values(document for group in groups for document in group["objects"]))
    module.params["objects"] = f"{len(module.params['objects'])} objects"
    module.params["groups"] = f"{len(module.params['groups'])} groups"
    return groups


def result_of(outcome: Outcome, with_diff: bool) -> dict[str, Any]:
    summary = {name: outcome.count(name) for name in ("created", "updated", "unchanged", "failed", "skipped")}
    result: dict[str, Any] = {
        "changed": outcome.changed,
        "objects": outcome.objects(),
        "summary": {**summary, "requests": outcome.requests},
        "failed_groups": outcome.failed_groups(),
    }
    if with_diff:
        result["diff"] = outcome.diff()
    return result


def main() -> None:
    # no_log keeps the objects, which may hold Secrets, out of the system's log.
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True, no_log=True)
    groups = take_objects(module)
    client = open_client(module)
    try:
        outcome = apply_groups(
            client,
            groups,
            check_mode=module.check_mode,
            field_manager=module.params["field_manager"],
            force_conflicts=module.params["force_conflicts"],
            take_over=TAKE_OVER if module.params["take_over"] is None else module.params["take_over"],
            adopt=module.params["adopt"],
            parallel=module.params["parallel"],
            crd_timeout=float(module.params["crd_timeout"]),
        )
    except ApiError as error:
        module.fail_json(msg=f"The objects can't be compared with the cluster: {error.message}", objects=[], failed_groups=[])
    finally:
        if client is not None:
            client.close()
    result = result_of(outcome, module._diff)
    if outcome.failed:
        module.fail_json(msg=outcome.message(), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
