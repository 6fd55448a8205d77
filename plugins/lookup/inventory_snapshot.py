# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_snapshot
short_description: The inventory as a static file says it
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Reads the sources of the inventory and gives its groups, hosts and their variables as the text of an inventory file, which needs no vCenter.
  - Variables of C(group_vars) and C(host_vars) are not among them; they belong beside the file, as they are. A value that is encrypted stays so.
  - Fails when it finds other hosts than the run has, as when vCenter went away meanwhile.
options:
  _terms:
    description: The sources, C(ansible_inventory_sources).
    required: true
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Keep the inventory
  ansible.builtin.copy:
    content: "{{ lookup('cht.k3s.inventory_snapshot', *ansible_inventory_sources) }}"
    dest: /srv/kit/hosts.yml
    mode: "0600"
"""

RETURN = r"""
_raw:
  description: The text.
  type: str
"""

from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.yaml.dumper import AnsibleDumper
from ansible.plugins.lookup import LookupBase

# What Ansible makes of the place of the file, and what is of this controller alone.
_NOT_KEPT = {"inventory_file", "inventory_dir"}


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        inventory = InventoryManager(loader=self._loader, sources=[str(term) for term in terms])
        expected = set(((variables or {}).get("groups") or {}).get("all") or [])
        found = set(inventory.hosts) - {"localhost"}
        if expected and found != expected - {"localhost"}:
            raise AnsibleError(
                f"The inventory was read anew, and has {len(found)} hosts where this run has {len(expected - {'localhost'})}: something changed, or did not"
                " answer. Run it again; the snapshot of before is as it was."
            )
        content = {"all": self._group(inventory.groups["all"], set())}
        return [yaml.dump(content, Dumper=AnsibleDumper, default_flow_style=False, allow_unicode=True, width=160)]

    def _group(self, group: Any, seen: set[str]) -> dict[str, Any]:
        """A group with those below it. Variables of hosts are told once, with C(all)."""
        whole: dict[str, Any] = {}
        if group.name == "all":
            hosts = {host.name: self._variables(host.vars) for host in sorted(group.get_hosts(), key=lambda host: host.name)}
        else:
            hosts = {host.name: {} for host in group.hosts}
        if hosts:
            whole["hosts"] = hosts
        # A group that is below several others is written out once; its name is enough elsewhere.
        if group.name in seen:
            return {}
        seen.add(group.name)
        children = {child.name: self._group(child, seen) for child in sorted(group.child_groups, key=lambda child: child.name) if child.name != "ungrouped"}
        if children:
            whole["children"] = children
        if group.vars:
            whole["vars"] = self._variables(group.vars)
        return whole

    @staticmethod
    def _variables(found: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in sorted(found.items()) if name not in _NOT_KEPT}
