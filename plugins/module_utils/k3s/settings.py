# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""config.yaml of servers and agents from the roles' variables."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from .system import NodeError
from .values import config_values
from .yamltext import dump, word


def address_or_empty(value) -> str:
    """The value when it is an IP address, else '': then k3s finds its own."""
    try:
        return str(ipaddress.ip_address(str(value).strip()))
    except ValueError:
        return ""


def node_address(known) -> str:
    """The address, or name, by which other nodes reach one: for URLs, firewalls and preflight alike."""
    return str(known.get("k3s_node_ip") or known.get("ansible_host") or known.get("inventory_hostname") or "")


def node_name(value) -> str:
    """A node's name as k3s registers it: in lower case (k3s: pkg/util/net.go, GetHostnameAndIPs), and without the final dot that a name of DNS may have."""
    return str(value or "").strip().rstrip(".").lower()


def own_names(url: str, names: list, node: str) -> list:
    """Names of a server for its certificate: those given, and the one that others reach it by where it is none of these.

    A bare name of the inventory is taken for the host name, which k3s has in its certificates anyway.
    """
    host = urlsplit(url).hostname or ""
    name = address_or_empty(host) or host
    return list(names) + ([name] if name and name not in names and name != node and (address_or_empty(name) or "." in name) else [])


def merge_config(base: dict, extra: dict) -> dict:
    """The user's keys over ours; lists are added to, so that nobody has to repeat what the role needs."""
    merged = dict(base)
    for key, value in (extra or {}).items():
        if isinstance(merged.get(key), list):
            merged[key] = merged[key] + [item for item in (value if isinstance(value, list) else [value]) if item not in merged[key]]
        else:
            merged[key] = value
    return {key: value for key, value in merged.items() if value not in (None, "", [])}


def _on(value: object) -> bool:
    """Whether an option is on. `-e NAME=false` and an INI inventory give text, of which any is true to Python."""
    return str(value).strip().lower() in ("true", "yes", "on", "1", "t", "y")


def labels_of(labels: dict | None) -> list:
    """Labels as k3s takes them."""
    return [f"{name}={word(value)}" for name, value in sorted((labels or {}).items(), key=lambda item: str(item[0]))]


def common_config(node: dict) -> dict:
    """What servers and agents share. Keys of node: ip, name, provider_id, cloud_provider, runtime, kubelet_args, labels, taints, ..."""
    external = node.get("cloud_provider") == "external"
    if external and not node.get("provider_id"):
        raise ValueError(
            "k3s_provider_id is empty, but the cloud provider is external: the node would never be initialised."
            " Give vsphere_bios_uuid for the host, or set k3s_provider_id."
        )
    # Without it k3s gives the Node an ID of its own, which can't be changed any more.
    kubelet = ["cloud-provider=external", f"provider-id={node['provider_id']}"] if external else []
    return {
        "node-ip": node.get("ip"),
        "node-name": node_name(node.get("name")),
        "kubelet-arg": kubelet + list(node.get("kubelet_args") or []),
        "node-label": labels_of(node.get("labels")),
        "node-taint": list(node.get("taints") or []),
        "docker": True if node.get("runtime") == "docker" else None,
        "protect-kernel-defaults": True if _on(node.get("protect_kernel_defaults")) else None,
    }


AUDIT_POLICY = "/etc/rancher/k3s/audit-policy.yaml"
AUDIT_LOG = "/var/lib/rancher/k3s/server/logs/audit.log"
# What a request asked for, and not its body: that may be a secret.
DEFAULT_POLICY = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}


def server_files(audit: dict) -> dict:
    """More files that a server reads at its start. Keys of audit: enabled, policy."""
    return {AUDIT_POLICY: dump(audit.get("policy") or DEFAULT_POLICY)} if _on(audit.get("enabled")) else {}


