# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of vsphere_vm_hardware: what a VM lacks, and how it gets it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.lookup import find_vms
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.power import PowerCycler, require_tools, run_tasks
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.properties import read_objects

try:
    from pyVmomi import vim
except ImportError:
    vim = None

Record = Mapping[str, Any]
VARIABLES = (
    "vsphere_path",
    "vsphere_template",
    "vsphere_power_state",
    "vsphere_tools_status",
    "vsphere_hardware_version",
    "vsphere_pvscsi",
    "vsphere_cpu_count",
    "vsphere_memory_mb",
    "vsphere_disks",
    "vsphere_snapshot_count",
)
SNAPSHOT = "before hardware change (cht.k3s)"
_SCSI_BUSES = range(4)


@dataclass(frozen=True)
class Wanted:
    """The least that a VM must have. None leaves a size alone."""

    hardware_version: int = 15
    pvscsi: bool = True
    cpu: int | None = None
    memory_mb: int | None = None
    disk_gb: int | None = None
    power_on: bool = False


@dataclass
class Plan:
    """What one VM lacks, as (before, after) by name."""

    record: Record
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def needs_off(self) -> bool:
        """A controller and a larger disk can be had while the VM runs, the rest cannot."""
        return self.record["vsphere_power_state"] != "off" and bool(
            {"hardware_version", "cpu", "memory_mb"} & set(self.changes)
        )

    @property
    def path(self) -> str:
        """The VM."""
        return str(self.record["vsphere_path"])


def plan(record: Record, wanted: Wanted) -> Plan:
    """Compare; nothing is ever made smaller."""
    result = Plan(record)
    disk = max((disk["size_gb"] for disk in record["vsphere_disks"]), default=0)
    sizes = (
        ("hardware_version", record["vsphere_hardware_version"], wanted.hardware_version),
        ("cpu", record["vsphere_cpu_count"], wanted.cpu),
        ("memory_mb", record["vsphere_memory_mb"], wanted.memory_mb),
        ("disk_gb", disk, wanted.disk_gb),
    )
    for name, found, least in sizes:
        if least is not None and found < least:
            result.changes[name] = (found, least)
    if wanted.pvscsi and not record["vsphere_pvscsi"]:
        result.changes["pvscsi"] = (False, True)
    if wanted.power_on and record["vsphere_power_state"] == "off" and not record["vsphere_template"]:
        result.changes["power"] = ("off", "on")
    return result


def refuse_impossible(plans: Sequence[Plan], power_cycle: str) -> None:
    """All that cannot be done is said before anything is."""
    wrong = []
    for item in plans:
        if item.changes and item.record["vsphere_template"]:
            wrong.append(f"{item.path} is a template")
        elif item.needs_off and power_cycle == "never":
            lacking = ", ".join(sorted({"hardware_version", "cpu", "memory_mb"} & set(item.changes)))
            wrong.append(f"{item.path} is on, and {lacking} can only be changed while it is off")
        if "disk_gb" in item.changes and item.record["vsphere_snapshot_count"]:
            wrong.append(f"{item.path} has snapshots, with which no disk can be enlarged")
        if "disk_gb" in item.changes and not item.record["vsphere_disks"]:
            wrong.append(f"{item.path} has no disk that could be enlarged")
    if wrong:
        raise VsphereError(
            "hardware",
            f"Not possible as things are: {'; '.join(wrong)}. Nothing was changed.",
            "Power the VMs off, or allow power_cycle: graceful; remove snapshots; convert templates to VMs.",
        )
    if power_cycle == "graceful":
        require_tools([dict(item.record) for item in plans if item.needs_off])


