from __future__ import annotations

import json

from ansible_collections.cht.k3s.plugins.module_utils.preflight import report
from ansible_collections.cht.k3s.plugins.module_utils.preflight.findings import Finding

COUNTS = {"error": 1, "warning": 0, "accepted": 1}


def finding(check="vm-power", name="agent-1", message="the VM is off", **more):
    return Finding(check, name, message, **more).as_dict()


def test_the_same_thing_on_many_hosts_is_one_entry():
    many = [finding(name=f"agent-{number}") for number in range(200)]
    lines = report.table(many, {"error": 200, "warning": 0, "accepted": 0}, 200)
    assert lines[0] == "Preflight of 200 hosts: 200 errors, 0 warnings, 0 accepted"
    assert len(lines) < 8
    assert "agent-5 and 194 more" in lines[2]


def test_a_table_tells_what_to_do_and_which_playbook_does_it():
    text = "\n".join(report.table([finding()], COUNTS, 1))
    assert "ERROR     vm-power  agent-1" in text
    assert "-> Power the VM on. The playbook cht.k3s.prepare_vms does this." in text


def test_accepted_findings_are_shown_as_such():
    assert "ACCEPTED  version-set" in "\n".join(report.table([finding("version-set", accepted=True)], COUNTS, 1))


def test_the_failure_names_only_what_stops_the_run():
    text = report.failure([finding(), finding("version-set", accepted=True), finding("vm-snapshots")], COUNTS)
    assert "vm-power (agent-1)" in text
    assert "version-set" not in text and "vm-snapshots" not in text
    assert "1 error;" in text


def test_json_holds_everything():
    data = json.loads(report.as_json([finding(message="ä")], COUNTS, {"vcenter": "vc"}))
    assert data["vcenter"] == "vc" and data["counts"] == COUNTS
    assert data["findings"][0]["message"] == "ä"


def test_html_stands_alone_and_escapes_what_others_wrote():
    page = report.as_html([finding(name="<b>x</b>", message="a & b")], COUNTS, {"hosts": 1})
    assert "&lt;b&gt;x&lt;/b&gt;" in page and "a &amp; b" in page
    assert "<b>x" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "every check passed" in report.as_html([], COUNTS, {"hosts": 1})
