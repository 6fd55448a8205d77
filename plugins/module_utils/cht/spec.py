# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a county's definition may contain: the keys, their types, defaults and checks, in one table.

The table is the only place where a key exists; validation, the builders and the page docs/counties.md
(a test compares them) all follow it.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import parse_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import (
    FIRST_UPGRADEABLE_TO_5,
    default_tag,
    needs_tls,
    parse_release,
    unknown_shape,
    wants_three_nodes,
)
from ansible_collections.cht.k3s.plugins.module_utils.names import did_you_mean

# A check returns what is wrong with a value, or None.
Check = t.Callable[[t.Any], "str | None"]

_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_HOST = re.compile(r"^(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$")
_OBJECT_NAME = re.compile(r"^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_IMAGE = re.compile(r"^[a-z0-9]+([._:/@-]+[A-Za-z0-9]+)*$")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")
# CouchDB's start scripts put user and password unquoted into shell words, URLs, JSON and an .ini file.
_USER = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,62}$")
_PASSWORD = re.compile(r"^[A-Za-z0-9._~-]+$")
_UUID_LIKE = re.compile(r"^[A-Za-z0-9-]{16,128}$")
_INI_NAME = re.compile(r"^[A-Za-z0-9_.{}-]+$")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_DATABASE = re.compile(r"^[a-z][a-z0-9_-]*$")

# Published as the defaults of cht-chart-4x: whoever read the chart can forge the sessions of a county that kept them.
PUBLISHED_SECRET = "f9053a0a-ef77-4be3-994d-87d6732600fd"
PUBLISHED_UUID = "7300115e-1a98-4607-a37c-50e0c9913767"
PUBLISHED_PASSWORDS = frozenset({"password", "medicpassword", "pass", "password-value"})
MIN_PASSWORD_LENGTH = 12

# Namespaces that are never a county's.
RESERVED_NAMESPACES = frozenset({"default", "kube-system", "kube-public", "kube-node-lease", "vmware-system-csi"})

# Key of an entry that stands for a file which can't be read; its value says why.
UNREADABLE = "unreadable file"

# Settings of CouchDB that are somebody's already, with the owner or the way to change them; * stands for the whole section.
_CREDENTIALS, _CLUSTER, _CHT = "credentials of the county", "it decides where the data is, and CouchDB would look for it elsewhere", "CHT needs it as it is"
COUCHDB_OWNED: dict[tuple[str, str], str] = {
    ("admins", "*"): f"it is credentials.user and credentials.password, the {_CREDENTIALS}",
    ("couch_httpd_auth", "secret"): f"it is credentials.secret, of the {_CREDENTIALS}",
    ("chttpd_auth", "secret"): f"it is credentials.secret, of the {_CREDENTIALS}",
    ("couchdb", "uuid"): f"it is credentials.uuid, of the {_CREDENTIALS}",
    ("log", "level"): "it is couchdb.log_level",
    **dict.fromkeys((("couchdb", "database_dir"), ("couchdb", "view_index_dir"), ("couchdb", "single_node"), ("cluster", "*")), _CLUSTER),
    **dict.fromkeys(
        (("chttpd", "port"), ("chttpd", "bind_address"), ("httpd", "port"), ("httpd", "bind_address"), ("chttpd", "require_valid_user"),
         ("couch_httpd_auth", "require_valid_user"), ("chttpd_auth", "require_valid_user"), ("couch_httpd_auth", "allow_persistent_cookies"),
         ("chttpd_auth", "allow_persistent_cookies"), ("chttpd", "authentication_handlers"), ("nouveau", "*")),
        _CHT,
    ),
}
# Environment of API and Sentinel that is set elsewhere.
ENVIRONMENT_OWNED = {
    "NODE_ENV": "it is node_env", "LOG_LEVEL": "it is log_level", "BUILDS_URL": "it is builds_url",
    **dict.fromkeys(("COUCH_URL", "API_HOST", "API_PORT", "UPGRADE_SERVICE_URL"), "this collection sets it"),
}

