# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: awx_plan
short_description: What AWX should hold for this collection
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Makes the arguments of the modules of P(awx.awx#module) from the variables of the role awx, the playbooks and the argument specs of the roles.
  - Tells what AWX holds of this collection that is not meant any more.
positional: _input, existing
options:
  _input:
    description: The variables of the role awx, without their prefix.
    type: dict
    required: true
  existing:
    description: What AWX has, objects of its API by their kind.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Make the plan
  ansible.builtin.set_fact:
    plan: "{{ settings | cht.k3s.awx_plan({'organizations': []}) }}"
"""

RETURN = r"""
_value:
  description: >-
    Lists of what is meant by the API's names of their kinds, such as C(job_templates); C(leftovers) and C(missing), each as kind/name; C(remove), names by
    kind.
  type: dict
"""

COLLECTION = Path(__file__).resolve().parents[2]


def awx_plan(settings: dict[str, Any], existing: dict[str, Any]) -> dict[str, Any]:
    """The plan. Templates in it are AWX's, so Ansible must not read them."""
    from ansible.module_utils.common.yaml import yaml_load
    from ansible.utils.unsafe_proxy import wrap_var

    from ansible_collections.cht.k3s.plugins.module_utils.awx.plan import Plan, PlanError
    from ansible_collections.cht.k3s.plugins.module_utils.inputs import load_role_options, plain

    options = {name: option for role in load_role_options(COLLECTION / "roles", yaml_load).values() for name, option in role.items()}
    playbooks = COLLECTION / "playbooks"
    try:
        # Ansible's own mappings are templates that wait, and can't be kept in what is returned.
        plan = Plan(plain(settings), plain(existing), options, lambda name: (playbooks / f"{name}.yml").read_text(encoding="utf-8")).as_dict()
    except PlanError as error:
        raise AnsibleFilterError(f"{error}. Nothing was changed.") from None
    return wrap_var(plan)


class FilterModule:
    """Filters about AWX."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"awx_plan": awx_plan}
