# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the variables of an inventory against the argument specs of the collection's roles.

Ansible ignores a variable that nobody reads. Here a name that starts with a role's name and is not in
that role's argument specs is a typo, and is named together with the option it resembles.
"""
from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.cht.k3s.plugins.module_utils.given import as_dict, as_list
from ansible_collections.cht.k3s.plugins.module_utils.k3s import accepted, proxy, ranges
from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import address_or_empty, labels_of, merge_config, node_address

# What a first play must have: etcd needs an odd number of members, and more than five only cost.
CONTROL_PLANE_SIZES = (1, 3, 5)


def load_role_options(roles_dir: Path, load_yaml: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {role: {option name: option spec}} of all roles below roles_dir that have argument specs."""
    roles: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(roles_dir.glob("*/meta/argument_specs.yml")):
        data = load_yaml(path.read_text(encoding="utf-8")) or {}
        options: dict[str, dict[str, Any]] = {}
        for entry in (data.get("argument_specs") or {}).values():
            options.update(entry.get("options") or {})
        roles[path.parents[1].name] = options
    return roles


def plain(value: Any) -> Any:
    """The value as a validator takes it. What came as `!vault` is an object that is no text, and its letters are secrets."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


class Inputs:
    """The names that the roles know, to judge the names that an inventory gives.

    roles: {role: {option: spec}}; host_vars: names that the collection itself sets on hosts.
    """

    def __init__(self, roles: Mapping[str, Mapping[str, Mapping[str, Any]]], host_vars: Iterable[str] = ()) -> None:
        self.roles = roles
        self.options: dict[str, Mapping[str, Any]] = {
            name: spec for options in roles.values() for name, spec in options.items()
        }
        self.known = set(self.options) | set(host_vars)
        # The longest role name first: control_plane_x belongs to control_plane, not to a role `control`.
        self._prefixes = sorted(roles, key=len, reverse=True)

    def read(self, name: str, value: Any) -> Any:
        """What the roles make of an option's value; TypeError says why text can't be read."""
        spec = self.options.get(name) or {}
        kind = spec.get("type")
        text = value if isinstance(value, str) and value.strip() else ""
        if kind == "list" and text and spec.get("elements") == "dict":
            raise TypeError("it is a list of mappings, which text can't give; give it as YAML or JSON, like -e @FILE.yml")
        # system-reserved=cpu=1,memory=1Gi is one argument, and nothing shows that it is not two.
        if kind == "list" and name.endswith("_args") and "," in text and "\n" not in text and not text.lstrip().startswith("["):
            raise TypeError(
                f"text with a comma may be one argument or several; give a list, like -e '{{\"{name}\": [\"...\", \"...\"]}}', or one argument a line")
        return as_list(value) if kind == "list" and value is not None else as_dict(value) if kind == "dict" and value is not None else value

    def role_of(self, name: str) -> str | None:
        """The role whose prefix the variable carries, or None."""
        return next((role for role in self._prefixes if name.startswith(role + "_")), None)

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those of the names that carry a role's prefix and that no role has."""
        return sorted(name for name in names if name not in self.known and self.role_of(name))

    def suggestion(self, name: str) -> str:
        """A known name that resembles the given one, or an empty string."""
        match = difflib.get_close_matches(name, sorted(self.known), n=1, cutoff=0.75)
        return match[0] if match else ""

    def describe_unknown(self, name: str, hosts: list[str]) -> str:
        """One line for people: which variable, where, what to do."""
        near = self.suggestion(name)
        remedy = f"did you mean {near}?" if near else (
            f"remove it, or see the options with: ansible-doc -t role cht.k3s.{self.role_of(name)}")
        return f"unknown variable {name} (on {_some(hosts)}): {remedy}"


def folder_of(sources: Iterable[str], fallback: str) -> str:
    """The folder of the first inventory source that is a file or a folder, where relative paths in its variables start."""
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            return str(path.absolute())
        if path.is_file():
            return str(path.absolute().parent)
    return fallback


def group_problems(groups: Mapping[str, list[str]], inventory_error: str | None) -> list[str]:
    """What is wrong with the inventory as a whole, one line each.

    groups: {group name: host names}; inventory_error: what the vSphere inventory source reported, if it failed.
    """
    if inventory_error:
        return [f"the vSphere inventory could not be read: {inventory_error}"]
    servers = groups.get("control_plane", [])
    problems = []
    if len(servers) not in CONTROL_PLANE_SIZES:
        problems.append(
            f"group control_plane has {len(servers)} host(s)"
            + (f" ({', '.join(servers)})" if servers else "")
            + "; it must have 1, 3 or 5: check the inventory source (ansible-inventory --graph)")
    both = sorted(set(servers) & set(groups.get("agent", [])))
    if both:
        problems.append(f"{', '.join(both)}: in both groups control_plane and agent; a node is one or the other")
    return problems


