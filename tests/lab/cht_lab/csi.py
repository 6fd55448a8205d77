"""Beside the real CSI controller: stand-ins for the sidecars and for the node plugin, whose images can't be had.

The controller runs as the manifest's own Deployment. What csi-provisioner, -attacher, -resizer and -snapshotter would ask of it is asked from here,
over the socket that its pod shares with them. The node plugin answers kubelet on every machine; instead of a disk it mounts a folder.

vcsim serves the updates of one client only, so only one controller may run: the one that holds the Lease, which is given out here.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc

from . import cgroups, csi_proto, node, paths
from . import description as descriptions
from .description import Vm
from .shell import LabError
from .volumes import FOLDER, INSIDE, OWNER, PROVISIONER, Api, api, waits

NAMESPACE = "vmware-system-csi"
LEASE = "lab-csi-controller"
ATTACHER = "external-attacher/csi-vsphere-vmware-com"
BOUND = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
ATTACHMENTS = "/apis/storage.k8s.io/v1/volumeattachments"
CONTENTS = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents"
GIB = 1 << 30
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": GIB, "Ti": 1 << 40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def size(text: str) -> int:
    """Bytes of a quantity such as 1Gi."""
    for unit, factor in UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(text)


def quantity(number: int) -> str:
    """A quantity of that many bytes."""
    return f"{number // GIB}Gi" if number % GIB == 0 else str(number)


def content_of(snapshot: str) -> Path:
    """The folder that stands for what is on a snapshot."""
    return FOLDER / f"snapshot-{snapshot}"


def copied(source: Path, target: Path) -> None:
    """What is in a folder, at this moment: the simulator knows of snapshots, but not what is on disks."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def short(target: Path, name: str) -> Path:
    """A short name for a long folder: the path of a socket has 107 characters at most."""
    link = paths.RUN / name
    if not link.is_symlink() or Path(os.readlink(link)) != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return link


# --- the node plugin -------------------------------------------------------------------------------------------------


