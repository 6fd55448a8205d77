# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report in Prometheus' text format, as node_exporter's textfile collector takes it: base units, and no text that changes in a label."""

from __future__ import annotations

import calendar
import time
import typing as t

Object = dict[str, t.Any]
Sample = tuple[dict[str, t.Any], float]

_DAY = 86400.0
# Name and help of each metric; all are gauges. Names stay: alert rules of people ask for them.
HELP = {
    "cht_report_timestamp_seconds": "When the report was made.",
    "cht_report_problems": "Problems of the report by level.",
    "cht_report_problem": "Problems of one thing by level.",
    "cht_node_ready": "Whether the node's kubelet says that it is well.",
    "cht_node_usable": "Whether pods are placed on the node.",
    "cht_county_deployments": "Deployments of the county.",
    "cht_county_deployments_ready": "Deployments of the county that are ready.",
    "cht_county_documents": "Documents of the county's database, deleted ones left out.",
    "cht_county_users": "Users who were connected lately.",
    "cht_county_sentinel_backlog": "Changes that Sentinel has yet to work on.",
    "cht_county_outbound_backlog": "Messages to other systems that wait.",
    "cht_county_backup_age_seconds": "Age of the county's newest backup set.",
    "cht_volume_used_ratio": "How full the volume is, of 1.",
    "cht_certificate_remaining_seconds": "Time until the certificate ends; below 0 it has.",
    "cht_etcd_snapshot_age_seconds": "Age of the newest snapshot of etcd.",
    "cht_etcd_voters": "Voters of etcd.",
    "cht_etcd_voters_healthy": "Voters of etcd that are healthy.",
    "cht_servers_to_lose": "Servers that may be lost from now on.",
    "cht_agent_loss_survived": "Whether all counties find room again when so many agents are lost.",
    "cht_counties_free": "How many more counties fit; missing where nothing is known to limit them.",
}
_FIGURES = {
    "cht_county_documents": "documents", "cht_county_users": "users", "cht_county_sentinel_backlog": "sentinel", "cht_county_outbound_backlog": "outbound",
}


def metrics(report: Object) -> str:
    """The report as text; what is not known has no line."""
    found = _samples(report)
    lines = []
    for name, text in HELP.items():
        if found.get(name):
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
            lines += [f"{name}{_labels({'cluster': report['cluster'], **labels})} {_number(value)}" for labels, value in found[name]]
    return "\n".join(lines) + "\n"


def _samples(report: Object) -> dict[str, list[Sample]]:
    loss = report["loss"]
    counted: dict[tuple[str, str], int] = {}
    for entry in report["problems"]:
        counted[entry["level"], entry["what"]] = counted.get((entry["level"], entry["what"]), 0) + 1
    found: dict[str, list[Sample]] = {
        "cht_report_timestamp_seconds": [({}, float(calendar.timegm(time.strptime(report["time"], "%Y-%m-%d %H:%M UTC"))))],
        "cht_report_problems": [({"level": level}, sum(entry["level"] == level for entry in report["problems"])) for level in ("bad", "warning")],
        "cht_report_problem": [({"level": level, "what": what}, number) for (level, what), number in sorted(counted.items())],
        "cht_node_ready": [({"node": node["name"], "role": node["role"]}, node["ready"]) for node in report["nodes"]],
        "cht_node_usable": [({"node": node["name"], "role": node["role"]}, node["usable"]) for node in report["nodes"]],
        "cht_certificate_remaining_seconds": [
            ({"name": name}, days * _DAY) for name, days in sorted({entry["name"]: entry["days"] for entry in reversed(report["certificates"])}.items())
        ],
        "cht_etcd_voters": [({}, loss["voters"])],
        "cht_etcd_voters_healthy": [({}, loss["healthy_voters"])],
        "cht_servers_to_lose": [({}, loss["servers_to_lose"])],
        # Requests that nobody made say nothing about room.
        "cht_agent_loss_survived": [] if loss["unknown"] else [
            ({"agents": number}, loss[key]["survives"]) for number, key in (("1", "one_agent"), ("2", "two_agents"))
        ],
    }
    if report["capacity"]["counties"] is not None:
        found["cht_counties_free"] = [({}, report["capacity"]["counties"])]
    if report["snapshot"]:
        found["cht_etcd_snapshot_age_seconds"] = [({}, report["snapshot"]["days"] * _DAY)]
    for county in report["counties"]:
        _county(found, county)
    return found


def _county(found: dict[str, list[Sample]], county: Object) -> None:
    name = {"county": county["name"]}
    values = {"cht_county_deployments": county["total"], "cht_county_deployments_ready": county["ready"]}
    values.update({metric: (county["figures"] or {}).get(key) for metric, key in _FIGURES.items()})
    if county["backup"]:
        values["cht_county_backup_age_seconds"] = county["backup"]["days"] * _DAY
    for metric, value in values.items():
        if isinstance(value, (int, float)):
            found.setdefault(metric, []).append((name, value))
    for claim, share in county["full"].items():
        found.setdefault("cht_volume_used_ratio", []).append(({**name, "claim": claim}, share))


def _number(value: float) -> str:
    return f"{float(value):.10g}"


def _labels(labels: dict[str, t.Any]) -> str:
    pairs = []
    for name, value in labels.items():
        text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        pairs.append(f'{name}="{text}"')
    return "{" + ",".join(pairs) + "}"
