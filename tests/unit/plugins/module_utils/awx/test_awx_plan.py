# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX gets: a job template for each playbook, surveys of the roles' options, schedules, and what is left over."""
from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.cht.k3s.plugins.module_utils.awx import catalogue
from ansible_collections.cht.k3s.plugins.module_utils.awx.plan import Plan, PlanError, purpose
from ansible_collections.cht.k3s.plugins.module_utils.awx.schedule import rrule
from ansible_collections.cht.k3s.plugins.module_utils.awx.survey import plain, survey
from ansible_collections.cht.k3s.plugins.module_utils.inputs import load_role_options

ROOT = Path(__file__).resolve().parents[5]
sys.path.insert(0, str(ROOT / "tests" / "integration" / "awx"))

import awx_api  # noqa: E402

PLAYBOOKS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "playbooks").glob("*.yml")}
OPTIONS = {name: option for role in load_role_options(ROOT / "roles", yaml.safe_load).values() for name, option in role.items()}
SETTINGS: dict[str, Any] = {
    "organization": "CHT", "project": "cht.k3s", "scm_url": "https://git.example/k3s", "scm_branch": "1.0.0", "inventory": "k3s", "inventory_scm_url": "",
    "inventory_scm_branch": "", "execution_environment": "ee", "image": "", "credentials": {"vcenter": "vCenter", "source_control": "Git"},
    "counties": ["nairobi", "kisumu"], "timezone": "Africa/Nairobi", "schedules": [], "notifications": [], "operators": "operators", "readers": "readers",
    "remove": [],
}
MAIL = {"name": "Mail", "type": "email", "configuration": {"host": "mail.example", "password": ""}}