# Java's heap of Nouveau, and what it takes beside it.
_NOUVEAU_LEAST = "3Gi"

COMPONENTS = ("api", "sentinel", "haproxy", "healthcheck", "couchdb", "nouveau", "upgrade_service")


@dataclass(frozen=True)
class Option:
    """One key: its type, its default and what a value must be."""

    type: str
    help: str
    default: t.Any = None
    required: bool = False
    choices: tuple[str, ...] = ()
    check: Check | None = None
    options: dict[str, Option] = field(default_factory=dict)
    secret: bool = False
    # What an empty text stands for where it isn't the same as leaving the key out.
    empty: t.Any = None


def _matches(pattern: re.Pattern[str], what: str) -> Check:
    def check(value: t.Any) -> str | None:
        return None if pattern.match(str(value)) else f"is not {what}"

    return check


def _quantity(value: t.Any) -> str | None:
    try:
        parse_quantity(value)
    except ValueError:
        return "is not a quantity: write it as '4Gi', '500m' or '2'"
    return None


def _storage(value: t.Any) -> str | None:
    problem = _quantity(value)
    if problem is None and parse_quantity(value) < 2**20:
        return "is less than 1Mi: give the size with its unit, as in '4Gi'"
    return problem


def _count(low: int, high: int) -> Check:
    def check(value: t.Any) -> str | None:
        return None if low <= value <= high else f"is not between {low} and {high}"

    return check


def _namespace(value: t.Any) -> str | None:
    if not _LABEL.match(value):
        return "is not a name that Kubernetes takes: lower case letters, digits and '-', at most 63"
    if value in RESERVED_NAMESPACES:
        return "is a namespace of the cluster itself: choose another"
    return None


def _version(value: t.Any) -> str | None:
    release = parse_release(value)
    if release is None:
        return "is not a version of CHT: write all three numbers, as in '4.22.0'"
    if release.major not in (4, 5):
        return "is not supported: this collection deploys CHT 4.x and 5.x"
    return unknown_shape(value)


def _password(value: t.Any) -> str | None:
    if not _PASSWORD.match(value):
        return "has characters that CHT's start scripts break: use letters, digits and . _ ~ - only"
    if value.lower() in PUBLISHED_PASSWORDS:
        return "is a published example: choose another, or leave it out to have one generated"
    if len(value) < MIN_PASSWORD_LENGTH:
        return f"is shorter than {MIN_PASSWORD_LENGTH} characters: choose a longer one, or leave it out to have one generated"
    return None


def _published(published: str, what: str) -> Check:
    def check(value: t.Any) -> str | None:
        if value == published:
            return f"is the {what} published with cht-chart-4x: run uuidgen for a new one, or leave it out to have one generated"
        return None if _UUID_LIKE.match(value) else "is not 16 to 128 letters, digits and '-'"

    return check


def _quantities(value: t.Any) -> str | None:
    for key, amount in value.items():
        if isinstance(amount, (dict, list, bool)) or _quantity(amount) is not None:
            return f"has '{key}: {amount}', which is not a quantity: write it as '4Gi', '500m' or '2'"
    return None


def _labels(value: t.Any) -> str | None:
    for key, text in value.items():
        if isinstance(text, bool):
            return f"has '{key}: {str(text).lower()}', which YAML reads as true or false, and Kubernetes takes texts only: put it in quotes"
        if not _LABEL_KEY.match(str(key)) or isinstance(text, (dict, list)):
            return f"has '{key}', which is not a label"
    return None


