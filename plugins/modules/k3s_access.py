#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_access
short_description: Keep an administrator's kubeconfig for the length of a run
version_added: 1.0.0
description:
  - Runs on the controller. Takes what M(cht.k3s.k3s_server_info) gave for the servers, puts the kubeconfig of the first healthy one, with that
    server's address, into a 0600 file in Ansible's own temporary directory of this run, and sets the fact C(k3s_access_kubeconfig) to its path.
  - Fails when the servers are of different clusters, see P(cht.k3s.cluster_verdict#filter).
  - Ansible removes that directory when it ends, also after a failure or Ctrl-C. The content is never returned.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  kubeconfig:
    description: A kubeconfig that is on the controller already; then nothing is written.
    type: path
    default: ''
  answers:
    description: The C(results) of a loop of M(cht.k3s.k3s_server_info) with C(credentials).
    type: list
    elements: dict
    default: []
  urls:
    description: URL of each server by the item of that loop.
    type: dict
    default: {}
  server_url:
    description: URL to use instead of the server's own, like that of a load balancer.
    type: str
    default: ''
  way_out:
    description:
      - Whether to go on when the servers are of different clusters, with the one that is the inventory's where that can be told. Only for what
        changes nothing, like a report.
    type: bool
    default: false
attributes:
  check_mode:
    description: Does the same in check mode; with no cluster yet the fact is empty there, and a failure otherwise.
    support: full
"""

EXAMPLES = r"""
- name: Keep the access
  cht.k3s.k3s_access:
    answers: "{{ __k3s_answers.results }}"
    urls: "{{ groups['control_plane'] | cht.k3s.server_urls(hostvars) }}"
"""

RETURN = r"""
ansible_facts:
  description: The path, and with O(way_out) what is wrong with the cluster.
  type: dict
  returned: success
  sample: {"k3s_access_kubeconfig": "/home/ops/.ansible/tmp/ansible-local-1/k3s-access/kubeconfig", "k3s_access_problem": ""}
via:
  description: The server it came from.
  type: str
  returned: success
  sample: control-plane-1
"""
