# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values k3s and the kubelet take. Judged here before a restart: they themselves would end at their start, or take another value in silence."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .values import COMMAS, LISTS, SWITCHES
from .yamltext import word

# Go's strconv.ParseBool.
_BOOLEANS = frozenset("1 t T TRUE true True 0 f F FALSE false False".split())
_DURATION = re.compile(r"[+-]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*)\Z")
_DURATIONS = frozenset(("etcd-s3-timeout", "etcd-snapshot-reconcile-interval"))
_NUMBERS = frozenset(
    "https-listen-port advertise-port lb-server-port supervisor-port apiserver-port etcd-snapshot-retention etcd-s3-retention v".split()
)
_CHOICES = {
    "flannel-backend": ("none", "vxlan", "host-gw", "wireguard-native", "ipsec", "wireguard"),
    "egress-selector-mode": ("agent", "cluster", "pod", "disabled"),
    "secrets-encryption-provider": ("aescbc", "secretbox"),
    "etcd-s3-bucket-lookup-type": ("auto", "dns", "path"),
}
# robfig/cron's standard parser, which also takes a time zone before the five fields.
_CRON = re.compile(r"((CRON_TZ|TZ)=\S+\s+)?(@(yearly|annually|monthly|weekly|daily|midnight|hourly|every\s+\S+)|[\d*/,?A-Za-z-]+(\s+[\d*/,?A-Za-z-]+){4})\Z")

# What a kubelet may say of its own node (k8s.io/kubelet, pkg/apis/well_known_labels.go).
_OWN_LABELS = frozenset(
    """kubernetes.io/hostname kubernetes.io/os kubernetes.io/arch beta.kubernetes.io/os beta.kubernetes.io/arch
    beta.kubernetes.io/instance-type node.kubernetes.io/instance-type topology.kubernetes.io/zone topology.kubernetes.io/region
    failure-domain.beta.kubernetes.io/zone failure-domain.beta.kubernetes.io/region""".split()
)
_OWN_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_WORD = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def problems(config: dict, pod_bits: int | None) -> list:
    """What k3s or the kubelet would refuse of a configuration, a sentence each; `pod_bits` is the mask of a node's pod addresses, None if not known."""
    found = []
    for key, value in config.items():
        name = key.rstrip("+")
        if value not in (None, ""):
            found += [f"'{key}' {problem}" for problem in _value(name, value)]
    found += label_problems(_items(config, "node-label") + _arguments(config, "kubelet-arg", "node-labels"))
    found += taint_problems(_items(config, "node-taint") + _arguments(config, "kubelet-arg", "register-with-taints"))
    found += max_pods_problems(config, pod_bits)
    return found


def _value(name: str, value) -> list:
    if isinstance(value, dict):
        return ["is a map; k3s takes a value or a list"]
    if isinstance(value, list):
        if name not in LISTS and len(value) > 1 and (name in SWITCHES or name in _NUMBERS or name in _CHOICES):
            return ["is a list; k3s takes one value"]
        return [problem for item in value for problem in _scalar(name, item)]
    return _scalar(name, value)


def _scalar(name: str, value) -> list:
    text = word(value)
    if isinstance(value, (dict, list)):
        return [f"has the item {value!r}; k3s takes plain values"]
    if name in SWITCHES and text not in _BOOLEANS:
        return [f"is {value!r}; k3s takes true or false"]
    if name in _NUMBERS and not re.fullmatch(r"\d+", text):
        return [f"is {value!r}; k3s takes a whole number"]
    if name in _DURATIONS and not _DURATION.match(text):
        return [f"is {value!r}; k3s takes a time with its unit, like 30s or 5m"]
    if name in _CHOICES and text.split("=", 1)[0] not in _CHOICES[name]:
        return [f"is {value!r}; k3s takes {', '.join(_CHOICES[name])}"]
    if name == "write-kubeconfig-mode":
        return _mode(value)
    if name == "service-node-port-range" and not re.fullmatch(r"\d+[-+]\d+", text):
        return [f"is {value!r}; k3s takes a range like 30000-32767"]
    if name == "etcd-snapshot-schedule-cron" and not _CRON.match(text):
        return [f"is {value!r}; k3s takes five fields like '0 */12 * * *', or @daily, @hourly, @every 6h"]
    return []


def _mode(value) -> list:
    """YAML reads 0644 as the number 420, which k3s would take for the mode 0420."""
    if isinstance(value, int):
        meant = f"0{value}" if value > 0o777 and re.fullmatch(r"[0-7]{3}", str(value)) else f"{value:04o}"
        return [f"is the number {value}; k3s takes text: write it in quotes, \"{meant}\""]
    return [] if re.fullmatch(r"0?[0-7]{3}", value) else [f"is {value!r}; k3s takes the octal digits of a file's mode, like \"0600\""]


def _items(config: dict, name: str) -> list:
    """The items of a list, however it is written."""
    found: list = []
    for key in (name, f"{name}+"):
        value = config.get(key)
        for item in value if isinstance(value, list) else [] if value in (None, "") else [value]:
            found += word(item).split(",") if name in COMMAS else [word(item)]
    return [item.strip() for item in found if item.strip()]


