# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX should hold, what it holds that is not meant any more, and what it lacks.

Objects are known as ours by a mark at the end of their description, so what people made by hand is never told and never removed.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils import versions
from ansible_collections.cht.k3s.plugins.module_utils.awx import catalogue
from ansible_collections.cht.k3s.plugins.module_utils.awx.schedule import rrule
from ansible_collections.cht.k3s.plugins.module_utils.awx.survey import survey
from ansible_collections.cht.k3s.plugins.module_utils.names import did_you_mean

# What is told when it is not meant any more, in the order in which it can be removed. A source goes with its inventory, a label with its last
# template; types of credentials are shared by all organizations.
REMOVABLE = ("schedules", "workflow_job_template_nodes", "workflow_job_templates", "job_templates", "inventories", "projects",
             "execution_environments", "credentials", "notification_templates", "teams")
ENCRYPTED = "$encrypted$"


class PlanError(ValueError):
    """The file of data can't be followed."""


def mark(organization: str) -> str:
    """What the description of each object of an organisation ends with."""
    return f"[cht.k3s: {organization}]"


def purpose(playbook: str) -> str:
    """What a playbook says it is for: the whole sentences of its first line of comment."""
    line = next((line[1:].strip() for line in playbook.splitlines() if line.startswith("#")), "")
    line = line.split(": ansible-playbook", 1)[0].rstrip(":")
    end = line.rfind(". ")
    return (line[:end] if end > 0 else line).rstrip(".") + "."


