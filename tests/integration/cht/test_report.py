# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/report.yml reads a cluster, changes nothing in it, and tells those who are not looking."""

from __future__ import annotations

import email
import json
import socketserver
import threading
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
        run = cluster.play("report", cht_project_report_dir=str(folder), cht_project_report_need={"cpu": "3", "memory": "1Gi"},
                           cht_project_report_fail_on="never")
        again = cluster.play("report", cht_project_report_dir=str(folder), cht_project_dir=str(cluster.folder / "gone"), expect=2)
    finally:
        for name in ("report-1", "report-2"):
            cluster.client.json("DELETE", f"/api/v1/nodes/{name}")
    assert again.changed == 0 and cluster.resource_versions("reported") == before
    report = json.loads((folder / "report.json").read_text())
    assert "the list of counties" in {entry["what"] for entry in report["problems"]}, "a folder that is not there is no end of the report"
    assert "report-2" in {entry["what"] for entry in report["problems"]}
    assert "county reported" in {entry["what"] for entry in report["problems"]}
    assert "API server" in {entry["name"] for entry in report["certificates"]}
    assert [item["name"] for item in report["counties"] if item["name"] == "reported"] == ["reported"]
    assert "2 more counties fit (limit: cpu)" in run.text
    page = (folder / "report.html").read_text()
    assert page.index("Needs attention") < page.index(">reported<") and "<svg" in page
    assert 'cht_node_ready{cluster="cht",node="report-2",role="agent"} 0' in (folder / "report.prom").read_text()


class _Hook(BaseHTTPRequestHandler):
    """Takes what is sent, or says that it is not there."""

    heard: t.ClassVar[list[dict[str, t.Any]]] = []

    def log_message(self, *dummy: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/gone":
            self.heard.append({"path": self.path, "token": self.headers.get("Authorization"), **body})
        self.send_response(404 if self.path == "/gone" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Mail(socketserver.StreamRequestHandler):
    """As much of a mail server as takes one mail."""

    heard: t.ClassVar[list[str]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (line := self.rfile.readline().rstrip(b"\r\n")) != b".":
                    lines.append(line)
                parts = email.message_from_bytes(b"\n".join(lines)).walk()
                self.heard.append("".join(part.get_payload(decode=True).decode() for part in parts if not part.is_multipart()))
            if line.upper().startswith(b"QUIT"):
                # Who has said that may be gone already.
                with suppress(ConnectionError):
                    self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[int]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_a_change_is_told_once_and_who_was_not_told_is_named(cluster: Cluster) -> None:
    node(cluster, "silent-1", False)
    with _served(ThreadingHTTPServer(("127.0.0.1", 0), _Hook)) as hook, _served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail)) as mail:
        address = f"http://127.0.0.1:{hook}"
        dead = [{"kind": "slack", "url": f"{address}/gone"}]
        hooks = [{"kind": "ntfy", "topic": "cht", "url": f"{address}/secret", "headers": {"Authorization": "Bearer secret-word"}}]
        told = {"cht_project_report_dir": str(cluster.folder / "told"), "cht_project_report_fail_on": "never"}
        try:
            nobody = cluster.play("report", **told, cht_project_report_webhooks=dead, expect=2)
            assert "slack at 127.0.0.1: " in nobody.text and "/gone" not in nobody.text and "the next report tries again" in nobody.text
            given = {**told, "cht_project_report_webhooks": hooks, "cht_project_report_mail": {"to": "a@health.example", "host": "127.0.0.1", "port": mail}}
            assert cluster.play("report", "--check", **given).changed == 0 and not _Hook.heard, "check mode tells nobody"
            first = cluster.play("report", **given)
            again = cluster.play("report", **given)
        finally:
            cluster.client.json("DELETE", "/api/v1/nodes/silent-1")
        cluster.play("report", **given)
    assert "secret-word" not in first.text + again.text and again.changed == 0
    assert len(_Hook.heard) == 2 and len(_Mail.heard) == 2, "once when it came, once when it went"
    assert "k3s_fence=silent-1" in _Hook.heard[0]["message"] and _Hook.heard[0]["token"] == "Bearer secret-word" and _Hook.heard[0]["topic"] == "cht"
    assert "k3s_fence=silent-1" in _Mail.heard[0] and "GONE silent-1" in _Hook.heard[1]["message"]
    assert cluster.get("/api/v1/namespaces/kube-system/configmaps/cht-k3s")["data"].keys() == {"told"}


RECORD = "/api/v1/namespaces/kube-system/configmaps/cht-k3s"
KEEP = """
- name: Keep what the cluster is
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Get access
      ansible.builtin.import_role: {name: cht.k3s.k3s, tasks_from: access}
    - name: Keep it
      ansible.builtin.import_role: {name: cht.k3s.k3s, tasks_from: record}
      vars: {__k3s_record_whole: WHOLE}
"""


def test_the_cluster_knows_its_name_and_another_inventory_is_refused(cluster: Cluster) -> None:
    def keep(whole: bool, **variables: t.Any) -> t.Any:
        path = cluster.folder / "keep.yml"
        path.write_text(KEEP.replace("WHOLE", str(whole).lower()))
        return cluster.play(str(path), **variables)

    def entry() -> dict[str, t.Any]:
        return json.loads((cluster.get(RECORD) or {})["data"]["cluster"])

    node(cluster, "named-1", True)
    try:
        assert keep(False, k3s_cluster_name="north").changed == 1 and entry()["name"] == "north"
        keep(True, k3s_cluster_name="north")
        first = entry()
        assert "named-1" in first["nodes"] and first["changed"] and set(first["versions"]) == {"k3s", "cpi", "csi", "counties"}
        assert keep(True, k3s_cluster_name="north").changed == 0 and entry() == first, "a run that changed nothing leaves it as it stands"
        for playbook in ("report", "projects"):
            run = cluster.play(playbook, k3s_cluster_name="south", cht_projects=[], expect=2)
            assert "this is the cluster 'north'" in run.text, run.text
        cluster.play("report", k3s_cluster_name="south", k3s_cluster_rename="north", cht_project_report_fail_on="never")
        assert keep(False, k3s_cluster_name="south", k3s_cluster_rename="north").changed == 1 and entry()["name"] == "south"
    finally:
        cluster.client.json("DELETE", "/api/v1/nodes/named-1")
        if cluster.get(RECORD):
            cluster.client.json("DELETE", RECORD)
