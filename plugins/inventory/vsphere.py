# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory of a k3s cluster from vCenter."""
from __future__ import annotations

DOCUMENTATION = r"""
name: vsphere
short_description: The VMs of a k3s cluster, read from vCenter
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Finds the virtual machines of a cluster in a vCenter and puts them into the groups C(control_plane) and C(agent).
  - The file must end in C(vsphere.yml) or C(vsphere.yaml).
  - One session reads everything, however many VMs there are. If the VMs are selected by name, folder, tag or another
    option, only the names of the others are read, or nothing at all of those outside the selected containers.
  - Each host gets the variables C(vsphere_name), C(vsphere_moid), C(vsphere_path), C(vsphere_datacenter),
    C(vsphere_cluster), C(vsphere_host), C(vsphere_bios_uuid), C(vsphere_instance_uuid), C(vsphere_hardware_version),
    C(vsphere_guest_hostname), C(vsphere_tools_status), C(vsphere_power_state) (V(unknown) where vCenter does not reach the VM),
    C(vsphere_connection_state), C(vsphere_template), C(vsphere_nics),
    C(vsphere_ips), C(vsphere_cpu_count), C(vsphere_memory_mb), C(vsphere_disks), C(vsphere_disk_enable_uuid),
    C(vsphere_restart_required) (the VM still runs as it did when M(cht.k3s.vsphere_disk_uuid) set that),
    C(vsphere_pvscsi), C(vsphere_snapshot_count), C(vsphere_datastores), C(vsphere_vcenter) (where it was read) and, where asked for, C(vsphere_tags) and
    C(vsphere_custom_attributes).
  - Two VMs with one host name or one BIOS UUID are refused, and named.
  - Ansible itself only warns when an inventory cannot be read. So that a playbook can stop, any failure and an empty
    result also set the variable C(vsphere_inventory_error) for all hosts, which the playbooks of this collection check
    first.
extends_documentation_fragment:
  - cht.k3s.vsphere.plugin
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: Marks the file as one for this plugin.
    type: str
    required: true
    choices: [cht.k3s.vsphere]
  names:
    description:
      - Only VMs with one of these names. Shell patterns are possible, and regular expressions after a V(~).
    type: list
    elements: str
    default: []
  folders:
    description:
      - Only VMs in one of these folders or below. A full path such as V(/DC0/vm/cht), the last part of it, or the managed object id.
      - A name that stands for several is refused with their paths; so it is in the options below.
    type: list
    elements: str
    default: []
  datacenters:
    description: Only VMs in one of these datacenters, by name or path.
    type: list
    elements: str
    default: []
  clusters:
    description: Only VMs that run on one of these clusters, by name or path.
    type: list
    elements: str
    default: []
  pools:
    description: Only VMs in one of these resource pools or below, by name or path.
    type: list
    elements: str
    default: []
  tags:
    description:
      - Only VMs that carry all of these tags, each given as V(tag) or V(category:tag).
      - Tags are read over a second (REST) session.
    type: list
    elements: str
    default: []
  attributes:
    description: Only VMs whose custom attributes have these values. Patterns are possible as in O(names).
    type: dict
    default: {}
  filters:
    description:
      - Only VMs for which all of these Jinja expressions over the host variables are true.
      - Of VMs that the other options admit, only the variables named in the expressions are read to decide.
    type: list
    elements: str
    default: []
  control_plane:
    description:
      - Rule of the group C(control_plane). A VM belongs to it if any part of the rule holds.
      - C(names) is a list as in O(names), C(tags) a list as in O(tags), C(attributes) a dictionary as in
        O(attributes), C(expression) a Jinja expression over the host variables.
      - A tag without its category that stands for tags of two categories on the VMs that are read is refused.
    type: dict
    default:
      names: ['control-plane-*']
  agent:
    description: Rule of the group C(agent), written as O(control_plane).
    type: dict
    default:
      names: ['agent-*']
  hostnames:
    description:
      - Names of the hosts in the inventory. The first expression over the host variables that gives a name is used.
      - A node's name must be the guest's host name, so that the default fits in nearly all cases.
    type: list
    elements: str
    default: [vsphere_name]
  ansible_host_cidr:
    description:
      - Networks (IPv4 or IPv6) that hold the address to connect to. The first network in which the guest has an
        address decides.
      - Without it the guest's primary address is used.
    type: list
    elements: str
    default: []
  variables:
    description:
      - Host variables to read and set, from the list above. Empty means all.
      - C(vsphere_name), C(vsphere_moid), C(vsphere_path) and C(vsphere_bios_uuid) are always there. The roles of this
        collection want all; a large inventory for other purposes is read faster with few, as the devices of a VM are
        by far the largest part of what vCenter sends.
    type: list
    elements: str
    default: []
  with_tags:
    description: Whether to read the VMs' tags into C(vsphere_tags), a dictionary of category to list of tags.
    type: bool
    default: false
  with_custom_attributes:
    description: Whether to read the VMs' custom attributes into C(vsphere_custom_attributes).
    type: bool
    default: false
  with_templates:
    description: Whether templates are hosts too.
    type: bool
    default: false
seealso:
  - module: cht.k3s.vsphere_vm_uuid
  - module: cht.k3s.vsphere_preflight
"""

