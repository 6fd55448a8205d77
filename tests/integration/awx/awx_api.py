"""A server that answers as the REST API v2 of AWX 24.6.1, keeps what it is given and refuses what that API does not have.

The fields, and what is checked about them, are those of awx/api/serializers.py, awx/api/views and awx/main/{fields,models} at that release, as far as this
collection uses them. It is stricter in one thing: AWX passes over a field that it does not know, here that is an error (400), but for those that the
modules of awx.awx 24.6.1 always send (TOLERATED).
"""
from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from jinja2 import StrictUndefined, UndefinedError, sandbox

VERSION = "24.6.1"
USER, PASSWORD, TOKEN = "admin", "not-the-real-one", "recorded-token"
ENCRYPTED = "$encrypted$"
PROMPTS = {"scm_branch": "scm_branch", "job_type": "job_type", "job_tags": "tags", "skip_tags": "skip_tags", "limit": "limit", "diff_mode": "diff_mode",
           "verbosity": "verbosity", "inventory": "inventory", "execution_environment": "execution_environment", "forks": "forks",
           "job_slice_count": "job_slice_count", "timeout": "timeout"}
ASKS = ("ask_scm_branch_on_launch ask_diff_mode_on_launch ask_variables_on_launch ask_limit_on_launch ask_tags_on_launch ask_skip_tags_on_launch"
        " ask_job_type_on_launch ask_verbosity_on_launch ask_inventory_on_launch ask_credential_on_launch ask_execution_environment_on_launch"
        " ask_forks_on_launch ask_instance_groups_on_launch ask_job_slice_count_on_launch ask_labels_on_launch ask_timeout_on_launch").split()
NOTIFIED = ("notification_templates_started", "notification_templates_success", "notification_templates_error")
LAUNCH = {"extra_data": {}, "inventory": None, **dict.fromkeys(
    ("scm_branch", "job_type", "job_tags", "skip_tags", "limit", "diff_mode", "verbosity", "execution_environment", "forks", "job_slice_count", "timeout"))}


