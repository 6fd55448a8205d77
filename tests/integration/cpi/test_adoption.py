"""Which UUID a node has to carry, shown with the real cloud provider against the vCenter simulator.

The hosting guide says instance UUID. The cloud provider looks a VM up by its BIOS UUID, and removes a node that it
can't find. No lab is needed: etcd, kube-apiserver, vcsim and the cloud provider run on 127.0.0.1.
"""
from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.module_utils.kube.apply import apply_groups, connect
from ansible_collections.cht.k3s.plugins.module_utils.kube.status import UNINITIALIZED
from ansible_collections.cht.k3s.plugins.module_utils.manifest import cpi

from apiserver import ApiServer, free_port, tool

USER = "k3s@vsphere.local"
# All that has broken configuration files of others.
PASSWORD = 'p"w\\ #1;$2%3@4:5 \'6\' ü€'
BIOS = "420e3f71-0000-4a5b-8c6d-000000000001"
INSTANCE = "500ed2a1-1111-4222-8333-000000000001"
OTHER_BIOS = "420e3f71-0000-4a5b-8c6d-000000000002"
OTHER_INSTANCE = "500ed2a1-1111-4222-8333-000000000002"
REMOVED_WITHIN = 60


class VCenter:
    """vcsim with TLS, a password, and VMs that look like nodes."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.port = free_port()

    def start(self) -> None:
        folder = self.server.folder
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=vcenter", "-addext", "subjectAltName=IP:127.0.0.1",
             "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", str(folder / "vc.key"), "-out", str(folder / "vc.crt")],
            check=True, capture_output=True,
        )
        self.server.run("vcsim", [
            str(tool("vcsim")), "-l", f"127.0.0.1:{self.port}", "-tlscert", str(folder / "vc.crt"), "-tlskey", str(folder / "vc.key"),
            "-username", USER.partition("@")[0], "-password", PASSWORD, "-api-version", "7.0.3.0",
        ])
        deadline = time.monotonic() + 30
        while True:
            try:
                self.govc("about")
                return
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def govc(self, *arguments: str) -> str:
        environment = {
            "GOVC_URL": f"https://127.0.0.1:{self.port}/sdk", "GOVC_USERNAME": USER, "GOVC_PASSWORD": PASSWORD,
            "GOVC_TLS_CA_CERTS": str(self.server.folder / "vc.crt"), "HOME": str(self.server.folder), "PATH": "/usr/bin:/bin",
        }
        done = subprocess.run([str(tool("govc")), *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"govc {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def make_node(self, vm: str, host_name: str, address: str, bios: str, instance: str) -> None:
        self.govc(
            "vm.change", "-vm", f"/DC0/vm/{vm}", "-e", f"SET.guest.hostName={host_name}", "-e", f"SET.guest.ipAddress={address}",
            "-e", f"SET.config.instanceUuid={instance}", "-uuid", bios,
        )


def node(name: str, provider_id: str, address: str) -> dict[str, Any]:
    """A Node as kubelet registers it with an external cloud provider."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}, "annotations": {"alpha.kubernetes.io/provided-node-ip": address}},
        "spec": {
            "providerID": provider_id,
            "taints": [{"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}],
        },
    }


@pytest.fixture(scope="module")
def vcenter() -> Iterator[VCenter]:
    with ApiServer() as server:
        simulator = VCenter(server)
        simulator.start()
        simulator.make_node("DC0_H0_VM0", "good", "198.18.0.31", BIOS, INSTANCE)
        simulator.make_node("DC0_H0_VM1", "bad", "198.18.0.32", OTHER_BIOS, OTHER_INSTANCE)
        for document in (node("good", f"vsphere://{BIOS}", "198.18.0.31"), node("bad", f"vsphere://{OTHER_INSTANCE}", "198.18.0.32")):
            server.kubectl("create", "-f", "-", stdin=json.dumps(document))
        start_provider(simulator)
        yield simulator


def start_provider(vcenter: VCenter) -> None:
    """Our Secret and configuration, as the role makes them, read by the real program."""
    server = vcenter.server
    settings = {
        "vcenters": [{
            "hostname": "127.0.0.1", "port": vcenter.port, "username": USER, "password": PASSWORD, "ca": (server.folder / "vc.crt").read_text(),
            "datacenters": ["DC0"],
        }],
        "image": "registry.k8s.io/cloud-pv-vsphere/cloud-provider-vsphere:v1.31.0",
    }
    objects = cpi.objects(list(yaml.safe_load_all((Path(__file__).parents[2] / "unit" / "data" / "manifests" / "cpi-v1.31.manifest").read_text())), settings)
    client = connect(str(server.kubeconfig))
    outcome = apply_groups(client, [{"name": "cpi", "objects": objects}])
    assert not outcome.failed, outcome.message()
    folder = server.folder / "cloud"
    folder.mkdir()
    data = next(document for document in objects if document["kind"] == "ConfigMap")["data"]
    for name, text in data.items():
        (folder / name).write_text(text.replace("/etc/cloud/", f"{folder}/"))
    run_provider(server)


def run_provider(server: ApiServer) -> None:
    """The real program with what is in its folder."""
    folder = server.folder / "cloud"
    server.run("cloud-provider", [
        str(tool("vsphere-cloud-controller-manager")), "--cloud-provider=vsphere", f"--cloud-config={folder / 'vsphere.conf'}",
        f"--kubeconfig={server.kubeconfig}", f"--authentication-kubeconfig={server.kubeconfig}", f"--authorization-kubeconfig={server.kubeconfig}",
        "--leader-elect=false", f"--secure-port={free_port()}", f"--cert-dir={server.folder / 'cpi'}", "--v=2",
    ])


def wait(vcenter: VCenter, what: str, check: Any) -> Any:
    deadline = time.monotonic() + REMOVED_WITHIN
    while True:
        nodes = {item["metadata"]["name"]: item for item in json.loads(vcenter.server.kubectl("get", "nodes", "-o", "json"))["items"]}
        found = check(nodes)
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen:\n{vcenter.server.log('cloud-provider')[-3000:]}"
        time.sleep(0.5)


def test_node_with_the_bios_uuid_is_adopted(vcenter: VCenter) -> None:
    def adopted(nodes: dict[str, Any]) -> Any:
        found = nodes.get("good", {})
        waiting = any(taint["key"] == UNINITIALIZED for taint in found.get("spec", {}).get("taints", []))
        return found if found.get("status", {}).get("addresses") and not waiting else None

    found = wait(vcenter, "adoption of the node with the BIOS UUID", adopted)
    assert {"type": "InternalIP", "address": "198.18.0.31"} in found["status"]["addresses"]
    assert found["spec"]["providerID"] == f"vsphere://{BIOS}"


def test_node_with_the_instance_uuid_is_removed(vcenter: VCenter) -> None:
    wait(vcenter, "removal of the node with the instance UUID", lambda nodes: "bad" not in nodes)
    names = vcenter.server.kubectl("get", "nodes", "-o", "name").split()
    assert names == ["node/good"], "the node with the BIOS UUID has to stay"


def test_password_with_every_special_character_logs_in(vcenter: VCenter) -> None:
    log = vcenter.server.log("cloud-provider")
    assert "Cannot complete login" not in log
    assert PASSWORD not in log


def test_no_node_is_removed_while_vcenter_is_down(vcenter: VCenter) -> None:
    server = vcenter.server
    server._stop("cloud-provider")
    server._stop("vcsim")
    run_provider(server)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert server.kubectl("get", "nodes", "-o", "name").split() == ["node/good"]
        time.sleep(1)
    assert "connection refused" in server.log("cloud-provider"), "it has to have tried"
