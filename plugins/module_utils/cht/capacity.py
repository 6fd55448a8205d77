# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many more counties fit, and which machines may be lost: arithmetic over what the scheduler counts."""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.cht.k3s.plugins.module_utils.cht.nodes import LOST, UNHEALTHY, VOTER

DIMENSIONS = ("cpu", "memory", "pods", "volumes")


@dataclass(frozen=True)
class Amount:
    """CPU in cores, memory in bytes, pods and volumes as counts."""

    cpu: float = 0.0
    memory: float = 0.0
    pods: int = 0
    volumes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(*(mine + theirs for mine, theirs in zip(self.tuple(), other.tuple())))

    def __sub__(self, other: Amount) -> Amount:
        return Amount(*(mine - theirs for mine, theirs in zip(self.tuple(), other.tuple())))

    def tuple(self) -> tuple[t.Any, ...]:
        return self.cpu, self.memory, self.pods, self.volumes

    def within(self, other: Amount) -> bool:
        """Tell whether this fits into the other; what is not asked for always does."""
        return all(mine <= theirs + 1e-9 for mine, theirs in zip(self.tuple(), other.tuple()) if mine > 0)

    def as_dict(self) -> dict[str, float]:
        return dict(zip(DIMENSIONS, self.tuple()))


@dataclass(frozen=True)
class Load:
    """One pod that belongs to a county."""

    county: str
    name: str
    needs: Amount
    # Nodes on which it may run, room aside; None where nothing is known to keep it from any.
    places: frozenset[str] | None = None

    def may_be_on(self, node: str) -> bool:
        return self.places is None or node in self.places


@dataclass
class Agent:
    """A node that carries counties."""

    name: str
    allocatable: Amount
    usable: bool = True
    # Silent: what ran on it needs a place on the others already.
    lost: bool = False
    used: Amount = Amount()
    loads: list[Load] = field(default_factory=list)

    @property
    def free(self) -> Amount:
        return self.allocatable - self.used if self.usable else Amount()

    @property
    def counties(self) -> list[str]:
        return sorted({load.county for load in self.loads})


def fit(
    agents: list[Agent], need: Amount, storage_free: float | None = None, storage_need: float = 0.0, waiting: t.Sequence[Load] = (),
) -> dict[str, t.Any]:
    """Return how many counties of this size fit, in all and by each measure alone; None where nothing limits.

    A county is counted as a whole on one agent, as placement `together` prefers it; C(waiting) are the pods that need a place before it.
    """
    free = {agent.name: agent.free for agent in agents}
    _seat(free, [*waiting, *_stranded(agents)])
    rooms = list(free.values())
    by: dict[str, int | None] = {}
    for index, name in enumerate(DIMENSIONS):
        wanted = need.tuple()[index]
        by[name] = sum(max(0, int((room.tuple()[index] + 1e-9) // wanted)) for room in rooms) if wanted > 0 else None
    by["disk"] = max(0, int(storage_free // storage_need)) if storage_free is not None and storage_need > 0 else None
    total: int | None = None
    if any(by[name] is not None for name in DIMENSIONS):
        total = 0
        for room in rooms:
            counts = [int((left + 1e-9) // wanted) for left, wanted in zip(room.tuple(), need.tuple()) if wanted > 0]
            total += max(0, min(counts))
    if by["disk"] is not None:
        total = by["disk"] if total is None else min(total, by["disk"])
    limits = [name for name, count in by.items() if count is not None and count == min(value for value in by.values() if value is not None)]
    return {"counties": total, "by": by, "limited_by": limits}


def _stranded(agents: list[Agent]) -> list[Load]:
    """The pods of agents that are lost by now."""
    return [load for agent in agents if agent.lost for load in agent.loads]


def _seat(free: dict[str, Amount], loads: t.Iterable[Load]) -> set[str]:
    """Place pods on the agents that have most room, the largest first, and take that room; return the counties that find none."""
    homeless: set[str] = set()
    for load in sorted(loads, key=lambda load: (load.needs.memory, load.needs.cpu, load.needs.volumes), reverse=True):
        places = [name for name, room in free.items() if load.may_be_on(name) and load.needs.within(room)]
        if not places:
            homeless.add(load.county)
            continue
        best = max(places, key=lambda name: (free[name].memory, free[name].cpu, free[name].pods))
        free[best] = free[best] - load.needs
    return homeless


def lose(agents: list[Agent], lost: t.Collection[str], waiting: t.Sequence[Load] = ()) -> dict[str, t.Any]:
    """Return what happens when agents are lost: which counties stop for a while, and which find no place on the others.

    Pods that wait for a place, and those of agents that are lost by now, need one as well.
    """
    gone = [load for agent in agents if agent.name in lost for load in agent.loads]
    before = [load for load in _stranded(agents) if load not in gone]
    homeless = _seat({agent.name: agent.free for agent in agents if agent.name not in lost and agent.usable}, [*gone, *before, *waiting])
    return {"lost": sorted(lost), "stopped": sorted({load.county for load in gone}), "homeless": sorted(homeless), "survives": not homeless}


def losses(agents: list[Agent], count: int, waiting: t.Sequence[Load] = ()) -> dict[str, t.Any]:
    """Try every loss of so many agents; the worst is the one that leaves most counties without a place."""
    names = [agent.name for agent in agents if not agent.lost]
    if len(names) <= count:
        what = f"agent{'' if len(names) == 1 else 's'}{' not lost yet' if len(names) < len(agents) else ''}"
        return {"survives": False, "bad": [sorted(names)] if names else [], "worst": None, "reason": f"the cluster has only {len(names)} {what}"}
    tried = [lose(agents, lost, waiting) for lost in itertools.combinations(names, count)]
    worst = max(tried, key=lambda entry: (len(entry["homeless"]), len(entry["stopped"])))
    bad = [entry["lost"] for entry in tried if not entry["survives"]]
    return {"survives": not bad, "bad": bad, "worst": worst, "reason": ""}


def etcd_majority(votes: list[str]) -> dict[str, int]:
    """Return how many voters etcd has, how many of them are well, and how many of those it can lose and still have a majority."""
    voters, healthy = (sum(1 for vote in votes if vote in counted) for counted in ((VOTER, LOST, UNHEALTHY), (VOTER,)))
    return {"voters": voters, "healthy_voters": healthy, "servers_to_lose": max(0, healthy - voters // 2 - 1)}


def typical(counties: list[tuple[Amount, float]]) -> tuple[Amount, float]:
    """Return the largest of each measure over the counties that are there: a cautious guess of the next one."""
    if not counties:
        return Amount(), 0.0
    biggest = Amount(*(max(values) for values in zip(*(amount.tuple() for amount, dummy in counties))))
    return biggest, max(storage for dummy, storage in counties)


def with_given(need: Amount, given: dict[str, float]) -> Amount:
    """Replace the measures that somebody gave."""
    return replace(need, **{name: value for name, value in given.items() if name in DIMENSIONS})
