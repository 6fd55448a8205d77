# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.cht.k3s.plugins.module_utils.inputs import (
    NODE_VARIABLES, Inputs, group_problems, load_role_options, no_proxy_problem, plain, range_problems, value_problems,
)
from ansible_collections.cht.k3s.plugins.module_utils.dns import resolve
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hostvars import HOST_VARIABLES

display = Display()
ROLES = Path(__file__).resolve().parents[2] / "roles"
# Set by Ansible itself from extra arguments of a run, never by people.
INVENTORY_ERROR = "vsphere_inventory_error"


class ActionModule(ActionBase):
    """Judge the variables of all hosts on the controller, in one task."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        roles = load_role_options(ROLES, yaml_load)
        inputs = Inputs(roles, [*HOST_VARIABLES, INVENTORY_ERROR])
        hostvars = task_vars["hostvars"]
        groups = {name: list(hosts) for name, hosts in task_vars.get("groups", {}).items()}

        _validation, args = self.validate_argument_spec(argument_spec={"groups": {"type": "bool", "default": True}})
        problems = group_problems(groups, self._inventory_error(task_vars, hostvars, groups)) if args["groups"] else []
        if not problems:
            problems = self._variable_problems(inputs, hostvars, groups, task_vars) or self._value_problems(inputs, hostvars, groups)
        result.update(changed=False, problems=problems)
        if problems:
            result.update(failed=True, msg="Nothing was changed. " + "; ".join(problems))
        return result

    def _inventory_error(self, task_vars: dict[str, Any], hostvars: Any, groups: dict[str, list[str]]) -> str | None:
        """The message that the vSphere inventory plugin left on the group `all`."""
        for variables in [task_vars, *(hostvars[host] for host in groups.get("all", [])[:1])]:
            if variables.get(INVENTORY_ERROR):
                return str(variables[INVENTORY_ERROR])
        return None

    def _variable_problems(self, inputs: Inputs, hostvars: Any, groups: dict[str, list[str]],
                           task_vars: dict[str, Any]) -> list[str]:
        unknown: dict[str, list[str]] = {}
        wrong: dict[str, list[str]] = {}
        for host in ["localhost", *(h for h in groups.get("all", []) if h != "localhost")]:
            outside = host == "localhost" and host not in groups.get("all", [])
            variables = task_vars if outside else hostvars[host]
            # Variables of a task are templates still, those of hostvars are not.
            read = (lambda name: self._templar.template(task_vars[name])) if outside else variables.__getitem__
            names = list(variables)
            for name in inputs.unknown(names):
                unknown.setdefault(name, []).append(host)
            for message in self._type_problems(inputs, read, names):
                wrong.setdefault(message, []).append(host)
        return [inputs.describe_unknown(name, hosts) for name, hosts in unknown.items()] + [
            f"{message} (on {', '.join(hosts[:3])}{' and more' if len(hosts) > 3 else ''})"
            for message, hosts in wrong.items()]

    def _value_problems(self, inputs: Inputs, hostvars: Any, groups: dict[str, list[str]]) -> list[str]:
        """What only k3s or the kubelet would refuse, on the last node as little as on the first."""
        given = {(role, host): self._known(inputs, hostvars[host], names) for role, names in NODE_VARIABLES.items() for host in groups.get(role, [])}
        server = next((values for (role, dummy), values in given.items() if role == "control_plane"), {})
        found: dict[str, list[str]] = {}
        for (role, host), values in given.items():
            proxied = no_proxy_problem(values, given.values(), server)
            for problem in value_problems(role, values, server) + ([proxied] if proxied else []):
                found.setdefault(problem, []).append(host)
        places, unresolved = range_problems(server, given.values(), resolve)
        if unresolved:
            display.warning(
                f"This machine can't resolve {'; '.join(unresolved)}. So nobody looked whether they lie in the ranges of pods and services"
                " (k3s_cluster_cidr, k3s_service_cidr); nothing in these ranges could be reached from the cluster.")
        accepted = [self._known(inputs, hostvars[host], ["k3s_accept_overlap"]).get("k3s_accept_overlap") for host in groups.get("control_plane", [])]
        if any(boolean(value, strict=False) for value in accepted):
            for place in places:
                display.warning(place)
            places = []
        return places + [f"{problem} (on {', '.join(hosts[:3])}{' and more' if len(hosts) > 3 else ''})" for problem, hosts in found.items()]

    @staticmethod
    def _known(inputs: Inputs, variables: Any, names: Any) -> dict[str, Any]:
        """The values of those of the variables that are given and do not depend on what is only known later."""
        given: dict[str, Any] = {}
        for name in names:
            try:
                given[name] = inputs.read(name, plain(variables[name]))
            except (AnsibleError, KeyError):
                continue
        return given

    def _type_problems(self, inputs: Inputs, read: Callable[[str], Any], names: list[str]) -> list[str]:
        messages = []
        for name in names:
            if name not in inputs.options:
                continue
            try:
                value = read(name)
            except (AnsibleError, KeyError):
                continue  # Depends on what is only known later; the role's own validation judges it then.
            try:
                value = plain(value)
            except AnsibleError as error:
                messages.append(f"variable {name}: it is encrypted and can't be read: {error}")
                continue
            try:
                value = inputs.read(name, value)
            except TypeError as error:
                messages.append(f"variable {name}: {error}")
                continue
            spec = {**inputs.options[name], "required": False}
            checked = ArgumentSpecValidator({name: spec}).validate({name: value})
            messages += [f"variable {name}: {message}" for message in checked.error_messages]
        return messages