class Plan:
    """Everything that the tasks need. settings: the role's variables without their prefix; existing: kind -> objects of the API with our mark."""

    def __init__(self, settings: Mapping[str, Any], existing: Mapping[str, Sequence[Mapping[str, Any]]], options: Mapping[str, Mapping[str, Any]],
                 playbook: Callable[[str], str]) -> None:
        self.settings, self.existing, self.options, self.playbook = settings, existing, options, playbook
        self.organization = settings["organization"]
        self.mark = mark(self.organization)
        self.templates = {template.playbook: template for template in catalogue.TEMPLATES}

    def as_dict(self) -> dict[str, Any]:
        """The plan as the tasks read it: lists of arguments of the modules, by the API's names of what they make."""
        plan: dict[str, Any] = {
            "description": self.mark,
            "credential_types": self.credential_types(),
            "credentials": self.credentials(),
            "job_credentials": self.job_credentials(),
            "projects": self.projects(),
            "notification_templates": self.notifications(),
            "labels": list(catalogue.KINDS),
            "job_templates": self.job_templates(),
            "workflow_job_templates": [{"name": catalogue.WORKFLOW, "nodes": [] if self.workflow_stands() else self.nodes()}],
            "schedules": self.schedules(),
            "teams": [name for name in (self.settings["operators"], self.settings["readers"]) if name],
            "roles": self.roles(),
        }
        leftovers = self.leftovers(plan)
        return {**plan, "leftovers": leftovers, "remove": self.removed(leftovers), "missing": self.missing(plan)}

    def credential_types(self) -> list[dict[str, Any]]:
        """Types that are made, of the credentials that are wanted."""
        wanted = [catalogue.CREDENTIAL_TYPES[kind] for kind, dummy in self._credentials()]
        return [{"name": kind.name, "inputs": kind.inputs, "injectors": kind.injectors} for kind in wanted if kind.inputs]

    def credentials(self) -> list[dict[str, Any]]:
        """Places for secrets. They never have inputs: giving some of them to AWX would take the others away."""
        return [{"name": name, "type": catalogue.CREDENTIAL_TYPES[kind].name} for kind, name in self._credentials()]

    def _credentials(self) -> list[tuple[str, str]]:
        if strange := sorted(set(self.settings["credentials"]) - set(catalogue.CREDENTIAL_TYPES)):
            raise PlanError(f"awx_credentials: there is no kind {', '.join(strange)}; there are {', '.join(catalogue.CREDENTIAL_TYPES)}")
        return [(kind, name) for kind, name in self.settings["credentials"].items() if name]

    def job_credentials(self) -> list[str]:
        """Names of those that jobs get."""
        return [name for kind, name in self._credentials() if catalogue.CREDENTIAL_TYPES[kind].of_jobs]

    def projects(self) -> list[dict[str, Any]]:
        """The collection with its playbooks, and the inventories where they are kept elsewhere. A pinned branch or tag is fetched once."""
        settings = self.settings
        found = [{"name": settings["project"], "url": settings["scm_url"], "branch": settings["scm_branch"], "on_launch": not settings["inventory_scm_url"]}]
        if settings["inventory_scm_url"]:
            found.append({"name": self.inventory_project(), "url": settings["inventory_scm_url"], "branch": settings["inventory_scm_branch"],
                          "on_launch": True})
        return found

    def inventory_project(self) -> str:
        """The project that the inventory comes from."""
        return f"{self.settings['inventory']} (inventory)" if self.settings["inventory_scm_url"] else self.settings["project"]

    def notifications(self) -> list[dict[str, Any]]:
        """Notification templates. Of one whose settings are as they should be, secrets aside, none are sent: AWX shows no secret to compare with."""
        there = {item["name"]: item for item in self.existing.get("notification_templates", [])}
        found = []
        for wanted in self.settings["notifications"]:
            kept = there.get(wanted["name"], {}).get("notification_configuration", {})
            secrets = [name for name, value in kept.items() if value == ENCRYPTED]
            given = {**wanted["configuration"], **{name: ENCRYPTED for name in secrets if not wanted["configuration"].get(name)}}
            same = bool(kept) and all(kept.get(name) == value for name, value in given.items())
            found.append({"name": wanted["name"], "type": wanted["type"], "configuration": None if same else given})
        return found

    def job_templates(self) -> list[dict[str, Any]]:
        """One for each playbook."""
        offered = [row.k3s for row in reversed(versions.SETS)]
        return [
            {
                "name": f"{name}.yml", "playbook": f"playbooks/{name}.yml", "description": f"{purpose(self.playbook(name))} {self.mark}",
                "labels": [template.kind], "ask_limit": template.limit, "ask_tags": template.tags, "ask_check": template.kind != catalogue.LOOKS,
                "survey": survey(template, self.options, self.settings["counties"], offered),
            }
            for name, template in self.templates.items()
        ]

    def nodes(self) -> list[dict[str, Any]]:
        """Nodes of the workflow, each after the one before."""
        organization = {"name": self.organization}
        found: list[dict[str, Any]] = []
        for number, step in enumerate(catalogue.STEPS):
            after = catalogue.STEPS[number + 1] if number + 1 < len(catalogue.STEPS) else None
            node: dict[str, Any] = {"identifier": step.name, "related": {}}
            if after:
                node["related"] = {"always_nodes" if after.always else "success_nodes": [{"identifier": after.name}]}
            if step.template:
                node["unified_job_template"] = {"name": f"{step.template}.yml", "type": "job_template", "organization": organization}
            else:
                node["unified_job_template"] = {"name": step.name, "type": "workflow_approval", "timeout": catalogue.APPROVAL_SECONDS,
                                                "description": f"Somebody has read the preflight. {self.mark}"}
            found.append({**node, **({"job_tags": step.tags} if step.tags else {})})
        return found

    def workflow_stands(self) -> bool:
        """Whether all nodes are as they should be. They are not given then: with an approval among them the module always says that it changed something."""
        there = {_name(node): node for node in self.existing.get("workflow_job_template_nodes", [])}
        names = {node.get("id"): name for name, node in there.items()}
        for node in self.nodes():
            found = there.get(node["identifier"], {})
            template = found.get("summary_fields", {}).get("unified_job_template", {}).get("name")
            if template != node["unified_job_template"]["name"] or (found.get("job_tags") or "") != node.get("job_tags", ""):
                return False
            for kind in ("success_nodes", "always_nodes"):
                if [names.get(id_) for id_ in found.get(kind, [])] != [after["identifier"] for after in node["related"].get(kind, [])]:
                    return False
        return True

    def schedules(self) -> list[dict[str, Any]]:
        """Schedules, each of a job template that there is and with answers that it asks for."""
        found = []
        for entry in self.settings["schedules"]:
            where = f"awx_schedules, '{entry['name']}'"
            template = self.templates.get(entry["template"])
            if template is None:
                raise PlanError(f"{where}: there is no job template for '{entry['template']}'; {did_you_mean(entry['template'], self.templates)}")
            asked = {question.variable for question in template.questions}
            answers = entry.get("answers") or {}
            if strange := sorted(set(answers) - asked):
                raise PlanError(f"{where}: {template.playbook} does not ask for {', '.join(strange)}; it asks for {', '.join(sorted(asked)) or 'nothing'}")
            lacking = [question.variable for question in template.questions if question.required and question.variable not in answers]
            if lacking:
                raise PlanError(f"{where}: {template.playbook} needs an answer for {', '.join(lacking)}")
            if entry.get("tags") and not template.tags:
                raise PlanError(f"{where}: {template.playbook} does not ask for tags")
            try:
                rule = rrule(entry["every"], entry.get("at") or "00:00", self.settings["timezone"], int(entry.get("interval") or 1),
                             str(entry.get("day") or ""))
            except ValueError as error:
                raise PlanError(f"{where}: {error}") from None
            found.append({"name": entry["name"], "template": f"{template.playbook}.yml", "rrule": rule, "answers": self._answers(template, answers),
                          "tags": entry.get("tags") or "", "enabled": entry.get("enabled", True)})
        return _unique("awx_schedules", found)

    def _answers(self, template: catalogue.Template, answers: Mapping[str, Any]) -> dict[str, Any]:
        """The answers as AWX wants them: a list for a question with several choices, else text."""
        kinds = {item["variable"]: item["type"] for item in survey(template, self.options, self.settings["counties"], []).get("spec", [])}
        given: dict[str, Any] = {}
        for name, value in answers.items():
            values = [str(part) for part in value] if isinstance(value, (list, tuple)) else [str(value).lower() if isinstance(value, bool) else str(value)]
            given[name] = values if kinds[name] == "multiselect" else ",".join(values)
        return given

    def roles(self) -> list[dict[str, Any]]:
        """Who may what: operators start all that does not destroy and approve the workflow, they and readers see everything."""
        operators, readers = self.settings["operators"], self.settings["readers"]
        all_ = [f"{name}.yml" for name in self.templates]
        destroying = [f"{template.playbook}.yml" for template in self.templates.values() if template.kind == catalogue.DESTROYS]
        workflow = [catalogue.WORKFLOW]
        found: list[dict[str, Any]] = []
        if operators:
            found += [
                {"role": "execute", "teams": [operators], "job_templates": [name for name in all_ if name not in destroying], "workflows": workflow},
                {"role": "execute", "teams": [operators], "job_templates": destroying, "state": "absent"},
                {"role": "approval", "teams": [operators], "workflows": workflow},
            ]
        teams = [name for name in (operators, readers) if name]
        if teams:
            found.append({"role": "read", "teams": teams, "job_templates": all_, "workflows": workflow, "inventories": [self.settings["inventory"]],
                          "projects": [project["name"] for project in self.projects()]})
        return found

    def names(self, plan: Mapping[str, Any]) -> dict[str, set[str]]:
        """Kind -> names of what is meant."""
        settings = self.settings
        found = {kind: {item["name"] for item in plan[kind]}
                 for kind in ("credential_types", "credentials", "projects", "notification_templates", "job_templates", "workflow_job_templates", "schedules")}
        found |= {
            "organizations": {self.organization}, "inventories": {settings["inventory"]}, "inventory_sources": {settings["inventory"]},
            "execution_environments": {settings["execution_environment"]} if settings["image"] else set(), "teams": set(plan["teams"]),
            "workflow_job_template_nodes": {step.name for step in catalogue.STEPS},
        }
        return found

    def leftovers(self, plan: Mapping[str, Any]) -> list[str]:
        """What has our mark and is not meant any more, as kind/name, in the order in which it can go."""
        wanted = self.names(plan)
        return [f"{kind}/{name}" for kind in REMOVABLE for name in sorted(self._there(kind) - wanted[kind])]

    def removed(self, leftovers: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Kind -> the leftovers that are to go, each with its name and what it belongs to, as others may have the same name."""
        asked = self.settings["remove"]
        if strange := [name for name in asked if name not in leftovers and name != "all"]:
            raise PlanError(f"awx_remove: {', '.join(strange)} can't be removed: it is not in AWX, not of this collection, or still meant."
                            f" Left over is {', '.join(leftovers) or 'nothing'}")
        return {
            kind: [
                {"name": _name(item), "of": {field: summary.get("name", "") for field, summary in item.get("summary_fields", {}).items()
                                             if field in ("credential_type", "unified_job_template", "workflow_job_template")}}
                for item in self.existing.get(kind, []) if f"{kind}/{_name(item)}" in leftovers and ("all" in asked or f"{kind}/{_name(item)}" in asked)
            ]
            for kind in REMOVABLE
        }

    def missing(self, plan: Mapping[str, Any]) -> list[str]:
        """What AWX lacks, as kind/name. Check mode can't look at what refers to it."""
        return [f"{kind}/{name}" for kind, names in self.names(plan).items() for name in sorted(names - self._there(kind))]

    def _there(self, kind: str) -> set[str]:
        return {_name(item) for item in self.existing.get(kind, [])}


def _name(item: Mapping[str, Any]) -> str:
    # A node of a workflow has no name.
    return str(item.get("identifier") or item["name"])


def _unique(where: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = [entry["name"] for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PlanError(f"{where}: {', '.join(twice)} is there twice")
    return entries
