# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the servers of an inventory are one cluster, from what each said about itself; which one is not, and what puts it back.

A server that says nothing is no evidence, neither for nor against: only two answers that contradict each other are two clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NAMES = {"sqlite": "SQLite", "external": "a database of its own", "etcd": "etcd"}
# The installation that changes nothing on other machines, as people have to give it.
RESET = "playbooks/reset.yml with --limit {0} and k3s_confirm"


@dataclass
class Verdict:
    """`right`: the servers of the cluster that is the inventory's; `odd`: those that contradict it. `note`: what is allowed and worth knowing.

    `foreign`: the problem is that the whole cluster is another one than the inventory's, from which there is no way out.
    """

    right: list = field(default_factory=list)
    odd: list = field(default_factory=list)
    problem: str = ""
    note: str = ""
    foreign: bool = False


def judge(answers: dict, servers: list, name: str = "", rename: str = "") -> Verdict:
    """answers: server -> what k3s_server_info gave, or None; servers: all of the inventory; name: how the inventory calls the cluster, if it matters."""
    for server, info in answers.items():
        problem = wrong_name(str(((info or {}).get("cluster") or {}).get("name") or ""), name, rename, f"{server} is of")
        if problem:
            return Verdict([], [server], problem, foreign=True)
    groups = _groups(answers)
    known = [name for group in groups for name in group]
    if len(groups) > 1:
        return _two_clusters(answers, groups)
    lone = [name for name in known if _kind(answers[name]) not in ("etcd", "")]
    if lone and len(servers) > 1:
        return Verdict([], lone, _not_joinable(answers, lone, servers))
    note = ""
    if lone:
        note = (
            f"{lone[0]} keeps the cluster's data in {NAMES[_kind(answers[lone[0]])]}: no other server can join it and `k3s etcd-snapshot` does not save it,"
            " so there is no backup by backup.yml. playbooks/migrate_datastore.yml takes it to etcd."
        )
    return Verdict(known, [], "", note)


def wrong_name(recorded: str, name: str, rename: str = "", where: str = "this is") -> str:
    """Why the inventory of `name` is not that of the cluster in which `recorded` stands; '' where it is, or where nobody has said yet."""
    if not recorded or not name or recorded in (name, rename):
        return ""
    return (
        f"This is the inventory of the cluster '{name}' (k3s_cluster_name), and {where} the cluster '{recorded}'. Take the inventory of '{recorded}', or"
        f" correct the addresses of its hosts or k3s_kubeconfig. If the cluster is to be called '{name}' from now on: -e k3s_cluster_rename={recorded}."
        " Nothing was changed."
    )


def other_cluster(uid: str, uids: list, nodes: list, machines: list) -> str:
    """Why a kubeconfig leads to another cluster of the same name; '' where nothing says so.

    uid: that of the cluster it leads to; uids: what the servers of the inventory said of theirs. nodes: UUIDs of the VMs that the cluster has, as its
    cloud provider wrote them; machines: those of the inventory, as far as it knows any.
    """
    if uid and uids and uid not in uids:
        return f"k3s_kubeconfig leads to another cluster ({uid}) than the servers of the inventory are of ({', '.join(sorted(set(uids)))})."
    if not uids and nodes and machines and not {entry.lower() for entry in nodes} & {entry.lower() for entry in machines}:
        return "k3s_kubeconfig leads to another cluster: none of its nodes is a VM of the inventory, by their UUIDs."
    return ""


def _groups(answers: dict) -> list:
    """The servers that hold data, those of one cluster together. One that may be of several is left out."""
    groups: list = []
    holders = {name: info for name, info in answers.items() if (info or {}).get("datastore")}
    for name in sorted(holders, key=lambda name: not _tells(holders[name])):
        fitting = [group for group in groups if all(not _differ(holders[name], holders[other]) for other in group)]
        if not fitting:
            groups.append([name])
        elif len(fitting) == 1 or _tells(holders[name]):
            fitting[0].append(name)
    return groups


def _kind(info: dict) -> str:
    return info.get("datastore_kind") or ""


def _tells(info: dict) -> bool:
    """It says something that no server of another cluster would."""
    cluster = info.get("cluster") or {}
    return bool(cluster.get("uid") or cluster.get("etcd_id") or _kind(info) not in ("etcd", ""))


