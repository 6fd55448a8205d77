# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
name: collection_version
short_description: Version of another collection, to say by name which one is missing
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Returns the version of an installed collection; an empty text when it is not installed, V(*) when its version is not known.
options:
  _input:
    description: Name of the collection.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse to go on without a collection
  ansible.builtin.assert:
    that: "'awx.awx' | cht.k3s.collection_version != ''"
    fail_msg: The collection awx.awx is not installed.
"""

RETURN = r"""
_value:
  description: The version.
  type: str
  sample: 24.6.1
"""


def collection_version(name: str) -> str:
    """The version."""
    try:
        spec = importlib.util.find_spec(f"ansible_collections.{name}")
    except ModuleNotFoundError:
        spec = None
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        return ""
    manifest = Path(places[0]) / "MANIFEST.json"
    if not manifest.exists():
        return "*"
    return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"] or "*")


class FilterModule:
    """Filters about collections."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"collection_version": collection_version}
