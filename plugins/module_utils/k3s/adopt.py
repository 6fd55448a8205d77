# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that was installed by hand: its settings, wherever they stand, and how they move to config.yaml.

The installer of k3s puts flags into the unit and K3S_* variables beside it. Both beat config.yaml, so a node is managed by one of them only.
Moving changes where a setting stands and never what it says.
"""

from __future__ import annotations

import base64
import json
import re
import shlex

from . import state
from .api import ApiError
from .files import CONFIG_DIR, CONFIG_PATH, HEADER, MASK, OWNER, REGISTRIES_PATH, TOKEN_PATH, foreign_file, mask_environment
from .flags import SECRET, unsupported
from .join import GOOD_CONFIG_PATH, Joiner, Wanted
from .release import installed_version
from .system import NodeError, System
from .unit import environment_path, foreign_arguments, render_environment, render_unit, unit_path
from .yamltext import dump, top_level

SHORT = {"t": "token", "s": "server", "d": "data-dir", "i": "node-ip", "o": "write-kubeconfig", "l": "log", "c": "config"}
SWITCHES = frozenset(
    """debug alsologtostderr with-node-id selinux protect-kernel-defaults docker prefer-bundled-bin rootless cluster-init cluster-reset
    flannel-ipv6-masq flannel-external-ip etcd-expose-metrics etcd-disable-snapshots etcd-snapshot-compress etcd-s3 etcd-s3-skip-ssl-verify
    etcd-s3-insecure disable-scheduler disable-cloud-controller disable-kube-proxy disable-network-policy disable-helm-controller
    disable-apiserver disable-controller-manager disable-etcd disable-agent secrets-encryption enable-pprof tls-san-security
    disable-default-registry-endpoint disable-apiserver-lb embedded-registry kine-tls supervisor-metrics nonroot-devices""".split()
)
LISTS = frozenset(
    """tls-san cluster-cidr service-cidr cluster-dns disable node-ip node-external-ip node-label node-taint kubelet-arg kube-proxy-arg
    kube-apiserver-arg etcd-arg kube-controller-manager-arg kube-scheduler-arg kube-cloud-controller-manager-arg airgap-extra-registry
    node-internal-dns node-external-dns""".split()
)
# Lists that may also be written with commas.
COMMAS = LISTS - frozenset(key for key in LISTS if key.endswith("-arg"))
VARIABLES = {
    "K3S_TOKEN": "token", "K3S_TOKEN_FILE": "token-file", "K3S_URL": "server", "K3S_AGENT_TOKEN": "agent-token", "K3S_NODE_NAME": "node-name",
    "K3S_CLUSTER_INIT": "cluster-init", "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode", "K3S_KUBECONFIG_OUTPUT": "write-kubeconfig",
    "K3S_DATASTORE_ENDPOINT": "datastore-endpoint", "K3S_SELINUX": "selinux", "K3S_RESOLV_CONF": "resolv-conf", "K3S_DATA_DIR": "data-dir",
}
# How a node joined is history once it is a member; the module k3s_join sets these itself.
JOINING = ("server", "cluster-init", "token", "token-file")


def exec_flags(unit_text: str | None, role: str) -> dict:
    """The settings in a unit's ExecStart, lists as lists."""
    words = shlex.split(foreign_arguments_quoted(unit_text, role))
    found: dict = {}
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            raise NodeError(f"The unit passes '{word}' to k3s, which belongs to no flag. Correct {unit_path(role)} first.")
        name, equals, value = word.lstrip("-").partition("=")
        name = SHORT.get(name, name)
        if name in SWITCHES:
            _put(found, name, not equals or value.lower() in ("true", "1", "t"))
        elif equals:
            _put(found, name, value)
        elif words:
            _put(found, name, words.pop(0))
        else:
            raise NodeError(f"The flag --{name} has no value. Correct {unit_path(role)} first.")
    return found


def foreign_arguments_quoted(unit_text: str | None, role: str) -> str:
    """The arguments after the role in ExecStart, with their quotes."""
    for line in (unit_text or "").replace("\\\n", " ").splitlines():
        if line.startswith("ExecStart="):
            words = line[len("ExecStart="):].strip().split(None, 1)
            rest = words[1].strip() if len(words) > 1 else ""
            return re.sub(rf"""\A["']?{role}["']?(\s+|\Z)""", "", rest)
    return ""


def environment_values(text: str | None) -> dict:
    """The variables of an environment file."""
    found = {}
    for line in (text or "").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            parts = shlex.split(value) if value else [""]
            found[name] = parts[0] if parts else ""
    return found


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
        text_value = line.split(":", 1)[1].strip()
        flow = re.fullmatch(r"\[(.*)\]", text_value)
        if flow:
            found[key] = [_scalar(part.strip()) for part in flow.group(1).split(",") if part.strip()]
        elif text_value in ("true", "false"):
            found[key] = text_value == "true"
        else:
            found[key] = raw
    return {name: value for name, value in found.items() if value != ""}