def _differ(one: dict, other: dict) -> bool:
    """Two servers cannot be of one cluster. The authority's hash is no proof: it changes one server after the other when it is rotated."""
    if _kind(one) and _kind(other) and _kind(one) != _kind(other):
        return True
    mine, theirs = one.get("cluster") or {}, other.get("cluster") or {}
    if any(mine.get(key) and theirs.get(key) and mine[key] != theirs[key] for key in ("uid", "etcd_id")):
        return True
    # SQLite is one server's own: two of them share nothing, whatever they say while their APIs are down.
    return _kind(one) == "sqlite" and not (mine.get("uid") and mine.get("uid") == theirs.get("uid"))


def _weight(answers: dict, group: list) -> tuple:
    """What speaks for a cluster: its servers here, its etcd members, its agents."""
    infos = [answers[name] for name in group]
    return (
        len(group),
        max(len(info.get("members") or []) for info in infos),
        max(int(info.get("agents") or 0) for info in infos),
    )


def _rank(answers: dict, group: list) -> tuple:
    """For sorting: the weightiest cluster first, among equals the oldest."""
    since = min(str((answers[name].get("cluster") or {}).get("since") or "9") for name in group)
    return tuple(-number for number in _weight(answers, group)), since


def _described(answers: dict, group: list) -> str:
    members, agents = _weight(answers, group)[1:]
    info = next((answers[name] for name in group if (answers[name].get("cluster") or {}).get("uid")), answers[group[0]])
    cluster = info.get("cluster") or {}
    parts = [NAMES.get(_kind(info), "an unknown datastore")]
    if info.get("healthy"):
        parts += [f"{members} etcd members"] if members else []
        parts += [f"{agents} agents"]
    if cluster.get("since"):
        parts.append(f"since {cluster['since']}")
    parts.append(f"cluster {cluster['uid']}" if cluster.get("uid") else f"etcd {cluster['etcd_id']}" if cluster.get("etcd_id") else "its API is silent")
    return f"{', '.join(sorted(group))} ({', '.join(parts)})"


def _two_clusters(answers: dict, groups: list) -> Verdict:
    ordered = sorted(groups, key=lambda group: _rank(answers, group))
    best, rest = ordered[0], [name for group in ordered[1:] for name in group]
    equal = _rank(answers, ordered[1]) == _rank(answers, best)
    text = "The servers of the inventory are of different clusters: " + "; ".join(_described(answers, group) for group in ordered) + "."
    if equal:
        text += (
            " Nothing tells which one is right: see which has your projects (`k3s kubectl get namespaces` on each), and take k3s off the servers of the"
            f" other one ({RESET.format('NAME')})."
        )
        return Verdict([], [name for group in ordered for name in group], f"{text} Then run site.yml, with which they join. Nothing was changed.")
    names = ", ".join(sorted(rest))
    it = "it" if len(rest) == 1 else "they"
    text += (
        f" {names} {'is' if len(rest) == 1 else 'are'} the odd {'one' if len(rest) == 1 else 'ones'}: most likely {it} lost the data below"
        f" /var/lib/rancher/k3s/server/db and began anew. See that nothing you need is only there (`k3s kubectl get namespaces` on {names}), take k3s off"
        f" ({RESET.format(','.join(sorted(rest)))}), and run site.yml, with which {it} join{'s' if len(rest) == 1 else ''} the others. Nothing was changed."
    )
    return Verdict(sorted(best), sorted(rest), text)


def _not_joinable(answers: dict, lone: list, servers: list) -> str:
    kind = _kind(answers[lone[0]])
    if kind == "sqlite":
        return (
            f"{lone[0]} keeps the cluster's data in SQLite, which no other server can join, and the inventory has {len(servers)} servers"
            f" ({', '.join(servers)}). Take it to etcd first (playbooks/migrate_datastore.yml), or leave {lone[0]} alone in the group of the servers."
            f" If it is not your cluster but lost its data and began anew: take k3s off it ({RESET.format(lone[0])}) and run site.yml, with which it"
            " joins. Nothing was changed."
        )
    return (
        f"{', '.join(lone)} keep the cluster's data in {NAMES[kind]} (datastore-endpoint), and the inventory has {len(servers)} servers. Servers of this"
        f" collection share embedded etcd: leave {lone[0]} alone in the group of the servers. Nothing was changed."
    )