class Refused(Exception):
    """An answer that is not the one that was hoped for."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


@dataclass(frozen=True)
class Kind:
    """An endpoint: fields that can be written with their defaults, keys to other endpoints, what is needed, lists of others, roles."""

    type: str
    fields: dict[str, Any]
    keys: dict[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ("name",)
    lists: dict[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    unique: tuple[str, ...] = ("name", "organization")
    read_only: tuple[str, ...] = ()
    # Said once, never changed.
    fixed: tuple[str, ...] = ()


NAMED = {"name": "", "description": ""}
KINDS: dict[str, Kind] = {
    "organizations": Kind("organization", {**NAMED, "max_hosts": 0, "default_environment": None}, {"default_environment": "execution_environments"},
                          lists={**dict.fromkeys((*NOTIFIED, "notification_templates_approvals"), "notification_templates"),
                                 "instance_groups": "instance_groups", "galaxy_credentials": "credentials"},
                          roles=("admin", "execute", "read", "auditor", "member", "approval"), unique=("name",), read_only=("custom_virtualenv",)),
    "credential_types": Kind("credential_type", {**NAMED, "kind": "", "inputs": {}, "injectors": {}}, needed=("name", "kind"), unique=("name", "kind"),
                             read_only=("managed", "namespace")),
    "credentials": Kind("credential", {**NAMED, "organization": None, "credential_type": None, "inputs": {}},
                        {"organization": "organizations", "credential_type": "credential_types"}, ("name", "credential_type", "organization"),
                        roles=("admin", "use", "read"), unique=("name", "organization", "credential_type")),
    "execution_environments": Kind("execution_environment", {**NAMED, "organization": None, "image": "", "credential": None, "pull": ""},
                                   {"organization": "organizations", "credential": "credentials"}, ("name", "image"), unique=("name",),
                                   fixed=("organization",), roles=()),
    "projects": Kind("project", {
        **NAMED, "organization": None, "local_path": "", "scm_type": "", "scm_url": "", "scm_branch": "", "scm_refspec": "", "scm_clean": False,
        "scm_track_submodules": False, "scm_delete_on_update": False, "credential": None, "timeout": 0, "scm_update_on_launch": False,
        "scm_update_cache_timeout": 0, "allow_override": False, "default_environment": None, "signature_validation_credential": None,
    }, {"organization": "organizations", "credential": "credentials", "default_environment": "execution_environments"},
        lists=dict.fromkeys(NOTIFIED, "notification_templates"), roles=("admin", "use", "update", "read"), read_only=("custom_virtualenv", "scm_revision")),
    "inventories": Kind("inventory", {**NAMED, "organization": None, "kind": "", "host_filter": None, "variables": "",
                                      "prevent_instance_group_fallback": False}, {"organization": "organizations"}, ("name", "organization"),
                        {"instance_groups": "instance_groups"},
                        ("admin", "update", "adhoc", "use", "read")),
    "inventory_sources": Kind("inventory_source", {
        **NAMED, "inventory": None, "source": "", "source_path": "", "source_vars": "", "scm_branch": "", "credential": None, "enabled_var": "",
        "enabled_value": "", "host_filter": "", "overwrite": False, "overwrite_vars": False, "timeout": 0, "verbosity": 1, "limit": "",
        "execution_environment": None, "update_on_launch": False, "update_cache_timeout": 0, "source_project": None,
    }, {"inventory": "inventories", "credential": "credentials", "execution_environment": "execution_environments", "source_project": "projects"},
        ("name", "inventory"), dict.fromkeys(NOTIFIED, "notification_templates"), unique=("name", "inventory"), fixed=("inventory",),
        read_only=("custom_virtualenv",)),
    "labels": Kind("label", {"name": "", "organization": None}, {"organization": "organizations"}, ("name", "organization")),
    "notification_templates": Kind("notification_template", {
        **NAMED, "organization": None, "notification_type": "", "notification_configuration": {}, "messages": None,
    }, {"organization": "organizations"}, ("name", "organization", "notification_type")),
    "job_templates": Kind("job_template", {
        **NAMED, "job_type": "run", "inventory": None, "project": None, "playbook": "", "scm_branch": "", "forks": 0, "limit": "", "verbosity": 0,
        "extra_vars": "", "job_tags": "", "force_handlers": False, "skip_tags": "", "start_at_task": "", "timeout": 0, "use_fact_cache": False,
        "execution_environment": None, "host_config_key": "", **dict.fromkeys(ASKS, False), "survey_enabled": False, "become_enabled": False,
        "diff_mode": False, "allow_simultaneous": False, "job_slice_count": 1, "webhook_service": "", "webhook_credential": None,
        "prevent_instance_group_fallback": False,
    }, {"inventory": "inventories", "project": "projects", "execution_environment": "execution_environments", "organization": "organizations"},
        ("name", "project", "playbook"),
        {**dict.fromkeys(NOTIFIED, "notification_templates"), "labels": "labels", "credentials": "credentials", "instance_groups": "instance_groups"},
        # Of its project.
        ("admin", "execute", "read"), read_only=("organization", "custom_virtualenv")),
    "workflow_job_templates": Kind("workflow_job_template", {
        **NAMED, "organization": None, "extra_vars": "", "survey_enabled": False, "allow_simultaneous": False, "inventory": None, "limit": None,
        "scm_branch": None, "webhook_service": "", "webhook_credential": None, "job_tags": None, "skip_tags": None,
        **dict.fromkeys([ask for ask in ASKS if ask.split("_on_")[0] in (
            "ask_variables", "ask_inventory", "ask_scm_branch", "ask_limit", "ask_labels", "ask_skip_tags", "ask_tags")], False),
    }, {"organization": "organizations", "inventory": "inventories"}, lists={
        **dict.fromkeys((*NOTIFIED, "notification_templates_approvals"), "notification_templates"), "labels": "labels"},
        roles=("admin", "execute", "read", "approval")),
    "workflow_job_template_nodes": Kind("workflow_job_template_node", {
        **LAUNCH, "workflow_job_template": None, "unified_job_template": None, "all_parents_must_converge": False, "identifier": "",
    }, {"workflow_job_template": "workflow_job_templates", "inventory": "inventories", "execution_environment": "execution_environments"},
        ("workflow_job_template",),
        {**dict.fromkeys(("success_nodes", "failure_nodes", "always_nodes"), "workflow_job_template_nodes"), "credentials": "credentials", "labels": "labels",
         "instance_groups": "instance_groups"}, unique=("identifier", "workflow_job_template"), fixed=("workflow_job_template",)),
    "workflow_approval_templates": Kind("workflow_approval_template", {**NAMED, "timeout": 0}, unique=()),
    "schedules": Kind("schedule", {**NAMED, **LAUNCH, "unified_job_template": None, "enabled": True, "rrule": ""},
                      {"inventory": "inventories", "execution_environment": "execution_environments"}, ("name", "unified_job_template", "rrule"),
                      {"credentials": "credentials", "labels": "labels", "instance_groups": "instance_groups"}, unique=("name", "unified_job_template")),
    "teams": Kind("team", {**NAMED, "organization": None}, {"organization": "organizations"}, ("name", "organization"), roles=("admin", "member", "read")),
    "instance_groups": Kind("instance_group", {"name": ""}),
}
UNIFIED = ("projects", "inventory_sources", "job_templates", "workflow_job_templates")
# What awx.awx sends to an endpoint that has no such field; AWX passes over it.
TOLERATED = {"workflow_approval_templates": {"identifier", "workflow_job_template", "unified_job_template"}}
# Types of credentials that AWX brings: name -> kind, fields.
MANAGED = {
    "Machine": ("ssh", ["username", "password", "ssh_key_data", "ssh_public_key_data", "ssh_key_unlock", "become_method", "become_username",
                        "become_password"]),
    "Source Control": ("scm", ["username", "password", "ssh_key_data", "ssh_key_unlock"]),
    "Vault": ("vault", ["vault_password", "vault_id"]),
    "VMware vCenter": ("cloud", ["host", "username", "password"]),
    "Ansible Galaxy/Automation Hub API Token": ("galaxy", ["url", "auth_url", "token"]),
}
SECRET = {"password", "ssh_key_data", "ssh_key_unlock", "become_password", "vault_password"}
# Fields of notifications, with their types and defaults: awx/main/notifications.
NOTIFICATIONS: dict[str, dict[str, Any]] = {
    "email": {"host": (str,), "port": (int,), "username": (str,), "password": (str, "secret"), "use_tls": (bool,), "use_ssl": (bool,), "sender": (str,),
              "recipients": (list,), "timeout": (int, 30)},
    "webhook": {"url": (str,), "http_method": (str, "POST"), "disable_ssl_verification": (bool, False), "username": (str, ""),
                "password": (str, "secret", ""), "headers": (dict,)},
}


class Awx:
    """What is kept, and the rules about it. playbooks: those of any project."""

    def __init__(self, playbooks: list[str]) -> None:
        self.playbooks = playbooks
        self.things: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.lists: dict[tuple[str, int, str], list[int]] = {}
        self.surveys: dict[tuple[str, int], dict[str, Any]] = {}
        self.members: dict[int, dict[str, list[int]]] = {}
        self.updates: set[int] = set()
        self.requests: list[tuple[str, str, Any]] = []
        self.refusals: list[str] = []
        self.lock = threading.Lock()
        self._next = 100
        for name, (kind, fields) in MANAGED.items():
            inputs = {"fields": [{"id": id_, "type": "string", "label": id_, "secret": id_ in SECRET} for id_ in fields]}
            self._keep("credential_types", {"name": name, "description": "", "kind": kind, "inputs": inputs, "injectors": {}, "managed": True})
        galaxy = self._keep("credentials", {**KINDS["credentials"].fields, "name": "Ansible Galaxy", "credential_type": self._next, "managed": True})
        assert self.things["credential_types"][galaxy["credential_type"]]["kind"] == "galaxy"

    # For tests

    def names(self, kind: str) -> list[str]:
        return sorted(thing.get("name") or thing.get("identifier", "") for thing in self.things[kind].values())

    def get(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = [thing for thing in self.things[kind].values() if name == (thing.get("name") or thing.get("identifier"))]
        return found

    def listed(self, kind: str, name: str, list_: str) -> list[str]:
        other = KINDS[kind].lists[list_]
        things = [self.things[other][id_] for id_ in self.lists.get((kind, self.get(kind, name)["id"], list_), [])]
        return sorted(thing.get("name") or thing.get("identifier", "") for thing in things)

    def holders(self, kind: str, name: str, role: str) -> list[str]:
        thing = self.get(kind, name)
        return sorted(self.things["teams"][id_]["name"] for id_ in self.members.get(self._role(kind, thing["id"], role), {}).get("teams", []))

    def written(self) -> list[tuple[str, str, Any]]:
        return [request for request in self.requests if request[0] != "GET" and "/tokens/" not in request[1]]

    # The API

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        parts = path.removeprefix("/api/v2/").strip("/").split("/")
        if parts[0] == "unified_job_templates":
            return 200, self._page(path, query, [{"organization": None, **self._show(kind, thing)} for kind in UNIFIED
                                                 for thing in self.things[kind].values()])
        if parts[0] == "project_updates":
            return 200, {"status": "successful", "finished": "2026-01-01T00:00:00Z", "failed": False, "id": int(parts[1])}
        if parts[0] == "roles":
            return self._roles(method, int(parts[1]), parts[2], query, body)
        kind = parts[0]
        if kind not in KINDS:
            raise Refused(404, {"detail": "The requested resource could not be found."})
        if len(parts) == 1:
            if method == "GET":
                return 200, self._page(path, query, [self._show(kind, thing) for thing in self.things[kind].values()])
            if kind == "workflow_approval_templates":
                raise Refused(405, {"detail": "Method not allowed"})
            return 201, self._show(kind, self._make(kind, body))
        thing = self.things[kind].get(int(parts[1]))
        if thing is None:
            raise Refused(404, {"detail": "Not found."})
        if len(parts) == 2:
            return self._one(method, kind, thing, body)
        if parts[2] == "survey_spec" and kind in ("job_templates", "workflow_job_templates"):
            return self._survey(method, (kind, thing["id"]), body)
        if parts[2] == "create_approval_template" and kind == "workflow_job_template_nodes":
            made = self._make("workflow_approval_templates", body)
            thing["unified_job_template"] = made["id"]
            return 201, self._show("workflow_approval_templates", made)
        if parts[2] in KINDS[kind].lists:
            return self._list(method, path, kind, thing, parts[2], query, body)
        raise Refused(404, {"detail": "Not found."})

    def _one(self, method: str, kind: str, thing: dict[str, Any], body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, self._show(kind, thing)
        if method == "DELETE":
            self._remove(kind, thing["id"])
            return (202 if kind == "inventories" else 204), {}
        if thing.get("managed"):
            raise Refused(403, {"detail": "Modifications not allowed for managed credential types"})
        given = self._known(kind, body)
        for name in KINDS[kind].fixed:
            if name in given and kind == "execution_environments" and given[name] != thing[name]:
                raise Refused(400, {name: ["Cannot change the organization of an execution environment"]})
            given.pop(name, None)
        self._check(kind, {**thing, **given}, given, thing)
        if kind == "credentials" and "inputs" in given:
            # AWX takes the inputs as a whole: what is not given is gone.
            given["inputs"] = {key: thing["inputs"].get(key) if value == ENCRYPTED else value for key, value in given["inputs"].items()}
        if kind == "notification_templates" and "notification_configuration" in given:
            old = thing["notification_configuration"]
            given["notification_configuration"] = {key: old.get(key) if value == ENCRYPTED else value
                                                   for key, value in given["notification_configuration"].items()}
        thing.update(given)
        return 200, self._show(kind, thing)

    def _make(self, kind: str, body: Any) -> dict[str, Any]:
        given = self._known(kind, body)
        for name in KINDS[kind].needed:
            if given.get(name) in (None, ""):
                raise Refused(400, {name: ["This field is required."]})
        thing = {**json.loads(json.dumps(KINDS[kind].fields)), **given}
        self._check(kind, thing, given, None)
        if kind == "job_templates":
            thing["organization"] = self.things["projects"][thing["project"]]["organization"]
        unique = {name: thing.get(name) for name in KINDS[kind].unique}
        if unique and any(all(other.get(name) == value for name, value in unique.items()) for other in self.things[kind].values()):
            raise Refused(400, {"__all__": [f"{KINDS[kind].type} with this {' and '.join(unique)} already exists."]})
        made = self._keep(kind, thing)
        if kind == "projects":
            self.updates.add(made["id"])
        return made

    def _keep(self, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
        self._next += 1
        self.things[kind][self._next] = {**thing, "id": self._next}
        return self.things[kind][self._next]

    def _remove(self, kind: str, id_: int) -> None:
        del self.things[kind][id_]
        for ids in self.lists.values():
            if id_ in ids:
                ids.remove(id_)
        # As a database does with what can't be without it.
        owned = {"inventories": [("inventory_sources", "inventory")], "workflow_job_templates": [("workflow_job_template_nodes", "workflow_job_template")],
                 "job_templates": [("schedules", "unified_job_template")]}
        for other, key in owned.get(kind, []):
            for gone in [thing["id"] for thing in self.things[other].values() if thing[key] == id_]:
                self._remove(other, gone)

    def _known(self, kind: str, body: Any) -> dict[str, Any]:
        """What of the body can be written."""
        row = KINDS[kind]
        strange = sorted(set(body) - set(row.fields) - set(row.read_only) - TOLERATED.get(kind, set()))
        if strange:
            raise Refused(400, {name: [f"AWX {VERSION} has no such field of {kind}"] for name in strange})
        return {name: value for name, value in body.items() if name in row.fields}

    def _check(self, kind: str, whole: dict[str, Any], given: dict[str, Any], before: dict[str, Any] | None) -> None:
        for name, value in given.items():
            default = KINDS[kind].fields[name]
            if value is None and default is not None and name not in KINDS[kind].keys:
                raise Refused(400, {name: ["This field may not be null."]})
            if isinstance(default, bool) and not isinstance(value, bool):
                raise Refused(400, {name: ["Must be a valid boolean."]})
            if isinstance(default, str) and not isinstance(value, str):
                raise Refused(400, {name: ["Not a valid string."]})
        for name, other in KINDS[kind].keys.items():
            if whole.get(name) is not None and whole[name] not in self.things[other]:
                raise Refused(400, {name: [f'Invalid pk "{whole[name]}" - object does not exist.']})
        check = getattr(self, f"_check_{kind}", None)
        if check:
            check(whole, given, before)

    def _check_credential_types(self, whole: dict[str, Any], given: dict[str, Any], before: dict[str, Any] | None) -> None:
        if whole["kind"] not in ("cloud", "net"):
            raise Refused(400, {"kind": [f"Must be 'cloud' or 'net', not {whole['kind']}"]})
        if before and before["inputs"] != whole["inputs"] and any(c["credential_type"] == before["id"] for c in self.things["credentials"].values()):
            raise Refused(403, {"detail": "Modifications to inputs are not allowed for credential types that are in use"})
        _only(whole["inputs"], {"fields", "required"}, "inputs")
        for entry in whole["inputs"]["fields"]:
            _only(entry, {"type", "format", "choices", "id", "label", "help_text", "multiline", "secret", "default"}, "inputs")
            if "label" not in entry or not re.fullmatch(r"[a-zA-Z_]+[a-zA-Z0-9_]*", entry["id"]) or entry.get("type", "string") not in ("string", "boolean"):
                raise Refused(400, {"inputs": [f"wrong field {entry}"]})
        _only(whole["injectors"], {"file", "env", "extra_vars"}, "injectors")
        namespace: dict[str, Any] = {entry["id"]: "EXAMPLE" for entry in whole["inputs"]["fields"]}
        namespace["tower"] = {"filename": {name.partition(".")[2]: "EXAMPLE_FILENAME" for name in whole["injectors"].get("file", {})}}
        for part, templates in whole["injectors"].items():
            for name, template in templates.items():
                if part == "env" and name.startswith("ANSIBLE_"):
                    raise Refused(400, {"injectors": [f"Environment variable {name} may affect Ansible configuration"]})
                try:
                    sandbox.ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(template).render(namespace)
                except UndefinedError as error:
                    raise Refused(400, {"injectors": [f"{name} uses an undefined field ({error})"]}) from None

    def _check_credentials(self, whole: dict[str, Any], given: dict[str, Any], before: dict[str, Any] | None) -> None:
        known = {entry["id"] for entry in self.things["credential_types"][whole["credential_type"]]["inputs"]["fields"]}
        _only(whole["inputs"], known, "inputs")
        if not before and ENCRYPTED in whole["inputs"].values():
            raise Refused(400, {"inputs": [f"{ENCRYPTED} is a reserved keyword"]})

    def _check_execution_environments(self, whole: dict[str, Any], given: dict[str, Any], before: dict[str, Any] | None) -> None:
        if whole["pull"] not in ("", "always", "missing", "never"):
            raise Refused(400, {"pull": ["not a valid choice"]})

    def _check_inventory_sources(self, whole: dict[str, Any], given: dict[str, Any], before: dict[str, Any] | None) -> None:
        if whole["source"] == "scm" and whole["source_project"] is None:
            raise Refused(400, {"source_project": ["Project required for scm type sources."]})
        if whole["credential"]:
            kind = self.things["credential_types"][self.things["credentials"][whole["credential"]]["credential_type"]]["kind"]
            if kind in ("ssh", "scm", "insights", "vault"):
                raise Refused(400, {"credential": ["Credentials of type machine, source control, insights and vault are disallowed for custom inventory"]})

    def _check_notification_templates(self, whole: dict[str, Any], given: dict[str, Any], before: dict[str, Any] | None) -> None:
        if whole["notification_type"] not in NOTIFICATIONS:
            raise Refused(400, {"notification_type": ["not of those that this server knows"]})
        if "notification_configuration" not in given:
            if before is None:
                raise Refused(400, {"notification_configuration": ["This field is required."]})
            return
        fields, configuration = NOTIFICATIONS[whole["notification_type"]], given["notification_configuration"]
        # AWX keeps a field of another name, and no notification reads it.
        _only(configuration, set(fields), "notification_configuration")
        for name, rule in fields.items():
            default = [part for part in rule[1:] if part != "secret"]
            if name not in configuration:
                if not default:
                    raise Refused(400, {"notification_configuration": [f"Missing required fields for Notification Configuration: ['{name}']."]})
                configuration[name] = default[0]
            # As exact as AWX is: a truth value is no number.
            if configuration[name].__class__ is not rule[0]:
                raise Refused(400, {"notification_configuration": [f"Configuration field '{name}' incorrect type, expected {rule[0].__name__}."]})

    def _check_job_templates(self, whole: dict[str, Any], given: dict[str, Any], before: dict[str, Any] | None) -> None:
        project = self.things["projects"].get(whole["project"] or 0)
        if project is None:
            raise Refused(400, {"project": ["This field is required."]})
        if whole["playbook"] not in self.playbooks:
            raise Refused(400, {"playbook": ["Playbook not found for project."]})
        if (whole["scm_branch"] or whole["ask_scm_branch_on_launch"]) and not project["allow_override"]:
            raise Refused(400, {"scm_branch": ["Project does not allow overriding branch."]})
        if whole["inventory"] is None and not whole["ask_inventory_on_launch"]:
            raise Refused(400, {"inventory": ["Must either set a default value or ask to prompt on launch."]})

    def _check_workflow_job_template_nodes(self, whole: dict[str, Any], given: dict[str, Any], before: dict[str, Any] | None) -> None:
        # Variables that are required may be given when the workflow starts.
        self._check_prompts(whole, given, required=False)

    def _check_schedules(self, whole: dict[str, Any], given: dict[str, Any], before: dict[str, Any] | None) -> None:
        rule, errors = whole["rrule"], []
        if len(re.findall(r"DTSTART(?:;[^:]+)?:[0-9]+T[0-9]+Z?", rule)) != 1:
            errors.append("Valid DTSTART required in rrule. Value should start with: DTSTART:YYYYMMDDTHHMMSSZ")
        if re.search(r"DTSTART:[0-9]+T[0-9]+ ", rule):
            errors.append("DTSTART cannot be a naive datetime.")
        for part in re.findall(r"RULE:\S*", rule) or [""]:
            if "INTERVAL" not in part:
                errors.append("INTERVAL required in rrule")
            if "SECONDLY" in part or re.search(r"BYDAY=[0-9]", part):
                errors.append("SECONDLY and BYDAY with numeric prefix are not supported")
        if errors:
            raise Refused(400, {"rrule": errors})
        self._check_prompts(whole, given, required=True)

    def _check_prompts(self, whole: dict[str, Any], given: dict[str, Any], required: bool) -> None:
        """What is given to a template at its launch must be asked for by it."""
        if whole["unified_job_template"] is None:
            return
        found = [(kind, self.things[kind][whole["unified_job_template"]]) for kind in UNIFIED if whole["unified_job_template"] in self.things[kind]]
        if not found:
            if whole["unified_job_template"] in self.things["workflow_approval_templates"]:
                return
            raise Refused(400, {"unified_job_template": ["object does not exist."]})
        kind, template = found[0]
        for name, ask in PROMPTS.items():
            if whole.get(name) not in (None, "") and not template.get(f"ask_{ask}_on_launch"):
                raise Refused(400, {name: ["Field is not configured to prompt on launch."]})
        spec = {item["variable"]: item for item in self.surveys.get((kind, template["id"]), {}).get("spec", [])} if template.get("survey_enabled") else {}
        for name, value in whole["extra_data"].items():
            if name not in spec and not template.get("ask_variables_on_launch"):
                raise Refused(400, {"extra_data": [f"Variables {name} are not allowed on launch."]})
            _check_survey_answer(spec[name], value)
        for name, item in spec.items():
            if required and item["required"] and name not in whole["extra_data"] and item.get("default", "") == "":
                raise Refused(400, {"variables_needed_to_start": [f"'{name}' value missing"]})

    def _survey(self, method: str, key: tuple[str, int], body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, self.surveys.get(key, {})
        if method == "DELETE":
            self.surveys.pop(key, None)
            return 200, None
        _check_survey(body)
        self.surveys[key] = body
        return 200, None

    def _list(self, method: str, path: str, kind: str, thing: dict[str, Any], name: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        other = KINDS[kind].lists[name]
        ids = self.lists.setdefault((kind, thing["id"], name), [])
        if method == "GET":
            return 200, self._page(path, query, [self._show(other, self.things[other][id_]) for id_ in ids])
        _only(body, {"id", "disassociate"}, "id")
        if body["id"] not in self.things[other]:
            raise Refused(400, {"msg": f"{other} {body['id']} does not exist"})
        if body.get("disassociate"):
            ids.remove(body["id"])
            return 204, None
        if name == "galaxy_credentials" and self.things["credential_types"][self.things["credentials"][body["id"]]["credential_type"]]["kind"] != "galaxy":
            raise Refused(400, {"msg": "Credential must be a Galaxy credential, not of another kind."})
        if kind == "job_templates" and name == "credentials":
            types = [self.things["credentials"][id_]["credential_type"] for id_ in ids]
            new = self.things["credentials"][body["id"]]["credential_type"]
            of = self.things["credential_types"][new]
            if new in types:
                raise Refused(400, {"error": f"Cannot assign multiple {of['name']} credentials."})
            if of["kind"] not in ("ssh", "vault", "cloud", "net", "kubernetes"):
                raise Refused(400, {"error": f"Cannot assign a Credential of kind `{of['kind']}`."})
        ids.append(body["id"])
        return 204, None

    def _role(self, kind: str, id_: int, role: str) -> int:
        return (list(KINDS).index(kind) * 100000 + id_) * 100 + KINDS[kind].roles.index(role)

    def _roles(self, method: str, role: int, actors: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        kind = list(KINDS)[role // 100 // 100000]
        name = KINDS[kind].roles[role % 100]
        ids = self.members.setdefault(role, {}).setdefault(actors, [])
        if method == "GET":
            return 200, self._page(f"/api/v2/roles/{role}/{actors}/", query, [self._show(actors, self.things[actors][id_]) for id_ in ids])
        if actors == "teams" and kind == "organizations" and name in ("admin", "member"):
            raise Refused(400, {"msg": "You cannot assign an Organization participation role as a child role for a Team."})
        if body.get("disassociate"):
            ids.remove(body["id"])
        else:
            ids.append(body["id"])
        return 204, None

    def _show(self, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
        row = KINDS[kind]
        url = f"/api/v2/{kind}/{thing['id']}/"
        shown = json.loads(json.dumps(thing))
        shown |= {"type": row.type, "url": url, "created": "2026-01-01T00:00:00Z", "modified": "2026-01-01T00:00:00Z"}
        related: dict[str, Any] = {name: f"{url}{name}/" for name in row.lists}
        summary: dict[str, Any] = {}
        if row.roles:
            summary["object_roles"] = {f"{name}_role": {"id": self._role(kind, thing["id"], name), "name": name} for name in row.roles}
        for name, other in row.keys.items():
            if thing.get(name) in self.things[other]:
                summary[name] = {"id": thing[name], "name": self.things[other][thing[name]].get("name", "")}
        if thing.get("unified_job_template"):
            for other in (*UNIFIED, "workflow_approval_templates"):
                if thing["unified_job_template"] in self.things[other]:
                    related["unified_job_template"] = f"/api/v2/{other}/{thing['unified_job_template']}/"
                    summary["unified_job_template"] = {"id": thing["unified_job_template"], "name": self.things[other][thing["unified_job_template"]]["name"]}
        if kind in ("job_templates", "workflow_job_templates"):
            related["survey_spec"] = f"{url}survey_spec/"
        if kind == "workflow_job_template_nodes":
            shown |= {name: list(self.lists.get((kind, thing["id"], name), [])) for name in ("success_nodes", "failure_nodes", "always_nodes")}
        if kind == "projects":
            shown |= {"status": "successful", "scm_revision": "0" * 40}
            related["update"] = f"{url}update/"
            if thing["id"] in self.updates:
                # Making a project begins its first update.
                self.updates.discard(thing["id"])
                summary["current_update"] = {"id": thing["id"] + 5000}
        if kind == "credentials":
            secret = {entry["id"] for entry in self.things["credential_types"][thing["credential_type"]]["inputs"]["fields"] if entry.get("secret")}
            shown["inputs"] = {name: ENCRYPTED if name in secret and value else value for name, value in thing["inputs"].items()}
        if kind == "notification_templates":
            rules = NOTIFICATIONS[thing["notification_type"]]
            shown["notification_configuration"] = {name: ENCRYPTED if "secret" in rules[name] and value else value
                                                   for name, value in thing["notification_configuration"].items()}
        if kind == "credential_types":
            shown.setdefault("managed", False)
        return {**shown, "related": related, "summary_fields": summary}

    def _page(self, path: str, query: dict[str, str], things: list[dict[str, Any]]) -> dict[str, Any]:
        page, size = int(query.pop("page", 1)), int(query.pop("page_size", 25))
        query.pop("order_by", None)
        either = {name.removeprefix("or__"): value for name, value in query.items() if name.startswith("or__")}
        every = {name: value for name, value in query.items() if not name.startswith("or__")}
        found = [thing for thing in things if all(self._matches(thing, *pair) for pair in every.items())
                 and (not either or any(self._matches(thing, *pair) for pair in either.items()))]
        more = len(found) > page * size
        following = f"{path}?{urlencode({**query, 'page': page + 1, 'page_size': size})}" if more else None
        return {"count": len(found), "next": following, "previous": None, "results": found[(page - 1) * size:page * size]}

    def _matches(self, thing: dict[str, Any], name: str, value: str) -> bool:
        field_, _sep, rest = name.partition("__")
        if field_ not in thing:
            raise Refused(400, {"detail": f"{thing['type']} has no field named '{field_}'"})
        if rest and rest not in ("endswith", "startswith", "contains", "exact"):
            kinds = {**{key: other for row in KINDS.values() for key, other in row.keys.items()}}
            return self._matches(self._show(kinds[field_], self.things[kinds[field_]][thing[field_]]), rest, value)
        if isinstance(thing[field_], bool):
            return str(thing[field_]).lower() == value.lower()
        have = "" if thing[field_] is None else str(thing[field_])
        return {"endswith": have.endswith, "startswith": have.startswith, "contains": have.__contains__}.get(rest, have.__eq__)(value)


def _only(given: dict[str, Any], known: set[str], where: str) -> None:
    if strange := sorted(set(given) - known):
        raise Refused(400, {where: [f"Additional properties are not allowed ({', '.join(strange)})"]})


def _check_survey(spec: dict[str, Any]) -> None:
    """awx/api/views: JobTemplateSurveySpec._validate_spec_data, and the properties of an item that AWX' own page writes."""
    if not (isinstance(spec.get("name"), str) and isinstance(spec.get("description"), str) and spec.get("spec")):
        raise Refused(400, {"error": "name, description and spec are needed, and spec has items"})
    seen = set()
    for number, item in enumerate(spec["spec"]):
        _only(item, {"type", "question_name", "question_description", "variable", "required", "default", "choices", "min", "max", "new_question",
                     "formattedChoices"}, "error")
        for name, kind in {"type": str, "question_name": str, "variable": str, "required": bool}.items():
            if not isinstance(item.get(name), kind):
                raise Refused(400, {"error": f"'{name}' in survey question {number} expected to be {kind.__name__}."})
        if item["variable"] in seen:
            raise Refused(400, {"error": f"'variable' '{item['variable']}' duplicated in survey question {number}."})
        seen.add(item["variable"])
        types = {"text": str, "textarea": str, "password": str, "multiplechoice": str, "multiselect": str, "integer": int, "float": float}
        if item["type"] not in types:
            raise Refused(400, {"error": f"'{item['type']}' in survey question {number} is not one of the allowed question types."})
        default = item.get("default", "")
        if default != "" and not isinstance(default, types[item["type"]]):
            raise Refused(400, {"error": f"Default value {default} in survey question {number} is of another type."})
        if any(item.get(name) is not None and not isinstance(item[name], int) for name in ("min", "max")):
            raise Refused(400, {"error": f"The limits in survey question {number} expected to be integer."})
        if item["type"].startswith("multi"):
            if "choices" not in item:
                raise Refused(400, {"error": f"Survey question {number} must specify choices."})
            if any(part not in item["choices"] for part in default.splitlines()):
                raise Refused(400, {"error": "Default choice must be answered from the choices listed."})


