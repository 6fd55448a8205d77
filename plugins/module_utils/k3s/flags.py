# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys that k3s' config.yaml may have, by release.

A server only warns about a key that it does not know, so a typo would silently be no setting at all; an agent ends at its start. Here it is
refused.
"""

from __future__ import annotations

import difflib
import ipaddress
import re

from .yamltext import items

# Agent flags; a server takes them too.
AGENT = frozenset(
    """debug v vmodule log alsologtostderr data-dir token token-file server node-name with-node-id node-label node-taint
    image-credential-provider-bin-dir image-credential-provider-config selinux lb-server-port protect-kernel-defaults
    container-runtime-endpoint pause-image snapshotter private-registry airgap-extra-registry node-ip node-external-ip resolv-conf
    flannel-iface flannel-conf flannel-cni-conf kubelet-arg kube-proxy-arg docker prefer-bundled-bin rootless bind-address enable-pprof""".split()
)
SERVER_ONLY = frozenset(
    """https-listen-port advertise-address advertise-port tls-san cluster-cidr service-cidr service-node-port-range
    cluster-dns cluster-domain flannel-backend flannel-ipv6-masq flannel-external-ip egress-selector-mode servicelb-namespace
    write-kubeconfig write-kubeconfig-mode agent-token agent-token-file cluster-init cluster-reset cluster-reset-restore-path
    kube-apiserver-arg etcd-arg kube-controller-manager-arg kube-scheduler-arg kube-cloud-controller-manager-arg
    datastore-endpoint datastore-cafile datastore-certfile datastore-keyfile
    etcd-expose-metrics etcd-disable-snapshots etcd-snapshot-name etcd-snapshot-schedule-cron etcd-snapshot-retention etcd-snapshot-dir
    etcd-snapshot-compress etcd-s3 etcd-s3-endpoint etcd-s3-endpoint-ca etcd-s3-skip-ssl-verify etcd-s3-access-key etcd-s3-secret-key
    etcd-s3-bucket etcd-s3-region etcd-s3-folder etcd-s3-insecure etcd-s3-timeout
    disable disable-scheduler disable-cloud-controller disable-kube-proxy disable-network-policy disable-helm-controller
    disable-apiserver disable-controller-manager disable-etcd disable-agent default-local-storage-path secrets-encryption
    system-default-registry kube-controller-arg kube-cloud-controller-arg supervisor-port apiserver-port apiserver-bind-address""".split()
)
# Later keys and the minor release that brought them.
LATER_AGENT = {
    "vpn-auth": 27, "vpn-auth-file": 27, "image-service-endpoint": 28, "disable-default-registry-endpoint": 28,
    "default-runtime": 29, "nonroot-devices": 31, "node-internal-dns": 31, "node-external-dns": 31,
}
LATER_AGENT_ONLY = {"disable-apiserver-lb": 28}
LATER_SERVER = {
    "helm-job-image": 27, "tls-san-security": 28, "embedded-registry": 26, "kine-tls": 29, "write-kubeconfig-group": 30, "supervisor-metrics": 30,
    "etcd-s3-proxy": 30, "etcd-s3-config-secret": 28, "etcd-snapshot-reconcile-interval": 32, "secrets-encryption-provider": 32,
    "etcd-s3-bucket-lookup-type": 33, "etcd-s3-session-token": 34, "etcd-s3-retention": 34, "write-kubeconfig-name": 37,
}
# Arguments of components and the minor release that no longer takes them; with one of these the component exits at once.
REMOVED_ARGUMENTS = {
    ("kubelet-arg", "container-runtime"): 27, ("kubelet-arg", "cloud-config"): 34, ("kubelet-arg", "pod-infra-container-image"): 35,
    ("kube-apiserver-arg", "cloud-provider"): 33, ("kube-apiserver-arg", "cloud-config"): 33,
}
# Values that must not be seen.
SECRET = frozenset(
    """token agent-token datastore-endpoint etcd-s3-access-key etcd-s3-secret-key etcd-s3-session-token vpn-auth""".split()
)
# Set by k3s_join itself.
OWN = frozenset(("server", "cluster-init", "token", "token-file", "cluster-reset", "cluster-reset-restore-path"))
# Lists whose items are name=value.
ARGUMENTS = frozenset(
    """kubelet-arg kube-proxy-arg kube-apiserver-arg etcd-arg kube-controller-manager-arg kube-scheduler-arg
    kube-cloud-controller-manager-arg kube-controller-arg kube-cloud-controller-arg""".split()
)


# What a cluster is built on: k3s takes these when it begins. Key -> (its value where it is not given, where it is set).
FIXED = {
    "cluster-cidr": ("10.42.0.0/16", "k3s_cluster_cidr"), "service-cidr": ("10.43.0.0/16", "k3s_service_cidr"),
    "cluster-dns": ("", "control_plane_config"), "cluster-domain": ("cluster.local", "control_plane_config"),
}
# Settings of k3s that this collection cannot go along with. Key -> (the value that is as good as none, why).
UNSUPPORTED = {
    "data-dir": ("/var/lib/rancher/k3s", "the data is expected in /var/lib/rancher/k3s: mount a disk there instead"),
    "datastore-endpoint": ("", "only embedded etcd is known: backups, quorum and removal would not see the data"),
    "datastore-cafile": ("", "only embedded etcd is known"),
    "datastore-certfile": ("", "only embedded etcd is known"),
    "datastore-keyfile": ("", "only embedded etcd is known"),
    "write-kubeconfig": ("/etc/rancher/k3s/k3s.yaml", "the API is asked with that file; k3s_kubeconfig_dir gives people one of their own"),
    "https-listen-port": ("6443", "servers, agents and firewalls use 6443; put a load balancer with another port in front (k3s_server_url)"),
    "supervisor-port": ("6443", "servers and agents join on 6443"),
    "with-node-id": ("false", "the name of a Node would be known to nobody before it is there"),
    "agent-token": ("", "agents are given the servers' token"),
    "agent-token-file": ("", "agents are given the servers' token"),
}


def minor(version: str) -> int:
    """34 for "v1.34.4+k3s1"; 0 when it is none."""
    match = re.match(r"v?1\.(\d+)\.", version or "")
    return int(match.group(1)) if match else 0


def known_keys(role: str, version: str) -> set:
    """All keys for a role in a release."""
    release = minor(version) or 999
    keys = set(AGENT) | {key for key, since in LATER_AGENT.items() if since <= release}
    own = LATER_SERVER if role == "server" else LATER_AGENT_ONLY
    keys |= {key for key, since in own.items() if since <= release}
    return keys | SERVER_ONLY if role == "server" else keys


def check_s3(config: dict) -> list:
    """What k3s would find out only at the first snapshot: S3 without its place, or settings of S3 that do nothing."""
    given = sorted(key for key in config if key.startswith("etcd-s3-"))
    if str(config.get("etcd-s3", "")).lower() != "true":
        return [f"{', '.join(given)} {'does' if len(given) == 1 else 'do'} nothing without 'etcd-s3: true'"] if given else []
    if config.get("etcd-s3-config-secret"):
        return []
    problems = [] if config.get("etcd-s3-bucket") else ["'etcd-s3' needs 'etcd-s3-bucket'"]
    if bool(config.get("etcd-s3-access-key")) != bool(config.get("etcd-s3-secret-key")):
        problems.append("'etcd-s3-access-key' and 'etcd-s3-secret-key' belong together; give both in secret_config")
    if str(config.get("etcd-s3-endpoint", "")).startswith(("http://", "https://")):
        problems.append("'etcd-s3-endpoint' is a host without https://; 'etcd-s3-insecure' is for plain HTTP")
    return problems


def check_fixed(text: str | None, config: dict) -> list:
    """What this server's config.yaml says and a running cluster cannot change, a sentence for each that is wanted otherwise."""
    given = {key: config.get(key) for key in FIXED}
    wanted = {key: [part for item in (value if isinstance(value, list) else [value]) for part in str(item).split(",")]
              for key, value in given.items() if value not in (None, "", [])}
    found = {key: items(text, key) for key in FIXED}
    problems = []
    for key, (default, variable) in FIXED.items():
        here, there = _with_default(key, default, found), _with_default(key, default, wanted)
        if here != there:
            problems.append(f"{key} is {', '.join(here)} here, and {', '.join(there)} is wanted ({variable})")
    return problems