class NodePlugin:
    """What kubelet of one machine asks its CSI driver."""

    def __init__(self, vm: Vm, kubelet: Path) -> None:
        self.vm = vm
        self.csi, self.registration = csi_proto.load()
        home = short(kubelet, f"kubelet-{vm.ip.rpartition('.')[2]}")
        folder = home / "plugins" / PROVISIONER
        folder.mkdir(parents=True, exist_ok=True)
        self.server = grpc.server(ThreadPoolExecutor(4))
        self._serve("csi.v1.Identity", self.csi, ("GetPluginInfo", "GetPluginCapabilities", "Probe"))
        self._serve("csi.v1.Node", self.csi, (
            "NodeGetInfo", "NodeGetCapabilities", "NodePublishVolume", "NodeUnpublishVolume", "NodeExpandVolume", "NodeGetVolumeStats"))  # fmt: skip
        self._serve("pluginregistration.Registration", self.registration, ("GetInfo", "NotifyRegistrationStatus"))
        self.sockets = [folder / "csi.sock", home / "plugins_registry" / f"{PROVISIONER}-reg.sock"]
        for path in self.sockets:
            path.unlink(missing_ok=True)
            self.server.add_insecure_port(f"unix:{path}")
        self.server.start()

    def stop(self) -> None:
        """Hang up; kubelet takes the driver off the node."""
        self.server.stop(0.2).wait(2)
        for path in self.sockets:
            path.unlink(missing_ok=True)

    def _serve(self, service: str, messages: csi_proto.Messages, methods: tuple[str, ...]) -> None:
        handlers = {}
        for method in methods:
            request, reply = messages.method(service, method)
            handlers[method] = grpc.unary_unary_rpc_method_handler(
                self._answer(method, reply), request_deserializer=request.FromString, response_serializer=lambda message: message.SerializeToString()
            )
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def _answer(self, method: str, reply: Any) -> Any:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return getattr(self, method)(request, reply)
            except (OSError, LabError) as error:
                context.abort(grpc.StatusCode.INTERNAL, str(error))

        return answer

    def GetInfo(self, _request: Any, reply: Any) -> Any:
        """What csi-node-driver-registrar tells kubelet."""
        return reply(type="CSIPlugin", name=PROVISIONER, endpoint=f"/var/lib/kubelet/plugins/{PROVISIONER}/csi.sock", supported_versions=["1.0.0"])

    def NotifyRegistrationStatus(self, request: Any, reply: Any) -> Any:
        """Kubelet's verdict."""
        print(f"{self.vm.name}: registered {request.plugin_registered} {request.error}".rstrip(), flush=True)
        return reply()

    def GetPluginInfo(self, _request: Any, reply: Any) -> Any:
        """The driver's name."""
        return reply(name=PROVISIONER, vendor_version="lab")

    def GetPluginCapabilities(self, _request: Any, reply: Any) -> Any:
        """None that kubelet asks for."""
        return reply()

    def Probe(self, _request: Any, reply: Any) -> Any:
        """Always ready."""
        return reply()

    def NodeGetInfo(self, _request: Any, reply: Any) -> Any:
        """The real plugin reads the BIOS UUID from the DMI serial number."""
        return reply(node_id=self.vm.bios_uuid, max_volumes_per_node=59)

    def NodeGetCapabilities(self, _request: Any, reply: Any) -> Any:
        """Expansion, as the real one; staging is left out."""
        return reply(capabilities=[{"rpc": {"type": "EXPAND_VOLUME"}}])

    def NodePublishVolume(self, request: Any, reply: Any) -> Any:
        """Mount the volume's folder where the pod's file systems are."""
        if not request.publish_context.get("diskUUID"):
            raise LabError("no diskUUID: the volume is not attached")
        source, target = f"{INSIDE}/{request.volume_id}", request.target_path
        self._inside("sh", "-c", 'mkdir -p "$1" && { mountpoint -q "$1" || mount --bind "$0" "$1"; }', source, target)
        return reply()

    def NodeUnpublishVolume(self, request: Any, reply: Any) -> Any:
        """Take the mount away."""
        self._inside("sh", "-c", '! mountpoint -q "$0" || umount "$0"; [ ! -d "$0" ] || rmdir "$0"', request.target_path)
        return reply()

    def NodeExpandVolume(self, request: Any, reply: Any) -> Any:
        """A folder has no size."""
        return reply(capacity_bytes=request.capacity_range.required_bytes)

    def NodeGetVolumeStats(self, request: Any, reply: Any) -> Any:
        """Those of the file system below."""
        found = os.statvfs(FOLDER / request.volume_id)
        return reply(usage=[{"unit": "BYTES", "total": found.f_blocks * found.f_frsize, "available": found.f_bavail * found.f_frsize}])

    def _inside(self, *command: str) -> None:
        for pid in cgroups.members(self.vm.name):
            try:
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            except OSError:
                continue
            # The machine's own init: process 1 of a namespace that lies one below ours.
            ids = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
            if len(ids) > 1 and ids[-1] == "1" and "Name:\tsystemd" in status:
                done = subprocess.run(["nsenter", "-t", str(pid), "-m", "--", *command], capture_output=True, text=True, check=False)
                if done.returncode:
                    raise LabError(f"{self.vm.name}: {done.stderr.strip()}")
                return
        raise LabError(f"{self.vm.name}: no init found")


# --- the sidecars ----------------------------------------------------------------------------------------------------