def _check_survey_answer(item: dict[str, Any], value: Any) -> None:
    """awx/main/models/mixins.py: SurveyJobTemplateMixin._survey_element_validation."""
    if item["type"] == "multiselect":
        if not isinstance(value, list) or any(part not in item["choices"] for part in value):
            raise Refused(400, {"extra_data": [f"'{item['variable']}' value is expected to be a list of the choices."]})
    elif item["type"] in ("text", "password", "textarea", "multiplechoice"):
        if not isinstance(value, str):
            raise Refused(400, {"extra_data": [f"Value {value} for '{item['variable']}' expected to be a string."]})
        if item["type"] == "multiplechoice" and value not in item["choices"]:
            raise Refused(400, {"extra_data": [f"Value {value} for '{item['variable']}' expected to be one of {item['choices']}."]})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    awx: Awx

    def _serve(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with self.awx.lock:
            try:
                status, answer = self._answer(url.path, dict(parse_qsl(url.query, keep_blank_values=True)), body)
            except Refused as refused:
                status, answer = refused.status, refused.body
                self.awx.refusals.append(f"{self.command} {self.path} {json.dumps(body)}: {refused}")
        data = b"" if status == 204 or answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", VERSION)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        given = self.headers.get("Authorization", "")
        if path.startswith("/api/v2/tokens/"):
            if given != "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
                raise Refused(401, {"detail": "Authentication credentials were not provided."})
            return (201, {"id": 1, "token": TOKEN}) if self.command == "POST" else (204, None)
        if given != f"Bearer {TOKEN}":
            raise Refused(401, {"detail": "Authentication credentials were not provided."})
        self.awx.requests.append((self.command, self.path, body))
        return self.awx.answer(self.command, path, query, body)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests look at what was kept."""


def serve(awx: Awx) -> Iterator[str]:
    """The address of a server, as long as it is wanted."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"awx": awx}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
