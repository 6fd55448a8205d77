# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that was installed by hand: its settings, wherever they stand, and how they move to config.yaml.

The installer of k3s puts flags into the unit and K3S_* variables beside it. Both beat config.yaml, so a node is managed by one of them only.
Moving changes where and how a setting stands and never what it says: what site.yml with the same variables would write in another form is written
in that form, so that the node is restarted once.
"""

from __future__ import annotations

import base64
import re

from . import datastore, state
from .api import ApiError
from .files import (
    CONFIG_DIR, CONFIG_PATH, COPY, DATA_DIR, GOOD_CONFIG_PATH, HEADER, MASK, REGISTRIES_PATH, TOKEN_PATH, foreign_file, mask_environment, render_config,
)
from .flags import SECRET, unsupported
from .join import Joiner, Wanted
from .release import installed_version
from .system import NodeError, System
from .unit import SERVICES, environment_path, environment_paths, render_environment, render_unit, unit_path
from .values import SWITCHES, VARIABLES, config_values, environment_values, exec_flags, put, said, same, without_own_variables

# How a node joined is history once it is a member; the module k3s_join sets these itself.
JOINING = ("server", "cluster-init", "token", "token-file")


class Adopter(Joiner):
    """One run of k3s_adopt on one node. `config` and `secret_config` are the settings that site.yml would give it, but for `undecided`."""

    def __init__(
        self, system: System, role: str, binary: str, timeout: int, check_mode: bool = False, config: dict | None = None,
        secret_config: dict | None = None, undecided: dict | None = None,
    ) -> None:
        super().__init__(system, Wanted(role=role, version=installed_version(system, binary), binary=binary, timeout=timeout), check_mode)
        self.role = role
        self.config = {**(config or {}), **(secret_config or {})}
        self.undecided = undecided or {}

    @property
    def name(self) -> str:
        """The name of the Node, which a flag or a variable may say as well."""
        return state.node_name(self.system, str(self.settings().get("node-name") or ""))

    def foreign(self) -> list:
        """Where this node has settings of other means; [] when it is managed by this collection or is no node yet."""
        return list(state.foreign(self.system))

    def _installed(self) -> bool:
        return self._is_member() or any(self.system.exists(unit_path(role)) for role in SERVICES)

    def settings(self) -> dict:
        """All settings that are in force: the unit beats the file, and the file beats the variables."""
        found: dict = {}
        variables = self._environment()
        for name, key in VARIABLES.items():
            if variables.get(name):
                put(found, key, variables[name].lower() in ("true", "1", "t") if key in SWITCHES else variables[name])
        layers = [config_values(self.system.read(CONFIG_PATH)), exec_flags(self.system.read(unit_path(self.role)), self.role)]
        for layer in layers:
            for key, value in layer.items():
                found.pop(key, None)
                put(found, key, value)
        return found

    def _wishes(self, found: dict) -> dict:
        """The settings that site.yml would give a node with these: what the variables leave open stays as it is."""
        return {**{key: found[key] for key in self.undecided if key in found}, **self.config}

    def _environment(self) -> dict:
        """The variables that the unit is started with."""
        found: dict = {}
        for path in environment_paths(self.role):
            found.update(environment_values(self.system.read(path)))
        return found

    def report(self, environment: dict | None = None, registries: dict | None = None, servers: list | None = None) -> dict:
        """What was found and where it differs from the inventory's variables, without changing anything."""
        places, installed = self.foreign(), self._installed()
        found = self.settings() if installed else {}
        node, facts = self._node_facts(found) if installed else ({}, {})
        rows = differences(found, self._wishes(found), node) + self._other_differences(environment or {}, registries or {}) if installed else []
        if self.role == "agent" and servers and found.get("server") and found["server"] not in servers:
            rows.append({"key": "server", "found": found["server"], "wanted": servers[0]})
        return {
            "installed": installed, "adopted": installed and not places, "places": places,
            "settings": {key: MASK if key in SECRET else value for key, value in found.items()},
            "differences": rows, "provider_id": (node.get("spec") or {}).get("providerID", ""),
            "runtime": ("docker" if found.get("docker") else "containerd") if installed else "",
            "datastore": datastore.kind(self.system) if self.role == "server" else "",
            "node": self.name, **facts,
        }

    def _other_differences(self, environment: dict, registries: dict) -> list:
        """What site.yml would change beside config.yaml: mirrors and logins, the proxy; and what stays in force beside it."""
        rows: list = []
        if foreign_file(self.system.read(REGISTRIES_PATH)):
            rows.append({"key": REGISTRIES_PATH, "found": "mirrors or logins of its own", "wanted": "k3s_registries" if registries else None})
        elif registries and not (self.system.read(REGISTRIES_PATH) or "").strip():
            rows.append({"key": REGISTRIES_PATH, "found": None, "wanted": "k3s_registries"})
        found = self._environment()
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

    def _node_facts(self, found: dict) -> tuple:
        """(the Node, cluster IDs of the storage driver) as the API has them; nothing where it does not answer."""
        try:
            api = state.server_api(self.system) if self.role == "server" else state.agent_api(self.system)
            try:
                node = api.node(state.node_name(self.system, str(found.get("node-name") or ""))) or {}
                facts = {"cluster_ids": _cluster_ids(api)} if self.role == "server" else {}
            finally:
                api.close()
        except ApiError:
            return {}, {}
        return node, facts

    def move(self) -> dict:
        """Put the settings into config.yaml as site.yml would write them, take them out of everywhere else, and restart the node."""
        places = self.foreign()
        if not places:
            return {"changed": False}
        self._refuse_what_is_elsewhere(places)
        registries = self.system.read(REGISTRIES_PATH)
        if places == [REGISTRIES_PATH]:
            # Nothing that k3s reads changes its meaning, so it is not restarted.
            if not self.check_mode:
                self.system.write(REGISTRIES_PATH + COPY, registries, 0o600)
                self.system.write(REGISTRIES_PATH, HEADER + registries, 0o600, keep_time=True)
            return {"changed": True, "places": places}
        if places == [DATA_DIR]:
            # Nothing says how it ran, and nothing runs: it gets the inventory's settings, and site.yml brings it up with them.
            if not self.check_mode:
                self.system.write(CONFIG_PATH, render_config({}, {**self.undecided, **self.config}, {}), 0o600)
            return {"changed": True, "places": places}
        found = self.settings()
        self._refuse_what_cannot_be_managed(found)
        texts = self._texts(found, registries if REGISTRIES_PATH in places else None)
        if self.check_mode:
            return {"changed": True, "places": places}
        unit = self.system.unit(self.service)
        self._guard_quorum(state.has_datastore(self.system), unit)
        before = {path: (self.system.read(path), self.system.mode(path)) for path in texts}
        for path, (text, mode) in texts.items():
            if before[path][0] not in (None, text):
                self.system.write(path + COPY, before[path][0], 0o600)
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

    def _refuse_what_is_elsewhere(self, places: list) -> None:
        other = "agent" if self.role == "server" else "server"
        if self.system.exists(unit_path(other)):
            raise NodeError(
                f"This host has {SERVICES[other]}.service, so it is the other kind of node than its group in the inventory says ({self.role})."
                " Correct the inventory's groups. Nothing was changed."
            )
        unit, signs = unit_path(self.role), state.foreign(self.system)
        beside = [path for path in places if path.startswith(f"{unit}.d/") or (path == unit and str(signs.get(path, "")).startswith("sets "))]
        if beside:
            raise NodeError(
                f"k3s has settings on this host where this module cannot take them from: {', '.join(beside)}. Write them into {CONFIG_PATH} as the flags"
                " that they stand for, take them out there, run `systemctl daemon-reload`, and run again. Nothing was changed."
            )
        names = [path for path in places if path.endswith(".service") and path != unit_path(self.role)]
        if names:
            raise NodeError(
                f"k3s runs on this host with {', '.join(names)}. This collection knows {unit_path(self.role)} only: rename the unit and its .env file to"
                " that, as if INSTALL_K3S_NAME had not been given, and run again. Nothing was changed."
            )

    def _refuse_what_cannot_be_managed(self, found: dict) -> None:
        other = unsupported({key: value for key, value in found.items() if not key.startswith("agent-token")})
        if found.get("config") not in (None, CONFIG_PATH) or "data-dir" in other:
            raise NodeError(
                "This node has its configuration or its data in another place (--config, --data-dir). This collection knows the usual ones only."
                " Nothing was changed."
            )
        if other:
            raise NodeError(
                "This node runs with settings that this collection cannot manage: " + "; ".join(f"{key}: {why}" for key, why in sorted(other.items()))
                + ". Take them out first, or leave this cluster as it is. Nothing was changed."
            )
        for path in environment_paths(self.role):
            names = environment_values(self.system.read(path))
            unknown = sorted(name for name in names if name.startswith("K3S_") and name not in VARIABLES)
            if unknown:
                raise NodeError(
                    f"{path} sets {', '.join(unknown)}, which this module cannot move. Write that into {CONFIG_PATH} as the flag"
                    " it stands for, take it out there, and run again. Nothing was changed."
                )

    def _texts(self, found: dict, registries: str | None) -> dict:
        """Path -> (text, mode) of all files as they shall be."""
        token = self._token(found)
        joining = {key: found[key] for key in ("server", "cluster-init") if found.get(key)}
        if len(joining) > 1:
            # One that was told both has joined.
            joining.pop("cluster-init")
        if token:
            joining["token-file"] = TOKEN_PATH
        elif found.get("token-file"):
            joining["token-file"] = found["token-file"]
        node = self._node_facts(found)[0]
        texts = {}
        for path in environment_paths(self.role):
            text = self.system.read(path)
            if text is not None and without_own_variables(text) != text:
                texts[path] = (without_own_variables(text), self.system.mode(path))
        own = environment_path(self.role)
        variables = {name: value for name, value in environment_values(self.system.read(own)).items() if name not in VARIABLES}
        texts.update({
            CONFIG_PATH: (render_config(joining, settled(found, self._wishes(found), node), {}), 0o600), own: (render_environment(variables), 0o600),
            unit_path(self.role): (render_unit(self.role, self.wanted.binary), 0o644),
        })
        if registries is not None:
            texts[REGISTRIES_PATH] = (HEADER + registries, 0o600)
        if token:
            texts[TOKEN_PATH] = (token + "\n", 0o600)
        return texts

    def _token(self, found: dict) -> str:
        """The token from wherever it was given, of which k3s takes the file first; of a server that was given none, the one that it made."""
        path = found.get("token-file")
        text = self.system.read(path) if path else found.get("token")
        if not text and not path and self.role == "server":
            text = self.system.read(state.SERVER_TOKEN)
        return (text or "").strip()


