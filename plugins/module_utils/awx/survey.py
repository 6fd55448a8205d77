# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Surveys of AWX, made from the argument specs of the roles."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.awx.catalogue import COUNTIES, VERSIONS, Question, Template

# What a text may have at most; AWX has no default of its own.
TEXT_MAX = 4096
_MARKUP = re.compile(r"\b[A-Z]+\(([^)]*)\)")


def plain(description: Any) -> str:
    """The text of a description without Ansible's markup."""
    text = " ".join(description) if isinstance(description, list) else str(description or "")
    return " ".join(_MARKUP.sub(r"\1", text).split())


def survey(template: Template, options: Mapping[str, Mapping[str, Any]], counties: Sequence[str], versions: Sequence[str]) -> dict[str, Any]:
    """The survey of a job template, empty when nothing is asked. AWX keeps it as it is given, so equal input gives an equal survey."""
    if not template.questions:
        return {}
    items = [_item(question, options[question.variable], _choices(question, counties, versions)) for question in template.questions]
    return {"name": f"{template.playbook}.yml", "description": "An answer, also an empty one, beats the inventory.", "spec": items}


def _choices(question: Question, counties: Sequence[str], versions: Sequence[str]) -> list[str]:
    if question.choices == COUNTIES and counties:
        return ["all", *counties]
    return list(versions) if question.choices == VERSIONS else []


def _item(question: Question, option: Mapping[str, Any], choices: list[str]) -> dict[str, Any]:
    text = plain(option.get("description"))
    choices = choices or [str(choice) for choice in option.get("choices", [])]
    item: dict[str, Any] = {
        "variable": question.variable, "question_name": question.variable, "question_description": text, "required": question.required, "default": "",
    }
    kind = option.get("type", "str")
    if kind == "bool":
        return {**item, "type": "multiplechoice", "choices": ["false", "true"], "required": True, "default": str(bool(option.get("default"))).lower()}
    if choices and kind == "list":
        return {**item, "type": "multiselect", "choices": choices}
    if choices:
        default = str(option.get("default") or "")
        # Where the role has a default of its own it is what a person gets who changes nothing.
        return {**item, "type": "multiplechoice", "choices": choices, "default": default, "required": question.required or bool(default)}
    if kind == "int":
        return {**item, "type": "integer", "default": option.get("default", "")}
    return {**item, "type": "password" if option.get("no_log") else "text", "min": 0, "max": TEXT_MAX}
