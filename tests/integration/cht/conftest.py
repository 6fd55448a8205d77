# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real API server with the controllers and the scheduler that counties need, and plays run against it.

There are no kubelets: nodes are objects only, and `Cluster.run_pods` stands for them by reporting pods as running.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kube"))

from apiserver import ApiServer, free_port, tool  # noqa: E402
from support.processes import family  # noqa: E402

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client  # noqa: E402

COLLECTIONS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cht-k3s" / "collections"
CONTROLLERS = (
    "deployment-controller,replicaset-controller,namespace-controller,resourcequota-controller,garbage-collector-controller,"
    "endpointslice-controller,persistentvolume-binder-controller,persistentvolumeclaim-protection-controller,disruption-controller"
)


class Play:
    """The end of one ansible-playbook run."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.text = done.stdout + done.stderr

    @property
    def changed(self) -> int:
        """Changed tasks on localhost, as the recap counts them."""
        recap = next(line for line in self.text.splitlines() if line.startswith("localhost ") and "changed=" in line)
        return int(recap.split("changed=")[1].split()[0])

    def row(self, county: str) -> str:
        """The county's row of the table."""
        return next(line for line in self.text.splitlines() if line.startswith(f"{county} "))


class Cluster:
    """The API server, and the counties' play."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.client = Client.from_kubeconfig(str(server.kubeconfig))

    def get(self, path: str) -> dict[str, t.Any] | None:
        return self.client.find(path)

    def items(self, path: str) -> list[dict[str, t.Any]]:
        return list(self.client.items(path))

    def create(self, path: str, body: dict[str, t.Any]) -> dict[str, t.Any]:
        return self.client.json("POST", path, body=body)

    def patch(self, path: str, body: dict[str, t.Any], manager: str = "kubectl-edit") -> dict[str, t.Any]:
        return self.client.json("PATCH", path, {"fieldManager": manager}, body, "application/merge-patch+json")

    def resource_versions(self, namespace: str) -> dict[str, str]:
        """Every object of a county with its version: a run that changes nothing leaves this as it is."""
        found = {}
        for root, kinds in (
            ("/api/v1", ("configmaps", "secrets", "services", "serviceaccounts", "persistentvolumeclaims")),
            ("/apis/apps/v1", ("deployments",)),
            ("/apis/networking.k8s.io/v1", ("ingresses", "networkpolicies")),
        ):
            for kind in kinds:
                for item in self.items(f"{root}/namespaces/{namespace}/{kind}"):
                    # Controllers write a Deployment's status all the time; its generation counts what was asked of it.
                    version = item["metadata"]["generation" if kind == "deployments" else "resourceVersion"]
                    found[f"{kind}/{item['metadata']['name']}"] = str(version)
        return found

    def play(self, playbook: str, *arguments: str, expect: int | None = 0, **variables: t.Any) -> Play:
        """Run a playbook, by its path or of the collection by its name, against this API server."""
        command, environment = self._command(playbook, *arguments, **variables)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False, cwd=self.folder)
        run = Play(done)
        if expect is not None:
            assert run.code == expect, run.text
        return run

    def start(self, playbook: str, **variables: t.Any) -> subprocess.Popen[bytes]:
        """Start a playbook and leave it running, to interrupt it."""
        command, environment = self._command(playbook, **variables)
        return subprocess.Popen(command, env=environment, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @staticmethod
    def kill(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
        """Send a signal to a process and all that it started; Ansible puts its workers into sessions of their own."""
        for one in reversed(family(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, how)
        process.wait(30)
        # What a module still does in its last moment.
        time.sleep(2)

    def _command(self, playbook: str, *arguments: str, **variables: t.Any) -> tuple[list[str], dict[str, str]]:
        inventory = self.folder / "inventory.yml"
        python = "{{ ansible_playbook_python }}"
        hosts = {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": python}}
        children = {"control_plane": {"hosts": {"server": {"ansible_host": "127.0.0.1"}}}}
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "children": children}}))
        values = {"k3s_kubeconfig": str(self.server.kubeconfig), "cht_project_wait": False, "cht_project_shrink": 100, **variables}
        extra = self.folder / "variables.json"
        extra.write_text(json.dumps(values))
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "-e", f"@{extra}", *arguments]
        command.append(playbook if "/" in playbook else f"cht.k3s.{playbook}")
        return command, {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(self.folder / "home")}

    def counties(self, *entries: dict[str, t.Any], arguments: tuple[str, ...] = (), expect: int | None = 0, **variables: t.Any) -> Play:
        """Run playbooks/projects.yml with these counties."""
        return self.play("projects", *arguments, expect=expect, cht_projects=list(entries), **variables)

    def run_pods(self, namespace: str) -> int:
        """Report every pod of a namespace as running and ready, as a kubelet would."""
        pods = self.items(f"/api/v1/namespaces/{namespace}/pods")
        for pod in pods:
            conditions = [{"type": name, "status": "True"} for name in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]
            containers = [
                {"name": item["name"], "image": item["image"], "imageID": "x", "ready": True, "restartCount": 0, "state": {"running": {}}}
                for item in pod["spec"]["containers"]
            ]
            status = {"phase": "Running", "conditions": conditions, "containerStatuses": containers, "podIP": "198.19.0.1"}
            self.patch(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/status", {"status": status}, "kubelet")
        return len(pods)


def county(name: str, **more: t.Any) -> dict[str, t.Any]:
    return {"name": name, "host": f"{name}.health.example", "version": "4.22.0", "ingress": {"tls_in_front": True}, **more}


def run_program(server: ApiServer, name: str, *arguments: str) -> None:
    """Start a controller manager or scheduler of the server."""
    common = [
        f"--kubeconfig={server.kubeconfig}", "--leader-elect=false", f"--secure-port={free_port()}", "--bind-address=127.0.0.1", "--v=0",
        f"--cert-dir={server.folder / name}", f"--authentication-kubeconfig={server.kubeconfig}", f"--authorization-kubeconfig={server.kubeconfig}",
    ]
    server.run(name, [str(tool(name)), *common, *arguments])


@pytest.fixture(scope="session", name="server")
def fixture_server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        run_program(server, "kube-controller-manager", f"--controllers={CONTROLLERS}", f"--service-account-private-key-file={server.folder / 'sa.key'}")
        yield server


@pytest.fixture(name="cluster")
def fixture_cluster(server: ApiServer, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(server, tmp_path)
    yield cluster
    cluster.client.close()
