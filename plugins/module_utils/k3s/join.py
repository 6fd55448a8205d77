# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a node to its wanted membership of a cluster.

`Joiner.present` looks at the node, decides every change, and only then makes them; check mode is the same path without the making.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass, field

from .. import versions
from . import accepted, cgroups, encryption, state
from .api import ApiError, condition, is_true
from .cards import default_card, flannel_card
from .datastore import MOVING
from .drain import busy_pods
from .files import (
    CONFIG_PATH, GOOD_CONFIG_PATH, MASK, REGISTRIES_PATH, TOKEN_PATH, check_token, is_bootstrap_token, mask_config, mask_environment,
    mask_registries, render_config, render_registries, same_token, split_token,
)
from .flags import SECRET, address_problem, check, check_fixed, check_s3
from .foreign import refusal
from .journal import Cause, Journal, find_cause, tail
from .release import download, installed_version, version_key
from .restore import PENDING
from .settings import of_cluster
from .system import NodeError, System, UnitState, parse_timestamp
from .unit import SERVICES, environment_path, render_environment, render_unit, unit_path
from .values import same_config, same_tree
from .yamltext import top_level

# An agent that is Ready, and has been initialised, has started a few seconds later; one that has not after this long is started anew.
LATE = 30.0
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
LINKS = ("kubectl", "crictl", "ctr")
_JOINING = re.compile(r"^(?:server|cluster-init|token-file):.*\n", re.MULTILINE)
_PROVIDER_ID = re.compile(r"""^[ \t]*-[ \t]+["']?provider-id=.*\n""", re.MULTILINE)


@dataclass
class Wanted:
    """The membership a node shall have."""

    role: str
    version: str
    binary: str = "/usr/local/bin/k3s"
    release_url: str = ""
    staged: str = ""
    checksum: str = ""
    config: dict = field(default_factory=dict)
    secret_config: dict = field(default_factory=dict)
    token: str = ""
    servers: list = field(default_factory=list)
    cluster_init: bool = False
    peers: list = field(default_factory=list)
    registries: dict = field(default_factory=dict)
    registries_auth: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    upgrade: bool = False
    cluster_version: str = ""
    provider_id: str = ""
    encryption: str = ""
    undecided: dict = field(default_factory=dict)
    settings: dict | None = None
    keep_release: bool = False
    repaired: list = field(default_factory=list)
    wait: str = "active"
    timeout: int = 300


@dataclass
class FileChange:
    """One file as it is and as it shall be; `shown` are both texts without secrets. What is `inert` means nothing to k3s while it has its data."""

    path: str
    mode: int
    text: str
    shown_before: str
    shown_after: str
    changed: bool
    inert: bool = False