def _couchdb_settings(value: t.Any) -> str | None:
    seen: set[tuple[str, str]] = set()
    for entry in value:
        section, key, text = (entry.get(name) for name in ("section", "key", "value"))
        shown = f"{section}/{key}"
        if set(entry) != {"section", "key", "value"}:
            return f"has the entry {{{', '.join(map(str, entry))}}}: each needs section, key and value"
        if isinstance(text, bool) or not _scalar(text):
            return f"has the value of {shown}, which is no text or number: put true, false and lists in quotes, as CouchDB writes them"
        if not _INI_NAME.match(str(section)) or not _INI_NAME.match(str(key)):
            return f"has '{shown}', which is not a section and a key of CouchDB"
        # A line's end begins another setting, and what follows a blank and ';' is a comment.
        if not str(text).strip() or re.search(r"[\r\n]|(^|\s);", str(text)):
            return f"has the value of {shown}, which CouchDB would not read as one: give one line without ';'"
        owner = COUCHDB_OWNED.get((str(section), str(key))) or COUCHDB_OWNED.get((str(section), "*"))
        if owner:
            return f"has '{shown}', which can't be set here: {owner}"
        if (str(section), str(key)) in seen:
            return f"has '{shown}' twice"
        seen.add((str(section), str(key)))
    return None


def _environment(value: t.Any) -> str | None:
    for name, text in value.items():
        if not _VARIABLE.match(name):
            return f"has '{name}', which is not the name of an environment variable"
        if isinstance(text, (dict, list, bool)):
            return f"has '{name}', whose value is no text: put it in quotes"
        owner = ENVIRONMENT_OWNED.get(name)
        if owner is not None or name.startswith(("COUCHDB_", "HAPROXY_", "CHT_")):
            return f"has '{name}', which can't be set here: {owner or 'this collection sets it'}"
    return None


_RESOURCES = {
    "requests": Option("quantities", "What the scheduler keeps free for the container: C(cpu), C(memory)."),
    "limits": Option("quantities", "What the container can't exceed."),
}

_NAME_CHECK = _matches(_LABEL, "a name that Kubernetes takes: lower case letters, digits and '-', at most 63")

