# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role traefik writes k3s' HelmChartConfig, and the real Traefik takes the arguments in it."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request

import yaml
from apiserver import free_port, tool
from conftest import Cluster

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
    arguments = yaml.safe_load(found["spec"]["valuesContent"])["additionalArguments"]
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