def _cluster_ids(api) -> list:
    """The cluster-id in the storage driver's settings: it names the volumes, so it must never change."""
    found = set()
    for secret in api.get("/api/v1/secrets").get("items") or []:
        for name, value in (secret.get("data") or {}).items():
            if name.endswith("vsphere.conf"):
                match = re.search(r"""^[ \t]*cluster-id[ \t]*=[ \t]*["']?([^"'\s]+)""", base64.b64decode(value).decode("utf-8", "replace"), re.MULTILINE)
                if match:
                    found.add(match.group(1))
    return sorted(found)


def _here(found: dict, wanted: dict, node: dict) -> dict:
    """What was found, with what holds on this Node without being said, and with names that a server's certificate may gain."""
    here = dict(found)
    addresses = [entry.get("address") for entry in (node.get("status") or {}).get("addresses") or [] if entry.get("type") == "InternalIP"]
    if "node-ip" not in found and addresses:
        here["node-ip"] = addresses
    registered = f"provider-id={(node.get('spec') or {}).get('providerID', '')}"
    arguments = list(found.get("kubelet-arg") or [])
    if registered in (wanted.get("kubelet-arg") or []) and not any(item.startswith("provider-id=") for item in arguments):
        here["kubelet-arg"] = [*arguments, registered]
    if wanted.get("tls-san"):
        names = list(found.get("tls-san") or [])
        here["tls-san"] = names + [name for name in said("tls-san", wanted["tls-san"]) if name not in names]
    return here


