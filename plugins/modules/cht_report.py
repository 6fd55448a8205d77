#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cht_report
short_description: What is unwell in a cluster of counties, what fits, what may be lost
version_added: 1.0.0
description:
  - Reads nodes, pods, claims, volumes and certificates by a few list calls. Nothing in the cluster is changed.
  - Says how many more counties fit by CPU, memory, pods, volumes and disk, as the scheduler counts (requests, not use).
  - Compares versions with the collection's table, the counties with the list, and the age of backups with the limits that are given.
  - Says whether all counties find a place again when one or two agents are lost, and which agents are the bad ones.
  - Writes the report as JSON, as one HTML page that needs no other file, and as metrics, where paths are given.
  - Says what changed since the last report that was told to somebody, which M(cht.k3s.cluster_record) keeps.
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.kube
options:
  need:
    description: What the next county takes, as quantities; what is left out is taken from the largest county that is there.
    type: dict
    default: {}
    suboptions:
      cpu:
        description: Cores.
        type: str
      memory:
        description: Memory.
        type: str
      pods:
        description: Pods.
        type: str
      volumes:
        description: Volumes.
        type: str
      storage:
        description: Size of all its volumes together.
        type: str
  storage:
    description: Size of the datastore, which Kubernetes does not know. Without it the disk is left out of the count.
    type: str
    default: ''
  cluster_problem:
    description: What the servers themselves said is wrong with their cluster, as that there are two; it is shown first.
    type: str
    default: ''
  cluster:
    description: Name of the cluster, for the title.
    type: str
    default: ''
  listed:
    description: Names of the counties that are meant to be there; what differs is told. Left out, nothing is compared.
    type: list
    elements: str
  list_problems:
    description: What of the list of counties can't be read; each is told, and of counties that it does not name nothing is said.
    type: list
    elements: str
    default: []
  backup_namespace:
    description: Namespace of the backup sets.
    type: str
    default: cht-backups
  backup_days:
    description: Days after which a county's newest backup set is too old; 0 for never.
    type: int
    default: 0
  snapshot_days:
    description: Days after which the newest snapshot of etcd is too old; 0 for never.
    type: int
    default: 0
  encryption:
    description:
      - What M(cht.k3s.k3s_secrets_encryption) gave on each server. Of a server that is not among them only what k3s wrote on its Node is known.
    type: list
    elements: dict
    default: []
  ask:
    description: Ask API of each county whose pods are ready for its version, documents, users and queues, through the API server's port forwarding,
      and each kubelet for how full its volumes are.
    type: bool
    default: true
  json:
    description: Where to write the report as JSON; the folder must exist.
    type: path
  html:
    description: Where to write it as a page; the folder must exist.
    type: path
  metrics:
    description:
      - Where to write figures in Prometheus' text format; the folder must exist. In the folder of node_exporter's textfile collector its name ends in
        C(.prom).
    type: path
attributes:
  check_mode:
    description: Reads and writes no file.
    support: full
"""

EXAMPLES = r"""
- name: Report
  cht.k3s.cht_report:
    kubeconfig: "{{ k3s_access_kubeconfig }}"
    need: {cpu: "8", memory: 32Gi}
    storage: 10Ti
    html: /var/www/report.html
"""

RETURN = r"""
headlines:
  description: The report in a few lines.
  returned: always
  type: list
  elements: str
  sample: ["agent-3 is not ready: its kubelet does not report", "12 more counties fit (limit: memory)"]
news:
  description: What is new and what is gone against what was told last, as a subject and a text, and what is to be kept as told.
  returned: always
  type: dict
  sample:
    changed: true
    level: bad
    new: [{level: bad, what: agent-3, text: "is not ready: its kubelet does not report", next: ansible-playbook cht.k3s.fence_node -e k3s_fence=agent-3}]
    gone: []
    told: ["bad agent-3: is not ready: its kubelet does not report"]
    subject: "cht: 1 new, 0 gone; 1 red and 0 yellow in all"
    text: "RED agent-3: is not ready: its kubelet does not report"
