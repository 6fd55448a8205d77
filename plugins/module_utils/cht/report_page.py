# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import typing as t
from html import escape

Object = dict[str, t.Any]

_STYLE = """
:root { --bg:#f5f6f8; --card:#fff; --ink:#1c2430; --soft:#667085; --line:#e1e5eb; --track:#e9ecf1; --bar:#3b73c4; --bar2:#9bbce8;
  --good:#1f8a55; --good-bg:#dff3e8; --warn:#a86400; --warn-bg:#fdf0d5; --bad:#c02f2f; --bad-bg:#fbe3e3; }
@media (prefers-color-scheme: dark) { :root { --bg:#14181f; --card:#1d232d; --ink:#e6e9ef; --soft:#98a2b3; --line:#323a47; --track:#2b3340;
  --bar:#6ea0e8; --bar2:#3d5f94; --good:#5cc992; --good-bg:#173a2a; --warn:#e6ae4c; --warn-bg:#40300f; --bad:#f08080; --bad-bg:#4a1f1f; } }
* { box-sizing:border-box }
body { margin:0; background:var(--bg); color:var(--ink); font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif }
main { max-width:1240px; margin:0 auto; padding:28px 20px 60px } h1 { font-size:26px; margin:0 } h2 { font-size:18px; margin:0 0 4px }
header { display:flex; justify-content:space-between; align-items:baseline; flex-wrap:wrap; gap:8px; margin-bottom:18px } .soft { color:var(--soft) }
section { background:var(--card); border:1px solid var(--line); border-radius:12px; padding:18px 20px; margin-top:18px; overflow-x:auto }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(185px,1fr)); gap:14px } .card { background:var(--card); border:1px solid var(--line);
  border-radius:12px; padding:14px 18px; border-top:4px solid var(--line) }
.card b { display:block; font-size:28px; line-height:1.25 } .card span { color:var(--soft); font-size:13px }
.card.good { border-top-color:var(--good) } .card.warning { border-top-color:var(--warn) } .card.bad { border-top-color:var(--bad) }
ul.problems { list-style:none; margin:10px 0 0; padding:0 } ul.problems li { padding:8px 12px; border-radius:8px; margin-top:6px; overflow-wrap:anywhere }
li.bad { background:var(--bad-bg) } li.warning { background:var(--warn-bg) } li b { margin-right:6px } li code { display:block; font-size:12.5px }
table { border-collapse:collapse; width:100%; font-size:14px; margin-top:10px } th { text-align:left; color:var(--soft); font-weight:600; font-size:12.5px }
th,td { padding:6px 10px 6px 0; border-bottom:1px solid var(--line); vertical-align:top } td.n,th.n { text-align:right; font-variant-numeric:tabular-nums }
.pill { border-radius:99px; padding:1px 9px; font-size:12.5px; white-space:nowrap } .pill.good { background:var(--good-bg); color:var(--good) }
.pill { background:var(--track) } .pill.bad { background:var(--bad-bg); color:var(--bad) } .pill.warning { background:var(--warn-bg); color:var(--warn) }
svg { display:block; width:100%; height:auto; margin-top:12px; min-width:640px }
svg text { fill:var(--ink); font-size:12px } svg .soft { fill:var(--soft); font-size:11px }
.two { display:grid; grid-template-columns:repeat(auto-fit,minmax(420px,1fr)); gap:18px } .two section { min-width:0 }
@media print { body { background:#fff } section,.card { break-inside:avoid } }
"""
_LABELS = {"cpu": "CPU", "memory": "memory", "pods": "pods", "volumes": "volumes", "disk": "disk"}


# level -> background and ink
_TILES = {"good": ("var(--good-bg)", "var(--good)"), "bad": ("var(--bad-bg)", "var(--bad)"), "": ("var(--track)", "var(--soft)")}


def amount(name: str, value: float | None) -> str:
    """A measure as people write it."""
    if value is None:
        return "unknown"
    if name in ("memory", "disk", "storage"):
        for unit in ("B", "KiB", "MiB", "GiB"):
            if value < 1024:
                return f"{value:.3g} {unit}" if unit != "B" else f"{value:.0f} B"
            value /= 1024
        return f"{value:.3g} TiB"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def page(report: Object) -> str:
    """Return the whole page."""
    parts = [_cards(report), _problems(report), _map(report), f'<div class="two">{_capacity(report)}{_loss(report)}</div>', _counties(report), _details(report)]
    title = f"Cluster {escape(report['cluster'])}" if report["cluster"] else "Cluster report"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>"
        f'<header><h1>{title}</h1><span class="soft">{escape(report["time"])}</span></header>{"".join(parts)}</main></body></html>\n'
    )