def address_problem(text: str | None, config: dict) -> str:
    """That a member would get another address, under which the other members of etcd do not know it; '' where its config.yaml has none."""
    value = config.get("node-ip")
    wanted = [part.strip() for item in (value if isinstance(value, list) else [value or ""]) for part in str(item).split(",") if part.strip()]
    here = items(text, "node-ip")
    if not here or here == wanted:
        return ""
    return f"node-ip is {', '.join(here)} here, and {', '.join(wanted) or 'none'} is wanted (k3s_node_ip, or ansible_host: a VIP may be reported there)"


def _with_default(key: str, default: str, values: dict) -> list:
    listed = values.get(key) or ([default] if default else [])
    if key == "cluster-dns" and not listed:
        networks = _with_default("service-cidr", FIXED["service-cidr"][0], values)
        try:
            return [str(ipaddress.ip_network(network, strict=False)[10]) for network in networks]
        except (ValueError, IndexError):
            return []
    return sorted(listed)


def unsupported(config: dict) -> dict:
    """The settings that cannot be managed here, with the reason."""
    found = {}
    for key, value in config.items():
        harmless, why = UNSUPPORTED.get(key.rstrip("+"), (None, ""))
        text = str(value).lower() if isinstance(value, bool) else str(value or "")
        if why and text not in ("", harmless):
            found[key] = why
    return found