SCHEMA: dict[str, Option] = {
    "name": Option("str", "Name of the county, unique in the list; every message and table row carries it.", required=True, check=_NAME_CHECK),
    "host": Option(
        "str",
        "Host name under which users reach the county; the Ingress chooses the county by it.",
        required=True,
        check=_matches(_HOST, "a host name: lower case, with at least one dot, and no scheme or port"),
    ),
    "version": Option("str", "Version of CHT, C(4.x.y) or C(5.x.y).", required=True, check=_version),
    "namespace": Option("str", "Namespace of the county; its name when left out.", check=_namespace),
    "builds_url": Option(
        "str", "Where API looks for new versions.", default="https://staging.dev.medicmobile.org/_couch/builds_4"
    ),
    "node_env": Option("str", "C(NODE_ENV) of API and Sentinel: from 5.1 on, and in earlier versions where users come over HTTPS.", default="production"),
    "log_level": Option(
        "str", "C(LOG_LEVEL) of API and Sentinel from 5.1 on.", default="info", choices=("error", "warn", "info", "debug", "silly")
    ),
    "environment": Option(
        "dict",
        "More environment variables, such as C(NODE_OPTIONS) or a proxy.",
        options={
            name: Option("labels", f"Environment variables of {shown}, such as C(NODE_OPTIONS) or a proxy.", default={}, check=_environment)
            for name, shown in (("api", "API"), ("sentinel", "Sentinel"))
        },
    ),
    "couchdb": Option(
        "dict",
        "The county's database.",
        options={
            "mode": Option("str", "C(clustered) (several nodes, as in the guide) or C(single).", default="clustered", choices=("clustered", "single")),
            "nodes": Option("int", "CouchDB nodes of C(clustered).", default=3, check=_count(2, 9)),
            "storage": Option(
                "str", "Size of each CouchDB volume; a volume only ever grows. Less than there is, in the county's own entry, is refused.",
                default="4Gi", check=_storage,
            ),
            "storage_class": Option(
                "str",
                "StorageClass of new volumes; a volume that exists keeps its own.",
                default="vmware-sc",
                check=_matches(_OBJECT_NAME, "the name of a StorageClass"),
            ),
            "volumes": Option(
                "names", "PersistentVolumes that exist and hold the data, one for each CouchDB node in their order.", default=[]
            ),
            "volumes_unproven": Option(
                "names",
                "Those of C(couchdb.volumes) that are taken although they held the data of another claim; CouchDB looks well without finding it.",
                default=[],
            ),
            "log_level": Option(
                "str", "CouchDB's log level.", default="info", choices=("debug", "info", "notice", "warning", "error", "critical")
            ),
            "settings": Option(
                "dicts", "More settings of CouchDB, a list of C(section), C(key) and C(value).", default=[], check=_couchdb_settings
            ),
            "database": Option(
                "str", "Name of the database (5.x; 4.x has it fixed).", default="medic", check=_matches(_DATABASE, "the name of a database")
            ),
            "data_path": Option(
                "str",
                "Folder on the volume that holds the data, C(/) for its root; C(%d) stands for the node's number. Only differs for data brought along.",
                default="data",
                empty="/",
            ),
            "bootstrap_attempts": Option(
                "int", "How often, 5 seconds apart, a node looks for its peers before it gives up (C(WAIT_THRESHOLD)).", default=240, check=_count(20, 10000)
            ),
        },
    ),
    "credentials": Option(
        "dict",
        "CouchDB's administrator. What is left out is generated once and kept in the county's Secret.",
        options={
            "user": Option("str", "Name of the administrator.", default="medic", check=_matches(_USER, "a name: letters, digits and '_', first a letter")),
            "password": Option("str", "Password of the administrator.", check=_password, secret=True),
            "secret": Option("str", "CouchDB's cookie secret.", check=_published(PUBLISHED_SECRET, "secret"), secret=True),
            "uuid": Option("str", "CouchDB's server UUID.", check=_published(PUBLISHED_UUID, "uuid"), secret=True),
        },
    ),
    "tls": Option(
        "dict",
        "TLS at the ingress. C(none): terminated in front of the cluster.",
        options={
            "mode": Option("str", "C(none), C(secret) (the Secret exists) or C(files).", default="none", choices=("none", "secret", "files")),
            "secret": Option(
                "str", "Name of the TLS Secret.", default="api-tls-secret", check=_matches(_OBJECT_NAME, "the name of a Secret")
            ),
            "certificate": Option("str", "Certificate chain: a file on the controller, relative to the inventory's folder, or the PEM text itself."),
            "private_key": Option("str", "Private key: a file on the controller, relative to the inventory's folder, or the PEM text itself.", secret=True),
        },
    ),
    "ingress": Option(
        "dict",
        "How requests come in.",
        options={
            "class_name": Option("str", "Ingress class.", default="traefik", check=_matches(_OBJECT_NAME, "the name of an ingress class")),
            "annotations": Option("labels", "Annotations of the Ingress.", default={}),
            "tls_in_front": Option(
                "bool", "Users come over HTTPS although C(tls.mode) is C(none): a proxy or load balancer in front of the cluster ends it.", default=False
            ),
            "controller_namespace": Option("str", "Namespace of the ingress controller.", default="kube-system", check=_NAME_CHECK),
            "controller_labels": Option(
                "labels", "Labels of the ingress controller's pods: only they reach API.", default={"app.kubernetes.io/name": "traefik"}, check=_labels
            ),
        },
    ),
    "images": Option(
        "dict",
        "Where images come from.",
        options={
            "registry": Option("str", "Registry and folder of CHT's images.", default="public.ecr.aws/medic", check=_matches(_IMAGE, "a registry")),
            "tag": Option("str", "Tag of CHT's images; that of the version when left out.", check=_matches(_TAG, "an image tag")),
            "upgrade_service": Option(
                "str", "Image of the upgrade service (4.x).", default="medicmobile/upgrade-service:0.32", check=_matches(_IMAGE, "an image")
            ),
            "pull_policy": Option("str", "When the kubelet pulls.", default="IfNotPresent", choices=("IfNotPresent", "Always", "Never")),
        },
    ),
    "placement": Option(
        "dict",
        "On which agents the county runs.",
        options={
            "mode": Option(
                "str",
                "C(together): the county's pods prefer one agent and counties spread over the agents; "
                "C(spread): each CouchDB node prefers an agent of its own.",
                default="together",
                choices=("together", "spread"),
            ),
            "nodes": Option(
                "names", "Host names of agents: one for all pods, or one for each CouchDB node.", default=[]
            ),
            "node_selector": Option("labels", "Labels that an agent must have.", default={}, check=_labels),
            "tolerations": Option("dicts", "Tolerations of all pods, besides those of CouchDB.", default=[]),
        },
    ),
    "resources": Option(
        "dict",
        "CPU and memory of each component; nothing is set for what is left out.",
        options={name: Option("dict", f"Resources of {name}.", options=_RESOURCES) for name in COMPONENTS},
    ),
    "quota": Option("quantities", "Hard limits of a ResourceQuota, such as C(limits.memory: 32Gi); none when left out.", default={}),
    "limit_range": Option(
        "dict",
        "Defaults for containers that give no resources (LimitRange).",
        options={
            "default": Option("quantities", "Limits where none are given."),
            "default_request": Option("quantities", "Requests where none are given."),
            "max": Option("quantities", "Largest limits that a container may have."),
        },
    ),
    "smoke_test": Option(
        "dict",
        "An account that exists, to log in with after each upgrade.",
        options={
            "user": Option("str", "Account that exists in the county, with which each upgrade is tested; without one the login page alone is."),
            "password": Option("str", "Its password.", secret=True),
        },
    ),
    "viewers": Option(
        "names",
        "Groups that may look at the county (pods, events, volumes), but read no logs, where haproxy writes the administrator's password, and no Secrets.",
        default=[],
    ),
    "network_policy": Option("bool", "Keep other namespaces away from the county's pods.", default=True),
    "labels": Option("labels", "More labels of the namespace.", default={}, check=_labels),
}


