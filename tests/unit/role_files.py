"""Every task, play and expression of the roles and playbooks, for tests of what each of them must have."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, nodes

ROOT = Path(__file__).resolve().parents[2]
CONDITIONS = {"when", "until", "failed_when", "changed_when", "that"}
BLOCKS = ("block", "rescue", "always")
# Modules that only keep what they are given: nothing there turns a text into what is meant.
KEEPERS = {"ansible.builtin.set_fact", "ansible.builtin.assert", "ansible.builtin.debug"}


class Expression(NamedTuple):
    """One template. `argument` is the module whose own argument it is: the module reads it by its argument spec."""

    where: str
    text: str
    tree: nodes.Template
    argument: str


def files(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options() -> dict[str, dict[str, Any]]:
    """All options of all roles, by name."""
    found: dict[str, dict[str, Any]] = {}
    for path in files("roles/*/meta/argument_specs.yml"):
        for entry in load(path)["argument_specs"].values():
            found.update(entry.get("options") or {})
    return found


def expressions() -> Iterator[Expression]:
    environment = Environment(autoescape=False, extensions=["jinja2.ext.do"])  # noqa: S701  (only parsed)
    for path in files("roles/*/tasks/*.yml", "roles/*/vars/*.yml", "roles/*/defaults/*.yml", "roles/*/handlers/*.yml", "playbooks/*.yml"):
        for keys, text, condition in _strings(load(path)):
            if condition or "{{" in text or "{%" in text:
                module = keys[-2] if len(keys) > 1 and "." in keys[-2] and keys[-2] not in KEEPERS else ""
                where = f"{path.relative_to(ROOT)}: {'.'.join(keys)}"
                bare = condition and "{{" not in text
                yield Expression(where, text, environment.parse("{%% if %s %%}{%% endif %%}" % text if bare else text), module)
    for path in files("roles/*/templates/*"):
        text = path.read_text(encoding="utf-8")
        yield Expression(str(path.relative_to(ROOT)), text, environment.parse(text), "")


def _strings(value: Any, keys: tuple[str, ...] = (), condition: bool = False) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, (*keys, str(key)), condition or key in CONDITIONS)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, keys, condition)
    elif isinstance(value, str):
        yield keys, value, condition


def tasks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every task with what it has from the blocks around it, and where it is."""
    for path in files("roles/*/tasks/*.yml", "roles/*/handlers/*.yml"):
        yield from _tasks(str(path.relative_to(ROOT)), load(path) or [], {})
    for where, play in plays():
        for part in ("pre_tasks", "tasks", "post_tasks", "handlers"):
            yield from _tasks(where, play.get(part) or [], {})


def plays() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in files("playbooks/*.yml"):
        for play in load(path):
            if "hosts" in play:
                yield f"{path.relative_to(ROOT)}: {play['name']}", play


def _tasks(where: str, entries: list[dict[str, Any]], outer: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in entries:
        task = {**outer, **entry, "vars": {**outer.get("vars", {}), **(entry.get("vars") or {})}}
        if "block" in entry:
            inherited = {key: value for key, value in task.items() if key in ("delegate_to", "vars", "become", "connection")}
            for part in BLOCKS:
                yield from _tasks(where, entry.get(part) or [], inherited)
        else:
            yield f"{where}: {task.get('name')}", task