EXAMPLES = r"""
# cluster.vsphere.yml: all VMs of one folder. Credentials come from VMWARE_HOST, VMWARE_USER and VMWARE_PASSWORD.
plugin: cht.k3s.vsphere
folders: [/Datacenter/vm/cht]
ansible_host_cidr: [192.0.2.0/24]
---
# Roles by tag, the login from a vault, the result cached for ten minutes.
plugin: cht.k3s.vsphere
hostname: vcenter.example.org
username: svc-k3s@vsphere.local
password: "{{ lookup('ansible.builtin.file', '/run/secrets/vcenter') }}"
tags: ['cluster:county-hosting']
control_plane:
  tags: ['k3s-role:server']
agent:
  tags: ['k3s-role:agent']
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible/vsphere
cache_timeout: 600
---
# Only VMs that are on, an additional group per ESXi host.
plugin: cht.k3s.vsphere
names: ['control-plane-*', 'agent-*']
filters:
  - vsphere_power_state == 'on'
keyed_groups:
  - key: vsphere_host
    prefix: esxi
"""

import difflib
import hashlib
import json
from typing import Any, ClassVar

import jinja2
import jinja2.meta
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hostvars import SOURCES
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.inventory import (
    carried,
    networks,
    pick_address,
    refuse_both_groups,
    refuse_duplicates,
    rule_matcher,
)
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import ENVIRONMENT, connection_options
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tags import TagClient
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.vms import Accept, Selection, VmReader

