# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of k3s wherever they stand (flags of a unit, variables, config.yaml), and whether two of them say the same.

A list of one is a scalar, "a,b" is a list, "true" is true, the order of keys and of most lists is no matter, and what k3s does anyway need not be said.
"""

from __future__ import annotations

import re
import shlex

from .files import CONFIG_PATH
from .flags import ARGUMENTS, FIXED
from .system import NodeError
from .unit import foreign_arguments, unit_path
from .yamltext import load, top_level, word

SHORT = {"t": "token", "s": "server", "d": "data-dir", "i": "node-ip", "o": "write-kubeconfig", "l": "log", "c": "config"}
SWITCHES = frozenset(
    """debug alsologtostderr with-node-id selinux protect-kernel-defaults docker prefer-bundled-bin rootless cluster-init cluster-reset
    flannel-ipv6-masq flannel-external-ip etcd-expose-metrics etcd-disable-snapshots etcd-snapshot-compress etcd-s3 etcd-s3-skip-ssl-verify
    etcd-s3-insecure disable-scheduler disable-cloud-controller disable-kube-proxy disable-network-policy disable-helm-controller
    disable-apiserver disable-controller-manager disable-etcd disable-agent secrets-encryption enable-pprof tls-san-security
    disable-default-registry-endpoint disable-apiserver-lb embedded-registry kine-tls supervisor-metrics nonroot-devices""".split()
)
# Lists that may also be written with commas.
COMMAS = frozenset(
    """tls-san cluster-cidr service-cidr cluster-dns disable node-ip node-external-ip node-label node-taint airgap-extra-registry
    node-internal-dns node-external-dns""".split()
)
LISTS = COMMAS | ARGUMENTS
# The first one of these is the main one.
ORDERED = frozenset(("cluster-cidr", "service-cidr", "cluster-dns", "node-ip", "node-external-ip"))
VARIABLES = {
    "K3S_TOKEN": "token", "K3S_TOKEN_FILE": "token-file", "K3S_URL": "server", "K3S_AGENT_TOKEN": "agent-token",
    "K3S_AGENT_TOKEN_FILE": "agent-token-file", "K3S_NODE_NAME": "node-name", "K3S_CLUSTER_INIT": "cluster-init",
    "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode", "K3S_KUBECONFIG_OUTPUT": "write-kubeconfig", "K3S_DATASTORE_ENDPOINT": "datastore-endpoint",
    "K3S_DATASTORE_CAFILE": "datastore-cafile", "K3S_DATASTORE_CERTFILE": "datastore-certfile", "K3S_DATASTORE_KEYFILE": "datastore-keyfile",
    "K3S_SELINUX": "selinux", "K3S_RESOLV_CONF": "resolv-conf", "K3S_DATA_DIR": "data-dir", "K3S_CONFIG_FILE": "config", "K3S_DEBUG": "debug",
    "K3S_SYSTEM_DEFAULT_REGISTRY": "system-default-registry",
}
# What k3s takes where nothing is given (pkg/cli/cmds/server.go, agent.go).
DEFAULTS = {
    "service-node-port-range": "30000-32767", "flannel-backend": "vxlan", "egress-selector-mode": "agent", "https-listen-port": "6443",
    "servicelb-namespace": "kube-system", "etcd-snapshot-name": "etcd-snapshot", "etcd-snapshot-schedule-cron": "0 */12 * * *",
    "etcd-snapshot-retention": "5", "etcd-s3-endpoint": "s3.amazonaws.com", "etcd-s3-region": "us-east-1", "etcd-s3-timeout": "5m0s",
    "data-dir": "/var/lib/rancher/k3s", "write-kubeconfig": "/etc/rancher/k3s/k3s.yaml", "lb-server-port": "6444", "snapshotter": "overlayfs",
    "tls-san-security": "true", "secrets-encryption-provider": "aescbc", **{key: default for key, (default, dummy) in FIXED.items() if default},
}
_ON = ("true", "1", "t", "yes", "on")


def exec_flags(unit_text: str | None, role: str) -> dict:
    """The settings in a unit's ExecStart, lists as lists."""
    words = shlex.split(foreign_arguments(unit_text, role))
    found: dict = {}
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            raise NodeError(f"The unit passes '{word}' to k3s, which belongs to no flag. Correct {unit_path(role)} first.")
        name, equals, value = word.lstrip("-").partition("=")
        name = SHORT.get(name, name)
        if name in SWITCHES:
            put(found, name, not equals or value.lower() in _ON)
        elif equals:
            put(found, name, value)
        elif words:
            put(found, name, words.pop(0))
        else:
            raise NodeError(f"The flag --{name} has no value. Correct {unit_path(role)} first.")
    return found