@dataclass(frozen=True)
class Problem:
    """Something wrong with one county's definition."""

    county: str
    message: str

    def __str__(self) -> str:
        return f"county '{self.county}': {self.message}"


@dataclass(frozen=True)
class County:
    """A county with every option filled in and checked."""

    name: str
    namespace: str
    host: str
    options: dict[str, t.Any]
    # What its own entry says, without what all share.
    own: dict[str, t.Any]

    def __getitem__(self, key: str) -> t.Any:
        return self.options[key]

    @property
    def version(self) -> str:
        return str(self.options["version"])

    @property
    def major(self) -> int:
        release = parse_release(self.version)
        return release.major if release is not None else 0  # validation lets no 0 through

    @property
    def tag(self) -> str:
        return str(self.options["images"]["tag"] or default_tag(self.version))

    @property
    def couchdb_services(self) -> list[str]:
        """Names of the CouchDB services: `couchdb`, or `couchdb-1` to `couchdb-N`."""
        if self.options["couchdb"]["mode"] == "single":
            return ["couchdb"]
        return [f"couchdb-{number}" for number in range(1, self.options["couchdb"]["nodes"] + 1)]


def _as_bool(value: t.Any) -> bool | None:
    if isinstance(value, bool):
        return value
    # Charts' values often have it quoted; there "false" counts as true, here it is what it says.
    return {"true": True, "yes": True, "false": False, "no": False}.get(str(value).strip().lower())


def _kind(value: t.Any) -> str:
    """Say what a value is in words of YAML."""
    kinds = {"true or false": bool, "text": str, "number": (int, float), "list": list, "dictionary": dict}
    return next((word for word, types in kinds.items() if isinstance(value, types)), "value of another kind")


