# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags of k3s' subcommands, as (name, kind, environment variable, default).

Kinds: s string, b switch, l list, i number, d duration. What the stand-in only accepts and
ignores is listed in CONTRACT.md.
"""
from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Flag:
    name: str
    kind: str
    env: str = ""
    default: Any = None
    short: str = ""


def _parse(text: str) -> dict[str, Flag]:
    out = {}
    for row in text.strip().splitlines():
        cells = [cell.strip() for cell in row.split("|")] + [""] * 5
        name, kind, env, default, short = cells[:5]
        value: Any = default
        if kind == "b":
            value = default == "true"
        elif kind == "l":
            value = []
        elif kind == "i":
            value = int(default or 0)
        out[name] = Flag(name, kind, env, value, short)
    return out


_COMMON = """
config | s | K3S_CONFIG_FILE | /etc/rancher/k3s/config.yaml | c
debug | b | K3S_DEBUG
v | i
vmodule | s
log | s | | | l
alsologtostderr | b
data-dir | s | K3S_DATA_DIR | /var/lib/rancher/k3s | d
token | s | K3S_TOKEN | | t
token-file | s | K3S_TOKEN_FILE
server | s | K3S_URL | | s
rootless | b
prefer-bundled-bin | b
selinux | b | K3S_SELINUX
lb-server-port | i | K3S_LB_SERVER_PORT | 6444
vpn-auth | s | K3S_VPN_AUTH
vpn-auth-file | s | K3S_VPN_AUTH_FILE
enable-pprof | b
bind-address | s
"""

_AGENT = """
node-name | s | K3S_NODE_NAME
with-node-id | b
node-label | l
node-taint | l
image-credential-provider-bin-dir | s | | /var/lib/rancher/credentialprovider/bin
image-credential-provider-config | s | | /var/lib/rancher/credentialprovider/config.yaml
protect-kernel-defaults | b
container-runtime-endpoint | s
image-service-endpoint | s
default-runtime | s
disable-default-registry-endpoint | b
nonroot-devices | b
pause-image | s | | rancher/mirrored-pause:3.6
snapshotter | s | | overlayfs
private-registry | s | | /etc/rancher/k3s/registries.yaml
airgap-extra-registry | l
node-ip | l | | | i
node-external-ip | l
node-internal-dns | l
node-external-dns | l
resolv-conf | s | K3S_RESOLV_CONF
flannel-iface | s
flannel-conf | s
flannel-cni-conf | s
kubelet-arg | l
kube-proxy-arg | l
docker | b
"""

_SERVER = """
https-listen-port | i | | 6443
advertise-address | s
advertise-port | i
tls-san | l
tls-san-security | b | | true
cluster-cidr | l
service-cidr | l
service-node-port-range | s | | 30000-32767
cluster-dns | l
cluster-domain | s | | cluster.local
flannel-backend | s | | vxlan
flannel-ipv6-masq | b
flannel-external-ip | b
egress-selector-mode | s | | agent
servicelb-namespace | s | | kube-system
write-kubeconfig | s | K3S_KUBECONFIG_OUTPUT | | o
write-kubeconfig-mode | s | K3S_KUBECONFIG_MODE
write-kubeconfig-group | s | K3S_KUBECONFIG_GROUP
helm-job-image | s
agent-token | s | K3S_AGENT_TOKEN
agent-token-file | s | K3S_AGENT_TOKEN_FILE
cluster-init | b | K3S_CLUSTER_INIT
cluster-reset | b | K3S_CLUSTER_RESET
cluster-reset-restore-path | s
kube-apiserver-arg | l
etcd-arg | l
kube-controller-manager-arg | l
kube-scheduler-arg | l
kube-cloud-controller-manager-arg | l
kube-controller-arg | l
kube-cloud-controller-arg | l
supervisor-port | i
apiserver-port | i
apiserver-bind-address | s
kine-tls | b
datastore-endpoint | s | K3S_DATASTORE_ENDPOINT
datastore-cafile | s | K3S_DATASTORE_CAFILE
datastore-certfile | s | K3S_DATASTORE_CERTFILE
datastore-keyfile | s | K3S_DATASTORE_KEYFILE
etcd-expose-metrics | b
etcd-disable-snapshots | b
etcd-snapshot-schedule-cron | s | | 0 */12 * * *
etcd-snapshot-reconcile-interval | d | | 10m
disable | l
disable-scheduler | b
disable-cloud-controller | b
disable-kube-proxy | b
disable-network-policy | b
disable-helm-controller | b
disable-apiserver | b
disable-controller-manager | b
disable-etcd | b
disable-agent | b
default-local-storage-path | s
secrets-encryption | b
secrets-encryption-provider | s | | aescbc
system-default-registry | s | K3S_SYSTEM_DEFAULT_REGISTRY
embedded-registry | b
supervisor-metrics | b
"""

_SNAPSHOT = """
etcd-snapshot-name | s | | etcd-snapshot
etcd-snapshot-retention | i | | 5
etcd-snapshot-dir | s
etcd-snapshot-compress | b
etcd-s3 | b
etcd-s3-endpoint | s | | s3.amazonaws.com
etcd-s3-endpoint-ca | s
etcd-s3-skip-ssl-verify | b
etcd-s3-access-key | s | AWS_ACCESS_KEY_ID
etcd-s3-secret-key | s | AWS_SECRET_ACCESS_KEY
etcd-s3-session-token | s | AWS_SESSION_TOKEN
etcd-s3-bucket | s
etcd-s3-bucket-lookup-type | s | | auto
etcd-s3-region | s | | us-east-1
etcd-s3-folder | s
etcd-s3-proxy | s
etcd-s3-config-secret | s
etcd-s3-insecure | b
etcd-s3-timeout | d | | 5m0s
etcd-s3-retention | i | | 5
"""

AGENT = _parse(_COMMON + _AGENT.rstrip() + "\ndisable-apiserver-lb | b")
SERVER = _parse(_COMMON.strip() + _AGENT.rstrip() + _SERVER.rstrip() + _SNAPSHOT.rstrip())

_TOOL = """
config | s | K3S_CONFIG_FILE | /etc/rancher/k3s/config.yaml | c
debug | b | K3S_DEBUG
log | s | | | l
alsologtostderr | b
data-dir | s | K3S_DATA_DIR | /var/lib/rancher/k3s | d
token | s | K3S_TOKEN | | t
server | s | K3S_URL | | s
kubeconfig | s | KUBECONFIG
"""

# Not server and token: with those of config.yaml the snapshot would be made on another server (k3s-io/k3s#10513).
_LOCAL_TOOL = _TOOL.replace("token | s | K3S_TOKEN | | t", "etcd-token | s | | | t").replace("server | s | K3S_URL | | s", "etcd-server | s | | | s")

SNAPSHOT = _parse(_LOCAL_TOOL.rstrip() + """
name | s | | on-demand
output | s | | | o
node-name | s | K3S_NODE_NAME
dir | s
snapshot-compress | b
snapshot-retention | i | | 5
s3 | b
""" .rstrip() + _SNAPSHOT.rstrip())

TOKEN = _parse(_TOOL.rstrip() + """
output | s | | text | o
ttl | d | | 24h
description | s
groups | l
usages | l
print-join-command | b
new-token | s | K3S_NEW_TOKEN
""".rstrip())

CERTIFICATE = _parse(_TOOL.rstrip() + """
service | l | | | s
output | s | | text | o
""".rstrip())

ENCRYPT = _parse(_TOOL.rstrip() + """
output | s | | text | o
force | b | | | f
skip | b
""".rstrip())