def environment_values(text: str | None) -> dict:
    """The variables of an environment file."""
    found = {}
    for line in (text or "").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            parts = shlex.split(value) if value else [""]
            found[name] = parts[0] if parts else ""
    return found


def without_own_variables(text: str) -> str:
    """An environment file without the variables that k3s reads itself; all other lines stay."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("K3S_"))


def config_values(text: str | None) -> dict:
    """Scalars and block or flow lists of scalars of a config.yaml; NodeError for anything else, which is left to people."""
    found: dict = {}
    key = ""
    for number, line in enumerate((text or "").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#") or line.strip() == "---":
            continue
        item = re.match(r"\s*-\s+(.*)\Z", line)
        if item and key:
            if not isinstance(found.get(key), list):
                found[key] = []
            found[key].append(_scalar(item.group(1)))
            continue
        pairs = top_level(line)
        if not pairs or line[:1].isspace():
            raise NodeError(f"Line {number} of {CONFIG_PATH} cannot be read by this module. Write it as `key: value` or as a list, and run again.")
        key, raw = next(iter(pairs.items()))
        words = re.sub(r"\A(\"[^\"]*\"|'[^']*'|[^\"':]+)\s*:\s*", "", line, count=1).strip()
        if words.startswith("["):
            found[key] = _flow(words, number)
        elif re.match(r"(true|false|yes|no|on|off)\s*(\Z|\s#)", words, re.IGNORECASE):
            found[key] = raw.lower() in _ON
        else:
            found[key] = raw
    return {name: value for name, value in found.items() if value != ""}


_ITEM = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,\[\]{}"'][^,\[\]]*)\s*(,|\])""")


def _flow(text: str, number: int) -> list:
    """The items of `[a, "b,c"]`."""
    items, rest = [], text[1:]
    while not re.match(r"\s*\]\s*(#.*)?\Z", rest):
        match = _ITEM.match(rest)
        if not match:
            raise NodeError(f"Line {number} of {CONFIG_PATH} cannot be read by this module. Write it as `key: value` or as a list, and run again.")
        items.append(_scalar(match.group(1).strip()))
        rest = rest[match.end(1):].lstrip()
        rest = rest[1:] if rest.startswith(",") else rest
    return items


def _scalar(text: str) -> str:
    return str(top_level(f"x: {text}").get("x", text))


def put(found: dict, name: str, value) -> None:
    """One setting more: a list grows, anything else is replaced."""
    if name in LISTS and not isinstance(value, list):
        value = [part for part in value.split(",") if part] if name in COMMAS else [value]
    if isinstance(value, list):
        value = found.get(name, []) + [item for item in value if item not in found.get(name, [])]
    found[name] = value


# -- meaning -------------------------------------------------------------------------------------


def said(key: str, value) -> tuple:
    """What a value says to k3s; () for what it does anyway."""
    name = key.rstrip("+")
    words = [word(item) for item in (value if isinstance(value, list) else [value]) if item not in (None, "")]
    if name in COMMAS:
        words = [part.strip() for word in words for part in word.split(",") if part.strip()]
    if name in SWITCHES and words:
        words = ["true" if words[-1].lower() in _ON else "false"]
    # Of two arguments of one name a component takes the last, or both in their order.
    if name not in ORDERED and len({word.split("=", 1)[0] for word in words}) == len(words):
        words.sort()
    default = DEFAULTS.get(name, "false" if name in SWITCHES else "")
    return () if words == [default] else tuple(words)


def same(key: str, one, other) -> bool:
    """Two values of a setting say the same."""
    return said(key, one) == said(key, other)


def same_config(one: str | None, other: str | None) -> bool:
    """Two texts of config.yaml say the same; False where one of them cannot be read."""
    if one is None or other is None:
        return False
    try:
        left, right = config_values(one), config_values(other)
    except NodeError:
        return False
    return all(same(key, left.get(key), right.get(key)) for key in set(left) | set(right))


def same_tree(one: str | None, other: str | None) -> bool:
    """Two YAML files of nested blocks, like registries.yaml, say the same; False where one of them cannot be read."""
    try:
        return one is not None and other is not None and load(one) == load(other)
    except ValueError:
        return False