def _scalar(value: t.Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _convert(option: Option, path: str, value: t.Any, problems: list[str]) -> t.Any:
    """Return the value in the option's type; add a problem when it has another one."""
    shown = "" if option.secret else f" '{value}'"
    if option.type == "str":
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, float):
            problems.append(f"{path}{shown} was read by YAML as a number: put it in quotes, with all its parts")
        else:
            problems.append(f"{path} must be a text, not a {_kind(value)}")
        return None
    if option.type == "int":
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value).strip()):
            problems.append(f"{path}{shown} is not a whole number")
            return None
        return int(value)
    if option.type == "bool":
        result = _as_bool(value)
        if result is None:
            problems.append(f"{path}{shown} is neither true nor false")
        return result
    if option.type in ("labels", "quantities"):
        if not isinstance(value, dict):
            problems.append(f"{path} must be a dictionary, not a {_kind(value)}")
            return None
        return {str(key): item if isinstance(item, (dict, list, bool)) else "" if item is None else str(item) for key, item in value.items()}
    if not isinstance(value, list):
        problems.append(f"{path} must be a list, not a {_kind(value)}")
        return None
    if option.type == "names":
        if not all(_scalar(item) and str(item) for item in value):
            problems.append(f"{path} must be a list of names")
            return None
        return [str(item) for item in value]
    if not all(isinstance(item, dict) for item in value):
        problems.append(f"{path} must be a list of dictionaries")
        return None
    return value


def _check_value(option: Option, path: str, value: t.Any, problems: list[str]) -> None:
    if value is None:
        return
    shown = "" if option.secret else f" '{value}'" if _scalar(value) else ""
    if option.choices and value not in option.choices:
        problems.append(f"{path}{shown} is none of: {', '.join(option.choices)} ({did_you_mean(str(value), option.choices)})")
        return
    check = option.check or (_quantities if option.type == "quantities" else _labels if option.type == "labels" else None)
    wrong = check(value) if check else None
    if wrong:
        problems.append(f"{path}{shown} {wrong}")


def _read(schema: dict[str, Option], given: t.Any, path: str, problems: list[str], partial: bool) -> dict[str, t.Any]:
    """Return the options of one level, filled up with defaults; collect what is wrong.

    `partial` is for the shared defaults, in which required keys may be missing.
    """
    if not isinstance(given, dict):
        problems.append(f"{path or 'the entry'} must be a dictionary, not a {_kind(given)}")
        given = {}
    for key in given:
        if key not in schema:
            problems.append(f"unknown key '{f'{path}.' if path else ''}{key}': {did_you_mean(str(key), schema)}")
    result: dict[str, t.Any] = {}
    for key, option in schema.items():
        name = f"{path}.{key}" if path else key
        value = given.get(key)
        if option.type == "dict":
            result[key] = _read(option.options, {} if value is None else value, name, problems, partial)
            continue
        if value == "" and option.empty is not None:
            value = option.empty
        if value is None or value == "":
            if option.required and not partial:
                problems.append(f"'{name}' is missing: {option.help}")
            # Copied: a caller that changes one county must not change the defaults of all.
            result[key] = option.default.copy() if isinstance(option.default, (dict, list)) else option.default
            continue
        result[key] = _convert(option, name, value, problems)
        _check_value(option, name, result[key], problems)
    return result


def merge(defaults: t.Any, given: t.Any, schema: dict[str, Option] | None = None) -> t.Any:
    """Lay a county's keys over the shared ones, level by level; lists and label sets replace."""
    known = SCHEMA if schema is None else schema
    if not isinstance(defaults, dict) or not isinstance(given, dict):
        return given
    result = dict(defaults)
    for key, value in given.items():
        option = known.get(key)
        if value is None:
            continue
        if option is not None and option.type == "dict" and key in result:
            result[key] = merge(result[key], value, option.options)
        else:
            result[key] = value
    return result


