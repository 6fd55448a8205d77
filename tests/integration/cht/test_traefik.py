# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role traefik writes k3s' HelmChartConfig, and the real Traefik takes the arguments in it."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from apiserver import free_port, tool
from conftest import Cluster

from ansible_collections.cht.k3s.plugins.module_utils.cht.access import traefik_config

PATH = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmchartconfigs/traefik"
SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "helmchartconfigs.helm.cattle.io"},
    "spec": {
        "group": "helm.cattle.io", "scope": "Namespaced",
        "names": {"kind": "HelmChartConfig", "listKind": "HelmChartConfigList", "plural": "helmchartconfigs", "singular": "helmchartconfig"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}],
    },
}


class _Echo(BaseHTTPRequestHandler):
    """Stands for API: tells what it was told of the client."""

    def log_message(self, *dummy: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def ask(source: str, port: int, **headers: str) -> dict[str, str]:
    """Ask from an address of this machine, as what comes through ServiceLB without another address put in its place."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5, source_address=(source, 0))
    try:
        connection.request("GET", "/", headers={name.replace("_", "-"): value for name, value in headers.items()})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_two_clients_have_two_addresses_straight_and_through_the_proxy(tmp_path: Path) -> None:
    backend = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    routes = {"http": {
        "routers": {"api": {"rule": "PathPrefix(`/`)", "service": "api"}},
        "services": {"api": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{backend.server_address[1]}"}]}}},
    }}
    (tmp_path / "routes.yml").write_text(yaml.safe_dump(routes))
    values = yaml.safe_load(traefik_config(["127.0.0.10"], "60s", "60s", "")["spec"]["valuesContent"])
    port, secure = free_port(), free_port()
    arguments = [f"--entryPoints.web.address=127.0.0.1:{port}", f"--entryPoints.websecure.address=127.0.0.1:{secure}"]
    log = tmp_path / "traefik.log"
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            [str(tool("traefik")), *arguments, f"--providers.file.filename={tmp_path / 'routes.yml'}", *values["additionalArguments"]],
            stdout=stream, stderr=stream,
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                ask("127.0.0.1", port)
                break
            except (OSError, ValueError):
                assert time.monotonic() < deadline and process.poll() is None, log.read_text()
                time.sleep(0.2)
        straight = [ask(source, port) for source in ("127.0.0.2", "127.0.0.3")]
        assert [answer["x-forwarded-for"] for answer in straight] == ["127.0.0.2", "127.0.0.3"]
        forwarded = [ask("127.0.0.10", port, X_Forwarded_For=user, X_Forwarded_Proto="https") for user in ("198.51.100.7", "198.51.100.8")]
        assert [answer["x-forwarded-for"].split(", ")[0] for answer in forwarded] == ["198.51.100.7", "198.51.100.8"]
        assert {answer["x-forwarded-proto"] for answer in forwarded} == {"https"} and straight[0]["x-forwarded-proto"] == "http"
        assert ask("127.0.0.2", port, X_Forwarded_For="198.51.100.9")["x-forwarded-for"] == "127.0.0.2", "anybody could write that"
    finally:
        process.terminate()
        process.wait(10)
        backend.shutdown()
        backend.server_close()


def test_traefik_is_configured_and_takes_the_arguments(cluster: Cluster) -> None:
    cluster.client.apply("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/helmchartconfigs.helm.cattle.io", CRD, "test")
    playbook = cluster.folder / "traefik.yml"
    playbook.write_text("- hosts: localhost\n  gather_facts: false\n  roles:\n    - cht.k3s.traefik\n")
    deadline = time.monotonic() + 30
    while cluster.client.find("/apis/helm.cattle.io/v1") is None and time.monotonic() < deadline:
        time.sleep(0.2)
    values = {"traefik_trusted_proxies": ["192.0.2.10", "2001:db8::/64"]}
    assert cluster.play(str(playbook), **values).changed == 1
    assert cluster.play(str(playbook), **values).changed == 0
    found = cluster.get(PATH) or {}
    content = yaml.safe_load(found["spec"]["valuesContent"])
    assert content["service"]["spec"]["externalTrafficPolicy"] == "Local" and content["deployment"]["kind"] == "DaemonSet"
    arguments = content["additionalArguments"]
    assert "--entryPoints.web.forwardedHeaders.trustedIPs=192.0.2.10/32,2001:db8::/64" in arguments
    port, secure = free_port(), free_port()
    addresses = [f"--entryPoints.web.address=127.0.0.1:{port}", f"--entryPoints.websecure.address=127.0.0.1:{secure}"]
    log = cluster.folder / "traefik.log"
    with open(log, "wb") as stream:
        process = subprocess.Popen([str(tool("traefik")), *addresses, "--ping=true", "--ping.entryPoint=web", *arguments], stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                    assert answer.status == 200
                break
            except (OSError, urllib.error.URLError):
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(10)
    wrong = cluster.play(str(playbook), expect=2, traefik_read_timeout="soon")
    assert "traefik_read_timeout: 'soon' is not a time such as 3600s or 1h" in wrong.text