def _card(level: str, value: str, text: str) -> str:
    return f'<div class="card {level}"><b>{escape(value)}</b><span>{escape(text)}</span></div>'


def _cards(report: Object) -> str:
    nodes, counties, capacity, loss = report["nodes"], report["counties"], report["capacity"], report["loss"]
    levels = [{fault["level"] for fault in node["faults"]} for node in nodes]
    well_nodes = sum(not found for found in levels)
    well = sum(1 for county in counties if _well(county))
    more, unknown = capacity["counties"], capacity["unknown"]
    limit = ", ".join(_LABELS[name] for name in capacity["limited_by"])
    room = "bad" if more == 0 else "warning" if more is not None and more < 5 else "" if unknown or more is None else "good"
    survives = [loss["one_agent"]["survives"], loss["two_agents"]["survives"]]
    verdict = "two agents" if all(survives) else "one agent" if survives[0] else "no agent"
    nearest = report["certificates"][0] if report["certificates"] else None
    cards = [
        _card("good" if well_nodes == len(nodes) else "bad" if any("bad" in found for found in levels) else "warning",
              f"{well_nodes} of {len(nodes)}", "nodes are well"),
        _card("good" if well == len(counties) else "bad", f"{well} of {len(counties)}", "counties are well"),
        _card(room, "not known" if more is None else f"at most {more}" if unknown else str(more),
              "more counties fit" + (f"; {limit} is the limit" if limit else "") + (f"; not known: {'; '.join(unknown)}" if unknown else "")),
        _card(_loss_level(loss, survives[0] and loss["servers_to_lose"]), "not known" if loss["unknown"] and survives[0] else verdict,
              f"may be lost, if a person fences what is lost, and {loss['servers_to_lose']} of {loss['servers']} servers"),
    ]
    if nearest:
        level = "bad" if nearest["days"] < 0 else "warning" if nearest["days"] < 30 else "good"
        cards.append(_card(level, f"{nearest['days']} days", f"to the next expiry of a certificate ({nearest['name']})"))
    return f'<div class="cards">{"".join(cards)}</div>'


def _loss_level(loss: Object, survives: bool) -> str:
    """Grey is what would be green if nothing were unknown."""
    return "bad" if not survives else "" if loss["unknown"] else "good"


def _well(county: Object) -> bool:
    return bool(county["total"]) and county["ready"] == county["total"]


def _problems(report: Object) -> str:
    found = report["problems"]
    if not found:
        return "<section><h2>Nothing needs attention</h2><span class='soft'>All nodes and counties are well, no certificate expires soon.</span></section>"
    items = "".join(
        f'<li class="{entry["level"]}"><b>{escape(entry["what"])}</b>{escape(entry["text"])}'
        f'{"<code>" + escape(entry["next"]) + "</code>" if entry.get("next") else ""}</li>' for entry in found
    )
    return f'<section><h2>Needs attention</h2><ul class="problems">{items}</ul></section>'


def _bar(left: float, top: float, width: float, share: float, real: float | None = None) -> str:
    """A bar of what is taken; the darker line in it is what is really used."""
    share = max(0.0, min(1.0, share))
    color = "var(--bad)" if share > 0.9 else "var(--warn)" if share > 0.75 else "var(--bar)"
    drawn = f'<rect x="{left}" y="{top}" width="{width}" height="8" rx="4" fill="var(--track)"/>'
    drawn += f'<rect x="{left}" y="{top}" width="{width * share:.1f}" height="8" rx="4" fill="{color}"/>'
    if real is not None:
        place = left + width * max(0.0, min(1.0, real))
        drawn += f'<rect x="{place:.1f}" y="{top - 2}" width="2" height="12" fill="var(--ink)"/>'
    return drawn


def _cut(text: str, size: int) -> str:
    return escape(text if len(text) <= size else text[: size - 1] + "\u2026")