report:
  description: The report.
  returned: always
  type: dict
  sample:
    problems:
      - level: bad
        what: agent-3
        text: "is not ready: its kubelet does not report"
        next: ansible-playbook cht.k3s.fence_node -e k3s_fence=agent-3
    cluster: cht
    parts: {cpi: 1.34.0, csi: 3.6.3, table: {k3s: v1.34.11+k3s1, cpi: 1.34.0, csi: 3.6.3}, conflicts: {}}
    snapshot: {name: etcd-snapshot-control-plane-1-1767322800, node: control-plane-1, taken: "2026-01-02T03:00:00Z", days: 0.2, size: 8388608.0}
    listed: [nairobi]
    capacity:
      counties: 12
      by: {cpu: 14, memory: 12, pods: 80, volumes: 100, disk: null}
      limited_by: [memory]
      unknown: ["the size of the datastore: set cht_project_report_storage"]
    loss:
      servers: 3
      voters: 3
      healthy_voters: 3
      servers_to_lose: 1
      one_agent: {survives: true, bad: [], reason: ""}
      two_agents: {survives: false, bad: [[agent-1, agent-2]], reason: ""}
      unknown: []
      recovery: A lost agent is noticed after about a minute. ...
    counties:
      - name: nairobi
        figures: {version: 4.22.0, documents: 1234567, users: 310, sentinel: 0, outbound: 0, messages: 12, conflicts: 3, feedback: 8, silent: ""}
        left_pods: []
        growing: []
        full: {couchdb-1-claim0: 0.412}
        backup: {set: nairobi-20260102-030405, taken: "2026-01-02T03:04:05Z", days: 0.2, size: 64424509440.0}
        tls: [{secret: api-tls-secret, state: there}]
    encryption:
      - {server: control-plane-1, state: encrypted, stage: start, hash: 0f343b0931126a20f133d67c2b018a3b}
"""

import datetime
import json
import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import NAMESPACE
from ansible_collections.cht.k3s.plugins.module_utils.cht.metrics import metrics
from ansible_collections.cht.k3s.plugins.module_utils.cht.news import news
from ansible_collections.cht.k3s.plugins.module_utils.cht.record import read
from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import parse_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.report import Wishes, build, headlines
from ansible_collections.cht.k3s.plugins.module_utils.cht.report_page import page
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec, open_client

NEEDS = ("cpu", "memory", "pods", "volumes", "storage")


def argument_spec() -> dict[str, Any]:
    return base_argument_spec(
        need={"type": "dict", "default": {}, "options": {name: {"type": "str"} for name in NEEDS}},
        storage={"type": "str", "default": ""},
        cluster_problem={"type": "str", "default": ""},
        cluster={"type": "str", "default": ""},
        listed={"type": "list", "elements": "str"},
        list_problems={"type": "list", "elements": "str", "default": []},
        backup_namespace={"type": "str", "default": NAMESPACE},
        backup_days={"type": "int", "default": 0},
        snapshot_days={"type": "int", "default": 0},
        encryption={"type": "list", "elements": "dict", "default": []},
        ask={"type": "bool", "default": True},
        json={"type": "path"},
        html={"type": "path"},
        metrics={"type": "path"},
    )


def quantity(module: AnsibleModule, name: str, value: str) -> float:
    """Read a quantity that a person wrote."""
    try:
        return float(parse_quantity(value))
    except ValueError as error:
        module.fail_json(msg=f"{name}: {error}: write it as '4Gi', '500m' or '2'")
    return 0.0


def write(module: AnsibleModule, path: str, text: str) -> None:
    """Put a text in the place of a file at once, so that nobody reads half of it."""
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        module.fail_json(msg=f"The folder of {path} does not exist: create it, or name another.")
    handle, temporary = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    module.atomic_move(temporary, path)


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    given = {name: quantity(module, f"need.{name}", value) for name, value in module.params["need"].items() if value}
    total = quantity(module, "storage", module.params["storage"]) if module.params["storage"] else 0.0
    client = open_client(module)
    if client is None:
        module.exit_json(changed=False, report={}, headlines=[], news={})
    try:
        now = datetime.datetime.now(datetime.timezone.utc)
        same = ("cluster_problem", "encryption", "ask", "cluster", "listed", "list_problems", "backup_namespace", "backup_days", "snapshot_days")
        told = read(client).get("told")
        report = build(client, now, Wishes(given, total, **{name: module.params[name] for name in same}))
    except ApiError as error:
        module.fail_json(msg=f"The cluster can't be read: {error.message}")
    finally:
        client.close()
    if not module.check_mode:
        if module.params["json"]:
            write(module, module.params["json"], json.dumps(report, indent=2) + "\n")
        if module.params["html"]:
            write(module, module.params["html"], page(report))
        if module.params["metrics"]:
            write(module, module.params["metrics"], metrics(report))
    # The files are a picture of the moment and new each time; the cluster is as it was.
    module.exit_json(changed=False, report=report, headlines=headlines(report), news=news(report, told))


if __name__ == "__main__":
    main()
