# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which counties to move so that all agents carry about as many: the plan alone, nothing is moved here.

The scheduler spreads counties when they are placed, and never moves one afterwards. So an agent that joined later stays empty, and one
that came back after an outage, too.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.cht.k3s.plugins.module_utils.cht.capacity import Agent, Amount
from ansible_collections.cht.k3s.plugins.module_utils.cht.move import home_of, interrupted_move, is_stale, mark
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.cht.operation import alive, describe, note_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.report import Reader, natural, pod_needs, read_agents
from ansible_collections.cht.k3s.plugins.module_utils.cht.restore_mark import mark_of
from ansible_collections.cht.k3s.plugins.module_utils.cht.scheduling import may_run
from ansible_collections.cht.k3s.plugins.module_utils.cht.wait import by_namespace
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import DEPLOYMENTS, NAMESPACES

Object = dict[str, t.Any]

_HOSTNAME = "kubernetes.io/hostname"


@dataclass(frozen=True)
class Tenant:
    """One county: what of it is on which agent, where it may go, and why it stays if it does."""

    name: str
    namespace: str = ""
    # agent -> what the county's pods on it take
    at: dict[str, Amount] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    stays: str = ""
    # The agent of a move that was interrupted and left it stopped.
    moving: str = ""
    # An interrupted move is noted that somebody else put right: the note is to go.
    stale: bool = False
    # Why a county that was moved before is not well; no other is moved then.
    unwell: str = ""
    # What it takes when all of it runs, where that is more than its pods show.
    size: Amount = Amount()

    @property
    def needs(self) -> Amount:
        running = sum(self.at.values(), Amount())
        return self.size if running.pods < self.size.pods else running

    @property
    def home(self) -> str:
        """The agent that carries most of it."""
        return min(self.at, key=lambda name: (-self.at[name].pods, natural(name)), default="")


@dataclass(frozen=True)
class Move:
    """One county from one agent to another."""

    county: str
    namespace: str
    source: str
    target: str
    why: str


class Planner:
    """Plans the fewest moves after which no agent has two counties more than another that could take one.

    `free` is the room of the agents that take pods. A county is moved at most once, to where all of it fits, so that no step of the
    plan needs a later one.
    """

    def __init__(self, free: dict[str, Amount], tenants: list[Tenant]) -> None:
        self.free = dict(free)
        self.tenants = tenants
        self.counts = {name: 0 for name in free}
        for tenant in tenants:
            if tenant.home in self.counts:
                self.counts[tenant.home] += 1
        self.before = dict(self.counts)
        self.moves: list[Move] = []
        self._movable = [tenant for tenant in tenants if not tenant.stays and not tenant.moving]

    def plan(self) -> list[Move]:
        """Return the moves in the order in which they are to be done."""
        for tenant in self.tenants:
            if tenant.moving:
                target = tenant.moving if tenant.moving in self.free and self._fits(tenant, tenant.moving) else self._gathered(tenant)
                if target:
                    self._do(tenant, target, "its move was interrupted")
        for tenant in [tenant for tenant in self._movable if len(tenant.at) > 1]:
            target = self._gathered(tenant)
            if target:
                self._do(tenant, target, f"its pods are on {len(tenant.at)} agents")
        while self._step():
            pass
        return self.moves

    def _fits(self, tenant: Tenant, target: str) -> bool:
        return target in tenant.allowed and (tenant.needs - tenant.at.get(target, Amount())).within(self.free[target])

    def _draws(self, tenant: Tenant, target: str) -> bool:
        """Tell whether the scheduler will take the target, too.

        It wants the agent with the fewest counties, also one on which only part of the county has room; the wish for the new agent (see
        move.py) outweighs that for the emptier half of the agents.
        """
        counts = [self.counts[name] for name in tenant.allowed if name in self.counts]
        return self.counts[target] - min(counts) <= (max(self.counts.values()) - min(counts)) / 2

    def _gathered(self, tenant: Tenant) -> str:
        """Where a county goes whose pods are on several agents: the emptiest of those, else of all."""
        places = [name for name in self.free if self._fits(tenant, name)]
        return min(places, key=lambda name: (name not in tenant.at, self.counts[name] - (name == tenant.home), natural(name)), default="")

    def _step(self) -> bool:
        by_count = sorted(self.counts, key=lambda name: (self.counts[name], natural(name)))
        for source in reversed(by_count):
            here = [tenant for tenant in self._movable if tenant.home == source]
            # The smallest first: it is up again soonest.
            here.sort(key=lambda tenant: (tenant.needs.volumes, tenant.needs.memory, tenant.needs.cpu, natural(tenant.name)))
            for target in by_count:
                if self.counts[source] - self.counts[target] < 2:
                    break
                tenant = next((tenant for tenant in here if self._fits(tenant, target) and self._draws(tenant, target)), None)
                if tenant is not None:
                    self._do(tenant, target, f"{source} has {self.counts[source]} counties, {target} {self.counts[target]}")
                    return True
        return False

    def _do(self, tenant: Tenant, target: str, why: str) -> None:
        self.moves.append(Move(tenant.name, tenant.namespace, tenant.home, target, why))
        if tenant in self._movable:
            self._movable.remove(tenant)
        if tenant.home in self.counts:
            self.counts[tenant.home] -= 1
        for name, amount in tenant.at.items():
            if name in self.free:
                self.free[name] = self.free[name] + amount
        if target in self.free:
            self.counts[target] += 1
            self.free[target] = self.free[target] - tenant.needs