def _scalar(text: str) -> str:
    return str(top_level(f"x: {text}").get("x", text))


def _put(found: dict, name: str, value) -> None:
    if name in LISTS and not isinstance(value, list):
        value = [part for part in value.split(",") if part] if name in COMMAS else [value]
    if isinstance(value, list):
        value = found.get(name, []) + [item for item in value if item not in found.get(name, [])]
    found[name] = value


class Adopter(Joiner):
    """One run of k3s_adopt on one node."""

    def __init__(self, system: System, role: str, binary: str, timeout: int, check_mode: bool = False) -> None:
        super().__init__(system, Wanted(role=role, version=installed_version(system, binary), binary=binary, timeout=timeout), check_mode)
        self.role = role

    def foreign(self) -> list:
        """Where this node has settings of other means; [] when it is managed by this collection or is no node yet."""
        if not self.system.exists(unit_path(self.role)):
            return []
        places = []
        if foreign_arguments(self.system.read(unit_path(self.role)), self.role):
            places.append(unit_path(self.role))
        if any(name.startswith("K3S_") for name in environment_values(self.system.read(environment_path(self.role)))):
            places.append(environment_path(self.role))
        config = self.system.read(CONFIG_PATH)
        if config is not None and OWNER not in config.split("\n", 1)[0]:
            places.append(CONFIG_PATH)
        if foreign_file(self.system.read(REGISTRIES_PATH)):
            places.append(REGISTRIES_PATH)
        return places

    def settings(self) -> dict:
        """All settings that are in force: the unit beats the file, and the file beats the variables."""
        found: dict = {}
        variables = environment_values(self.system.read(environment_path(self.role)))
        for name, key in VARIABLES.items():
            if variables.get(name):
                _put(found, key, variables[name] == "true" if key in SWITCHES else variables[name])
        layers = [config_values(self.system.read(CONFIG_PATH)), exec_flags(self.system.read(unit_path(self.role)), self.role)]
        for layer in layers:
            for key, value in layer.items():
                found.pop(key, None)
                _put(found, key, value)
        return found

    def report(self, wanted: dict, environment: dict | None = None, registries: dict | None = None) -> dict:
        """What was found and where it differs from the inventory's variables, without changing anything."""
        places = self.foreign()
        found = self.settings() if self.system.exists(unit_path(self.role)) else {}
        provider, facts = self._node_facts()
        return {
            "adopted": not places, "places": places, "settings": {key: MASK if key in SECRET else value for key, value in found.items()},
            "differences": differences(found, wanted) + self._other_differences(environment or {}, registries or {}), "provider_id": provider,
            "runtime": "docker" if found.get("docker") else "containerd",
            "node": self.name, **facts,
        }

    def _other_differences(self, environment: dict, registries: dict) -> list:
        """What site.yml would change beside config.yaml: mirrors and logins, the proxy; and what stays in force beside it."""
        rows: list = []
        if not self.system.exists(unit_path(self.role)):
            return rows
        if foreign_file(self.system.read(REGISTRIES_PATH)):
            rows.append({"key": REGISTRIES_PATH, "found": "mirrors or logins of its own", "wanted": "k3s_registries" if registries else None})
        found = environment_values(self.system.read(environment_path(self.role)))
        for name in sorted(name for name in set(found) | set(environment) if name not in VARIABLES):
            one, other = found.get(name), environment.get(name)
            if (one or "") != str(other or ""):
                rows.append({"key": f"environment {name}", "found": _masked(name, one), "wanted": _masked(name, other)})
        drop_ins = [name for name in self.system.listdir(CONFIG_DIR + "/config.yaml.d") if name.endswith((".yaml", ".yml"))]
        if drop_ins:
            rows.append({
                "key": CONFIG_DIR + "/config.yaml.d", "found": drop_ins, "wanted": None,
                "note": "k3s goes on reading it and this collection does not: put its settings into the variables, and remove it before site.yml",
            })
        return rows

    def _node_facts(self) -> tuple:
        """(provider ID, cluster IDs of the storage driver) as the API has them; nothing where it does not answer."""
        try:
            api = state.server_api(self.system) if self.role == "server" else state.agent_api(self.system)
            try:
                node = api.node(self.name) or {}
                facts = {"cluster_ids": _cluster_ids(api)} if self.role == "server" else {}
            finally:
                api.close()
        except ApiError:
            return "", {}
        return (node.get("spec") or {}).get("providerID", ""), facts

    def move(self) -> dict:
        """Put the settings as they are into config.yaml, take them out of everywhere else, and restart the node."""
        places = self.foreign()
        if not places:
            return {"changed": False}
        registries = self.system.read(REGISTRIES_PATH)
        if places == [REGISTRIES_PATH]:
            # Nothing that k3s reads changes its meaning, so it is not restarted.
            if not self.check_mode:
                self.system.write(REGISTRIES_PATH + ".before-adoption", registries, 0o600)
                self.system.write(REGISTRIES_PATH, HEADER + registries, 0o600, keep_time=True)
            return {"changed": True, "places": places}
        found = self.settings()
        other = unsupported({key: value for key, value in found.items() if not key.startswith("agent-token")})
        if found.get("config") or "data-dir" in other:
            raise NodeError(
                "This node has its configuration or its data in another place (--config, --data-dir). This collection knows the usual ones only."
                " Nothing was changed."
            )
        if other:
            raise NodeError(
                "This node runs with settings that this collection cannot manage: " + "; ".join(f"{key}: {why}" for key, why in sorted(other.items()))
                + ". Take them out first, or leave this cluster as it is. Nothing was changed."
            )
        environment = environment_values(self.system.read(environment_path(self.role)))
        unknown = sorted(name for name in environment if name.startswith("K3S_") and name not in VARIABLES)
        if unknown:
            raise NodeError(
                f"{environment_path(self.role)} sets {', '.join(unknown)}, which this module cannot move. Write that into {CONFIG_PATH} as the flag"
                " it stands for, take it out there, and run again. Nothing was changed."
            )
        token = found.pop("token", None)
        if token:
            found["token-file"] = TOKEN_PATH
        variables = {name: value for name, value in environment.items() if name not in VARIABLES}
        ordered = {key: found[key] for key in (*JOINING, *sorted(set(found) - set(JOINING))) if key in found}
        texts = {
            CONFIG_PATH: (HEADER + dump(ordered), 0o600), environment_path(self.role): (render_environment(variables), 0o600),
            unit_path(self.role): (render_unit(self.role, self.wanted.binary), 0o644),
        }
        if REGISTRIES_PATH in places:
            texts[REGISTRIES_PATH] = (HEADER + registries, 0o600)
        if token:
            texts[TOKEN_PATH] = (token + "\n", 0o600)
        if self.check_mode:
            return {"changed": True, "places": places}
        unit = self.system.unit(self.service)
        self._guard_quorum(state.has_datastore(self.system), unit)
        before = {path: (self.system.read(path), self.system.mode(path)) for path in texts}
        for path, (text, mode) in texts.items():
            if before[path][0] is not None:
                self.system.write(path + ".before-adoption", before[path][0], 0o600)
            self.system.write(path, text, mode)
        self._systemctl("daemon-reload")
        since = self.system.now()
        self._change_service("restart", unit)
        try:
            self.wait(since, unit.pid)
        except NodeError as error:
            raise NodeError(f"{error} {self._take_back(before)}") from error
        self.system.write(GOOD_CONFIG_PATH, texts[CONFIG_PATH][0], 0o600)
        return {"changed": True, "places": places}


