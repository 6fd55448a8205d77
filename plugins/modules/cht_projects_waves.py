#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of this name."""
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_projects_waves
short_description: Change running counties in waves, with a health gate between them
version_added: 1.0.0
description:
  - Changes the counties that M(cht.k3s.cht_projects) held back (O(ignore:hold_restarts)), the canary first, then O(size) at a time.
  - A county that gets a newer CHT is staged first, with M(cht.k3s.cht_projects_stage), so its users work while the views of the new version are indexed.
    One that can't be staged stays as it is and counts as not well, unless O(apply) names it in C(unstaged).
  - After an upgrade a county is met as its users' browsers do, with M(cht.k3s.cht_projects_smoke); one whose users meet something else is not well.
  - After each wave its counties are waited for with M(cht.k3s.cht_projects_wait). A wave starts only while no more than O(max_failures)
    counties are not well, and never after a canary that is not.
  - Nothing is kept between runs. The next one finds what was done unchanged and goes on with the rest.
  - A county that fails is no failure of this module; M(cht.k3s.cht_projects_report) judges at the end.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  applied:
    description: The result of M(cht.k3s.cht_projects).
    type: dict
    required: true
  apply:
    description: The options for M(cht.k3s.cht_projects).
    type: dict
    required: true
  canary:
    description: Names of the counties that go first; the first held one when left out. A named canary that is not well stops the rollout in later runs, too.
    type: list
    elements: str
    default: []
  size:
    description: Counties in each further wave.
    type: int
    default: 5
  max_failures:
    description: How many counties may be not well before no further wave starts.
    type: int
    default: 2
  timeout:
    description: Seconds to wait for each wave.
    type: int
    default: 900
  stage_timeout:
    description: Seconds that the counties of a wave have to index, before the restart or after it, and to migrate. Not counted in O(timeout).
    type: int
    default: 172800
  report_every:
    description: Seconds between two lines of progress.
    type: int
    default: 15
  health:
    description: Ask CouchDB and API of each county, besides looking at its pods.
    type: bool
    default: true
attributes:
  check_mode:
    description: Nothing is held back in check mode, so that there is nothing to do.
    support: full
seealso:
  - module: cht.k3s.cht_projects
"""

EXAMPLES = r"""
- name: Upgrade what runs
  cht.k3s.cht_projects_waves:
    applied: "{{ applied }}"
    apply:
      kubeconfig: "{{ k3s_access_kubeconfig }}"
      projects: "{{ cht_projects }}"
    canary: [nairobi]
"""

RETURN = r"""
applied:
  description: The result of M(cht.k3s.cht_projects) with what the waves did.
  returned: always
  type: dict
  sample: {"changed": true, "counties": [], "waiting": [], "held": []}
waited:
  description: The counties of all waves, as M(cht.k3s.cht_projects_wait) returns them.
  returned: always
  type: dict
  sample: {"counties": [], "waiting": []}
stopped:
  description: Why not all waves ran; empty when they did.
  returned: always
  type: str
  sample: "the canary nairobi is not well: CouchDB's cluster has 2 of 3 nodes"
"""
