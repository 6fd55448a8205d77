# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a silent agent is to be fenced without a person, and which one. It decides; the role k3s acts, after vCenter has said that the VM is off.

Fencing the wrong machine costs a county more than waiting for a person: whatever is in doubt is left to one, with the command.
"""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, field
from typing import Any

Object = dict[str, Any]

OFF, WHEN_OFF, POWER_OFF = "off", "when_off", "power_off"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_ROLES = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_PLAY = "ansible-playbook cht.k3s."


@dataclass(frozen=True)
class Policy:
    """C(auto) is what may be done; C(after) the seconds of silence before; C(share) the percentage of agents above which it is the network."""

    auto: str = OFF
    after: int = 180
    share: int = 34


@dataclass
class Decision:
    """C(node) is the one to fence, of the inventory's C(host), or empty; C(findings) say of each node that is not well what is done and why."""

    node: str = ""
    host: str = ""
    findings: list[Object] = field(default_factory=list)

    def as_dict(self) -> Object:
        return asdict(self)


def permission(text: str) -> str:
    """What may be done, as people write it: YAML reads a bare off as false."""
    found = {"": OFF, "false": OFF, "no": OFF}.get(text.strip().lower(), text.strip().lower())
    if found not in (OFF, WHEN_OFF, POWER_OFF):
        raise ValueError(f"is {text!r}, and may be {OFF}, {WHEN_OFF} or {POWER_OFF}")
    return found


def decide(nodes: list[Object], hosts: dict[str, str], now: datetime.datetime, policy: Policy) -> Decision:
    """nodes: of the API; hosts: the Node's name of each agent of the inventory -> how the inventory calls it."""
    found = Decision()
    agents = [node for node in nodes if not _is_server(node)]
    silent = [node for node in agents if _silent_since(node) is not None]
    fenced = [_name(node) for node in agents if _is_fenced(node)]
    for node in nodes:
        if _is_server(node) and _silent_since(node) is not None:
            _tell(found, node, "is a server: never fenced", f"start its machine, then {_PLAY}site --tags control_plane --limit {_name(node)}")
    reason = _none_at_all(policy, agents, silent, fenced)
    # The one that is silent longest first: its counties are away longest.
    for node in sorted(silent, key=lambda entry: (str(_silent_since(entry)), _name(entry))):
        name, since = _name(node), _silent_since(node)
        if name in fenced:
            release = f"start its machine, then {_PLAY}fence_node -e k3s_fence={hosts.get(name, name)} --tags release"
            _tell(found, node, "is fenced already", release, level="warning")
            continue
        by_hand = f"{_PLAY}fence_node -e k3s_fence={hosts.get(name, name)}"
        why = reason
        if not why and name not in hosts:
            why = "is no host of the group agent"
        if not why and since is not None and (now - since).total_seconds() < policy.after:
            why = f"is silent for less than {policy.after} s"
        if not why and found.node:
            why = f"{found.node} is fenced first, one at a time"
        if why:
            _tell(found, node, f"not fenced: {why}", by_hand)
            continue
        found.node, found.host = name, hosts[name]
        _tell(found, node, "is fenced when vCenter shows its VM as off" if policy.auto == WHEN_OFF else "its VM is powered off, and it is fenced", by_hand)
    return found


def _none_at_all(policy: Policy, agents: list[Object], silent: list[Object], fenced: list[str]) -> str:
    """Why no agent is fenced, whichever it is."""
    if policy.auto == OFF:
        return "k3s_fence_auto is off"
    if len(silent) * 100 > len(agents) * policy.share:
        return f"{len(silent)} of {len(agents)} agents are silent, more than {policy.share} %: that is rather the network"
    if fenced:
        return f"{', '.join(sorted(fenced))} is fenced and not released yet, one at a time"
    return ""


def _tell(found: Decision, node: Object, text: str, next_step: str, level: str = "bad") -> None:
    since = f"is silent since {_silent_since(node):%Y-%m-%d %H:%M:%S} UTC"
    found.findings.append({"level": level, "what": _name(node), "text": f"{since}; {text}", "next": next_step})


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])


def _is_server(node: Object) -> bool:
    return any(role in (node["metadata"].get("labels") or {}) for role in _ROLES)


def _is_fenced(node: Object) -> bool:
    return any(taint.get("key") == OUT_OF_SERVICE for taint in (node.get("spec") or {}).get("taints") or [])


def _silent_since(node: Object) -> datetime.datetime | None:
    """When the cluster noticed that the kubelet reports no more. One that says itself that it is not ready is not silent: it runs, and writes."""
    for condition in (node.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "Ready" and condition.get("status") == "Unknown" and condition.get("lastTransitionTime"):
            return datetime.datetime.fromisoformat(condition["lastTransitionTime"].replace("Z", "+00:00"))
    return None
