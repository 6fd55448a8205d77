# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a variable means that was given as text: `-e NAME=VALUE`, the surveys of AWX and INI inventories know nothing else."""
from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.validation import check_type_dict


def as_list(value: Any) -> list[Any]:
    """A list: JSON, one item a line, or items between commas, as Ansible's own validation has it."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        raise TypeError("a list is expected, and this is a mapping")
    return list(value) if isinstance(value, (list, tuple)) else _items(str(value).strip())


def as_dict(value: Any) -> dict[str, Any]:
    """A mapping: JSON or key=value pairs, as Ansible's own validation has it."""
    if value is None or isinstance(value, Mapping):
        return value or {}  # type: ignore[return-value]
    if isinstance(value, (list, tuple)):
        raise TypeError("a mapping is expected, and this is a list")
    text = str(value).strip()
    if not text:
        return {}
    try:
        return dict(check_type_dict(text))
    except (TypeError, ValueError) as error:
        raise TypeError("a mapping is expected, and this text is neither JSON nor key=value pairs; give it as YAML or JSON") from error


def _items(text: str) -> list[Any]:
    if text.startswith("[") and text.endswith("]"):
        for read in (json.loads, ast.literal_eval):
            try:
                return list(read(text))
            except (ValueError, SyntaxError):
                continue
        raise TypeError("a list is expected, and this text begins like JSON and is none")
    return [item.strip() for item in (text.splitlines() if "\n" in text else text.split(",")) if item.strip()]
