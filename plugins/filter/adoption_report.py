# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: adoption_report
short_description: What adopting a cluster means, line by line
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes what M(cht.k3s.k3s_adopt) reported for each node and gives lines for people. Equal differences of several nodes are one line.
options:
  _input:
    description: The results by host.
    type: dict
    required: true
  wanted:
    description: What the inventory wants for each host, with C(provider_id) and C(runtime).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the report
  ansible.builtin.debug:
    msg: "{{ reports | cht.k3s.adoption_report }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
  sample:
    - "control-plane-1: by other means, in /etc/systemd/system/k3s.service; containerd; vsphere://420e3f71-9f3c-11ee-8c90-0242ac120077"
    - "disable: has nothing; site.yml would set local-storage (control-plane-1)"
"""


# k3s takes these once, when the cluster begins.
FIXED = ("cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "flannel-backend")
# site.yml leaves it as it runs.
STAYS = {"secrets-encryption": "stays so under site.yml; playbooks/secrets_encryption.yml encrypts the Secrets of a cluster that runs"}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "nothing" if value is None else str(value)


def adoption_report(results: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """The lines: first each node, then what differs."""
    lines = []
    rows: dict[str, list[str]] = {}
    for host, result in results.items():
        if not result.get("installed", True):
            lines.append(f"{host}: has no k3s; site.yml would install it")
            continue
        where = "managed by this collection" if result["adopted"] else f"by other means, in {', '.join(result['places'])}"
        lines.append(f"{host}: {where}; {result['runtime']}; {result['provider_id'] or 'no provider ID'}")
        if result.get("datastore") == "sqlite":
            rows.setdefault(
                "datastore: SQLite, so no second server can join and backup.yml can save nothing; playbooks/migrate_datastore.yml makes etcd of it,"
                " after the adoption", []).append(host)
        other = (wanted or {}).get(host) or {}
        if result["provider_id"] and other.get("provider_id") and result["provider_id"] != other["provider_id"]:
            rows.setdefault(
                f"provider ID: {result['provider_id']} of the running node stays; the inventory wants {other['provider_id']}."
                " Set k3s_provider_id to the running one; it can only change with a new Node", []).append(host)
        if other.get("runtime") and result["runtime"] != other["runtime"]:
            rows.setdefault(
                f"runtime: {result['runtime']} stays; the inventory wants {other['runtime']}."
                f" Set k3s_container_runtime to {result['runtime']}, or drain the node before it changes", []).append(host)
        for found in result.get("cluster_ids") or []:
            if other.get("cluster_id") and found != other["cluster_id"]:
                rows.setdefault(
                    f"cluster ID: {found} names the volumes and must stay; the inventory wants {other['cluster_id']}."
                    f" Set csi_cluster_id to {found}", []).append(host)
        for row in result["differences"]:
            if row["key"] != "docker":
                fixed = "; it must stay, so set its variable first" if row["key"] in FIXED else ""
                if row.get("refused"):
                    fixed = f"; {row['refused']}, so this node is not adopted with it"
                after = row.get("note") or STAYS.get(row["key"]) or f"site.yml would set {_shown(row['wanted'])}"
                rows.setdefault(f"{row['key']}: has {_shown(row['found'])}; {after}{fixed}", []).append(host)
    return lines + [f"{text} ({', '.join(hosts)})" for text, hosts in rows.items()]


class FilterModule:
    """The filter adoption_report."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"adoption_report": adoption_report}