def ensure_hardware(session: VsphereSession, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """One VM after the other: change, power on, wait for Tools, next."""
    wanted = Wanted(
        params["hardware_version"],
        params["pvscsi"],
        params["cpu"],
        params["memory_mb"],
        params["disk_gb"],
        params["power_on"],
    )
    found = find_vms(session, params["vms"], params["search_by"], params["datacenters"], VARIABLES)
    plans = {record["vsphere_moid"]: plan(record, wanted) for record in found.values()}
    refuse_impossible(list(plans.values()), params["power_cycle"])
    if not check_mode:
        worker = _Worker(session, params)
        for moid, item in plans.items():
            if item.changes:
                worker.apply(moid, item)
    return _result([(query, plans[found[query]["vsphere_moid"]]) for query in params["vms"]])


class _Worker:
    """Carries plans out."""

    def __init__(self, session: VsphereSession, params: Mapping[str, Any]) -> None:
        self._session = session
        self._timeout = params["power_timeout"]
        self._snapshot = params["snapshot"]
        self._cycler = PowerCycler(session, params["power_cycle"], self._timeout)

    def apply(self, moid: str, item: Plan) -> None:
        """Change one VM. Every step leaves a VM that the next run can go on with."""
        session, path = self._session, item.path
        if item.needs_off:
            self._cycler.off(moid, path)
        vm = session.reference("VirtualMachine", moid)
        if "hardware_version" in item.changes:
            if self._snapshot:
                self._task(path, "Taking a snapshot", lambda: vm.CreateSnapshot_Task(SNAPSHOT, "", False, False))
            version = f"vmx-{item.changes['hardware_version'][1]}"
            self._task(path, "Upgrading the hardware version", lambda: vm.UpgradeVM_Task(version))
        if set(item.changes) - {"hardware_version", "power"}:
            spec = self._spec(moid, item)
            self._task(path, "Changing the hardware", lambda: vm.ReconfigVM_Task(spec))
        if item.needs_off:
            tools = item.record["vsphere_tools_status"] == "running"
            self._cycler.on(moid, path, wait_for_tools=tools)
        elif "power" in item.changes:
            # Whether its guest has Tools cannot be told while it is off.
            self._cycler.on(moid, path, wait_for_tools=False)

    def _task(self, path: str, what: str, start: Any) -> None:
        run_tasks(self._session, what, [(path, start)], self._timeout)

    def _spec(self, moid: str, item: Plan) -> Any:
        spec = vim.vm.ConfigSpec()
        if "cpu" in item.changes:
            spec.numCPUs = item.changes["cpu"][1]
        if "memory_mb" in item.changes:
            spec.memoryMB = item.changes["memory_mb"][1]
        if {"pvscsi", "disk_gb"} & set(item.changes):
            found = self._session.run(
                lambda: read_objects(self._session, "VirtualMachine", [moid], ("config.hardware.device",))
            )
            devices = found[0].values.get("config.hardware.device") or []
            spec.deviceChange = [
                *([_pvscsi(devices, item.path)] if "pvscsi" in item.changes else []),
                *([_larger_disk(devices, item.changes["disk_gb"][1])] if "disk_gb" in item.changes else []),
            ]
        return spec


def _pvscsi(devices: Sequence[Any], path: str) -> Any:
    """A new controller on the first free SCSI bus; existing disks stay where they are."""
    taken = {device.busNumber for device in devices if isinstance(device, vim.vm.device.VirtualSCSIController)}
    free = [bus for bus in _SCSI_BUSES if bus not in taken]
    if not free:
        raise VsphereError(
            "hardware",
            f"{path} has four SCSI controllers already, none of them paravirtual.",
            "Remove one that carries no disk.",
        )
    controller = vim.vm.device.ParaVirtualSCSIController(
        key=-1, busNumber=free[0], sharedBus=vim.vm.device.VirtualSCSIController.Sharing.noSharing
    )
    return vim.vm.device.VirtualDeviceSpec(
        operation=vim.vm.device.VirtualDeviceSpec.Operation.add, device=controller
    )


def _larger_disk(devices: Sequence[Any], size_gb: int) -> Any:
    """The largest disk grows: it is the one that was found too small."""
    disk = max(
        (device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)),
        key=lambda device: device.capacityInKB,
    )
    disk.capacityInKB = size_gb * 1024 * 1024
    disk.capacityInBytes = size_gb * 1024**3
    return vim.vm.device.VirtualDeviceSpec(operation=vim.vm.device.VirtualDeviceSpec.Operation.edit, device=disk)


def _result(plans: Sequence[tuple[str, Plan]]) -> dict[str, Any]:
    vms, before, after = [], [], []
    for query, item in plans:
        vms.append(
            {
                "query": query,
                "name": item.record["vsphere_name"],
                "path": item.path,
                "changed": bool(item.changes),
                "changes": {name: values[1] for name, values in item.changes.items()},
                "power_cycled": item.needs_off,
            }
        )
        for name, (old, new) in sorted(item.changes.items()):
            before.append(f"{item.path}: {name} = {old}\n")
            after.append(f"{item.path}: {name} = {new}\n")
    return {
        "changed": any(vm["changed"] for vm in vms),
        "vms": vms,
        "diff": {"before": "".join(before), "after": "".join(after)},
    }
