# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node is now: its datastore, units, configuration and API."""

from __future__ import annotations

import re

from . import datastore, encryption, settings
from .api import Api, ApiError, is_etcd, is_true, labels
from .files import CONFIG_PATH, DATA_DIR, KUBECONFIG_PATH, TOKEN_PATH
from .foreign import places as foreign_places
from .release import installed_version
from .settings import of_cluster
from .system import System, UnitState
from .unit import SERVICES, unit_path
from .yamltext import top_level

# NODENAME-8hex of the time when the server joined, and what etcd leaves on a server that was taken out.
ETCD_NAME = DATA_DIR + "/server/db/etcd/name"
TOMBSTONE = DATA_DIR + "/server/db/etcd/tombstone"
SERVER_TOKEN = DATA_DIR + "/server/token"
NODE_TOKEN = DATA_DIR + "/server/node-token"
KUBELET_KUBECONFIG = DATA_DIR + "/agent/kubelet.kubeconfig"
KUBELET_CERTIFICATE = DATA_DIR + "/agent/client-kubelet.crt"


def has_datastore(system: System) -> bool:
    """The node holds cluster data: then it is a member already, whatever config.yaml says about joining."""
    return datastore.kind(system) != ""


def has_etcd(system: System) -> bool:
    """The cluster's data is in embedded etcd, the one datastore that other servers can join."""
    return datastore.kind(system) == "etcd"


def has_joined_as_agent(system: System) -> bool:
    return system.exists(KUBELET_CERTIFICATE)


def foreign(system: System) -> dict:
    """Where this machine has a k3s that was installed by other means; {} when it has none, or one of this collection."""
    return foreign_places(system, has_datastore(system) or has_joined_as_agent(system))


def node_name(system: System, wanted: str = "") -> str:
    """The name k3s registers the node under."""
    return settings.node_name(wanted or top_level(system.read(CONFIG_PATH)).get("node-name") or system.hostname())


def registered_name(system: System) -> str:
    """The name under which this server is a member, which its host name need not be any more."""
    match = re.match(r"(?P<name>.+)-[0-9a-f]{8}\s*\Z", system.read(ETCD_NAME) or "")
    return match.group("name") if match else node_name(system)


def server_api(system: System, timeout: float = 5.0) -> Api:
    """The API with this server's own administrator credentials."""
    text = system.read(KUBECONFIG_PATH)
    if text is None:
        raise ApiError(f"{KUBECONFIG_PATH} does not exist yet")
    return Api(text, timeout=timeout, path=system.path)


def agent_api(system: System, timeout: float = 5.0) -> Api:
    """The API with this node's kubelet credentials, which may read the node itself."""
    text = system.read(KUBELET_KUBECONFIG)
    if text is None:
        raise ApiError(f"{KUBELET_KUBECONFIG} does not exist yet")
    return Api(text, timeout=timeout, path=system.path)


def etcd_members(nodes: list) -> list:
    """The servers with embedded etcd as the API shows them."""
    members = []
    for node in nodes:
        if is_etcd(node):
            members.append({
                "name": node["metadata"]["name"],
                "voter": is_true(node, "EtcdIsVoter"),
                "ready": is_true(node, "Ready"),
            })
    return sorted(members, key=lambda member: member["name"])


def quorum_problem(members: list, name: str) -> str:
    """Why etcd would lose its quorum if this server stopped for a moment; '' when it would not, or when its own start is the cure."""
    others = [member for member in members if member["name"] != name]
    bad = [member["name"] for member in others if not (member["voter"] and member["ready"])]
    needed = len(members) // 2 + 1
    if bad and len(others) - len(bad) < needed and any(member["name"] == name for member in members):
        return (
            f"{', '.join(bad)} {'is' if len(bad) == 1 else 'are'} not a healthy etcd voter, so restarting {name} would leave"
            f" {len(others) - len(bad)} of {len(members)} members, and {needed} are needed"
        )
    return ""


def _unwell(unit: UnitState, members: list, own: dict | None) -> str:
    """Why a server whose API answers is not to be relied on; one answer is only a moment, as of a server that ends and starts again."""
    if not unit.lasting:
        return f"its API answers, but {SERVICES['server']}.service is {unit.active} for {unit.active_for:.0f} s only, restarted {unit.restarts} times"
    if own is None or not is_true(own, "Ready"):
        return f"its API answers, but its Node is not {'there' if own is None else 'Ready'}"
    if any(member["name"] == own["metadata"]["name"] and not member["voter"] for member in members):
        return "its API answers, but it is no voter of etcd"
    return ""


def await_server(system: System, binary: str, credentials: bool = False, wait: int = 0, need: str = "healthy") -> dict:
    """What a server says, once it is healthy or, where that is needed, well; one that is on its way gets so many seconds, one that is off none."""
    deadline = system.now() + wait
    while True:
        info = inspect_server(system, binary, credentials)
        if info[need] or not info["starting"] or system.now() >= deadline:
            return info
        system.sleep(2)


def inspect_server(system: System, binary: str, credentials: bool = False) -> dict:
    """Everything the other hosts need to know about a server, without changing anything."""
    unit = system.unit(SERVICES["server"])
    kind = datastore.kind(system)
    info = {
        "datastore": kind != "",
        "datastore_kind": kind,
        "cluster": {},
        "agents": 0,
        "unit": {"exists": system.exists(unit_path("server")), "active": unit.active, "enabled": unit.enabled, "restarts": unit.restarts},
        "version": "",
        "node_name": node_name(system),
        "registered_name": registered_name(system),
        "removed": system.exists(TOMBSTONE),
        "healthy": False,
        "well": False,
        "starting": False,
        "reason": "",
        "members": [],
        "encryption": encryption.setting(system) if kind else "",
        "settings": (of_cluster(system.read(CONFIG_PATH)) or {}) if kind else {},
        "adopted": not foreign(system),
    }
    if not kind and not unit.loaded:
        info["cluster"] = datastore.identity(system)
        info["reason"] = "k3s is not installed as a server here" if not system.exists(binary) else "this server has no datastore and no unit"
        return info
    api = None
    try:
        api = server_api(system)
        nodes = api.nodes()
        info["cluster"] = datastore.identity(system, api)
        info["members"] = etcd_members(nodes)
        info["agents"] = sum("node-role.kubernetes.io/control-plane" not in labels(node) for node in nodes)
        info["healthy"] = True
        names = (info["node_name"], info["registered_name"])
        own = next((node for name in names for node in nodes if node["metadata"]["name"] == name), None)
        if own:
            info["version"] = ((own.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion", "")
        info["reason"] = _unwell(unit, info["members"], own)
        info["well"] = not info["reason"]
    except ApiError as error:
        info["reason"] = f"its API does not answer: {error}"
        if unit.running:
            info["reason"] += f"; {SERVICES['server']}.service is {unit.active}"
    finally:
        if api is not None:
            api.close()
    info["cluster"] = info["cluster"] or datastore.identity(system)
    # It goes on by itself: its API server, etcd's quorum or its promotion from a learner is still to come.
    info["starting"] = unit.running and unit.active != "deactivating" and not info["well"]
    if not info["version"]:
        info["version"] = installed_version(system, binary)
    if credentials and info["healthy"]:
        info["token"] = (system.read(NODE_TOKEN) or system.read(SERVER_TOKEN) or "").strip()
        info["kubeconfig"] = system.read(KUBECONFIG_PATH) or ""
    return info


def current_token(system: System) -> str | None:
    """The token a node was given, or a server made."""
    text = system.read(SERVER_TOKEN) or system.read(TOKEN_PATH)
    return text.strip() if text else None
