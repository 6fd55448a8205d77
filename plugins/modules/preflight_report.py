#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""
from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Show the preflight's findings and stop if one of them is an error
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Prints the findings of M(cht.k3s.vsphere_preflight) as a table, writes them as JSON and as a self-contained HTML
    page if wanted, and fails if there is an error that nobody accepted.
  - Runs on the controller.
options:
  findings:
    description: RV(cht.k3s.vsphere_preflight#module:findings).
    type: list
    elements: dict
    required: true
  counts:
    description: RV(cht.k3s.vsphere_preflight#module:counts).
    type: dict
    required: true
  hosts:
    description: How many hosts were checked.
    type: int
    required: true
  facts:
    description: Anything else worth keeping in the report, for example versions.
    type: dict
    default: {}
  directory:
    description: Directory on the controller for V(preflight.json) and V(preflight.html). Empty writes none.
    type: path
    default: ''
attributes:
  check_mode:
    support: full
    description: Shows everything and writes no files.
"""

EXAMPLES = r"""
- name: Show the findings
  cht.k3s.preflight_report:
    findings: "{{ preflight.findings }}"
    counts: "{{ preflight.counts }}"
    hosts: 12
    directory: ./reports
"""

RETURN = r"""
table:
  description: The lines that were shown.
  returned: success
  type: list
  elements: str
  sample: ["Preflight of 12 hosts: 0 errors, 0 warnings, 1 accepted"]
files:
  description: The files that were written.
  returned: always
  type: list
  elements: str
  sample: [/reports/preflight.json, /reports/preflight.html]
"""
