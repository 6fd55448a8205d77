# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/report.yml reads a cluster and changes nothing in it."""

from __future__ import annotations

import json

from conftest import Cluster, county


def node(cluster: Cluster, name: str, ready: bool) -> None:
    cluster.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    room = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    status = {"conditions": [{"type": "Ready", "status": str(ready)}], "allocatable": room, "capacity": room}
    cluster.patch(f"/api/v1/nodes/{name}/status", {"status": status}, "kubelet")


def test_the_report_says_what_fits_and_what_is_unwell(cluster: Cluster) -> None:
    cluster.counties(county("reported"))
    node(cluster, "report-1", True)
    node(cluster, "report-2", False)
    before = cluster.resource_versions("reported")
    folder = cluster.folder / "out"
    try:
        run = cluster.play("report", cht_project_report_dir=str(folder), cht_project_report_need={"cpu": "3", "memory": "1Gi"})
        again = cluster.play("report", cht_project_report_dir=str(folder))
    finally:
        for name in ("report-1", "report-2"):
            cluster.client.json("DELETE", f"/api/v1/nodes/{name}")
    assert again.changed == 0 and cluster.resource_versions("reported") == before
    report = json.loads((folder / "report.json").read_text())
    assert "report-2" in {entry["what"] for entry in report["problems"]}
    assert "county reported" in {entry["what"] for entry in report["problems"]}
    assert "API server" in {entry["name"] for entry in report["certificates"]}
    assert [item["name"] for item in report["counties"] if item["name"] == "reported"] == ["reported"]
    assert "2 more counties fit (limit: cpu)" in run.text
    page = (folder / "report.html").read_text()
    assert page.index("Needs attention") < page.index(">reported<") and "<svg" in page