class Sidecars:
    """What the sidecars of one controller do, in turns of a second."""

    def __init__(self, call: Api) -> None:
        self.call = call
        self.csi, _registration = csi_proto.load()
        self.channel: grpc.Channel | None = None
        self.socket: Path | None = None
        self.machine: Vm | None = None
        self.failed: dict[str, str] = {}

    def ask(self, method: str, **fields: Any) -> Any:
        """One call to the controller."""
        request, reply = self.csi.method("csi.v1.Controller", method)
        if self.channel is None:
            raise LabError("the machine of the controller is off")
        function = self.channel.unary_unary(
            f"/csi.v1.Controller/{method}", request_serializer=request.SerializeToString, response_deserializer=reply.FromString
        )
        answer = function(request(**fields), timeout=60)
        print(f"{method} {fields.get('name') or fields.get('volume_id') or fields.get('snapshot_id')}", flush=True)
        return answer

    def holder(self) -> dict[str, Any] | None:
        """The pod whose controller may run; a new one when the old one is gone."""
        pods = {
            item["metadata"]["name"]: item
            for item in self.call("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3Dvsphere-csi-controller").get("items", [])
            if not item["metadata"].get("deletionTimestamp")
            and any(entry["type"] == "PodScheduled" and entry["status"] == "True" for entry in item.get("status", {}).get("conditions", []))
        }
        ready = {
            name for name, item in pods.items()
            if any(entry["type"] == "Ready" and entry["status"] == "True" for entry in item["status"]["conditions"])
        }  # fmt: skip
        lease = self.call("GET", f"{LEASES}/{LEASE}")
        current = (lease.get("spec") or {}).get("holderIdentity", "")
        if current in ready or (current in pods and not ready):
            return pods[current]
        if not ready:
            return None
        chosen = sorted(ready)[0]
        if lease.get("kind") == "Lease":
            self.call("PATCH", f"{LEASES}/{LEASE}", {"spec": {"holderIdentity": chosen}})
        else:
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}, "spec": {"holderIdentity": chosen}}
            if self.call("POST", LEASES, body).get("kind") != "Lease":
                return None
        print(f"lease: {chosen}", flush=True)
        return pods[chosen]

    def connect(self) -> bool:
        """Find the socket of the controller that runs."""
        pod = self.holder()
        if pod is None:
            return False
        vm = descriptions.load(paths.DESCRIPTION).vm(pod["spec"]["nodeName"])
        folder = node.folder(vm) / "merged/var/lib/kubelet/pods" / pod["metadata"]["uid"] / "volumes/kubernetes.io~empty-dir/socket-dir"
        if not (folder / "csi.sock").is_socket():
            return False
        if folder != self.socket or self.channel is None:
            self.hang_up()
            self.channel = grpc.insecure_channel(f"unix:{short(folder, 'csi')}/csi.sock")
            self.socket, self.machine = folder, vm
        return True

    def hang_up(self) -> None:
        """Leave the controller."""
        channel, self.channel, self.machine = self.channel, None, None
        if channel is not None:
            channel.close()

    def turn(self) -> None:
        """Each object once; what fails is tried again in the next turn."""
        if not self.connect():
            return
        classes = {item["metadata"]["name"]: item for item in self.call("GET", "/apis/storage.k8s.io/v1/storageclasses")["items"]}
        claims = self.call("GET", "/api/v1/persistentvolumeclaims")["items"]
        volumes = {item["metadata"]["name"]: item for item in self.call("GET", "/api/v1/persistentvolumes")["items"]}
        attachments = [item for item in self.call("GET", ATTACHMENTS)["items"] if item["spec"]["attacher"] == PROVISIONER]
        contents = [item for item in self.call("GET", CONTENTS).get("items", []) if item["spec"]["driver"] == PROVISIONER]
        for claim in claims:
            storage_class = classes.get(claim["spec"].get("storageClassName") or "", {})
            if not claim["spec"].get("volumeName"):
                if storage_class.get("provisioner") == PROVISIONER and not claim["metadata"].get("deletionTimestamp") and not waits(claim, storage_class):
                    self._try(claim, self.provision, claim, storage_class)
            elif claim["spec"]["volumeName"] in volumes and claim.get("status", {}).get("phase") == "Bound":
                self._try(claim, self.resize, claim, volumes[claim["spec"]["volumeName"]])
        for item in attachments:
            self._try(item, self.attach, item, volumes)
        attached = {item["spec"]["source"].get("persistentVolumeName") for item in attachments}
        for name, item in volumes.items():
            own = (item["metadata"].get("annotations") or {}).get(OWNER) == PROVISIONER and "csi" in item["spec"]
            released = item.get("status", {}).get("phase") == "Released" and item["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
            if own and released and name not in attached and not item["metadata"].get("deletionTimestamp"):
                self._try(item, self.delete, item)
        for item in contents:
            self._try(item, self.snapshot, item)

    def _try(self, item: dict[str, Any], function: Any, *arguments: Any) -> None:
        uid = item["metadata"]["uid"]
        try:
            function(*arguments)
            self.failed.pop(uid, None)
        except grpc.RpcError as error:
            text = f"{function.__name__} {item['metadata']['name']}: {error.code().name} {error.details()}"
            if self.failed.get(uid) != text:
                self.failed[uid] = text
                print(text, flush=True)

    @staticmethod
    def _capability(modes: list[str], fs_type: str = "ext4") -> dict[str, Any]:
        many = "ReadWriteMany" in modes
        return {"mount": {"fs_type": fs_type}, "access_mode": {"mode": "MULTI_NODE_MULTI_WRITER" if many else "SINGLE_NODE_WRITER"}}

    def provision(self, claim: dict[str, Any], storage_class: dict[str, Any]) -> None:
        """csi-provisioner: a volume for a claim."""
        metadata, spec = claim["metadata"], claim["spec"]
        # Set by the controller of volumes when it has found no volume that waits for the claim; as the real one, act only then.
        if (metadata.get("annotations") or {}).get("volume.kubernetes.io/storage-provisioner") != PROVISIONER:
            return
        name = f"pvc-{metadata['uid']}"
        parameters = dict(storage_class.get("parameters") or {})
        fs_type = parameters.get("csi.storage.k8s.io/fstype", "ext4")
        source = None
        if (spec.get("dataSource") or {}).get("kind") == "VolumeSnapshot":
            path = f"/apis/snapshot.storage.k8s.io/v1/namespaces/{metadata['namespace']}/volumesnapshots/{spec['dataSource']['name']}"
            bound = (self.call("GET", path).get("status") or {}).get("boundVolumeSnapshotContentName")
            handle = (self.call("GET", f"{CONTENTS}/{bound}").get("status") or {}).get("snapshotHandle") if bound else None
            if not handle:
                return
            source = {"snapshot": {"snapshot_id": handle}}
        answer = self.ask(
            "CreateVolume", name=name, capacity_range={"required_bytes": size(spec["resources"]["requests"]["storage"])},
            volume_capabilities=[self._capability(spec["accessModes"], fs_type)], volume_content_source=source,
            parameters={key: value for key, value in parameters.items() if not key.startswith("csi.storage.k8s.io/")},
        )  # fmt: skip
        volume = answer.volume
        folder = FOLDER / volume.volume_id
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        if source:
            copied(content_of(source["snapshot"]["snapshot_id"]), folder)
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {OWNER: PROVISIONER}},
            "spec": {
                "capacity": {"storage": quantity(volume.capacity_bytes)},
                "accessModes": spec["accessModes"],
                "storageClassName": spec["storageClassName"],
                "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
                "csi": {"driver": PROVISIONER, "volumeHandle": volume.volume_id, "fsType": fs_type, "volumeAttributes": dict(volume.volume_context)},
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **{key: metadata[key] for key in ("namespace", "name", "uid")}},
            },
        }
        self.call("POST", "/api/v1/persistentvolumes", body)

    def delete(self, item: dict[str, Any]) -> None:
        """csi-provisioner: the end of a released volume."""
        handle = item["spec"]["csi"]["volumeHandle"]
        self.ask("DeleteVolume", volume_id=handle)
        shutil.rmtree(FOLDER / handle, ignore_errors=True)
        self.call("DELETE", f"/api/v1/persistentvolumes/{item['metadata']['name']}")

    def attach(self, item: dict[str, Any], volumes: dict[str, dict[str, Any]]) -> None:
        """csi-attacher: a disk to a VM, or away from it."""
        path = f"{ATTACHMENTS}/{item['metadata']['name']}"
        finalizers = item["metadata"].get("finalizers") or []
        attached = (item.get("status") or {}).get("attached")
        volume = volumes.get(item["spec"]["source"].get("persistentVolumeName", ""))
        drivers = self.call("GET", f"/apis/storage.k8s.io/v1/csinodes/{quote(item['spec']['nodeName'])}").get("spec", {}).get("drivers") or []
        node_id = next((entry["nodeID"] for entry in drivers if entry["name"] == PROVISIONER), "")
        if item["metadata"].get("deletionTimestamp"):
            if ATTACHER in finalizers:
                if attached and volume and node_id:
                    self.ask("ControllerUnpublishVolume", volume_id=volume["spec"]["csi"]["volumeHandle"], node_id=node_id)
                self.call("PATCH", f"{path}/status", {"status": {"attached": False}})
                self.call("PATCH", path, {"metadata": {"finalizers": [entry for entry in finalizers if entry != ATTACHER]}})
            return
        if attached or not node_id or volume is None:
            return
        if ATTACHER not in finalizers:
            self.call("PATCH", path, {"metadata": {"finalizers": [*finalizers, ATTACHER]}})
        source = volume["spec"]["csi"]
        answer = self.ask(
            "ControllerPublishVolume", volume_id=source["volumeHandle"], node_id=node_id, volume_context=source.get("volumeAttributes") or {},
            volume_capability=self._capability(volume["spec"]["accessModes"], source.get("fsType", "ext4")),
        )  # fmt: skip
        self.call("PATCH", f"{path}/status", {"status": {"attached": True, "attachmentMetadata": dict(answer.publish_context)}})

    def resize(self, claim: dict[str, Any], volume: dict[str, Any]) -> None:
        """csi-resizer: a larger disk; kubelet tells when the file system has grown, too."""
        wanted = size(claim["spec"]["resources"]["requests"]["storage"])
        if "csi" not in volume["spec"] or size(volume["spec"]["capacity"]["storage"]) >= wanted:
            return
        answer = self.ask(
            "ControllerExpandVolume", volume_id=volume["spec"]["csi"]["volumeHandle"], capacity_range={"required_bytes": wanted},
            volume_capability=self._capability(volume["spec"]["accessModes"]),
        )  # fmt: skip
        capacity = {"capacity": {"storage": quantity(answer.capacity_bytes)}}
        metadata = claim["metadata"]
        self.call("PATCH", f"/api/v1/persistentvolumes/{volume['metadata']['name']}", {"spec": capacity})
        done = {"conditions": [{"type": "FileSystemResizePending", "status": "True"}]} if answer.node_expansion_required else capacity
        self.call("PATCH", f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}/status", {"status": done})

    def snapshot(self, item: dict[str, Any]) -> None:
        """csi-snapshotter: make a snapshot, or take it away."""
        path = f"{CONTENTS}/{item['metadata']['name']}"
        handle = (item.get("status") or {}).get("snapshotHandle")
        finalizers = item["metadata"].get("finalizers") or []
        if item["metadata"].get("deletionTimestamp"):
            if BOUND in finalizers:
                if handle and item["spec"]["deletionPolicy"] == "Delete":
                    self.ask("DeleteSnapshot", snapshot_id=handle)
                    shutil.rmtree(content_of(handle), ignore_errors=True)
                self.call("PATCH", path, {"metadata": {"finalizers": [entry for entry in finalizers if entry != BOUND]}})
            return
        source, known = (item["spec"]["source"].get(key) for key in ("volumeHandle", "snapshotHandle"))
        if handle:
            return
        if known:
            # One that was there before, brought along by its handle: it is only asked about.
            entries = self.ask("ListSnapshots", snapshot_id=known).entries
            if not entries:
                return
            found = entries[0].snapshot
        else:
            found = self.ask("CreateSnapshot", name=f"snapshot-{item['metadata']['uid']}", source_volume_id=source).snapshot
            copied(FOLDER / source, content_of(found.snapshot_id))
        made = datetime.fromtimestamp(found.creation_time.seconds, UTC)
        status = {
            "snapshotHandle": found.snapshot_id, "creationTime": int(made.timestamp()) * 10**9, "readyToUse": found.ready_to_use,
            "restoreSize": found.size_bytes,
        }  # fmt: skip
        self.call("PATCH", f"{path}/status", {"status": status})