def check(config: dict, role: str, version: str) -> list:
    """What is wrong with a configuration, a sentence each."""
    problems = [f"'{key}' cannot be set here: {why}" for key, why in unsupported(config).items()]
    known = known_keys(role, version)
    later = dict(LATER_AGENT, **(LATER_SERVER if role == "server" else LATER_AGENT_ONLY))
    for key, value in config.items():
        name = key[:-1] if key.endswith("+") else key
        if name in OWN:
            problems.append(f"'{key}' is set by k3s_join itself; leave it out of the configuration")
        elif name in later and name not in known:
            problems.append(f"'{key}' came with Kubernetes 1.{later[name]}, but the version is {version}; leave it out or upgrade")
        elif name not in known and role == "agent" and name in (SERVER_ONLY | set(LATER_SERVER)):
            problems.append(f"'{key}' is for servers; an agent ends at its start with it")
        elif name not in known and role == "server" and name in LATER_AGENT_ONLY:
            problems.append(f"'{key}' is for agents; a server does not know it")
        elif name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1, 0.75)
            hint = f"; did you mean '{near[0]}'?" if near else "; see `k3s server --help`"
            problems.append(f"'{key}' is no setting of k3s {version}{hint}")
        elif name in ARGUMENTS:
            for item in value if isinstance(value, list) else [value]:
                if not isinstance(item, str) or item.startswith("-") or "=" not in item:
                    problems.append(f"'{key}' has the item {item!r}; items are name=value without leading dashes")
                    continue
                gone = REMOVED_ARGUMENTS.get((name, item.split("=", 1)[0].rstrip("+-")), 999)
                if minor(version) >= gone:
                    problems.append(f"'{key}' has the item {item!r}, which Kubernetes 1.{gone} no longer takes; remove it before {version}")
                elif name == "kube-apiserver-arg" and "PodSecurityPolicy" in item and minor(version) >= 25:
                    problems.append(f"'{key}' names PodSecurityPolicy, which is gone since Kubernetes 1.25; remove it before {version}")
    return problems