class Joiner:
    """One run of k3s_join on one node."""

    def __init__(self, system: System, wanted: Wanted, check_mode: bool = False) -> None:
        self.system = system
        self.wanted = wanted
        self.check_mode = check_mode
        self.service = SERVICES[wanted.role]
        self.actions: list = []
        self.diff: list = []
        self.steps: list = []
        self.restarted = False
        self.warnings: list = []
        self._late_agent = False
        self._api = None

    @property
    def name(self) -> str:
        """The name of the Node."""
        return state.node_name(self.system, str(self.wanted.config.get("node-name") or ""))

    # -- the states ----------------------------------------------------------------------------

    def present(self) -> dict:
        began = time.monotonic()
        unit = self.system.unit(self.service)
        version = installed_version(self.system, self.wanted.binary)
        if self.wanted.keep_release and version:
            # The file from the controller and its checksum are those of another release.
            self.wanted.version, self.wanted.staged, self.wanted.checksum = version, "", ""
        self._refuse_what_cannot_work()
        self._keep_encryption()
        self._keep_settings()
        self._name_card()
        datastore = state.has_datastore(self.system)
        self._check_version(version, unit)
        self._refuse_cgroup_v1(version)
        self._check_token(datastore)
        bootstrap = self._bootstrap(datastore)
        changes = self._file_changes(bootstrap)
        self._step("look", began)

        began = time.monotonic()
        binary_changes = self._plan_binary(version)
        for change in changes:
            if change.changed:
                self._act(f"file {change.path}")
                self._show(change.path, change.shown_before, change.shown_after)
        links = self._missing_links()
        for link in links:
            self._act(f"link {link}")
            self._show(link, "", f"-> {self.wanted.binary}\n")
        enable = unit.enabled not in ("enabled", "enabled-runtime")
        if enable:
            self._act(f"enable {self.service}.service")
        member = datastore if self.wanted.role == "server" else state.has_joined_as_agent(self.system)
        operation, reasons = self._plan_service(unit, binary_changes, changes, member)
        if operation:
            self._act(f"{operation} {self.service}.service" + (f" ({', '.join(reasons)})" if reasons else ""))
        joining = "" if member else self._plan_membership(bootstrap)
        settled = self._plan_settling(bootstrap) if joining else ""
        if self.actions:
            self._show(
                f"{self.service}.service",
                _service_text(unit.enabled in ("enabled", "enabled-runtime"), unit.running and unit.pid != 0),
                _service_text(True, True),
            )
        self._step("decide", began)

        if operation == "restart":
            self._guard_quorum(datastore, unit)
            self._refuse_another_provider_id()
        if not self.check_mode:
            previous = self._apply(binary_changes, changes, links, enable)
            if operation:
                self._change_service(operation, unit)
            self._bring_up(operation, unit, previous)
            if settled and state.has_datastore(self.system):
                self.system.write(CONFIG_PATH, settled, 0o600, keep_time=True)
            self._keep_good_config()
        return self._result(joining, version)

    def installed(self) -> dict:
        """Only the binary: for work that needs k3s before the node is a member."""
        version = installed_version(self.system, self.wanted.binary)
        binary = self._plan_binary(version)
        links = self._missing_links()
        for link in links:
            self._act(f"link {link}")
        if not self.check_mode:
            self._install(binary, links)
        return self._result("", version)

    def stopped(self) -> dict:
        """The unit is down and stays enabled: for work on the data below it."""
        unit = self.system.unit(self.service)
        if unit.running:
            self._act(f"stop {self.service}.service")
            self._show(f"{self.service}.service", _service_text(True, True), _service_text(True, False))
            if not self.check_mode:
                self._systemctl("stop", self.service)
        return self._result("", installed_version(self.system, self.wanted.binary))

    def started(self) -> dict:
        """The unit of a member is up or on its way; nothing else is changed, and nothing is waited for."""
        unit = self.system.unit(self.service)
        if unit.loaded and not unit.running and self._is_member() and not (self.system.exists(PENDING) or self.system.exists(MOVING)):
            self._act(f"start {self.service}.service")
            self._show(f"{self.service}.service", _service_text(True, False), _service_text(True, True))
            if not self.check_mode:
                self._change_service("start", unit)
        return self._result("", installed_version(self.system, self.wanted.binary))

    # -- looking -------------------------------------------------------------------------------

    def _refuse_what_cannot_work(self) -> None:
        role = self.wanted.role
        other = "agent" if role == "server" else "server"
        pending = self.system.read(PENDING)
        if pending is not None and role == "server":
            raise NodeError(
                f"A restore of this cluster was begun and not finished ({pending.strip()}), so this server may hold other data than the rest and is not"
                f" started. Run playbooks/restore.yml again with the same backup. Only to keep the data that is here: remove {PENDING}"
                " from every server and run site.yml."
            )
        if role == "server" and self.system.exists(MOVING):
            raise NodeError(
                "The data of this server was on its way from SQLite to etcd, and that was not finished, so half of it may be in either. Run"
                " playbooks/migrate_datastore.yml again, which goes on with it or puts it back. Nothing was changed."
            )
        if self.system.exists(unit_path(other)):
            raise NodeError(
                f"This host has {SERVICES[other]}.service, so it is {_article(other)}; it cannot become {_article(role)} as it is. "
                f"Correct the inventory's groups, or remove the node first (playbooks/remove_node.yml)."
            )
        why = refusal(state.foreign(self.system))
        if why:
            raise NodeError(why)
        # One that was deleted is written anew, from the same settings.
        config = self.system.read(CONFIG_PATH)
        config = self.system.read(GOOD_CONFIG_PATH) if config is None else config
        self._refuse_another_runtime(config)
        problems = check(self.wanted.config, role, self.wanted.version) + check(self.wanted.secret_config, role, self.wanted.version)
        settings = {**self.wanted.config, **self.wanted.secret_config}
        problems += check_s3(settings)
        # Of an agent only the servers' settings say how many addresses it gets.
        problems += accepted.problems(settings, accepted.mask_size(settings) if role == "server" else None)
        misplaced = sorted(set(self.wanted.config) & SECRET)
        problems += [f"'{key}' is a secret; give it in secret_config, which is never shown" for key in misplaced]
        if problems:
            raise NodeError("The configuration for k3s is not valid: " + "; ".join(problems) + ". Nothing was changed.")
        if role == "server" and self._is_member():
            problems = check_fixed(config, self.wanted.config)
            if problems:
                raise NodeError(
                    "The cluster was begun with other settings, which it cannot change: " + "; ".join(problems)
                    + ". Set the variables to what runs. Nothing was changed."
                )
            moved = address_problem(config, self.wanted.config)
            if moved:
                raise NodeError(
                    f"A server's address does not change while it is a member of etcd, which knows it by that address: {moved}. Set k3s_node_ip to what"
                    " runs; to move the server, take it out with remove_node.yml and let it join anew. Nothing was changed."
                )

    def _keep_encryption(self) -> None:
        """Encryption of Secrets stays as the cluster has it, whatever the setting says, and a new server takes what the others have.

        Without the setting k3s can't read what is encrypted; with it on a cluster that was begun without, each server makes a key of its own.
        """
        if self.wanted.role != "server":
            return
        has = encryption.setting(self.system) if self._is_member() else self.wanted.encryption
        config, warning = encryption.kept({**self.wanted.config, **self.wanted.secret_config}, has)
        if not warning:
            return
        self.warnings.append(warning)
        self.wanted.secret_config = {key: value for key, value in self.wanted.secret_config.items() if key != encryption.FLAG}
        self.wanted.config = {key: value for key, value in config.items() if key not in self.wanted.secret_config}

    def _name_card(self) -> None:
        """On a machine with several cards flannel takes node-ip's. A member keeps what it has, since the change would restart it and cut its pods off."""
        card = flannel_card(self.system, {**self.wanted.config, **self.wanted.secret_config})
        if not card:
            return
        member = self._is_member()
        has = top_level(self.system.read(CONFIG_PATH)).get("flannel-iface", "")
        if member and not has:
            taken = default_card(self.system)
            if taken not in ("", card):
                self.warnings.append(
                    f"Pods' traffic to other nodes goes over {taken}, which has the default route, and node-ip is on {card}. Set flannel-iface: {card} in"
                    f" {'control_plane_config' if self.wanted.role == 'server' else 'agent_config'}; the node restarts with it."
                )
            return
        self.wanted.config = {**self.wanted.config, "flannel-iface": has if member else card}

    def _keep_settings(self) -> None:
        """What the variables leave open stays as this server has it; a new one takes what the cluster has, and one that begins it the defaults."""
        if self.wanted.role != "server":
            return
        own = of_cluster(self.system.read(CONFIG_PATH)) if self._is_member() else None
        has = own if own is not None else self.wanted.settings
        kept = self.wanted.undecided if has is None else {key: has[key] for key in self.wanted.undecided if key in has}
        self.wanted.config = {**self.wanted.config, **{key: value for key, value in kept.items() if key not in self.wanted.secret_config}}

    def _refuse_cgroup_v1(self, version: str) -> None:
        """Before anything is changed, and in an upgrade before the first server. One that runs with this release shows that it does start."""
        if version == self.wanted.version and self.system.unit(self.service).lasting:
            return
        problem = cgroups.problem(self.system, self.wanted.version, self.wanted.config.get("kubelet-arg"))
        if problem:
            raise NodeError(f"{problem}. Nothing was changed.", "cgroup-v1")

    def _refuse_another_runtime(self, config: str | None) -> None:
        """One runtime does not know the containers of the other, so a node changes it only while it is empty."""
        if not self._is_member() or (top_level(config).get("docker") == "true") == bool(self.wanted.config.get("docker")):
            return
        try:
            api = state.server_api(self.system) if self.wanted.role == "server" else state.agent_api(self.system)
            try:
                node = api.node(self.name) or {}
                pods = busy_pods(api, self.name)
            finally:
                api.close()
            state_now = "carries " + ", ".join(pods[:3]) if pods else "" if (node.get("spec") or {}).get("unschedulable") else "is not cordoned"
        except ApiError as error:
            state_now = f"cannot be looked at ({error})"
        if state_now:
            raise NodeError(
                f"k3s_container_runtime is {'docker' if self.wanted.config.get('docker') else 'containerd'}, and this node runs with the other one."
                f" That is changed only on an empty node, and {self.name} {state_now}. Set it back, or run `kubectl drain {self.name}"
                " --ignore-daemonsets` first. Nothing was changed."
            )

    def _another_provider_id(self, node: dict) -> str:
        """That a Node was initialised by another cloud provider, or as another VM; '' where it was not."""
        there = (node.get("spec") or {}).get("providerID", "")
        if not self.wanted.provider_id or not there or there == self.wanted.provider_id:
            return ""
        return f"Node {self.name} has the providerID {there}, and {self.wanted.provider_id} is wanted. It cannot be changed"

    def _refuse_another_provider_id(self) -> None:
        """Before a restart with settings that the Node cannot follow, as on a cluster that was begun with k3s' own cloud provider."""
        try:
            api = state.server_api(self.system) if self.wanted.role == "server" else state.agent_api(self.system)
            try:
                problem = self._another_provider_id(api.node(self.name) or {})
            finally:
                api.close()
        except ApiError:
            # Of a node that can't be asked it is told when it is up.
            return
        if problem:
            raise NodeError(
                f"{problem}. Set k3s_cloud_provider: none to keep what runs; or empty the node, `kubectl delete node {self.name}`, and run again, so that it"
                " registers anew. Nothing was changed."
            )

    def _check_version(self, installed: str, unit: UnitState) -> None:
        if not installed or not unit.loaded or installed == self.wanted.version:
            return
        if not self._is_member():
            return
        old, new = version_key(installed), version_key(self.wanted.version)
        if old and new and new < old and self.wanted.role == "agent":
            # An agent has no data that a newer release has written, so it follows servers that were restored to an older one.
            if self.wanted.cluster_version != self.wanted.version:
                raise NodeError(
                    f"This agent runs k3s {installed}, which is newer than k3s_version {self.wanted.version}. It goes back only to the release of the"
                    f" servers, which is {self.wanted.cluster_version or 'not known'}. Set k3s_version to that, and run playbooks/upgrade.yml."
                )
        elif old and new and new < old:
            raise NodeError(
                f"This node runs k3s {installed}, which is newer than k3s_version {self.wanted.version}. k3s cannot go back;"
                " set k3s_version to the running one, or restore a snapshot that is older than the upgrade."
            )
        if old and new and new[1] > old[1] + 1:
            raise NodeError(
                f"From k3s {installed} to {self.wanted.version} would skip a minor release. Upgrade to each minor in turn, 1.{old[1] + 1} first."
            )
        row = versions.row_of(self.wanted.version) if old and new and new[1] == old[1] + 1 else None
        if row and self.wanted.role == "server" and old < version_key(row.upgrade_from):
            raise NodeError(
                f"From k3s {installed} this server can't go to {self.wanted.version}: {row.upgrade_reason}. Upgrade all servers to {row.upgrade_from} or a"
                f" newer 1.{old[1]} first, with playbooks/upgrade.yml. The newest that is known here is {versions.for_k3s(installed).k3s}."
            )
        if not self.wanted.upgrade:
            raise NodeError(
                f"This node runs k3s {installed}, and k3s_version is {self.wanted.version}. An upgrade needs a snapshot and an order;"
                " run playbooks/upgrade.yml, or set k3s_version to the running one."
                if new >= old else
                f"This agent runs k3s {installed}, and the servers run {self.wanted.version}: no agent may be newer than they are. Run"
                " playbooks/upgrade.yml with this k3s_version: it empties the agents one by one and takes them back to it."
            )

    def _is_member(self) -> bool:
        return state.has_datastore(self.system) if self.wanted.role == "server" else state.has_joined_as_agent(self.system)

    def _check_token(self, datastore: bool) -> None:
        wanted = self.wanted
        if wanted.token:
            problem = check_token(wanted.token)
            if problem:
                raise NodeError(f"k3s_token cannot be right: {problem}. Nothing was changed.")
        if wanted.role == "server" and wanted.cluster_init and not datastore and split_token(wanted.token)[0]:
            raise NodeError(
                "k3s_token has the secure form (K10...), which names the CA of an existing cluster, but no server has one."
                " Give the password alone (the part after '::server:'), or leave k3s_token out."
            )
        if wanted.role == "server" and wanted.cluster_init and not datastore and is_bootstrap_token(wanted.token):
            raise NodeError(
                "k3s_token has the form of a token that `k3s token create` makes (6 characters, a dot, 16), which lets agents join a cluster, and"
                " no server can begin one with it. Give another password, or leave k3s_token out. Nothing was changed."
            )
        made = self.system.read(state.SERVER_TOKEN)
        if datastore and wanted.token and made and not same_token(made, wanted.token):
            raise NodeError(
                "k3s_token is not the token of this server's datastore (/var/lib/rancher/k3s/server/token), which is encrypted with it:"
                " k3s would not start again. Put the old token back, or leave k3s_token out; only `k3s token rotate` changes it."
            )

    def _bootstrap(self, datastore: bool) -> dict:
        """How the node finds its cluster. On a member this is history: k3s does not look at it while it has its data.

        But for what a server does that lost its data: with `cluster-init` it would begin a second cluster, and without a token in its settings
        it would do so on SQLite, whatever server they name and whatever lies in server/token. So a member with peers names one of them in
        place of `cluster-init`, and every server has its token in a file from its first start on.
        """
        wanted = self.wanted
        current = top_level(self.system.read(CONFIG_PATH))
        keep_token_file = wanted.token or (current.get("token-file") == TOKEN_PATH and self._is_member())
        token = {"token-file": TOKEN_PATH} if keep_token_file or wanted.role == "server" and self._server_token() else {}
        if wanted.role == "server":
            if datastore:
                etcd = state.has_etcd(self.system)
                if not etcd and current.get("server"):
                    # With a token as well it would leave its data at the next start, and join.
                    return {"server": current["server"], **({"token-file": current["token-file"]} if current.get("token-file") else {})}
                if current.get("cluster-init") == "true" and (not etcd or not wanted.servers):
                    return {"cluster-init": True, **token}
                if current.get("server"):
                    return {"server": current["server"], **token}
                # To a server with SQLite a peer is no history: it would leave its data and join.
                return {**({"server": wanted.servers[0]} if wanted.servers and etcd else {}), **token}
            if wanted.cluster_init:
                return {"cluster-init": True, **token}
        if not wanted.servers:
            raise NodeError(
                "There is no server to join and this node may not begin a cluster."
                + (" The role control_plane decides that from all servers of the group." if wanted.role == "server" else "")
            )
        if not wanted.token and not self.check_mode and not self._is_member():
            raise NodeError("A token is needed to join. Give k3s_token, or let the role read it from a healthy server.")
        joined = self._is_member() and current.get("server") in wanted.servers
        server = current["server"] if joined else wanted.servers[0]
        if not server.startswith("https://"):
            raise NodeError(f"The server's URL must begin with https://, and is {server!r}.")
        if self.check_mode and not wanted.token:
            token = {"token-file": TOKEN_PATH}
        return {"server": server, **token}

    # -- deciding ------------------------------------------------------------------------------

    def _file_changes(self, bootstrap: dict) -> list:
        wanted, role = self.wanted, self.wanted.role
        changes = []
        if "token-file" in bootstrap:
            changes.append(self._token_change())
        text = render_config(bootstrap, wanted.config, wanted.secret_config)
        before = self.system.read(CONFIG_PATH)
        # Another way to say the same is no change: it stays as it is.
        text = before if same_config(before, text) else text
        change = self._change(CONFIG_PATH, 0o600, text, mask_config(before), mask_config(text, before))
        change.inert = self._is_member() and same_config(self._in_force(before), self._in_force(text))
        changes.append(change)
        registries = render_registries(wanted.registries, wanted.registries_auth)
        before = self.system.read(REGISTRIES_PATH)
        if registries is not None or before is not None:
            registries = before if same_tree(before, registries) else registries or ""
            changes.append(self._change(REGISTRIES_PATH, 0o600, registries, mask_registries(before), mask_registries(registries)))
        for path in sorted(wanted.files):
            changes.append(self._change(path, 0o600, wanted.files[path], self.system.read(path) or "", wanted.files[path]))
        environment = render_environment(wanted.environment)
        before = self.system.read(environment_path(role))
        changes.append(
            self._change(environment_path(role), 0o600, environment, mask_environment(before), mask_environment(environment))
        )
        unit = render_unit(role, wanted.binary)
        changes.append(self._change(unit_path(role), 0o644, unit, self.system.read(unit_path(role)) or "", unit))
        return changes

    def _in_force(self, text: str | None) -> str:
        """config.yaml without what means nothing to a member: how it would join, and the provider ID, which a kubelet gives once."""
        text = _PROVIDER_ID.sub("", text or "")
        return _JOINING.sub("", text) if self.wanted.role == "server" else text

    def _server_token(self) -> str:
        """The token for a server's file; '' where it can only come from another server."""
        if self.wanted.token:
            return self.wanted.token.strip()
        own = state.current_token(self.system) or ""
        if self._is_member():
            return own
        # One that begins anew has no authority yet that a secure token could name. Without any token k3s would make one, and keep it with the data.
        return split_token(own)[1] or secrets.token_hex(32) if self.wanted.cluster_init else ""

    def _token_change(self) -> FileChange:
        """The token's file. Another form of the same token is no change: k3s takes both."""
        before = self.system.read(TOKEN_PATH)
        token = self._server_token() if self.wanted.role == "server" else self.wanted.token.strip()
        text = before if before is not None and (not token or same_token(before, token)) else token + "\n"
        change = self._change(TOKEN_PATH, 0o600, text, "", "")
        # A server that has its data has this token with it.
        change.inert = self.wanted.role == "server" and self._is_member()
        if change.changed:
            change.shown_before = "" if before is None else f"{MASK}\n"
            change.shown_after = f"{MASK}\n" if before is None else f"{MASK} (changed)\n"
        return change

    def _change(self, path: str, mode: int, text: str, before: str, after: str) -> FileChange:
        current, current_mode = self.system.read(path), self.system.mode(path)
        changed = current != text or current_mode != mode
        if changed and current == text:
            before, after = f"mode {current_mode:04o}\n", f"mode {mode:04o}\n"
        elif changed and current is None and not after:
            after = "(empty)\n"
        return FileChange(path, mode, text, before, after, changed)

    def _plan_binary(self, version: str) -> bool:
        """The binary has to come from the release; a wrong checksum counts as a wrong version."""
        wanted = self.wanted
        if wanted.staged and self.system.exists(wanted.staged):
            return self._plan_staged(version)
        differs = version != wanted.version
        if not differs and wanted.checksum:
            differs = self.system.sha256(wanted.binary) != wanted.checksum
        if not differs:
            return False
        if not wanted.release_url:
            # The role copies the file from the controller; in check mode it has not done so.
            if not self.check_mode:
                raise NodeError(
                    f"{wanted.binary} is {'k3s ' + version if version else 'not there'}, and k3s {wanted.version} is wanted, but no release_url"
                    " is given to fetch it from. Is k3s_binary the file of that version?"
                )
        self._act(f"binary {wanted.binary} {wanted.version}")
        self._show(wanted.binary, f"k3s {version}\n" if version else "", f"k3s {wanted.version}\n")
        return True

    def _plan_staged(self, version: str) -> bool:
        """The file from the controller, which lies beside the binary: looked at before it takes its place."""
        wanted = self.wanted
        digest = self.system.sha256(wanted.staged)
        if wanted.checksum and digest != wanted.checksum:
            raise NodeError(
                f"The file of k3s_binary has sha256 {digest}, but k3s_binary_checksum is {wanted.checksum}. {wanted.binary} was not touched;"
                " give the right file or its checksum."
            )
        found = installed_version(self.system, wanted.staged)
        if found != wanted.version:
            said = f"it is k3s {found}" if found else "it does not run here (damaged, or built for another architecture)"
            raise NodeError(f"The file of k3s_binary is not k3s {wanted.version}: {said}. {wanted.binary} was not touched; give the file of that release.")
        if digest == self.system.sha256(wanted.binary):
            return False
        self._act(f"binary {wanted.binary} {wanted.version}")
        self._show(wanted.binary, f"k3s {version}\n" if version else "", f"k3s {wanted.version}\n")
        return True

    def _missing_links(self) -> list:
        """kubectl, crictl, ctr beside k3s, unless the host has such a command already."""
        directory = os.path.dirname(self.wanted.binary)
        search = [directory, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin"]
        return [
            f"{directory}/{name}" for name in LINKS
            if not any(self.system.exists(f"{place}/{name}") or self.system.islink(f"{place}/{name}") for place in search)
        ]

    def _plan_service(self, unit: UnitState, binary: bool, changes: list, member: bool) -> tuple:
        """('start' | 'restart' | '', why). A running k3s that is older than what it reads was left behind by an interrupted run.

        One that never joined may hold on to what it read at its start, like the host name before the machine was renamed; nothing is lost
        by starting it anew.
        """
        if not unit.running or unit.pid == 0 and unit.sub != "auto-restart":
            return "start", []
        reasons = [os.path.basename(change.path) for change in changes if change.changed and not _only_mode(change) and not change.inert]
        if binary:
            reasons.insert(0, "binary")
        if not reasons and unit.started_at:
            paths = [change.path for change in changes] + [self.wanted.binary]
            reasons = [
                f"{os.path.basename(path)} is newer than the running service"
                for path in paths if self.system.exists(path) and int(self.system.mtime(path)) > unit.started_at
            ]
        if not reasons and unit.need_reload:
            reasons = ["its unit changed on disk"]
        if not reasons and not member:
            reasons = ["it runs and has not joined"]
        return ("restart", reasons) if reasons else ("", [])

    def _plan_membership(self, bootstrap: dict) -> str:
        """How the node becomes a member in this run."""
        joining = "begin a new cluster" if bootstrap.get("cluster-init") else f"join {bootstrap['server']} as {self.wanted.role}"
        self._act(f"membership: {joining}")
        self._show("membership", "none\n", joining + "\n")
        return joining

    def _plan_settling(self, bootstrap: dict) -> str:
        """config.yaml for when the cluster is begun: a peer in place of `cluster-init`; '' where there is none."""
        if not bootstrap.get("cluster-init") or not self.wanted.peers:
            return ""
        rest = {key: value for key, value in bootstrap.items() if key != "cluster-init"}
        server = self.wanted.peers[0]
        self._act(f"file {CONFIG_PATH} (server in place of cluster-init)")
        self._show(f"{CONFIG_PATH} of a member", "cluster-init: true\n", f"server: {server}\n")
        return render_config({"server": server, **rest}, self.wanted.config, self.wanted.secret_config)

    def _guard_quorum(self, datastore: bool, unit: UnitState, cure: bool = False) -> None:
        """Refuse a restart that etcd can't spare. With `cure` an API that does not answer is what the restart is for."""
        if self.wanted.role != "server" or not datastore:
            return
        # A prediction must not forbid its own cure: these are in order by the time when this run comes to the restart, and then asked again.
        repaired = self.wanted.repaired if self.check_mode else []
        try:
            api = state.server_api(self.system, timeout=15)
            members = [dict(member, voter=True, ready=True) if member["name"] in repaired else member for member in state.etcd_members(api.nodes())]
            api.close()
        except ApiError as error:
            # Of one that is down already a new start takes nothing away. One that runs may be the vote that is missing.
            if cure or repaired or unit.active != "active" or isinstance(error.__cause__, ConnectionRefusedError):
                return
            raise NodeError(
                f"Not restarted, nothing was changed: {self.service}.service is active, but its API could not say whether etcd can spare it ({error})."
                " See the journal of k3s.service on the servers; bring etcd's majority back first, then run again."
            ) from error
        problem = state.quorum_problem(members, self.name)
        if problem:
            raise NodeError(f"Not restarted, nothing was changed: {problem}. Bring the others in order first, then run again.")

    # -- changing ------------------------------------------------------------------------------

    def _apply(self, binary: bool, changes: list, links: list, enable: bool) -> dict:
        """Make the changes; returns what the files held before."""
        wanted = self.wanted
        self._install(binary, links)
        began = time.monotonic()
        previous = {}
        reload_units = False
        for change in changes:
            if not change.changed:
                continue
            current = self.system.read(change.path)
            if current == change.text:
                self.system.chmod(change.path, change.mode)
                continue
            previous[change.path] = (current, self.system.mode(change.path))
            self.system.write(change.path, change.text, change.mode, keep_time=change.inert, as_old_as=CONFIG_PATH)
            reload_units = reload_units or change.path == unit_path(wanted.role)
        if reload_units or self.system.unit(self.service).need_reload:
            self._systemctl("daemon-reload")
        if enable:
            self._systemctl("enable", f"{self.service}.service")
        self._step("files", began)
        return previous

    def _install(self, binary: bool, links: list) -> None:
        began, wanted = time.monotonic(), self.wanted
        if binary and wanted.staged and self.system.exists(wanted.staged):
            self.system.rename(wanted.staged, wanted.binary)
            self._step("binary", began)
        elif binary:
            download(self.system, wanted.release_url, wanted.version, wanted.checksum, wanted.environment, wanted.binary)
            self._step("binary", began)
        for link in links:
            os.symlink(os.path.basename(wanted.binary), self.system.path(link))

    def _change_service(self, operation: str, unit: UnitState) -> None:
        if unit.active == "failed":
            self._systemctl("reset-failed", f"{self.service}.service")
        # Without --no-block systemctl would wait for readiness, which an agent reaches only after the cloud provider saw it.
        self._systemctl(operation, "--no-block", f"{self.service}.service")
        self.restarted = operation == "restart"

    def _systemctl(self, *argv: str) -> None:
        done = self.system.systemctl(*argv, timeout=300)
        if done.rc != 0:
            raise NodeError(f"systemctl {' '.join(argv)} failed: {(done.err or done.out).strip()}")

    def _bring_up(self, operation: str, unit: UnitState, previous: dict) -> None:
        """Wait until the node is a member as wanted; a changed configuration that does not come up is taken back."""
        since = self.system.now()
        try:
            self.wait(since, unit.pid if operation == "restart" else 0)
        except NodeError as error:
            old_config = previous.get(CONFIG_PATH, (None, None))[0]
            if operation != "restart" or old_config is None or not self.system.exists(GOOD_CONFIG_PATH):
                raise
            # One that lost its data was no member with the old file either, and the cause tells the role what to do.
            if not self._is_member():
                raise
            if self.system.read(GOOD_CONFIG_PATH) != old_config:
                raise
            raise NodeError(f"{error} {self._take_back(previous)}", error.cause) from error

    def _take_back(self, previous: dict) -> str:
        """Put the last good configuration back and say how that went."""
        for path, (text, mode) in previous.items():
            if text is None:
                self.system.remove(path)
            else:
                self.system.write(path, text, mode)
        pid = self.system.unit(self.service).pid
        self._systemctl("daemon-reload")
        self._systemctl("restart", "--no-block", f"{self.service}.service")
        try:
            self.wait(self.system.now(), pid)
        except NodeError as error:
            return f"The last good configuration was put back, but the node does not come up with it either: {error}"
        return "The last good configuration was put back, and the node is up with it."

    def _keep_good_config(self) -> None:
        text = self.system.read(CONFIG_PATH)
        if text is not None and self.system.read(GOOD_CONFIG_PATH) != text:
            self.system.write(GOOD_CONFIG_PATH, text, 0o600)

    # -- waiting -------------------------------------------------------------------------------

    def wait(self, since: float, old_pid: int) -> None:
        """Until every fact of the membership holds, a cause that waiting cannot cure is seen, or time is up."""
        if self.wanted.wait == "none":
            return
        deadline = self.system.now() + self.wanted.timeout
        step, step_since, began = "", self.system.now(), time.monotonic()
        journal = Journal(self.system, self.service, since)
        next_look = self.system.now() + 3
        pause = 0.5
        while True:
            now = self.system.now()
            unit = self.system.unit(self.service)
            missing = self._missing(unit, old_pid)
            if missing is None:
                if step:
                    self._step(step, began)
                self._close_api()
                return
            if missing[0] != step:
                if step:
                    self._step(step, began)
                step, step_since, began = missing[0], now, time.monotonic()
            if step == "unit" and now - step_since >= LATE and self._start_late_agent_anew(unit):
                old_pid, deadline = unit.pid, max(deadline, now + 2 * LATE)
            if now >= next_look or now >= deadline:
                next_look = now + 3
                journal.read()
                cause = journal.final_cause(now, unit.pid == 0)
                if cause or now >= deadline:
                    self._close_api()
                    raise self._failure(step, step_since, missing[1], cause, journal.lines())
            self.system.sleep(pause)
            pause = min(pause * 1.3, 2.0)

    def _start_late_agent_anew(self, unit: UnitState) -> bool:
        """Restart an agent that does everything but say so; once.

        k3s' network policy controller waits for a report of the kubelet that is newer than its own start (pkg/agent/netpol). Where the kubelet
        has reported just before, the next report is minutes away. Until then no NetworkPolicy is enforced there.
        """
        if self._late_agent:
            return False
        self._late_agent = True
        why = "the node is Ready, but the start does not end"
        self._act(f"restart {self.service}.service ({why})")
        self.warnings.append(
            f"{self.service}.service on {self.name} was started anew: the node was Ready and its start did not end for {int(LATE)} s, as k3s' network policy"
            " controller waited for another report of the kubelet. Containers went on."
        )
        self._change_service("restart", unit)
        return True

    def _missing(self, unit: UnitState, old_pid: int) -> tuple | None:
        """The first fact that does not hold yet, as (step, detail)."""
        role, wanted = self.wanted.role, self.wanted
        if unit.active == "failed":
            return "service", f"{self.service}.service has failed ({unit.result})"
        if unit.pid == 0 or unit.pid == old_pid:
            return "service", f"{self.service}.service is {unit.active} ({unit.sub}), restarted {unit.restarts} times"
        if role == "server" and unit.active != "active":
            return "service", f"{self.service}.service is {unit.active} ({unit.sub}), restarted {unit.restarts} times"
        name = state.node_name(self.system, str(wanted.config.get("node-name") or ""))
        try:
            if self._api is None:
                self._api = state.server_api(self.system) if role == "server" else state.agent_api(self.system)
            node = self._api.node(name)
        except ApiError as error:
            self._close_api()
            return "API", f"the API does not answer yet: {error}"
        if node is None:
            return "node", f"there is no Node {name} yet"
        spec = node.get("spec") or {}
        if wanted.provider_id and spec.get("providerID", "") != wanted.provider_id:
            if spec.get("providerID"):
                self._close_api()
                raise NodeError(self._another_provider_id(node) + f": `kubectl delete node {name}`, then run again, and the node registers anew.")
            return "providerID", f"Node {name} has no providerID yet"
        ready = condition(node, "Ready")
        if ready.get("status") != "True":
            return "node", f"Node {name} is not Ready: {ready.get('message') or 'no status yet'}"
        if _heartbeat(ready) + 1 < unit.started_at:
            return "node", f"Node {name} has not reported since the service started"
        running = ((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion", "")
        if running and running != wanted.version:
            return "version", f"Node {name} reports {running}"
        if role == "server" and state.has_etcd(self.system) and not is_true(node, "EtcdIsVoter"):
            voter = condition(node, "EtcdIsVoter")
            return "etcd", f"Node {name} is no etcd voter yet: {voter.get('reason') or 'no condition yet'} {voter.get('message') or ''}".rstrip()
        if wanted.wait == "active" and unit.active != "active":
            if any(taint.get("key") == UNINITIALIZED for taint in spec.get("taints") or []):
                return "cloud provider", f"{self.service}.service is {unit.active} ({unit.sub}); an agent stays so until the cloud provider has seen it"
            return "unit", f"{self.service}.service is {unit.active} ({unit.sub}), although Node {name} is Ready"
        # READY is a moment: a service that ends and starts again every few seconds says it each time.
        gone_on = unit.active_for if unit.active == "active" else unit.running_for
        if gone_on < unit.patience:
            return "lasting", f"{self.service}.service goes on for {gone_on:.0f} s only, restarted {unit.restarts} times"
        return None

    def _failure(self, step: str, step_since: float, detail: str, cause: Cause | None, lines: list) -> NodeError:
        cause = cause or find_cause(lines)
        at = time.strftime("%H:%M:%S", time.gmtime(step_since))
        text = f"The node did not come up: step '{step}' since {at} UTC: {detail}."
        if cause:
            text += f" Cause ({cause.id}): {cause.summary}. Remedy: {cause.remedy}. Journal: {cause.line}"
        else:
            last = tail(lines)
            text += f" No known cause is in the journal of {self.service}.service; its last lines: " + (" | ".join(last) if last else "none")
        return NodeError(text, cause.id if cause else "")

    def _close_api(self) -> None:
        if self._api is not None:
            self._api.close()
            self._api = None

    # -- reporting -----------------------------------------------------------------------------

    def _act(self, action: str) -> None:
        self.actions.append(action)

    def _show(self, header: str, before: str, after: str) -> None:
        if before != after:
            self.diff.append({"before_header": header, "after_header": header, "before": before, "after": after})

    def _step(self, name: str, began: float) -> None:
        self.steps.append({"name": name, "seconds": round(time.monotonic() - began, 2)})

    def _result(self, joining: str, version: str) -> dict:
        return {
            "changed": bool(self.actions),
            "actions": self.actions,
            "diff": self.diff,
            "restarted": self.restarted,
            "steps": self.steps,
            "membership": {
                "role": self.wanted.role,
                "node": self.name,
                "joining": joining,
            },
            "version": {"before": version, "after": self.wanted.version},
        }


def _service_text(enabled: bool, running: bool) -> str:
    return f"{'enabled' if enabled else 'disabled'}\n{'running' if running else 'stopped'}\n"


def _only_mode(change: FileChange) -> bool:
    return change.shown_before.startswith("mode ") and change.shown_after.startswith("mode ")


def _article(role: str) -> str:
    return "an agent" if role == "agent" else "a server"


def _heartbeat(ready: dict) -> float:
    text = str(ready.get("lastHeartbeatTime") or "")
    return parse_timestamp("x " + text.replace("T", " ").replace("Z", ""))