ERROR_VARIABLE = "vsphere_inventory_error"
GROUPS = ("control_plane", "agent")
ALWAYS = ("vsphere_name", "vsphere_moid", "vsphere_path", "vsphere_bios_uuid")


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The plugin only connects Ansible's interface to the vSphere utilities."""

    NAME = "cht.k3s.vsphere"

    # Ansible may offer one file to this plugin twice (directly and through 'auto'). A refused login must not be
    # repeated then: it would count towards locking the account.
    _refused: ClassVar[dict[str, str]] = {}

    def verify_file(self, path: str) -> bool:
        """Only files that end in vsphere.yml or vsphere.yaml."""
        return super().verify_file(path) and path.endswith(("vsphere.yml", "vsphere.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Read the VMs; leave the reason of any failure where playbooks can see it, then fail."""
        super().parse(inventory, loader, path, cache=cache)
        try:
            config = self._read_config_data(path)
            self._refuse_unknown_options(config, path)
            records = self._records(path, cache)
            self._populate(records, path)
        except (VsphereError, AnsibleError) as exc:
            message = f"Inventory {path}: {exc}"
            inventory.set_variable("all", ERROR_VARIABLE, message)
            # The chain would repeat the message for every link.
            raise AnsibleParserError(message) from None

    def _refuse_unknown_options(self, config: dict[str, Any], path: str) -> None:
        known = set(self.get_options()) | {"user", "pass", "pwd"}
        for name in config:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean '{close[0]}'?" if close else "See: ansible-doc -t inventory cht.k3s.vsphere."
                raise VsphereError("options", f"The option '{name}' is unknown.", hint)

    # --- reading -----------------------------------------------------------------------------------------------

    def _connection_params(self) -> dict[str, Any]:
        """Options may be templates, so that a password can come from a lookup or a vault."""
        return {name: self.templar.template(self.get_option(name)) for name in ENVIRONMENT}

    def _records(self, path: str, cache: bool) -> list[dict[str, Any]]:
        self.load_cache_plugin()
        use_cache = bool(self.get_option("cache"))
        key = self._cache_key(path)
        if use_cache and cache:
            try:
                return self._cache[key]["vms"]
            except KeyError:
                pass  # not there yet, or too old
        records = self._read()
        if use_cache:
            self._cache[key] = {"vms": records}
        return records

    def _cache_key(self, path: str) -> str:
        """Whatever decides what is read, and by whom, must not be answered from what another way of reading left in the cache."""
        names = (*self._selection_options(), "hostname", "port", "username", "filters", "variables", "with_templates")
        relevant = {name: self.get_option(name) for name in names}
        # A rule for a group may need them too.
        relevant["with_tags"] = self._needs("tags", "with_tags")
        relevant["with_custom_attributes"] = self._needs("attributes", "with_custom_attributes")
        digest = hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return f"{self.get_cache_key(path)}_{digest}"

    @staticmethod
    def _selection_options() -> tuple[str, ...]:
        """Options that are fields of Selection."""
        return ("names", "folders", "datacenters", "clusters", "pools", "tags", "attributes")

    def _needs(self, part: str, option: str) -> bool:
        rules = any((self.get_option(group) or {}).get(part) for group in GROUPS)
        return bool(rules or self.get_option(option) or self.get_option(part))

    def _read(self) -> list[dict[str, Any]]:
        options = connection_options(self._connection_params())
        fingerprint = hashlib.sha256(f"{options.address}\0{options.username}\0{options.password}".encode()).hexdigest()
        if fingerprint in self._refused:
            raise VsphereError("login", self._refused[fingerprint], "")
        selection = Selection(**{name: self.get_option(name) for name in self._selection_options()})
        try:
            with VsphereSession(options) as session:
                if self._needs("tags", "with_tags"):
                    with TagClient(options) as tags:
                        return self._read_in(session, selection, tags)
                return self._read_in(session, selection, None)
        except VsphereError as exc:
            if exc.kind == "login":
                self._refused[fingerprint] = str(exc)
            raise

    def _read_in(self, session: VsphereSession, selection: Selection, tags: TagClient | None) -> list[dict[str, Any]]:
        reader = VmReader(session)
        result = session.run(
            lambda: reader.read(
                selection,
                variables=self._variables(),
                tags=tags,
                with_attributes=self._needs("attributes", "with_custom_attributes"),
                accept=self._filter(),
            )
        )
        if result.gone:
            self.display.warning(f"These VMs were deleted while the inventory was read, and are left out: {', '.join(result.gone)}")
        keep_templates = self.get_option("with_templates")
        records = [record for record in result.records if keep_templates or not record["vsphere_template"]]
        return [self._wanted(record) for record in records] if self.get_option("variables") else records

    def _variables(self) -> list[str]:
        """What to read: what is wanted, and what the plugin itself looks at."""
        wanted = self.get_option("variables")
        unknown = sorted(set(wanted) - set(SOURCES))
        if unknown:
            raise VsphereError(
                "options",
                f"The host variables {', '.join(unknown)} in variables are unknown.",
                f"Choose from {', '.join(SOURCES)}.",
            )
        return [*dict.fromkeys([*wanted, *ALWAYS, "vsphere_ips", "vsphere_template"])] if wanted else list(SOURCES)

    def _wanted(self, record: dict[str, Any]) -> dict[str, Any]:
        """The wanted variables, and the addresses, of which ansible_host is made when the cache is read."""
        keep = {*self.get_option("variables"), *ALWAYS, "vsphere_ips", "vsphere_tags", "vsphere_custom_attributes"}
        return {name: value for name, value in record.items() if name in keep}

    def _filter(self) -> Accept | None:
        expressions = self.get_option("filters")
        if not expressions:
            return None
        names: set[str] = set()
        for expression in expressions:
            try:
                tree = jinja2.Environment(autoescape=True).parse("{{ %s }}" % expression)
            except jinja2.TemplateSyntaxError as exc:
                raise VsphereError(
                    "options", f"The expression '{expression}' in filters cannot be read: {exc}.", "Correct it."
                ) from exc
            names |= jinja2.meta.find_undeclared_variables(tree)
        return Accept(sorted(names), lambda record: all(self._true(expression, record) for expression in expressions))

    def _true(self, expression: str, record: dict[str, Any]) -> bool:
        try:
            return bool(self._compose(expression, record))
        except Exception as exc:
            if self.get_option("strict"):
                raise VsphereError(
                    "options",
                    f"The expression '{expression}' failed for {record['vsphere_name']}: {exc}.",
                    "Correct it, or set strict to false to pass over VMs for which it cannot be evaluated.",
                ) from exc
            return False

    # --- filling the inventory ---------------------------------------------------------------------------------

    def _host_name(self, record: dict[str, Any]) -> str:
        for expression in self.get_option("hostnames"):
            if expression in record:
                value = record[expression]
            else:
                try:
                    value = self._compose(expression, record)
                except Exception as exc:  # pylint: disable=broad-except
                    self.display.vvv(f"hostnames: '{expression}' failed for {record['vsphere_path']}: {exc}")
                    value = None
            if value:
                return str(value)
        raise VsphereError(
            "hostnames",
            f"No expression in hostnames gives a name for {record['vsphere_path']}.",
            "Add vsphere_name as the last one.",
        )

    def _populate(self, records: list[dict[str, Any]], path: str) -> None:
        if not records:
            raise VsphereError(
                "empty",
                f"No VM in vCenter {self._connection_params()['hostname']} matches the selection.",
                "Check names, folders, datacenters, clusters, pools, tags, attributes and filters, and the account's "
                "read right on the VMs.",
            )
        hosts = [(self._host_name(record), record) for record in records]
        refuse_duplicates(hosts)
        tags = carried(records)
        rules = {group: rule_matcher(group, self.get_option(group) or {}, self._true, tags) for group in GROUPS}
        members = {group: [name for name, record in hosts if test(record)] for group, test in rules.items()}
        refuse_both_groups(members)
        wanted = networks(self.get_option("ansible_host_cidr"))
        for group in GROUPS:
            self.inventory.add_group(group)
        for name, record in hosts:
            self._add_host(name, record, wanted)
        for group, names in members.items():
            for name in names:
                self.inventory.add_child(group, name)

    def _add_host(self, name: str, record: dict[str, Any], wanted: list[Any]) -> None:
        self.inventory.add_host(name)
        # Not in the cache: several files may read several vCenters, and a playbook has to tell their VMs apart.
        variables = {**record, "vsphere_vcenter": str(self._connection_params()["hostname"])}
        address = pick_address(record["vsphere_ips"], wanted)
        if address is not None:
            variables["ansible_host"] = address
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)