def _cluster_ids(api) -> list:
    """The cluster-id in the storage driver's settings: it names the volumes, so it must never change."""
    found = set()
    for secret in api.get("/api/v1/secrets").get("items") or []:
        for name, value in (secret.get("data") or {}).items():
            if name.endswith("vsphere.conf"):
                match = re.search(r"""^\s*cluster-id\s*=\s*["']?([^"'\s]+)""", base64.b64decode(value).decode("utf-8", "replace"), re.MULTILINE)
                if match:
                    found.add(match.group(1))
    return sorted(found)


def differences(found: dict, wanted: dict) -> list:
    """Each setting that site.yml would change afterwards, with both values; how the node joined is left out."""
    rows = []
    for key in sorted((set(found) | set(wanted)) - set(JOINING)):
        one, other = found.get(key), wanted.get(key)
        if _comparable(one) == _comparable(other):
            continue
        if key in SECRET:
            one, other = MASK if one else None, MASK if other else None
        why = "" if key.startswith("agent-token") else unsupported({key: found.get(key)}).get(key, "")
        rows.append({"key": key, "found": one, "wanted": other, **({"refused": why} if why else {})})
    return rows


def _masked(name: str, value) -> str | None:
    """A variable's value without the password in it."""
    return mask_environment(f"{name}={value}").partition("=")[2] if value else None


def _comparable(value) -> str:
    if value in (None, False, "", []):
        return ""
    if isinstance(value, bool):
        return "true"
    return json.dumps(sorted(str(item) for item in (value if isinstance(value, list) else [value])))
