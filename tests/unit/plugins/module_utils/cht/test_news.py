# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report tells to those who are not looking: news, receivers, metrics, alert rules."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

import pytest
import yaml
from test_report import report

from ansible_collections.cht.k3s.plugins.filter.missing_modules import missing_modules
from ansible_collections.cht.k3s.plugins.module_utils.cht.metrics import HELP, metrics
from ansible_collections.cht.k3s.plugins.module_utils.cht.news import KINDS, delivery, news, payload

ROOT = Path(__file__).resolve().parents[5]
LINE = re.compile(r'^([a-z_]+)\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)+)\} (-?[0-9.e+]+)$')
FENCE = "ansible-playbook cht.k3s.fence_node -e k3s_fence=agent-5"
LOST = {"level": "bad", "what": "agent-5", "text": "is not ready: its kubelet does not report", "next": FENCE}


def of(*problems: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"cluster": "guide", "time": "2026-01-01 00:00 UTC", "problems": list(problems)}


def full(share: int) -> dict[str, t.Any]:
    text = f"the volume of couchdb-1-claim0 is {share}% full"
    return {"level": "warning", "what": "county nairobi", "text": text, "next": "ansible-playbook cht.k3s.projects"}


def test_only_a_change_is_news() -> None:
    assert not news(of(), None)["changed"], "a cluster that is well has nothing to say at first"
    first = news(of(LOST, full(86)), None)
    assert first["changed"] and first["new"] == [LOST, full(86)] and first["level"] == "bad"
    assert first["subject"] == "guide: 2 new, 0 gone; 1 red and 1 yellow in all"
    assert not news(of(full(88), LOST), first["told"])["changed"], "a number that grows is no new problem"
    worse = news(of(LOST, {**full(97), "level": "bad"}), first["told"])
    assert [entry["level"] for entry in worse["new"]] == ["bad"] and len(worse["gone"]) == 1, "what was yellow and is red is told"
    well = news(of(), first["told"])
    assert well["changed"] and well["level"] == "good" and well["subject"] == "guide: all is well again"
    assert "GONE agent-5: is not ready" in well["text"]


def test_a_lost_agent_is_told_with_the_command_that_fences_it() -> None:
    text = news(of(LOST), [])["text"]
    assert text.splitlines()[:2] == ["RED agent-5: is not ready: its kubelet does not report", f"    next: {FENCE}"]


def test_a_text_has_an_end() -> None:
    many = [{**full(90), "what": f"county c{number}"} for number in range(60)]
    text = news(of(*many), [])["text"]
    assert "... and 40 more" in text and len(text) < 4000


@pytest.mark.parametrize("kind", KINDS)
def test_each_receiver_gets_what_it_takes(kind: str) -> None:
    told = news(of(LOST), [])
    body = payload(kind, told, "cht")
    text = json.dumps(body)
    assert "k3s_fence=agent-5" in text and told["subject"] in text
    keys = {"slack": {"text"}, "teams": {"type", "attachments"}, "ntfy": {"topic", "title", "message", "priority", "tags"}, "json": set(told)}[kind]
    assert set(body) == keys
    if kind == "ntfy":
        assert body["topic"] == "cht" and body["priority"] == 5


def test_an_unknown_receiver_is_refused() -> None:
    with pytest.raises(ValueError, match="may be slack, teams, ntfy, json"):
        payload("pager", news(of(LOST), []))


def test_who_was_told_and_who_was_not() -> None:
    secret = "https://hooks.example/T0/secret"
    good = {"item": {"kind": "slack", "url": secret}, "status": 200}
    bad = {"item": {"kind": "teams", "url": secret}, "status": 404, "msg": f"Status code was 404: {secret}"}
    assert delivery([good, bad], {}) == {"heard": ["slack at hooks.example"], "deaf": ["teams at hooks.example: Status code was 404: its address"]}
    assert delivery([], {"msg": "Mail sent successfully"}) == {"heard": ["mail"], "deaf": []}
    assert delivery([], {"rc": 1, "msg": "Unable to Connect"}) == {"heard": [], "deaf": ["mail: Unable to Connect"]}
    assert delivery([{"item": {"url": secret}, "skipped": True}], {"skipped": True}) == {"heard": [], "deaf": []}


def test_a_module_that_is_not_installed_is_named() -> None:
    assert missing_modules(["ansible.builtin.uri", "nobody.has.mail"]) == ["nobody.has.mail"]


def test_metrics_are_what_prometheus_reads() -> None:
    seen = report()
    seen["counties"][0].update(name='na"irobi\\', full={"couchdb-1-claim0": 0.5})
    seen["problems"].append(dict(seen["problems"][0]))
    lines = metrics(seen).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert all(LINE.match(line) for line in samples), [line for line in samples if not LINE.match(line)]
    assert len({line.rsplit(" ", 1)[0] for line in samples}) == len(samples), "two samples of one name and labels are refused"
    assert {LINE.match(line)[1] for line in samples} == set(HELP)
    # A name's lines are together, below its type.
    order = [line.split()[2] if line.startswith("#") else LINE.match(line)[1] for line in lines]
    assert [name for number, name in enumerate(order) if not number or order[number - 1] != name] == list(HELP)
    text = "\n".join(lines)
    assert 'cht_node_ready{cluster="guide",node="agent-5",role="agent"} 0\n' in text
    assert 'cht_volume_used_ratio{cluster="guide",county="na\\"irobi\\\\",claim="couchdb-1-claim0"} 0.5' in text
    assert 'cht_report_problem{cluster="guide",level="bad",what="agent-5"} 2' in text
    assert 'cht_report_timestamp_seconds{cluster="guide"} 1767225600' in text


def test_what_is_not_known_has_no_line() -> None:
    seen = report()
    seen["capacity"]["counties"], seen["snapshot"], seen["loss"]["unknown"] = None, None, ["requests"]
    for county in seen["counties"]:
        county.update(backup=None, figures=None)
    text = metrics(seen)
    gone = ("cht_counties_free", "cht_etcd_snapshot_age_seconds", "cht_agent_loss_survived", "cht_county_backup_age_seconds", "cht_county_users")
    assert not [name for name in gone if name in text]


def test_alert_rules_ask_for_metrics_that_are_written() -> None:
    (group,) = yaml.safe_load((ROOT / "docs" / "alert_rules.yml").read_text(encoding="utf-8"))["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"]) > 5
    labels = {LINE.match(line)[1]: set(re.findall(r'([a-z]+)="', line)) for line in metrics({**report(), **_with_volume()}).splitlines() if line[0] != "#"}
    for rule in group["rules"]:
        names = re.findall(r"cht_[a-z_]+", rule["expr"])
        assert names and set(names) <= set(HELP), rule
        used = set(re.findall(r"\$labels\.([a-z]+)", json.dumps(rule["annotations"])))
        assert used <= labels[names[0]], rule
        assert rule["annotations"]["next"].startswith("ansible-playbook cht.k3s.") and rule["labels"]["severity"] in ("critical", "warning")


def _with_volume() -> dict[str, t.Any]:
    counties = report(1, 1)["counties"]
    counties[0]["full"] = {"couchdb-1-claim0": 0.5}
    return {"counties": counties}
