from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.preflight import findings
from ansible_collections.cht.k3s.plugins.module_utils.preflight.findings import Finding

UTILS = Path(findings.__file__).parent


def test_every_check_says_how_bad_it_is_and_what_to_do():
    for name, check in findings.CHECKS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name), name
        assert check.severity in ("error", "warning")
        assert check.remedy.endswith("."), name


def test_every_check_is_made_somewhere():
    code = "".join(path.read_text() for path in UTILS.glob("*.py") if path.name != "findings.py")
    missing = [name for name in findings.CHECKS if f'"{name}"' not in code]
    assert missing == []


def test_a_finding_takes_the_rest_from_its_check():
    finding = Finding("vm-power", "agent-1", "the VM is off")
    assert (finding.severity, finding.playbook) == ("error", findings.PREPARE)
    assert finding.as_dict()["accepted"] is False


def test_accepting_by_id_or_for_one_object():
    made = [Finding("vm-snapshots", "a", "m"), Finding("vm-snapshots", "b", "m"), Finding("version-set", "cluster", "m")]
    findings.mark_accepted(made, ["vm-snapshots:a", "version-set"])
    assert [finding.accepted for finding in made] == [True, False, True]
    assert findings.blocking(made) == []


def test_a_misspelt_id_is_refused_with_the_nearest():
    assert findings.accept_problems(["version-sets", "vm-size:agent-1"]) == [
        "'version-sets' in preflight_accept is no check: did you mean 'version-set'?"
    ]


@pytest.mark.parametrize(("severity", "accepted", "blocks"), [("error", False, True), ("error", True, False), ("warning", False, False)])
def test_only_errors_that_nobody_accepted_stop_a_run(severity, accepted, blocks):
    assert bool(findings.blocking([Finding("vm-size", "a", "m", severity=severity, accepted=accepted)])) is blocks