def plan(existing: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return Plan({**SETTINGS, **settings}, existing or {}, OPTIONS, PLAYBOOKS.__getitem__).as_dict()


def schedule(**values: Any) -> dict[str, Any]:
    return {"name": "nightly", "template": "report", "every": "day", "at": "01:30", **values}


def test_every_playbook_has_a_job_template_or_a_reason_for_none() -> None:
    templates = [template.playbook for template in catalogue.TEMPLATES]
    assert len(templates) == len(set(templates))
    lacking = sorted(set(PLAYBOOKS) - set(templates) - set(catalogue.NO_TEMPLATE))
    assert not lacking, (
        f"playbooks/{lacking[0]}.yml has no job template. Add Template(\"{lacking[0]}\", KIND, (Question(...),)) to TEMPLATES in"
        " plugins/module_utils/awx/catalogue.py, with the variables that belong to one run, or its reason to NO_TEMPLATE")
    gone = sorted({*templates, *catalogue.NO_TEMPLATE} - set(PLAYBOOKS))
    assert not gone, f"plugins/module_utils/awx/catalogue.py names playbooks that there are not: {gone}"
    assert not set(templates) & set(catalogue.NO_TEMPLATE)


@pytest.mark.parametrize("template", catalogue.TEMPLATES, ids=lambda template: template.playbook)
def test_a_question_is_an_option_that_the_playbook_reads(template: catalogue.Template) -> None:
    text = PLAYBOOKS[template.playbook]
    roles = set(re.findall(r"cht\.k3s\.([a-z_0-9]+)", text))
    files = [path for role in roles for path in (ROOT / "roles" / role).rglob("*.yml") if path.parent.name in ("tasks", "vars")]
    text += "".join(path.read_text(encoding="utf-8") for path in files)
    for question in template.questions:
        assert question.variable in OPTIONS and re.search(rf"\b{question.variable}\b", text), question.variable


@pytest.mark.parametrize("template", catalogue.TEMPLATES, ids=lambda template: template.playbook)
def test_what_destroys_is_asked_for_by_name(template: catalogue.Template) -> None:
    items = survey(template, OPTIONS, ["nairobi"], []).get("spec", [])
    if template.kind == catalogue.DESTROYS:
        assert [item for item in items if item["required"] and item["type"] == "text"]
    # A playbook that asks for the cluster's name asks in AWX as well.
    if "k3s_confirm" in PLAYBOOKS[template.playbook]:
        assert "k3s_confirm" in [item["variable"] for item in items if item["required"]]


def test_tags_and_limits_are_asked_where_the_playbook_has_some() -> None:
    for template in catalogue.TEMPLATES:
        # What a person is told to give by hand must be possible from AWX.
        by_hand = re.findall(rf"#.*ansible-playbook cht\.k3s\.{template.playbook}\b.*--tags", PLAYBOOKS[template.playbook])
        assert template.tags or not by_hand, template.playbook
    for step in catalogue.STEPS:
        row = next((template for template in catalogue.TEMPLATES if template.playbook == step.template), None)
        assert not step.tags or row and row.tags, step


def test_the_steps_of_the_workflow_are_all_of_site_and_no_part_is_twice() -> None:
    tags = [tag for step in catalogue.STEPS if step.template == "site" for tag in step.tags.split(",")]
    of_site = set(re.findall(r"^ {4,}- ([a-z_]+)$", re.sub(r"(?s)^.*?- name: Prepare the nodes", "", PLAYBOOKS["site"]), re.MULTILINE))
    assert len(tags) == len(set(tags)) and set(tags) == of_site


def test_a_question_has_the_text_and_the_choices_of_the_option() -> None:
    items = {item["variable"]: item for template in catalogue.TEMPLATES for item in survey(template, OPTIONS, ["nairobi"], ["v2", "v1"]).get("spec", [])}
    assert items["k3s_adopt"]["type"] == "multiplechoice" and items["k3s_adopt"]["choices"] == ["false", "true"] and items["k3s_adopt"]["default"] == "false"
    assert items["cht_project_backup"]["type"] == "multiselect" and items["cht_project_backup"]["choices"] == ["all", "nairobi"]
    assert items["k3s_version"]["choices"] == ["v2", "v1"] and items["k3s_version"]["required"]
    assert items["cht_project_rebalance"]["choices"] == ["plan", "move"] and items["cht_project_rebalance"]["default"] == "plan"
    assert items["vcenter_roles_admin_password"]["type"] == "password"
    assert items["k3s_remove"]["type"] == "text" and items["k3s_remove"]["question_description"] == plain(OPTIONS["k3s_remove"]["description"])
    assert not [item for item in items.values() if re.search(r"\b[A-Z]\(", item["question_description"])]
    # Without a list of counties one is typed.
    backup = next(template for template in catalogue.TEMPLATES if template.playbook == "backup_project")
    assert survey(backup, OPTIONS, [], [])["spec"][0]["type"] == "text"


def test_awx_takes_every_survey_and_every_type_of_credential() -> None:
    for counties in ([], ["nairobi", "kisumu"]):
        for item in plan(counties=counties)["job_templates"]:
            assert bool(item["survey"]) == bool(next(row for row in catalogue.TEMPLATES if f"{row.playbook}.yml" == item["name"]).questions)
            if item["survey"]:
                awx_api._check_survey(item["survey"])
    made = [row for row in catalogue.CREDENTIAL_TYPES.values() if row.inputs]
    assert len(made) == 3
    for row in made:
        awx_api.Awx([])._check_credential_types({"kind": "cloud", "inputs": row.inputs, "injectors": row.injectors}, {}, None)
    assert {row.name for row in catalogue.CREDENTIAL_TYPES.values() if not row.inputs} <= set(awx_api.MANAGED)


def test_a_template_says_what_its_playbook_says() -> None:
    made = {item["name"]: item for item in plan()["job_templates"]}
    assert made["backup.yml"]["description"] == "Saves etcd now and copies it, with the token it needs, to the controller. [cht.k3s: CHT]"
    assert purpose("---\n# The counties alone: ansible-playbook cht.k3s.projects\n") == "The counties alone."
    assert purpose("---\n# It goes. It needs the cluster's name as\n# confirmation\n") == "It goes."
    assert all(len(item["description"]) > 40 for item in made.values())


@pytest.mark.parametrize(("given", "rule"), [
    ({"every": "day", "at": "01:30"}, "T013000 RRULE:FREQ=DAILY;INTERVAL=1"),
    ({"every": "minute", "at": "00:00", "interval": 5}, "T000000 RRULE:FREQ=MINUTELY;INTERVAL=5"),
    ({"every": "week", "at": "23:05", "day": "mo"}, "T230500 RRULE:FREQ=WEEKLY;INTERVAL=1;BYDAY=MO"),
    ({"every": "month", "at": "07:00", "day": "1"}, "T070000 RRULE:FREQ=MONTHLY;INTERVAL=1;BYMONTHDAY=1"),
])
def test_times(given: dict[str, Any], rule: str) -> None:
    assert rrule(timezone="Africa/Nairobi", **given) == f"DTSTART;TZID=Africa/Nairobi:20260101{rule}"


@pytest.mark.parametrize(("given", "message"), [
    ({"every": "fortnight"}, "'every' must be one of"), ({"at": "1:30"}, "'at' must be a time"), ({"at": "24:00"}, "'at' must be a time"),
    ({"every": "week"}, "'day' must be one of MO"), ({"every": "month", "day": "31"}, "from 1 to 28"), ({"day": "MO"}, "'day' goes with"),
    ({"interval": -1}, "'interval' must be 1"), ({"template": "raport"}, "did you mean 'report'"), ({"tags": "x"}, "report does not ask for tags"),
    ({"answers": {"k3s_version": "v1"}}, "report does not ask for k3s_version; it asks for nothing"),
    ({"template": "reset"}, "reset needs an answer for k3s_confirm"),
])
def test_a_schedule_that_could_not_start_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(schedules=[schedule(**given)])


def test_answers_have_the_form_that_awx_wants() -> None:
    def answers(**given: Any) -> dict[str, Any]:
        return plan(schedules=[schedule(template="backup_project", answers=given)])["schedules"][0]["answers"]

    assert answers(cht_project_backup="all") == {"cht_project_backup": ["all"]} == answers(cht_project_backup=["all"])
    assert answers(cht_project_backup_live=True) == {"cht_project_backup_live": "true"}
    assert plan(counties=[], schedules=[schedule(template="backup_project", answers={"cht_project_backup": ["a", "b"]})])["schedules"][0]["answers"] == {
        "cht_project_backup": "a,b"}
    with pytest.raises(PlanError, match="nightly is there twice"):
        plan(schedules=[schedule(), schedule()])


def test_secrets_of_notifications_stay() -> None:
    there = {"notification_templates": [{"name": "Mail", "notification_configuration": {"host": "mail.example", "password": "$encrypted$"}}]}
    assert plan(there, notifications=[MAIL])["notification_templates"][0]["configuration"] is None
    other = {**MAIL, "configuration": {"host": "other.example", "password": ""}}
    assert plan(there, notifications=[other])["notification_templates"][0]["configuration"] == {"host": "other.example", "password": "$encrypted$"}
    assert plan(notifications=[MAIL])["notification_templates"][0]["configuration"] == MAIL["configuration"]


def test_credentials_never_have_inputs_and_those_of_projects_are_not_given_to_jobs() -> None:
    made = plan()
    assert made["credentials"] == [{"name": "vCenter", "type": "cht.k3s vCenter"}, {"name": "Git", "type": "Source Control"}]
    assert made["job_credentials"] == ["vCenter"] and [kind["name"] for kind in made["credential_types"]] == ["cht.k3s vCenter"]
    with pytest.raises(PlanError, match="there is no kind vcentre"):
        plan(credentials={"vcentre": "x"})


def test_the_certificate_of_vcenter_is_always_verified() -> None:
    kind = catalogue.CREDENTIAL_TYPES["vcenter"]
    assert kind.injectors and kind.inputs and kind.injectors["env"]["VMWARE_VALIDATE_CERTS"] == "True"
    assert "validate" not in str(kind.inputs) and "ca" in [entry["id"] for entry in kind.inputs["fields"]]


def test_what_is_left_over_is_told_and_goes_only_when_it_is_named() -> None:
    old = [{"name": "old", "summary_fields": {"unified_job_template": {"name": "report.yml"}}}, {"name": "older", "summary_fields": {}}]
    existing = {"schedules": old, "workflow_job_template_nodes": [{"identifier": "gone", "summary_fields": {"workflow_job_template": {"name": "site"}}}]}
    told = plan(existing)
    assert told["leftovers"] == ["schedules/old", "schedules/older", "workflow_job_template_nodes/gone"] and not any(told["remove"].values())
    one = plan(existing, remove=["schedules/old"])["remove"]
    assert one["schedules"] == [{"name": "old", "of": {"unified_job_template": "report.yml"}}] and not one["workflow_job_template_nodes"]
    assert len(plan(existing, remove=["all"])["remove"]["schedules"]) == 2
    with pytest.raises(PlanError, match="schedules/mine can't be removed"):
        plan(existing, remove=["schedules/mine"])


def test_operators_start_what_does_not_destroy() -> None:
    roles = plan()["roles"]
    (given,) = [role for role in roles if role["role"] == "execute" and role.get("state") != "absent"]
    (taken,) = [role for role in roles if role.get("state") == "absent"]
    assert {"site.yml", "report.yml"} <= set(given["job_templates"]) and {"reset.yml", "restore.yml"} <= set(taken["job_templates"])
    assert not set(given["job_templates"]) & set(taken["job_templates"])
    assert [role["role"] for role in plan(operators="")["roles"]] == ["read"] and plan(operators="", readers="")["roles"] == []


def test_inventories_of_their_own_have_a_project_of_their_own() -> None:
    assert [project["name"] for project in plan()["projects"]] == ["cht.k3s"]
    both = plan(inventory_scm_url="https://git.example/inventories")["projects"]
    assert [(project["name"], project["on_launch"]) for project in both] == [("cht.k3s", False), ("k3s (inventory)", True)]


def test_a_workflow_that_stands_is_left_alone() -> None:
    """awx.awx 24.6.1 says that it changed the approval, whatever it finds."""
    wanted = plan()["workflow_job_templates"][0]["nodes"]
    ids = {node["identifier"]: number for number, node in enumerate(wanted)}
    there: list[dict[str, Any]] = [
        {"id": ids[node["identifier"]], "identifier": node["identifier"], "job_tags": node.get("job_tags"),
         "summary_fields": {"unified_job_template": {"name": node["unified_job_template"]["name"]}},
         **{kind: [ids[after["identifier"]] for after in node["related"].get(kind, [])] for kind in ("success_nodes", "always_nodes")}}
        for node in wanted
    ]
    assert plan({"workflow_job_template_nodes": there})["workflow_job_templates"][0]["nodes"] == []
    for change in ({"job_tags": "cpi"}, {"success_nodes": []}, {"summary_fields": {}}):
        other = [{**node, **change} if node["identifier"] == "cluster" else node for node in there]
        assert plan({"workflow_job_template_nodes": other})["workflow_job_templates"][0]["nodes"] == wanted