# --- all of it -------------------------------------------------------------------------------------------------------


def plugins(call: Api, found: dict[str, NodePlugin]) -> None:
    """A node plugin on every machine where the DaemonSet's pod runs."""
    pods = call("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3Dvsphere-csi-node").get("items", [])
    wanted = {item["spec"].get("nodeName") for item in pods if item.get("status", {}).get("phase") == "Running"}
    for vm in descriptions.load(paths.DESCRIPTION).nodes:
        kubelet = node.folder(vm) / "merged/var/lib/kubelet"
        runs = vm.name in wanted and node.running(vm) and (kubelet / "plugins_registry").is_dir()
        if runs and (vm.name not in found or not all(path.is_socket() for path in found[vm.name].sockets)):
            if vm.name in found:
                found.pop(vm.name).stop()
            found[vm.name] = NodePlugin(vm, kubelet)
        elif not runs and vm.name in found:
            found.pop(vm.name).stop()


class Doorkeeper:
    """Closes what is open on the disk of a machine that was switched off: an open socket would keep the disk mounted."""

    def __init__(self, servers: dict[str, NodePlugin]) -> None:
        self.servers = servers
        self.sidecars: Sidecars | None = None
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        """Look often: whoever switches the machine off waits for it."""
        while True:
            for name, server in list(self.servers.items()):
                if not node.running(server.vm):
                    self.servers.pop(name, None)
                    server.stop()
            if self.sidecars is not None and self.sidecars.machine is not None and not node.running(self.sidecars.machine):
                self.sidecars.hang_up()
            time.sleep(0.3)


def main() -> int:
    """Run until ended; a cluster that is not there (yet) is waited for."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    servers: dict[str, NodePlugin] = {}
    keeper = Doorkeeper(servers)
    trouble = ""
    while True:
        try:
            call = api()
            sidecars = keeper.sidecars = Sidecars(call) if call is not None else None
            while call is not None and sidecars is not None:
                plugins(call, servers)
                sidecars.turn()
                trouble = ""
                time.sleep(1)
        except (OSError, http.client.HTTPException, ValueError, KeyError, LabError) as error:
            if repr(error) != trouble:
                trouble = repr(error)
                print(f"waiting: {error!r}", flush=True)
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