@dataclass
class Plan:
    """What to do, and what to say about it."""

    moves: list[Move]
    before: dict[str, int]
    after: dict[str, int]
    stays: dict[str, str]
    blocked: str
    # Namespaces with the note of a move that needs no end any more.
    stale: list[str] = field(default_factory=list)

    def as_dict(self) -> Object:
        return {
            "moves": [{"county": m.county, "namespace": m.namespace, "from": m.source, "to": m.target, "why": m.why} for m in self.moves],
            "agents": [{"name": name, "counties": self.before[name], "counties_after": self.after[name]} for name in sorted(self.before, key=natural)],
            "stays": [{"county": name, "why": why} for name, why in self.stays.items()],
            "blocked": self.blocked,
            "stale": self.stale,
        }

    def tidy(self, client: Client) -> None:
        """Take notes of moves away that would start a county which is stopped later, for another reason."""
        for namespace in self.stale:
            mark(client, namespace, None)

    def lines(self) -> list[str]:
        """The plan for people."""
        width = max([len(move.county) for move in self.moves], default=0)
        lines = [f"{move.county.ljust(width)}  {move.source or 'nowhere'} -> {move.target}  ({move.why})" for move in self.moves]
        lines += [f"{name} stays: {why}" for name, why in self.stays.items()]
        counts = {name: f"{name} {count}" for name, count in self.before.items()}
        counts.update({name: f"{name} {count} -> {self.after[name]}" for name, count in self.before.items() if count != self.after[name]})
        agents = ", ".join(counts[name] for name in sorted(counts, key=natural))
        lines.append(f"counties on agents: {agents or 'there is no agent that takes pods'}")
        lines.append(f"{len(self.moves)} {'move' if len(self.moves) == 1 else 'moves'}")
        if self.blocked:
            lines.append(f"nothing is moved: {self.blocked}")
        return lines


def _together(deployments: list[Object]) -> bool:
    """Tell whether all pods of a county prefer each other's agent: placement `together`."""
    return all((item["spec"]["template"]["spec"].get("affinity") or {}).get("podAffinity") for item in deployments)


def _taken(space: Object) -> str:
    """Who else works on a county, or has to."""
    restoring, note = mark_of(space), note_of(space)
    if restoring:
        return f"a restore of the set {restoring['set']} is half done"
    return f"another run works on it ({describe(note)})" if alive(note, time.time()) else ""


def _why_it_stays(deployments: list[Object], pods: list[Object], obstacle: str, usable: set[str]) -> str:
    if any(_HOSTNAME in (item["spec"]["template"]["spec"].get("nodeSelector") or {}) for item in deployments):
        return "placement.nodes names its agent"
    if not _together(deployments):
        return "placement.mode is not 'together'"
    if not pods:
        return "it is stopped"
    away = {pod["spec"].get("nodeName") or "" for pod in pods} - usable
    if away:
        return f"{', '.join(sorted(away)) or 'an agent'} takes no pods (not ready, or cordoned)" if "" not in away else "not all its pods have an agent"
    return f"it is not well: {obstacle}" if obstacle else ""


def read_tenants(client: Client, found: Reader, agents: list[Agent]) -> list[Tenant]:
    """Return the counties of a cluster as the planner sees them."""
    usable = {agent.name for agent in agents if agent.usable}
    nodes = [node for node in found.nodes if node["metadata"]["name"] in usable]
    deployments = by_namespace(client.items(DEPLOYMENTS.collection(), {"labelSelector": SERVICE_LABEL}))
    spaces = {item["metadata"]["name"]: item for item in client.items(NAMESPACES.collection())}
    volumes: dict[str, list[Object]] = {}
    for volume in found.volumes:
        volumes.setdefault((volume["spec"].get("claimRef") or {}).get("namespace") or "", []).append(volume)
    pods = by_namespace(pod for pod in found.pods if SERVICE_LABEL in (pod["metadata"].get("labels") or {}))
    tenants = []
    for county in found.counties:
        space = county["namespace"]
        own, disks, made = pods.get(space, []), volumes.get(space, []), deployments.get(space, [])
        if not made:
            continue
        at: dict[str, Amount] = {}
        for pod in own:
            if pod["spec"].get("nodeName"):
                at[pod["spec"]["nodeName"]] = at.get(pod["spec"]["nodeName"], Amount()) + pod_needs(pod)
        templates = [item["spec"]["template"] for item in made]
        allowed = frozenset(node["metadata"]["name"] for node in nodes if all(may_run(template, node, disks) for template in templates))
        namespace = spaces.get(space) or {"metadata": {"name": space}}
        busy = _taken(namespace)
        moving = "" if busy else interrupted_move(namespace, made)
        obstacle = county["obstacle"] if county["ready"] < county["total"] else ""
        tenants.append(Tenant(
            county["name"], space, at, allowed, "" if moving else busy or _why_it_stays(made, own, obstacle, usable), moving, is_stale(namespace, made),
            obstacle if obstacle and not moving and any(home_of(item) for item in made) else "",
            sum((pod_needs(template) for template in templates), Amount()),
        ))
    return tenants


def make_plan(client: Client) -> Plan:
    """Read a cluster and plan."""
    found = Reader(client, whole=False)
    # A server without a taint gets counties from the scheduler like any agent.
    agents, dummy = read_agents(found, servers=True)
    tenants = read_tenants(client, found, agents)
    places = {name for tenant in tenants for name in (*tenant.allowed, *tenant.at)}
    planner = Planner({agent.name: agent.free for agent in agents if agent.usable and agent.name in places}, tenants)
    moves = planner.plan()
    unwell = next((tenant for tenant in tenants if tenant.unwell), None)
    blocked = f"{unwell.name}, which was moved before, is not well: {unwell.unwell}; repair it first" if unwell and moves else ""
    return Plan(moves, planner.before, planner.counts, {tenant.name: tenant.stays for tenant in tenants if tenant.stays}, blocked,
                [tenant.namespace for tenant in tenants if tenant.stale])
