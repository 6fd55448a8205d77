# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a report needs somebody's eye, each with the next command."""

from __future__ import annotations

import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht import encryption

Object = dict[str, t.Any]

EXPIRES_SOON = 30
TAKEN = 0.9
# Of a volume; CouchDB needs room to compact.
FULL, NO_ROOM = 0.85, 0.95
_PLAY = "ansible-playbook cht.k3s."


def shortened(names: list[str], most: int = 6) -> str:
    """Return the first names of a list that may be long."""
    return ", ".join(names[:most]) + (" and more" if len(names) > most else "")


class Findings:
    """Collects problems."""

    def __init__(self) -> None:
        self.found: list[Object] = []

    def add(self, level: str, what: str, text: str, next_step: str) -> None:
        self.found.append({"level": level, "what": what, "text": text, "next": next_step})

    def ordered(self) -> list[Object]:
        """Return them, the worst first."""
        return sorted(self.found, key=lambda entry: entry["level"] != "bad")


def problems(report: Object, claims: list[Object], volumes: list[Object], backup_days: int = 0, snapshot_days: int = 0) -> list[Object]:
    """Everything that needs somebody's eye, the worst first."""
    found = Findings()
    found.found += encryption.problems(report["encryption"])
    _nodes(found, report)
    _counties(found, report)
    _certificates(found, report)
    _storage(found, claims, volumes)
    _upkeep(found, report, backup_days, snapshot_days)
    _loss(found, report)
    return found.ordered()


def _nodes(found: Findings, report: Object) -> None:
    for node in report["nodes"]:
        for fault in node["faults"]:
            found.add(fault["level"], node["name"], fault["text"], fault["next"])
        for name, most in node["allocatable"].items():
            if most and node["requested"][name] / most > TAKEN:
                taken = f"{name}: {node['requested'][name] / most:.0%} of what it has is taken"
                found.add("warning", node["name"], taken, f"{_PLAY}rebalance" if node["role"] == "agent" else f"kubectl describe node {node['name']}")
    if len(report["versions"]["kubernetes"]) > 1:
        found.add("warning", "nodes", f"run several versions: {', '.join(sorted(report['versions']['kubernetes']))}", f"{_PLAY}upgrade")


def _counties(found: Findings, report: Object) -> None:
    for county in report["counties"]:
        name, space = f"county {county['name']}", county["namespace"]
        if county["ready"] < county["total"] or not county["total"]:
            found.add("bad", name, f"{county['ready']} of {county['total']} Deployments ready; {county['obstacle']}", f"kubectl -n {space} describe pods")
        elif (county.get("figures") or {}).get("silent"):
            text = f"all its pods are ready, and it does not tell its figures: {county['figures']['silent']}"
            found.add("bad", name, text, f"kubectl -n {space} logs deployment/cht-api --tail=50")
        if county.get("left_pods"):
            text = f"has pods that an agent left behind ({', '.join(county['left_pods'])}): CHT's own page can't upgrade it while they are there"
            found.add("warning", name, text, f"{_PLAY}projects")
        for text in county["growing"]:
            found.add("warning", name, text, f"kubectl -n {space} describe pvc {text.split()[1]}")
        for claim, share in county["full"].items():
            if share > FULL:
                text = f"the volume of {claim} is {share:.0%} full: raise couchdb.storage"
                found.add("bad" if share > NO_ROOM else "warning", name, text, f"{_PLAY}projects")
        if len(county["versions"]) > 1:
            found.add("warning", name, f"runs images of several versions: {', '.join(county['versions'])}", f"{_PLAY}projects")
        for entry in county["tls"]:
            if entry["state"] != "there":
                lack = "is missing" if entry["state"] == "missing" else "holds no certificate"
                text = f"its TLS Secret {entry['secret']} {lack}: browsers refuse its address"
                found.add("bad", name, text, f"kubectl -n {space} describe ingress")
    for text in report.get("list_problems") or []:
        found.add("bad", "the list of counties", text, f"{_PLAY}preflight --tags cht_project_validate")
    if report["listed"] is not None:
        there = {county["name"] for county in report["counties"]}
        # Where a part of the list can't be read, nobody knows that a county is not in it.
        for name in sorted(there - set(report["listed"])) if not report.get("list_problems") else []:
            # The list may have lost a line: the next command takes nothing away.
            text = "is in the cluster, but not in the list: put it back into the list; a county that is meant to go is taken away by remove_project"
            found.add("warning", f"county {name}", text, f"{_PLAY}projects --check")
        lacking = sorted(set(report["listed"]) - there)
        if lacking:
            found.add("warning", "counties", f"{shortened(lacking)}: in the list, but not in the cluster", f"{_PLAY}projects")


