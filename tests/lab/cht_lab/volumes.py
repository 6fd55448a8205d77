"""A stand-in for the volumes of vSphere's CSI driver, whose images can't be had: a folder for each claim.

vSphere attaches a disk to whichever VM the pod runs on. Here every machine sees the same folder, so a pod finds its data again
on another agent, too. What it does not imitate: sizes, attaching and detaching, and the 59 disks that a VM can have.
"""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from . import description as descriptions
from . import node, paths

PROVISIONER = "csi.vsphere.vmware.com"
OWNER = "pv.kubernetes.io/provisioned-by"
STAND_IN = "lab.cht.k3s/volumes"
# Where the machines see the folders.
INSIDE = "/var/lib/lab-volumes"
FOLDER = paths.STATE / "volumes"


class Api:
    """Requests to the API server of one kubeconfig with client certificates inside."""

    def __init__(self, kubeconfig: Path, address: str) -> None:
        document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile("wb") as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        self.connection = http.client.HTTPSConnection(address, 6443, timeout=10, context=context)

    def __call__(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        self.connection.request(method, path, body=data, headers={"Content-Type": kind})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 400 and answer.status not in (404, 409):
            raise OSError(f"{method} {path}: {answer.status} {content[:200]!r}")
        # A group of resources that nobody defined is answered by plain text.
        return json.loads(content) if content.startswith(b"{") else {}


def api() -> Api | None:
    """The API of the first server that is on, has a kubeconfig and answers."""
    for vm in descriptions.load(paths.DESCRIPTION).nodes:
        config = node.folder(vm) / "merged/etc/rancher/k3s/k3s.yaml"
        if vm.role == "control_plane" and node.running(vm) and not node.paused(vm) and config.exists() and node.serves(vm):
            return Api(config, vm.ip)
    return None


def volume(claim: dict[str, Any], storage_class: dict[str, Any]) -> dict[str, Any]:
    """The PersistentVolume for a claim, bound to it from the start."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{metadata['uid']}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {OWNER: PROVISIONER, STAND_IN: "true"}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "storageClassName": spec["storageClassName"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "hostPath": {"path": f"{INSIDE}/{name}", "type": "Directory"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                **{key: metadata[key] for key in ("namespace", "name", "uid")},
            },
        },
    }


def waits(claim: dict[str, Any], storage_class: dict[str, Any]) -> bool:
    """Whether the claim is to get its volume only when its pod has an agent, and has none yet."""
    annotations = claim["metadata"].get("annotations") or {}
    return storage_class.get("volumeBindingMode") == "WaitForFirstConsumer" and "volume.kubernetes.io/selected-node" not in annotations


def turn(call: Api) -> list[str]:
    """Make what is missing, take away what nobody holds any more; return what was done."""
    classes = {item["metadata"]["name"]: item for item in call("GET", "/apis/storage.k8s.io/v1/storageclasses")["items"]}
    done = []
    for claim in call("GET", "/api/v1/persistentvolumeclaims")["items"]:
        storage_class = classes.get(claim["spec"].get("storageClassName") or "", {})
        if claim["spec"].get("volumeName") or storage_class.get("provisioner") != PROVISIONER or waits(claim, storage_class):
            continue
        body = volume(claim, storage_class)
        folder = FOLDER / body["metadata"]["name"]
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        if call("POST", "/api/v1/persistentvolumes", body).get("kind") == "PersistentVolume":
            done.append(f"{body['metadata']['name']} for {claim['metadata']['namespace']}/{claim['metadata']['name']}")
    for item in call("GET", "/api/v1/persistentvolumes")["items"]:
        mine = STAND_IN in (item["metadata"].get("annotations") or {})
        if mine and item.get("status", {}).get("phase") == "Released" and item["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            call("DELETE", f"/api/v1/persistentvolumes/{item['metadata']['name']}")
            shutil.rmtree(FOLDER / item["metadata"]["name"], ignore_errors=True)
            done.append(f"{item['metadata']['name']} removed")
    return done


def main() -> int:
    """Run until ended; a cluster that is not there (yet) is waited for."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    trouble = ""
    while True:
        try:
            call = api()
            while call is not None:
                for line in turn(call):
                    print(line, flush=True)
                trouble = ""
                time.sleep(1)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            if str(error) != trouble:
                trouble = str(error)
                print(f"waiting: {error}", flush=True)
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
