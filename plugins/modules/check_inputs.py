#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: check_inputs
short_description: Refuse a broken inventory and misspelt variables before anything changes
version_added: 1.0.0
description:
  - Checks that the inventory could be read, that the group C(control_plane) has 1, 3 or 5 hosts, that every variable
    of every host that starts with the name of a role of this collection is an option of that role, and that the values
    given have the types and choices of the roles' argument specs.
  - Reports all problems at once. Runs on the controller, without a connection to any host.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  groups:
    description: Whether the inventory must hold a cluster. Playbooks that make its VMs run before there is one.
    type: bool
    default: true
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Check the inputs
  hosts: localhost:all
  gather_facts: false
  tasks:
    - name: Refuse what cannot work
      cht.k3s.check_inputs:
      run_once: true
"""

RETURN = r"""
problems:
  description: What is wrong, one line each.
  returned: always
  type: list
  elements: str
  sample:
    - "unknown variable cpi_vcentre (on localhost): did you mean cpi_vcenters?"
"""