def _certificates(found: Findings, report: Object) -> None:
    for entry in report["certificates"]:
        step = f"{_PLAY}rotate --tags certificates" if not entry["name"].startswith("county ") else f"{_PLAY}projects, with the new certificate"
        if entry["days"] < 0:
            found.add("bad", entry["name"], f"its certificate expired on {entry['expires']}", step)
        elif entry["days"] < EXPIRES_SOON:
            found.add("warning", entry["name"], f"its certificate expires on {entry['expires']}, in {entry['days']} days", step)


def _storage(found: Findings, claims: list[Object], volumes: list[Object]) -> None:
    for claim in claims:
        space, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
        if (claim.get("status") or {}).get("phase") == "Lost":
            found.add("bad", f"claim {space}/{name}", "has lost its volume", f"kubectl -n {space} describe pvc {name}")
    for volume in volumes:
        phase = (volume.get("status") or {}).get("phase")
        if phase in ("Released", "Failed"):
            claim = volume["spec"].get("claimRef") or {}
            owner = f"{claim.get('namespace', '?')}/{claim.get('name', '?')}"
            size = (volume["spec"].get("capacity") or {}).get("storage") or "?"
            text = f"is {phase}; it was {owner}'s and still takes {size}: couchdb.volumes uses it again"
            found.add("warning", f"volume {volume['metadata']['name']}", text, f"kubectl describe pv {volume['metadata']['name']}")


def _upkeep(found: Findings, report: Object, backup_days: int, snapshot_days: int) -> None:
    for name, why in report["parts"]["conflicts"].items():
        found.add("warning", "versions", why, f"{_PLAY}site --tags {name if name in ('cpi', 'csi') else 'cpi,csi'}")
    if backup_days:
        saved = {county["name"]: county["backup"] for county in report["counties"]}
        old = {name: entry["days"] for name, entry in saved.items() if entry and entry["days"] > backup_days}
        never = [name for name, entry in saved.items() if not entry]
        step = f"{_PLAY}backup_project -e cht_project_backup="
        if old:
            text = f"the newest sets of {shortened(list(old))} are up to {max(old.values()):.0f} days old, more than {backup_days}"
            found.add("bad", "backups", text, step + ",".join(old))
        if never:
            found.add("warning", "backups", f"{shortened(never)}: no backup set", step + ",".join(never))
    snapshot = report["snapshot"]
    if snapshot_days and snapshot is not None and report["loss"]["voters"]:
        if not snapshot:
            found.add("bad", "etcd", "has no snapshot", f"{_PLAY}backup")
        elif snapshot["days"] > snapshot_days:
            found.add("bad", "etcd", f"its newest snapshot is {snapshot['days']:.0f} days old, more than {snapshot_days}", f"{_PLAY}backup")


def _loss(found: Findings, report: Object) -> None:
    loss = report["loss"]
    one = loss["one_agent"]
    if not one["survives"]:
        why = one["reason"] or f"not all counties of {shortened([' and '.join(lost) for lost in one['bad']])} would find a place"
        found.add("warning", "loss of one agent", f"is not survived: {why}", f"{_PLAY}rebalance, or add an agent: {_PLAY}site")
    if loss["healthy_voters"] < loss["voters"]:
        more = "the loss of one more stops the cluster's control" if loss["servers_to_lose"] == 0 else f"{loss['servers_to_lose']} more may be lost"
        text = f"has {loss['healthy_voters']} of {loss['voters']} voters of etcd: {more}"
        found.add("bad" if loss["servers_to_lose"] == 0 else "warning", "control plane", text, f"{_PLAY}site --tags control_plane")
    elif loss["servers_to_lose"] == 0:
        text = f"has {loss['servers']} server{'' if loss['servers'] == 1 else 's'}: the loss of one stops the cluster's control"
        found.add("warning", "control plane", text, f"add servers to the group control_plane: {_PLAY}site")