def _arguments(config: dict, key: str, argument: str) -> list:
    """What an argument of a component says, its parts between commas."""
    given = [item.partition("=") for item in _items(config, key)]
    return [part.strip() for name, dummy, value in given if name.rstrip("+-") == argument for part in value.split(",") if part.strip()]


def qualified(key: str) -> bool:
    """A name of Kubernetes, with or without a prefix."""
    prefix, slash, name = key.rpartition("/")
    return bool(_WORD.match(name)) and (not slash or bool(_PREFIX.match(prefix)))


def label_problems(labels: list) -> list:
    """What a kubelet refuses of its node's labels, each NAME=VALUE."""
    found = []
    for label in labels:
        key, dummy, value = label.partition("=")
        prefix = key.partition("/")[0] if "/" in key else ""
        reserved = any(prefix == domain or prefix.endswith(f".{domain}") for domain in ("kubernetes.io", "k8s.io"))
        allowed = key in _OWN_LABELS or any(prefix == domain or prefix.endswith(f".{domain}") for domain in _OWN_PREFIXES)
        if not qualified(key):
            found.append(f"the label '{label}' has a name that Kubernetes does not take: at most 63 letters, digits, '-', '_' and '.', after a domain and '/'")
        elif value and not _WORD.match(value):
            found.append(f"the label '{label}' has a value that Kubernetes does not take: at most 63 letters, digits, '-', '_' and '.'")
        elif reserved and not allowed:
            found.append(
                f"the label '{key}' is one that no kubelet may give its own node, and with it the kubelet does not start; set it with"
                f" `kubectl label node NAME {label}` when the node has joined, or take a domain of your own"
            )
    return found


def taint_problems(taints: list) -> list:
    """What a kubelet refuses of the taints that it registers its node with."""
    found, seen = [], set()
    for taint in taints:
        pair, colon, effect = taint.rpartition(":")
        key, dummy, value = pair.partition("=")
        if not colon or effect not in _EFFECTS:
            found.append(f"the taint '{taint}' has no effect that Kubernetes knows; write NAME=VALUE:EFFECT with {', '.join(_EFFECTS)}")
        elif not qualified(key) or value and not _WORD.match(value):
            found.append(f"the taint '{taint}' has a name or a value that Kubernetes does not take; write NAME=VALUE:EFFECT")
        elif (key, effect) in seen:
            found.append(f"the taint '{key}' with the effect {effect} is there twice")
        seen.add((key, effect))
    return found


def mask_size(config: dict) -> int | None:
    """The mask of each node's pod addresses by a server's settings; None where they are of IPv6, and so enough."""
    networks = _items(config, "cluster-cidr")
    if networks and all(":" in network for network in networks):
        return None
    given = _arguments(config, "kube-controller-manager-arg", "node-cidr-mask-size-ipv4") or _arguments(
        config, "kube-controller-manager-arg", "node-cidr-mask-size")
    return int(given[-1]) if given and given[-1].isdigit() else 24


def max_pods_problems(config: dict, bits: int | None) -> list:
    """More pods than a node has addresses for would wait for one for ever."""
    given = _arguments(config, "kubelet-arg", "max-pods")
    if not given:
        return []
    if not given[-1].isdigit() or int(given[-1]) < 1:
        return [f"max-pods is {given[-1]!r}; the kubelet takes a number above 0"]
    # Without the network, the bridge and the broadcast.
    room = 2 ** (32 - bits) - 3 if bits is not None and bits <= 30 else None
    if room is None or int(given[-1]) <= room:
        return []
    return [
        f"max-pods is {given[-1]}, but each node has {room} addresses for pods (a /{bits}): lower it, or begin the cluster with"
        " node-cidr-mask-size in control_plane_controller_manager_args"
    ]


def server_url_problem(url: str) -> str:
    """Why k3s could not join by this URL; '' where it could or none is given."""
    if not url:
        return ""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        return f"k3s_server_url {url!r} is not like https://k3s.example.org:6443: scheme, host and port, and nothing else"
    if not port:
        return f"k3s_server_url {url!r} has no port, and k3s would take 443; write https://{parts.netloc.rstrip(':')}:6443, or :443 if that is meant"
    return ""


def registries_problems(registries: dict) -> list:
    """What k3s can't read of registries.yaml, or passes over in silence."""
    found = [f"k3s_registries has the unknown key {key}; known are mirrors and configs" for key in registries if key not in ("mirrors", "configs", "auths")]
    for part in ("mirrors", "configs"):
        entries = registries.get(part) or {}
        if not isinstance(entries, dict):
            found.append(f"k3s_registries.{part} has to be a mapping, by the names of registries")
            continue
        for name, entry in entries.items():
            if "://" in str(name) or "/" in str(name):
                found.append(f"k3s_registries.{part} has '{name}': it is given by the name that images have, without scheme and path, or nothing would use it")
            if not isinstance(entry or {}, dict):
                found.append(f"k3s_registries.{part}.{name} has to be a mapping")
            elif part == "mirrors" and not isinstance((entry or {}).get("endpoint") or [], list):
                found.append(f"k3s_registries.mirrors.{name}.endpoint has to be a list of URLs")
    return found