def _audit_args(audit: dict) -> list:
    if not _on(audit.get("enabled")):
        return []
    return [
        f"audit-log-path={AUDIT_LOG}", f"audit-policy-file={AUDIT_POLICY}", f"audit-log-maxage={audit['days']}",
        f"audit-log-maxbackup={audit['files']}", f"audit-log-maxsize={audit['size_mb']}",
    ]


def _eviction_args(seconds: int) -> list:
    return [f"default-not-ready-toleration-seconds={seconds}", f"default-unreachable-toleration-seconds={seconds}"] if seconds else []


# What a cluster is begun with where the variables say nothing. One that exists keeps its own: a default must not take away the storage class that
# its volumes are of, nor the older snapshots.
NEW_CLUSTER = {"disable": ["local-storage"], "etcd-snapshot-schedule-cron": "0 */12 * * *", "etcd-snapshot-retention": 5}
_SAID_BY = {"disable": "disable", "etcd-snapshot-schedule-cron": "snapshot_cron", "etcd-snapshot-retention": "snapshot_retention"}


def undecided(extra: dict, server: dict) -> dict:
    """Of the settings that a cluster is begun with, those about which the variables say nothing. Keys of server as in server_config."""
    return {key: value for key, value in NEW_CLUSTER.items() if server.get(_SAID_BY[key]) is None and key not in (extra or {})}


def of_cluster(text: str | None) -> dict | None:
    """What a server's config.yaml has of the settings that a cluster is begun with; None where there is none that can be read."""
    if text is None:
        return None
    try:
        values = config_values(text)
    except NodeError:
        return None
    retention = str(values.get("etcd-snapshot-retention", ""))
    numbers = {"etcd-snapshot-retention": int(retention)} if retention.isdigit() else {}
    return {**{key: values[key] for key in NEW_CLUSTER if key in values}, **numbers}


def agent_config(extra: dict, node: dict) -> dict:
    """An agent's settings."""
    return merge_config(common_config(node), extra)


def server_config(extra: dict, node: dict, server: dict) -> dict:
    """A server's settings. Keys of server: cluster_cidr, service_cidr, tls_san, disable, secrets_encryption, taint, etcd_args, ..."""
    base = common_config(node)
    if _on(server.get("taint")):
        base["node-taint"] = base["node-taint"] + ["node-role.kubernetes.io/control-plane=true:NoSchedule"]
    grace = [f"node-monitor-grace-period={server['node_grace_seconds']}s"] if int(server.get("node_grace_seconds") or 0) else []
    base.update({
        "cluster-cidr": server.get("cluster_cidr"),
        "service-cidr": server.get("service_cidr"),
        "tls-san": own_names(server.get("url") or "", list(server.get("tls_san") or []), node.get("name") or ""),
        "disable": list(server.get("disable") or []),
        "disable-cloud-controller": True if node.get("cloud_provider") == "external" else None,
        "secrets-encryption": True if _on(server.get("secrets_encryption")) else None,
        "etcd-arg": list(server.get("etcd_args") or []),
        "kube-apiserver-arg": (
            _audit_args(server.get("audit") or {}) + _eviction_args(int(server.get("eviction_seconds") or 0)) + list(server.get("apiserver_args") or [])
        ),
        "kube-controller-manager-arg": grace + list(server.get("controller_manager_args") or []),
        "etcd-snapshot-schedule-cron": server.get("snapshot_cron"),
        "etcd-snapshot-retention": server.get("snapshot_retention"),
    })
    return merge_config(base, extra)


def split_registries(registries: dict) -> tuple:
    """(registries without credentials, host -> credentials): the second part is a secret, the first may be shown."""
    public = {key: value for key, value in (registries or {}).items() if key != "configs"}
    auth = {}
    configs = {}
    for host, entry in ((registries or {}).get("configs") or {}).items():
        rest = {key: value for key, value in (entry or {}).items() if key != "auth"}
        if (entry or {}).get("auth"):
            auth[host] = entry["auth"]
        if rest:
            configs[host] = rest
    if configs:
        public["configs"] = configs
    return public, auth
