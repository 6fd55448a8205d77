# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: county_from_chart_values
short_description: Turn the values.yaml of CHT's helm charts into a county
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Converts the values of cht-chart-4x, and of the charts of CHT 5, into a definition for M(cht.k3s.cht_projects).
  - Says what could not be taken over as it is, such as published secrets, placeholders and text where a truth value belongs.
options:
  _input:
    description: The content of values.yaml.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Convert a county of helm
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.file', 'values.yaml') | from_yaml | cht.k3s.county_from_chart_values }}"
"""

RETURN = r"""
_value:
  description: The definition as C(county), and what people should look at as C(notes).
  type: dict
  sample:
    county: {name: nairobi, host: nairobi.health.example, version: 4.22.0, couchdb: {mode: single}}
    notes: ["couchdb.secret is the one published with the chart: left out; a county that runs keeps it and is reported"]
"""

from typing import Any

from ansible.errors import AnsibleFilterError


def county_from_chart_values(values: Any) -> dict[str, Any]:
    """The county, and notes about it."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.cht.chart_values import convert

    try:
        return convert(values)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        return {"county_from_chart_values": county_from_chart_values}