def settled(found: dict, wanted: dict, node: dict) -> dict:
    """What an adoption writes: every setting says what it said, in the inventory's form where that says the same."""
    here, config = _here(found, wanted, node), {}
    for key in (set(found) | set(wanted)) - set(JOINING):
        if same(key, here.get(key), wanted.get(key)):
            config[key] = wanted.get(key, found.get(key))
        elif key == "tls-san":
            config[key] = here[key]
        elif key in found:
            config[key] = found[key]
    return config


def differences(found: dict, wanted: dict, node: dict | None = None) -> list:
    """Each setting that site.yml would change afterwards, with both values; how the node joined is left out."""
    rows, here = [], _here(found, wanted, node or {})
    for key in sorted((set(found) | set(wanted)) - set(JOINING)):
        if same(key, here.get(key), wanted.get(key)):
            continue
        one, other = found.get(key), wanted.get(key)
        if key in SECRET:
            one, other = MASK if one else None, MASK if other else None
        why = "" if key.startswith("agent-token") else unsupported({key: found.get(key)}).get(key, "")
        rows.append({"key": key, "found": one, "wanted": other, **({"refused": why} if why else {})})
    return rows


def _masked(name: str, value) -> str | None:
    """A variable's value without the password in it."""
    return mask_environment(f"{name}={value}").partition("=")[2] if value else None