def _nouveau_problems(options: dict[str, t.Any]) -> list[str]:
    """Return the limit that would kill Nouveau at its start."""
    limits = {
        "resources.nouveau.limits.memory": (options["resources"]["nouveau"]["limits"] or {}).get("memory"),
        "limit_range.default.memory": (options["limit_range"]["default"] or {}).get("memory"),
    }
    # Its own limit takes the place of the default.
    name, limit = next(((name, limit) for name, limit in limits.items() if limit), ("", None))
    try:
        small = limit is not None and parse_quantity(limit) < parse_quantity(_NOUVEAU_LEAST)
    except ValueError:
        return []  # reported with the value itself
    if not small:
        return []
    return [f"{name} '{limit}' is too little for Nouveau, whose heap alone has 2 GiB: give resources.nouveau.limits.memory: {_NOUVEAU_LEAST} or more"]


def _related_problems(options: dict[str, t.Any]) -> list[str]:
    """Return what is wrong between several options of one county."""
    problems: list[str] = []
    tls = options["tls"]
    if tls["mode"] == "files":
        missing = [key for key in ("certificate", "private_key") if not tls[key]]
        if missing:
            problems.append(f"tls.mode is 'files' but {' and '.join(f'tls.{key}' for key in missing)} {'is' if len(missing) == 1 else 'are'} missing")
    elif tls["certificate"] or tls["private_key"]:
        problems.append(f"tls.certificate and tls.private_key are given but tls.mode is '{tls['mode']}': set it to 'files'")
    couchdb, nodes = options["couchdb"], options["placement"]["nodes"]
    count = 1 if couchdb["mode"] == "single" else couchdb["nodes"]
    if nodes and count and len(nodes) not in (1, count):
        problems.append(f"placement.nodes has {len(nodes)} names: give 1, or {count}, one for each CouchDB node")
    if couchdb["volumes"] and count and len(couchdb["volumes"]) != count:
        problems.append(f"couchdb.volumes has {len(couchdb['volumes'])} names: give {count}, one for each CouchDB node")
    if len(set(couchdb["volumes"] or [])) < len(couchdb["volumes"] or []):
        problems.append("couchdb.volumes names a volume twice: each CouchDB node needs its own")
    for name in couchdb["volumes_unproven"] or []:
        if name not in (couchdb["volumes"] or []):
            problems.append(f"couchdb.volumes_unproven names {name}, which is not in couchdb.volumes")
    tag, version = options["images"]["tag"], parse_release(options["version"] or "")
    tagged = parse_release(tag) if tag else None
    if tagged is not None and version is not None and tagged.major != version.major:
        problems.append(f"images.tag '{tag}' is of another major version than version '{options['version']}'")
    if options["version"] and couchdb["mode"] == "clustered" and couchdb["nodes"] not in (None, 3) and wants_three_nodes(options["version"]):
        problems.append(f"couchdb.nodes is {couchdb['nodes']}: a clustered CouchDB of CHT before 4.6 has 3 nodes and no other number")
    if options["version"] and tls["mode"] == "none" and not options["ingress"]["tls_in_front"] and needs_tls(options["version"], options["node_env"]):
        problems.append(
            f"CHT {options['version']} sets Secure cookies, and TLS ends nowhere, so nobody could log in: set tls.mode, or ingress.tls_in_front: true "
            "where a proxy in front of the cluster ends it"
        )
    for component, variables in options["environment"].items():
        given = {name.upper(): text for name, text in (variables or {}).items()}
        if {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} & set(given) and ".svc.cluster.local" not in given.get("NO_PROXY", ""):
            problems.append(f"environment.{component} has a proxy, and NO_PROXY does not name .svc.cluster.local: it would ask the proxy for its database")
    if bool(options["smoke_test"]["user"]) != bool(options["smoke_test"]["password"]):
        problems.append("smoke_test needs user and password, or neither")
    if version is not None and version.major >= 5:
        problems.extend(_nouveau_problems(options))
    for component, resources in options["resources"].items():
        for key, request in (resources["requests"] or {}).items():
            limit = (resources["limits"] or {}).get(key)
            try:
                if limit is not None and parse_quantity(request) > parse_quantity(limit):
                    problems.append(f"resources.{component}.requests.{key} '{request}' is more than its limit '{limit}'")
            except ValueError:
                pass  # reported with the value itself
    return problems


