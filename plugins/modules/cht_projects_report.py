#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_projects_report
short_description: Show what became of each county, and fail if one of them is not well
version_added: 1.0.0
description:
  - Prints the counties as a table, those that need somebody's eye first.
  - Fails when a county failed, or is not ready although it was waited for. One whose API still indexes or migrates is C(upgrading), which is no failure.
  - Runs on the controller.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  applied:
    description: The result of M(cht.k3s.cht_projects).
    type: dict
    required: true
  waited:
    description: The result of M(cht.k3s.cht_projects_wait), or nothing when nobody waited.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Shows the prediction.
    support: full
"""

EXAMPLES = r"""
- name: Show the counties
  cht.k3s.cht_projects_report:
    applied: "{{ applied }}"
    waited: "{{ waited }}"
"""

RETURN = r"""
table:
  description: The lines that were shown.
  returned: success
  type: list
  elements: str
  sample: ["1 county: 1 unchanged"]
states:
  description: Names of the counties by state.
  returned: always
  type: dict
  sample: {"failed": [], "waiting": [], "upgrading": [], "changed": ["nairobi"], "unchanged": []}
"""
