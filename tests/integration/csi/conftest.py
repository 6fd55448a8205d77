"""Labs of their own with four and with two machines and the real CSI controller, beside the one of the other tests.

CSI_LAB=keep uses the lab that runs and leaves it running, to work on a test.
"""
from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.lab import OUTPUT, Lab, Run, own_lab

HERE = Path(__file__).parent
KEEP = os.environ.get("CSI_LAB") == "keep"
SETTINGS = {"csi_snapshots": True, "csi_smoke_test": True, "csi_verify": ["objects", "rollout", "csinode"], "csi_timeout": 300}


class Cluster:
    """The cluster of this folder's tests."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder

    def play(self, name: str, *argv: str, playbook: str = "playbooks/site.yml", **variables: Any) -> Run:
        """A playbook with the settings of these tests."""
        return self.lab.playbook(*argv, "-e", json.dumps({**SETTINGS, **variables}), playbook=playbook, name=f"csi-{name}")

    def own(self, name: str, tasks: list[dict[str, Any]], **variables: Any) -> Run:
        """A play of our own with access to the API."""
        access = {"name": "Access", "ansible.builtin.import_role": {"name": "cht.k3s.k3s", "tasks_from": "access"}}
        file = self.folder / f"{name}.yml"
        file.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [access, *tasks]}]))
        return self.play(name, playbook=str(file), **variables)

    def during(self, line: str, action: Callable[[], object], name: str, *argv: str, **variables: Any) -> Run:
        """A playbook, and what is done as soon as it has printed this."""
        log = OUTPUT / f"csi-{name}.log"
        log.unlink(missing_ok=True)
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(self.play, name, *argv, **variables)
            self.wait(f"the line {line!r}", lambda: run.done() or (log.exists() and line in log.read_text()))
            assert not run.done(), run.result().output[-4000:]
            action()
            return run.result()

    def govc(self, *arguments: str) -> str:
        """What govc prints."""
        return self.lab.govc(*arguments)

    def volumes(self) -> dict[str, list[str]]:
        """Volumes in vCenter by name: size and cluster id, as govc shows them."""
        rows = self.govc("volume.ls", "-l").splitlines()
        return {row.split()[1]: [row.split()[2], row.split()[-1]] for row in rows if row.strip()}

    def entities(self, volume: str) -> list[dict[str, Any]]:
        """What vCenter files about the claim and the volume of Kubernetes behind a volume: the syncer writes it."""
        found = [item for item in json.loads(self.govc("volume.ls", "-json")).get("volume") or [] if item["Name"] == volume]
        return [entity for item in found for entity in item["Metadata"].get("EntityMetadata") or []]

    def holder(self) -> str:
        """The pod whose controller may run."""
        return str(self.lab.kubectl("get", "lease", "lab-csi-controller", "-n", "vmware-system-csi")["spec"]["holderIdentity"])

    def apply(self, document: dict[str, Any]) -> None:
        file = self.folder / "object.yml"
        file.write_text(yaml.safe_dump(document))
        self.lab("kubectl", "apply", "-f", str(file))

    def claim(self, name: str, size: str = "1Gi", **spec: Any) -> None:
        """A claim in the namespace default."""
        self.apply({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec},
        })

    @staticmethod
    def pod_spec(claim: str, command: str) -> dict[str, Any]:
        """A pod with that claim at /data."""
        container = {
            "name": "main", "image": "lab/client:1", "command": ["/bin/sh", "-c", command], "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
        return {
            "containers": [container], "terminationGracePeriodSeconds": 1, "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        }

    def pod(self, name: str, claim: str, command: str) -> None:
        """Such a pod in the namespace default."""
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": self.pod_spec(claim, command)})

    def wait(self, what: str, check: Callable[[], Any], seconds: float = 180) -> Any:
        """Wait until the check is true."""
        deadline = time.monotonic() + seconds
        while not (found := check()):
            assert time.monotonic() < deadline, f"{what} did not happen:\n{self.lab('logs', 'csi')[-3000:]}"
            time.sleep(1)
        return found

    def bound(self, name: str) -> str:
        """The volume of a claim, once it has one."""
        def check() -> str | None:
            found = self.lab.kubectl("get", "pvc", name)
            return found["spec"]["volumeName"] if found["status"].get("phase") == "Bound" else None

        return str(self.wait(f"binding of {name}", check))

    def forget(self, *claims: str) -> None:
        """The end of claims and their volumes, also where the class would keep them."""
        volumes = [self.bound(name) for name in claims]
        for volume in volumes:
            self.lab("kubectl", "patch", "pv", volume, "-p", '{"spec": {"persistentVolumeReclaimPolicy": "Delete"}}')
        self.gone(*[f"pvc/{name}" for name in claims])
        self.wait(f"end of {', '.join(claims)}", lambda: not set(volumes) & set(self.volumes()))

    def settle(self) -> None:
        """Wait until the driver's pods run again on a machine that is back."""
        self.lab("kubectl", "wait", "--for=condition=Ready", "pod", "--all", "-n", "vmware-system-csi", "--timeout=180s")

    def gone(self, *names: str) -> None:
        """Delete objects of the namespace default and wait for the end of their volumes."""
        self.lab("kubectl", "delete", "--wait=true", *names, timeout=240)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_lab("csi", HERE / "cluster.yml", keep=KEEP) as lab:
        yield Cluster(lab, tmp_path_factory.mktemp("csi"))


@pytest.fixture(scope="session")
def small_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One server and one agent, with everything installed."""
    with own_lab("csi-small", HERE / "small.yml", keep=KEEP) as lab:
        cluster = Cluster(lab, tmp_path_factory.mktemp("small"))
        cluster.play("small", "--skip-tags", "cht_project,verify", csi_smoke_test=False).expect()
        yield cluster
