# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that k3s reads, and how they are shown without their secrets."""

from __future__ import annotations

import copy
import re

from .flags import SECRET
from .yamltext import dump, top_level

CONFIG_DIR = "/etc/rancher/k3s"
CONFIG_PATH = CONFIG_DIR + "/config.yaml"
# The last configuration with which the node came up.
GOOD_CONFIG_PATH = CONFIG_DIR + "/config.yaml.good"
TOKEN_PATH = CONFIG_DIR + "/token"
REGISTRIES_PATH = CONFIG_DIR + "/registries.yaml"
KUBECONFIG_PATH = CONFIG_DIR + "/k3s.yaml"
DATA_DIR = "/var/lib/rancher/k3s"
# The ending of a file as it was before its node was adopted.
COPY = ".before-adoption"
# A configuration without this in its first line is somebody else's.
OWNER = "cht.k3s.k3s_join"
HEADER = f"# Written by Ansible ({OWNER}): changes made here are overwritten.\n"
MASK = "********"


def ours(text: str | None) -> bool:
    """This collection wrote it."""
    return text is not None and OWNER in text.split("\n", 1)[0]


def foreign_file(text: str | None) -> bool:
    """Somebody else wrote it, and something is in it."""
    return bool(text and text.strip()) and not ours(text)


def render_config(bootstrap: dict, config: dict, secret_config: dict) -> str:
    """config.yaml: first how the node joins, then its settings by name."""
    settings = dict(config, **secret_config)
    ordered = dict(bootstrap)
    ordered.update((key, settings[key]) for key in sorted(settings) if settings[key] is not None)
    return HEADER + dump(ordered)


def mask_config(text: str | None, other: str | None = None) -> str:
    """config.yaml for a diff; a secret that differs from the one in `other` is marked as changed."""
    if text is None:
        return ""
    compared = top_level(other) if other else {}
    lines = []
    for line in text.splitlines():
        match = re.match(r"""(["']?)([a-z0-9-]+)\1\s*:\s*(\S.*)?\Z""", line)
        if match and match.group(2) in SECRET and match.group(3):
            value = top_level(line).get(match.group(2))
            changed = bool(compared) and compared.get(match.group(2)) != value
            lines.append(f"{match.group(2)}: {MASK}{' (changed)' if changed else ''}")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def merge_registries(registries: dict, auth: dict) -> dict:
    """registries.yaml with the credentials put into `configs`."""
    merged = copy.deepcopy(registries or {})
    for host, secret in (auth or {}).items():
        configs = merged.get("configs") or {}
        entry = configs.get(host) or {}
        entry["auth"] = dict(secret)
        configs[host] = entry
        merged["configs"] = configs
    return merged


def render_registries(registries: dict, auth: dict) -> str | None:
    """registries.yaml, or None when there is nothing to say in it."""
    merged = merge_registries(registries, auth)
    return HEADER + dump(merged) if merged else None


_REGISTRY_SECRET = re.compile(r"^([ \t]*)(username|password|auth|identity_token)(:[ \t]+)\S.*$", re.MULTILINE)


def mask_registries(text: str | None) -> str:
    return "" if text is None else _REGISTRY_SECRET.sub(rf"\1\2\3{MASK}", text)


_SECRET_VARIABLE = re.compile(r"^([A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|_KEY)[A-Z0-9_]*=)\S.*$", re.MULTILINE)
_URL_PASSWORD = re.compile(r"(://[^:@/\s]+:)[^@/\s]+@")


def mask_environment(text: str | None) -> str:
    """The environment file without tokens and without the passwords in proxy addresses."""
    return "" if text is None else _URL_PASSWORD.sub(rf"\1{MASK}@", _SECRET_VARIABLE.sub(rf"\1{MASK}", text))


# -- tokens --------------------------------------------------------------------------------------

_BOOTSTRAP = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}\Z")
_SECURE = re.compile(r"K10(?P<hash>[0-9a-f]{64})::(?P<rest>\S+)\Z")


def split_token(token: str) -> tuple:
    """(CA hash or '', password) of a short or secure token."""
    match = _SECURE.match(token.strip())
    if not match:
        return "", token.strip()
    rest = match.group("rest")
    return match.group("hash"), rest.split(":", 1)[1] if ":" in rest else rest


def check_token(token: str) -> str:
    """What is wrong with a token's form, '' when nothing."""
    text = token.strip()
    if not text:
        return "the token is empty"
    if any(character.isspace() for character in text):
        return "the token contains white space"
    if text.startswith("K10") and not _SECURE.match(text):
        return "the token begins with K10, so it must be K10, 64 hex digits, '::', and the credentials"
    return ""


def is_bootstrap_token(token: str) -> bool:
    """A token that `k3s token create` makes: for joining, not for beginning a cluster."""
    return bool(_BOOTSTRAP.match(split_token(token)[1]))


def same_token(one: str | None, other: str | None) -> bool:
    """Two tokens open the same cluster: equal passwords, and equal hashes where both have one."""
    if one is None or other is None:
        return False
    (hash_one, password_one), (hash_other, password_other) = split_token(one), split_token(other)
    return password_one == password_other and (not hash_one or not hash_other or hash_one == hash_other)