_SHARED = ("k3s_server_url", "k3s_environment", "k3s_cluster_cidr", "k3s_service_cidr", "k3s_node_ip", "ansible_host", "inventory_hostname",
           "k3s_registries", "k3s_release_url", "vsphere_hostname", "vsphere_vcenter", "vsphere_proxy_host", "cpi_vcenters", "csi_vcenters",
           "vm_gateway", "vm_nameservers")
# Group of nodes -> the variables whose values k3s or a kubelet would refuse only at its start.
NODE_VARIABLES = {
    role: (*_SHARED, *(f"{role}_{name}" for name in names))
    for role, names in {
        "control_plane": ("labels", "taints", "kubelet_args", "controller_manager_args", "snapshot_cron", "config", "secret_config"),
        "agent": ("labels", "taints", "kubelet_args", "config", "secret_config"),
    }.items()
}


def node_settings(role: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a node's variables make of its config.yaml, as far as its values can be judged without the node."""
    base = {
        "node-label": labels_of(given.get(f"{role}_labels")),
        "node-taint": list(given.get(f"{role}_taints") or []),
        "kubelet-arg": list(given.get(f"{role}_kubelet_args") or []),
        "kube-controller-manager-arg": list(given.get(f"{role}_controller_manager_args") or []),
        "etcd-snapshot-schedule-cron": given.get(f"{role}_snapshot_cron"),
    }
    return merge_config(base, {**(given.get(f"{role}_config") or {}), **(given.get(f"{role}_secret_config") or {})})


def value_problems(role: str, given: Mapping[str, Any], server: Mapping[str, Any]) -> list[str]:
    """What k3s or the kubelet would refuse of a node's variables; `server` are those of a server, which says how many pods a node has addresses for."""
    found = [accepted.server_url_problem(str(given.get("k3s_server_url") or "")), _address_problem(given)]
    found += accepted.registries_problems(given.get("k3s_registries") or {})
    return [problem for problem in found if problem] + accepted.problems(
        node_settings(role, given), accepted.mask_size(node_settings("control_plane", server)))


def _address_problem(given: Mapping[str, Any]) -> str:
    """An address that servers, firewalls and certificates could not be given."""
    address = str(given.get("k3s_node_ip") or "")
    if "," in address:
        return (
            f"k3s_node_ip {address} names several addresses. Clusters of two address families are not supported: give the one by which the nodes"
            " reach each other"
        )
    if address and not address_or_empty(address):
        return f"k3s_node_ip {address} is not an address"
    return ""


def range_problems(
    server: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]], resolve: Callable[[Iterable[str]], Mapping[str, list[str]]] | None = None
) -> tuple[list[str], list[str]]:
    """(what lies in the ranges of pods or services, or makes them overlap; the names that resolve does not know).

    What SSH calls a node need not be a name of DNS, so a node that has no address that way is not told.
    """
    nodes = list(nodes)
    places = [(str(one.get("inventory_hostname") or "a node"), address) for one in nodes
              for address in (str(one.get("k3s_node_ip") or ""), str(one.get("ansible_host") or ""), address_or_empty(one.get("inventory_hostname")))]
    reached = list(dict.fromkeys(place for one in nodes for place in ranges.reached(dict(one))))
    named = {text: what for what, text in reversed([*places, *reached]) if text and not address_or_empty(text)}
    found = resolve(named) if resolve and named else {}
    places += reached + [(f"{what} ({name})", address) for name, what in named.items() for address in found.get(name) or ()]
    unknown = [f"{what} {text}" for what, text in reached if resolve and text in named and not found.get(text)]
    room = ranges.room_problem(dict(server), len(nodes), accepted.mask_size(node_settings("control_plane", server)))
    return ranges.problems(dict(server), places, room), unknown


def no_proxy_problem(given: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]], server: Mapping[str, Any]) -> str:
    """That a node would send requests for other nodes, pods or services to its proxy; '' where it would not."""
    hosts = [node_address(one) for one in nodes]
    url = urlsplit(str(given.get("k3s_server_url") or "")).hostname or ""
    networks = [part.strip() for name, default in (("k3s_cluster_cidr", "10.42.0.0/16"), ("k3s_service_cidr", "10.43.0.0/16"))
                for part in str(given.get(name) or default).split(",")]
    domain = str((server.get("control_plane_config") or {}).get("cluster-domain") or "")
    lacking = proxy.missing(
        given.get("k3s_environment") or {}, [part for host in hosts for part in host.split(",")] + ([url] if url else []), networks, domain)
    if not lacking:
        return ""
    value = ",".join(filter(None, [proxy.setting(given.get("k3s_environment") or {}, "no_proxy").strip(" ,"), *lacking]))
    return (
        f"k3s_environment has a proxy, and NO_PROXY does not cover {_some(lacking, 8)}: k3s and containerd would ask the proxy for nodes, pods and"
        f" services. Set it to {value!r}; the whole network in place of the nodes' addresses lets a new node change nothing"
    )


def _some(names: list[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