def _map(report: Object) -> str:
    """Nodes as boxes, their use as bars, their counties as tiles."""
    columns, width, gap, inner, tile = 4, 294, 8, 14, 22
    states = {county["name"]: _well(county) for county in report["counties"]}
    drawn, top = [], 4.0
    for start in range(0, len(report["nodes"]), columns):
        row = report["nodes"][start : start + columns]
        height = 118 + max(-(-len(node["counties"]) // 3) for node in row) * (tile + 4)
        for index, node in enumerate(row):
            drawn.append(_node(node, 4 + index * (width + gap), top, width, height, inner, tile, states))
        top += height + gap
    names = f"{len(report['nodes'])} nodes and the counties on them"
    return (
        '<section><h2>Nodes and their counties</h2><span class="soft">Bars: what pods request of what the node has'
        + ("; the black line is what is really used" if any(node["usage"] for node in report["nodes"]) else "")
        + ". Tiles: counties with pods on the node; red ones are not well.</span>"
        f'<svg viewBox="0 0 1208 {top:.0f}" role="img" aria-label="{names}">{"".join(drawn)}</svg></section>'
    )


def _node(node: Object, left: float, top: float, width: float, height: float, inner: float, tile: float, states: dict[str, bool]) -> str:
    levels = {fault["level"] for fault in node["faults"]}
    color = "var(--bad)" if "bad" in levels else "var(--warn)" if levels else "var(--good)"
    state = escape("; ".join(fault["text"] for fault in node["faults"])) or "ready"
    parts = [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="10" fill="var(--bg)" stroke="{color if state != "ready" else "var(--line)"}"/>',
        f'<circle cx="{left + inner + 4}" cy="{top + 21}" r="5" fill="{color}"><title>{state}</title></circle>',
        f'<text x="{left + inner + 15}" y="{top + 25}" style="font-weight:600;font-size:13px">{_cut(node["name"], 22)}</text>',
        f'<text class="soft" x="{left + width - inner}" y="{top + 25}" text-anchor="end">{node["role"]} {_cut(node["version"], 14)}</text>',
    ]
    for number, name in enumerate(("cpu", "memory", "pods", "volumes")):
        most, taken = node["allocatable"][name], node["requested"][name]
        line = top + 42 + number * 17
        share = taken / most if most else 0.0
        real = node["usage"][name] / most if node["usage"] and name in node["usage"] and most else None
        parts.append(f'<text class="soft" x="{left + inner}" y="{line + 8}">{_LABELS[name]}</text>')
        parts.append(_bar(left + inner + 54, line, 100, share, real))
        parts.append(f'<text class="soft" x="{left + width - inner}" y="{line + 8}" text-anchor="end">{amount(name, taken)} / {amount(name, most)}</text>')
    for number, name in enumerate(node["counties"]):
        x, y = left + inner + (number % 3) * 90, top + 112 + (number // 3) * (tile + 4)
        well = states.get(name, True)
        fill, ink = _TILES["good" if well else "bad"]
        parts.append(
            f'<g><title>{escape(name)}</title><rect x="{x}" y="{y}" width="86" height="{tile}" rx="5" fill="{fill}"/>'
            f'<text x="{x + 43}" y="{y + 15}" text-anchor="middle" style="fill:{ink};font-size:11px">{_cut(name, 13)}</text></g>'
        )
    return "".join(parts)


def _capacity(report: Object) -> str:
    capacity, need = report["capacity"], report["next_county"]
    known = {name: count for name, count in capacity["by"].items() if count is not None}
    most = max([1, *known.values()])
    rows = []
    for number, (name, count) in enumerate(capacity["by"].items()):
        y = 8 + number * 34
        wanted = need["storage"] if name == "disk" else need[name]
        rows.append(f'<text x="0" y="{y + 14}">{_LABELS[name]}</text><text class="soft" x="0" y="{y + 27}">{amount(name, wanted)} each</text>')
        if count is None:
            why = "not known" if name == "disk" or capacity["unknown"] else "no county requests any: no limit"
            rows.append(f'<text class="soft" x="110" y="{y + 16}">{why}</text>')
            continue
        color = "var(--soft)" if capacity["unknown"] else "var(--warn)" if name in capacity["limited_by"] else "var(--bar)"
        rows.append(f'<rect x="110" y="{y + 3}" width="{max(2.0, 380 * count / most):.1f}" height="16" rx="4" fill="{color}"/>')
        rows.append(f'<text x="{118 + 380 * count / most:.1f}" y="{y + 16}">{count}</text>')
    total = "No measure is known to limit them." if capacity["counties"] is None else f"{capacity['counties']} more counties fit."
    if capacity["unknown"]:
        total += f" Not known: {'; '.join(capacity['unknown'])}."
    disk = report["storage"]
    text = f"{total} The next one is taken to be as large as the largest that is there. Volumes take {amount('disk', disk['used'])} now."
    picture = f'<svg viewBox="0 0 560 {8 + 34 * len(capacity["by"])}" style="min-width:0" role="img" aria-label="counties that fit by each measure">'
    return f'<section><h2>Room for more counties</h2><span class="soft">{escape(text)}</span>{picture}{"".join(rows)}</svg></section>'


def _loss(report: Object) -> str:
    """A triangle: on the diagonal the loss of one agent, else of two."""
    loss = report["loss"]
    # One that is lost by now has no further loss.
    ready = [node for node in report["nodes"] if node["ready"]]
    names = [node["name"] for node in ready if node["role"] == "agent"] or [node["name"] for node in ready]
    bad = {tuple(entry) for key in ("one_agent", "two_agents") for entry in loss[key]["bad"]}
    on = {node["name"]: set(node["counties"]) for node in report["nodes"]}
    cell, left = min(34.0, 400.0 / max(1, len(names))), 120
    drawn = []
    for row, first in enumerate(names):
        y = 6 + row * cell
        drawn.append(f'<text x="{left - 8}" y="{y + cell / 2 + 4:.1f}" text-anchor="end">{_cut(first, 16)}</text>')
        for column, second in enumerate(names[: row + 1]):
            lost = tuple(sorted({first, second}))
            fill, ink = _TILES[_loss_level(loss, lost not in bad)]
            stops = len(set().union(*(on[name] for name in lost)))
            x = left + column * cell
            drawn.append(
                f'<g><title>loss of {escape(" and ".join(lost))}: {stops} counties stop</title>'
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 3:.1f}" height="{cell - 3:.1f}" rx="4" fill="{fill}"/>'
                f'<text x="{x + (cell - 3) / 2:.1f}" y="{y + cell / 2 + 3:.1f}" text-anchor="middle" style="fill:{ink};font-size:11px">{stops}</text></g>'
            )
    lines = []
    for key, what in (("one_agent", "one agent"), ("two_agents", "two agents")):
        entry = loss[key]
        well = f"not known: {'; '.join(loss['unknown'])}" if loss["unknown"] else "all counties find a place again"
        answer = well if entry["survives"] else entry["reason"] or f"{len(entry['bad'])} cases leave counties without a place"
        worst = entry["worst"]
        if worst and worst["homeless"]:
            answer += f", the worst {' and '.join(worst['lost'])}: {', '.join(worst['homeless'][:6])}{' and more' if len(worst['homeless']) > 6 else ''}"
        lines.append(f"<div><span class='pill {_loss_level(loss, entry['survives'])}'>{what}</span> {escape(answer)}</div>")
    level = "good" if loss["servers_to_lose"] else "bad"
    lines.append(f"<div><span class='pill {level}'>servers</span> {loss['servers_to_lose']} of {loss['servers']} may be lost: "
                 f"{loss['healthy_voters']} of {loss['voters']} voters of etcd are well</div>")
    lines.append(f"<div>{escape(loss['recovery'])}</div>")
    return (
        f'<section><h2>When machines are lost</h2>{"".join(lines)}<span class="soft">The number is how many counties stop; on the diagonal one '
        f'agent, else two. Red: some find no place. Grey: not known.</span>'
        f'<svg viewBox="0 0 560 {12 + cell * len(names):.0f}" style="min-width:0" role="img" '
        f'aria-label="losses of one and two agents">{"".join(drawn)}</svg></section>'
    )


# Figures of what waits, as people call it.
_QUEUES = {"sentinel": "for Sentinel", "outbound": "to be pushed", "messages": "messages due"}


def _counties(report: Object) -> str:
    rows = []
    for county in sorted(report["counties"], key=lambda entry: (_well(entry), entry["name"])):
        pill = '<span class="pill good">well</span>' if _well(county) else f'<span class="pill bad">{county["ready"]} of {county["total"]}</span>'
        needs, figures = county["needs"], county.get("figures") or {}
        told = "".join(f"<td class=n>{'' if figures.get(name) is None else format(figures[name], ',')}</td>" for name in ("documents", "users"))
        queues = [f"{figures[name]:,} {what}" for name, what in _QUEUES.items() if figures.get(name)]
        rows.append(
            f"<tr><td><b>{escape(county['name'])}</b></td><td>{pill}</td><td>{escape(' '.join(county['versions']))}</td><td>{escape(county['host'])}</td>"
            f"<td>{escape(', '.join(county['nodes']))}</td><td class=n>{amount('cpu', needs['cpu'])}</td><td class=n>{amount('memory', needs['memory'])}</td>"
            f"<td class=n>{needs['volumes']:.0f}</td><td class=n>{amount('disk', county['storage'])}{_fullest(county['full'])}</td>{told}"
            f"<td>{escape(', '.join(queues))}</td>"
            f"<td>{_saved(county['backup'])}</td><td>{_tls(county['tls'])}</td></tr>"
        )
    head = "".join(f"<th{' class=n' if name in ('CPU', 'memory', 'volumes', 'disk', 'documents', 'users') else ''}>{name}</th>" for name in
                   ("county", "state", "version", "host", "nodes", "CPU", "memory", "volumes", "disk", "documents", "users", "queues",
                    "backup", "TLS"))
    return f"<section><h2>Counties</h2><table><tr>{head}</tr>{''.join(rows)}</table></section>"


def _fullest(shares: dict[str, float]) -> str:
    """How full the fullest volume of a county is."""
    return f", {max(shares.values()):.0%} full" if shares else ""


def _saved(entry: Object | None) -> str:
    """The newest backup of a county, or of etcd."""
    return f"{entry['days']:.0f} days ago, {amount('disk', entry['size'])}" if entry else '<span class="soft">none</span>'


def _tls(secrets: list[Object]) -> str:
    if not secrets:
        return '<span class="soft">not in the cluster</span>'
    return " ".join(f'<span class="pill {"good" if entry["state"] == "there" else "bad"}">{entry["state"]}</span>' for entry in secrets)


def most_common(values: list[str]) -> str:
    """The value that most have, the first of several."""
    return max(values, key=values.count, default="")


def _secrets_level(row: Object, usual: str) -> str:
    """Red is a server with another configuration than the others: it can't read what they write."""
    if usual and row["hash"] != usual and row["state"] != "not asked" or row["hash"] not in ("", usual):
        return "bad"
    return "good" if row["state"] == "encrypted" else "warning" if row["hash"] else ""


def _details(report: Object) -> str:
    versions = "".join(
        f"<tr><td>{label}</td><td><b>{escape(version)}</b></td><td>{len(names)}</td>"
        f"<td class=soft>{escape(', '.join(names[:8]))}{' ...' if len(names) > 8 else ''}</td></tr>"
        for label, key in (("Kubernetes", "kubernetes"), ("CHT", "cht")) for version, names in sorted(report["versions"][key].items())
    )
    parts = report["parts"]
    versions += "".join(
        f"<tr><td>{label}</td><td><b>{escape(parts[key] or 'none')}</b></td><td></td>"
        f"<td class=soft>the table has {escape(parts['table'].get(key, 'no row'))}</td></tr>"
        for label, key in (("CPI", "cpi"), ("CSI", "csi"))
    )
    if parts["table"]:
        versions += f"<tr><td>k3s</td><td></td><td></td><td class=soft>the table has {escape(parts['table']['k3s'])}</td></tr>"
    snapshot = '<span class="soft">not known: this k3s does not list them</span>' if report["snapshot"] is None else _saved(report["snapshot"])
    versions += f"<tr><td>etcd's snapshot</td><td colspan=3>{snapshot}</td></tr>"
    certificates = "".join(
        f"<tr><td>{escape(entry['name'])}</td><td>{entry['expires']}</td><td class=n>"
        f"<span class='pill {'bad' if entry['days'] < 0 else 'warning' if entry['days'] < 30 else 'good'}'>{entry['days']} days</span></td></tr>"
        for entry in report["certificates"]
    ) or "<tr><td class=soft>none in the cluster: TLS ends outside</td></tr>"
    usual = most_common([row["hash"] for row in report["encryption"] if row["hash"]])
    secrets = "".join(
        f"<tr><td>{escape(row['server'])}</td><td><span class='pill {_secrets_level(row, usual)}'>{escape(row['state'])}</span></td>"
        f"<td>{escape(row['stage'])}</td><td class=soft>{escape(row['hash'][:8])}</td></tr>"
        for row in report["encryption"]
    ) or "<tr><td class=soft>no server is known</td></tr>"
    return (
        f'<section><h2>Secrets</h2><table><tr><th>server</th><th>state</th><th>stage</th><th>configuration</th></tr>{secrets}</table></section>'
        f'<div class="two"><section><h2>Versions</h2><table><tr><th>what</th><th>version</th><th>count</th><th>which</th></tr>{versions}</table></section>'
        f"<section><h2>Certificates</h2><table><tr><th>of</th><th>expires</th><th class=n>left</th></tr>{certificates}</table></section></div>"
    )
