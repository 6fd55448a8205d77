# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: cht_project_problems
short_description: What is wrong with the definitions of counties
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Checks a list of counties as M(cht.k3s.cht_projects) does, without a cluster, and returns every problem of every county.
positional: _input, defaults
options:
  _input:
    description: The counties.
    type: list
    elements: raw
    required: true
  defaults:
    description: What all of them share.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Refuse wrong definitions
  ansible.builtin.assert:
    that: (cht_projects | cht.k3s.cht_project_problems(cht_project_defaults)) | length == 0
"""

RETURN = r"""
_value:
  description: One message for each problem.
  type: list
  elements: str
  sample: ["county 'nairobi': unknown key 'hots': did you mean 'host'? (/srv/counties/nairobi.yml:2:1)"]
"""

from typing import Any


def cht_project_problems(projects: Any, defaults: Any = None) -> list[str]:
    """Every problem of every county."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import UNREADABLE, read_counties
    from ansible_collections.cht.k3s.plugins.plugin_utils.origin import place_in

    entries = {str(entry["name"]): entry for entry in projects if isinstance(entry, dict) and "name" in entry} if isinstance(projects, list) else {}
    said = []
    for problem in read_counties(projects, defaults)[1]:
        entry = entries.get(problem.county, {})
        place = "" if UNREADABLE in entry else place_in(entry, problem.message)
        said.append(f"{problem} ({place})" if place else str(problem))
    return said


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        return {"cht_project_problems": cht_project_problems}