def _label_of(entry: t.Any, position: int) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return str(name) if _scalar(name) and str(name) else f"number {position} of the list"


def _shared_problems(counties: list[County]) -> list[Problem]:
    """Return what two counties can't both have: a name, a namespace or a host."""
    problems: list[Problem] = []
    for what, key in (("name", lambda county: county.name), ("namespace", lambda county: county.namespace), ("host", lambda county: county.host)):
        seen: dict[str, list[County]] = {}
        for county in counties:
            seen.setdefault(key(county), []).append(county)
        for value, sharing in seen.items():
            if len(sharing) < 2:
                continue
            if what == "name":
                problems.append(Problem(value, f"is in the list {len(sharing)} times: names must be unique"))
                continue
            for county in sharing:
                others = ", ".join(f"'{other.name}'" for other in sharing if other is not county)
                problems.append(Problem(county.name, f"{what} '{value}' is also that of {others}: each county needs its own"))
    return problems


def read_counties(projects: t.Any, defaults: t.Any) -> tuple[list[County], list[Problem]]:
    """Check a list of counties and fill in what they leave out.

    Returns the counties without a problem of their own, and all problems of all counties at once.
    """
    problems: list[Problem] = []
    defaults = {} if defaults is None else defaults
    shared: list[str] = []
    _read(SCHEMA, defaults, "", shared, partial=True)
    if isinstance(defaults, dict):
        shared.extend(f"'{key}' can't be shared by all counties" for key in ("name", "host", "namespace") if defaults.get(key))
    if shared:
        # Not repeated for each county: one wrong default would hide fifty counties' own problems.
        return [], [Problem("(defaults of all)", text) for text in shared]
    if not isinstance(projects, list):
        return [], [Problem("(all)", f"the counties must be a list, not a {_kind(projects)}")]
    counties: list[County] = []
    for position, entry in enumerate(projects, start=1):
        label, found = _label_of(entry, position), []
        if not isinstance(entry, dict):
            problems.append(Problem(label, f"the entry must be a dictionary, not a {_kind(entry)}"))
            continue
        if UNREADABLE in entry:
            problems.append(Problem(label, str(entry[UNREADABLE])))
            continue
        options = _read(SCHEMA, merge(defaults, entry), "", found, partial=False)
        if not found:
            options["namespace"] = options["namespace"] or options["name"]
            wrong = _namespace(options["namespace"])
            if wrong:
                found.append(f"namespace '{options['namespace']}' {wrong}")
            found.extend(_related_problems(options))
        if found:
            problems.extend(Problem(label, text) for text in found)
        name, host = str(options["name"] or label), str(options["host"] or label)
        counties.append(County(name, str(options["namespace"] or options["name"] or label), host, options, entry))
    problems.extend(_shared_problems(counties))
    bad = {problem.county for problem in problems}
    return [county for county in counties if county.name not in bad], problems


def upgrade_problem(live_tag: str, wanted_tag: str) -> str | None:
    """Return why a running version can't go to the wanted one in one step."""
    live, wanted = parse_release(live_tag), parse_release(wanted_tag)
    if live is None or wanted is None or live.major >= wanted.major or live.number >= FIRST_UPGRADEABLE_TO_5:
        return None
    return f"runs {live_tag}, which can't go to {wanted_tag} in one step: upgrade to 4.5.0 or a later 4.x first, let its migrations finish, then go on"


def secret_values(projects: t.Any) -> list[str]:
    """Return every value in a list of counties (valid or not) that must not be shown."""

    def walk(schema: dict[str, Option], given: t.Any) -> t.Iterator[str]:
        if not isinstance(given, dict):
            return
        for key, option in schema.items():
            value = given.get(key)
            if option.options:
                yield from walk(option.options, value)
            elif option.secret and value and isinstance(value, (str, int)):
                yield str(value)

    return [value for entry in projects if isinstance(projects, list) for value in walk(SCHEMA, entry)] if isinstance(projects, list) else []
