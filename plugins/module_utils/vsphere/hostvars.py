# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the properties of a VM to the host variables of the inventory. No network in here."""
from __future__ import annotations

from datetime import datetime
from typing import Any, Mapping

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import Tree, plain_name

# Host variable -> the properties it is made of. The inventory asks vCenter only for what the wanted variables need.
SOURCES: dict[str, tuple[str, ...]] = {
    "vsphere_name": ("name",),
    "vsphere_moid": (),
    "vsphere_path": ("name", "parent", "parentVApp"),
    "vsphere_datacenter": ("parent", "parentVApp", "runtime.host"),
    "vsphere_cluster": ("runtime.host",),
    "vsphere_host": ("runtime.host",),
    "vsphere_bios_uuid": ("config.uuid",),
    "vsphere_instance_uuid": ("config.instanceUuid",),
    "vsphere_hardware_version": ("config.version",),
    "vsphere_guest_hostname": ("guest.hostName",),
    "vsphere_tools_status": ("guest.toolsRunningStatus", "guest.toolsVersionStatus2"),
    "vsphere_power_state": ("runtime.powerState", "runtime.connectionState"),
    "vsphere_connection_state": ("runtime.connectionState",),
    "vsphere_template": ("config.template",),
    "vsphere_nics": ("guest.net", "config.hardware.device"),
    "vsphere_ips": ("guest.net",),
    "vsphere_cpu_count": ("config.hardware.numCPU",),
    "vsphere_memory_mb": ("config.hardware.memoryMB",),
    "vsphere_disks": ("config.hardware.device",),
    "vsphere_disk_enable_uuid": ("config.extraConfig", "config.flags.diskUuidEnabled"),
    "vsphere_restart_required": ("config.extraConfig", "runtime.bootTime", "runtime.powerState"),
    "vsphere_pvscsi": ("config.hardware.device",),
    "vsphere_snapshot_count": ("snapshot",),
    "vsphere_datastores": ("config.hardware.device",),
}

ALL_VARIABLES = tuple(SOURCES)
# Everything the inventory may set; check_inputs must not take these for misspelt role variables.
HOST_VARIABLES = (*SOURCES, "vsphere_vcenter", "vsphere_tags", "vsphere_custom_attributes")

_POWER = {"poweredOn": "on", "poweredOff": "off", "suspended": "suspended"}
_TOOLS = {
    "guestToolsRunning": "running",
    "guestToolsNotRunning": "not_running",
    "guestToolsExecutingScripts": "starting",
}
# Set together with disk.EnableUUID on a VM that runs. Its value is the boot that does not know the setting yet.
RESTART_MARK = "cht.k3s.diskUuidSetInBoot"
# A VM's time of boot may be told anew when it moves to a host with another clock; no VM goes off and on that fast.
_SAME_BOOT = 60.0
_TRUE = ("true", "t", "yes", "y", "on", "1")


def power_state(power: Any, connection: Any) -> str:
    """`on`, `off` or `suspended`; `unknown` where vCenter shows what it saw last: the VM's host or storage is away, and it may run."""
    # An older vCenter or a VM that is being made may give none.
    if connection is not None and str(connection) != "connected":
        return "unknown"
    return _POWER.get(str(power), "unknown")


def properties_for(variables: Any) -> list[str]:
    """The properties needed for these host variables, each once, in a stable order."""
    wanted: dict[str, None] = {"name": None}
    for variable in variables:
        for path in SOURCES.get(variable, ()):
            wanted[path] = None
    return list(wanted)


def is_true(value: Any) -> bool:
    """VMX files know many spellings of true; vSphere accepts them all, so a comparison has to."""
    return str(value).strip().lower() in _TRUE


def disk_enable_uuid(extra_config: Any, flag: Any) -> bool:
    """disk.EnableUUID, whatever the case of key and value. The explicit setting wins over the derived flag."""
    for option in extra_config or ():
        if option.key.lower() == "disk.enableuuid":
            return is_true(option.value)
    return bool(flag)


def restart_mark(extra_config: Any) -> str:
    """The boot during which disk.EnableUUID was set; '' if the VM was off, or was switched off by this collection since."""
    for option in extra_config or ():
        if option.key.lower() == RESTART_MARK.lower():
            return str(option.value or "").strip()
    return ""


def boot_text(boot_time: Any) -> str:
    """The value of the mark for a VM that runs."""
    return boot_time.isoformat() if isinstance(boot_time, datetime) else "unknown"


def restart_required(extra_config: Any, boot_time: Any, power_state: Any) -> bool:
    """Whether the VM still runs as it did when disk.EnableUUID was set. In doubt it does."""
    mark = restart_mark(extra_config)
    if not mark or str(power_state) == "poweredOff":
        return False
    try:
        return not isinstance(boot_time, datetime) or abs((boot_time - datetime.fromisoformat(mark)).total_seconds()) < _SAME_BOOT
    except (TypeError, ValueError):
        return True


def hardware_version(version: Any) -> int:
    """vmx-15 -> 15; 0 if vCenter does not know it."""
    digits = str(version or "").rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def _moid(reference: Any) -> str | None:
    return getattr(reference, "_moId", None)


def _kind(device: Any) -> str:
    return str(getattr(device, "_wsdlName", type(device).__name__))


def _snapshots(trees: Any) -> int:
    return sum(1 + _snapshots(tree.childSnapshotList) for tree in trees or ())


def _addresses(guest_nic: Any) -> list[str]:
    return [address for address in guest_nic.ipAddress or () if address]


class VmView:
    """The devices of one VM, walked once."""

    def __init__(self, devices: Any) -> None:
        self.controllers: dict[int, str] = {}
        self.disks: list[Any] = []
        self.cards: list[Any] = []
        for device in devices or ():
            kind = _kind(device)
            if kind == "VirtualDisk":
                self.disks.append(device)
            elif hasattr(device, "macAddress"):
                self.cards.append(device)
            elif hasattr(device, "busNumber"):
                self.controllers[device.key] = kind

    @property
    def pvscsi(self) -> bool:
        """Whether a paravirtual SCSI controller is there."""
        return "ParaVirtualSCSIController" in self.controllers.values()

    def disk_vars(self) -> list[dict[str, Any]]:
        """The virtual disks."""
        return [self._disk(disk) for disk in self.disks]

    def _disk(self, disk: Any) -> dict[str, Any]:
        backing = disk.backing
        file_name = str(getattr(backing, "fileName", "") or "")
        kilobytes = disk.capacityInKB or 0
        return {
            "label": disk.deviceInfo.label if disk.deviceInfo else "",
            "size_gb": round(kilobytes / 1024 / 1024, 1),
            "datastore": file_name[1:].partition("]")[0] if file_name.startswith("[") else "",
            "controller": self.controllers.get(disk.controllerKey, ""),
            "uuid": str(getattr(backing, "uuid", "") or "").lower(),
        }

    def nic_vars(self, guest_net: Any) -> list[dict[str, Any]]:
        """The network cards of the VM, with what Tools reports about them."""
        by_mac = {str(nic.macAddress or "").lower(): nic for nic in guest_net or ()}
        nics = []
        for card in self.cards:
            mac = str(card.macAddress or "").lower()
            guest = by_mac.pop(mac, None)
            nics.append(
                {
                    "label": card.deviceInfo.label if card.deviceInfo else "",
                    "mac": mac,
                    "network": (guest.network if guest is not None else None) or "",
                    "connected": bool(card.connectable and card.connectable.connected),
                    "ips": _addresses(guest) if guest is not None else [],
                }
            )
        # What Tools reports beyond the VM's own cards: bridges, bonds, CNI interfaces.
        for mac, guest in by_mac.items():
            nics.append(
                {
                    "label": "",
                    "mac": mac,
                    "network": guest.network or "",
                    "connected": bool(guest.connected),
                    "ips": _addresses(guest),
                }
            )
        return nics


def tools_status(running: Any, version: Any) -> str:
    """running, starting, not_running or not_installed."""
    if str(version) == "guestToolsNotInstalled":
        return "not_installed"
    return _TOOLS.get(str(running), "not_running")


def own_addresses(cards: Any, guest_net: Any) -> list[str]:
    """The addresses of the VM's own cards in the order in which the CPI reads them (nodemanager.go, collectNonVNICDevices).

    guest.ipAddress is none of them: it may be a VIP, a bridge or the pods' cni0, and without guest.net the CPI finds no address at all.
    """
    own = {str(card.macAddress or "").lower() for card in cards}
    return _unique(
        address for nic in guest_net or ()
        # The devices are large, and are not read of VMs that are only asked for their addresses.
        if getattr(nic, "deviceConfigId", 0) != -1 and (not own or str(nic.macAddress or "").lower() in own)
        for address in _addresses(nic)
    )


def _unique(values: Any) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def host_vars(moid: str, values: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    """All host variables of one VM, as plain data that can be cached and shown."""
    get = values.get
    name = get("name") or ""
    place = _moid(get("parent")) or _moid(get("parentVApp"))
    host = tree.get(_moid(get("runtime.host")))
    datacenter = tree.datacenter(place) or tree.datacenter(host.moid if host else None)
    cluster = tree.cluster(host.moid) if host else None
    view = VmView(get("config.hardware.device"))
    guest_net = get("guest.net")
    snapshot = get("snapshot")
    disks = view.disk_vars()
    return {
        "vsphere_name": plain_name(name),
        "vsphere_moid": moid,
        "vsphere_path": f"{tree.path(place)}/{name}",
        "vsphere_datacenter": tree.path(datacenter.moid).lstrip("/") if datacenter else "",
        "vsphere_cluster": plain_name(cluster.name) if cluster else "",
        "vsphere_host": plain_name(host.name) if host else "",
        "vsphere_bios_uuid": str(get("config.uuid") or "").lower(),
        "vsphere_instance_uuid": str(get("config.instanceUuid") or "").lower(),
        "vsphere_hardware_version": hardware_version(get("config.version")),
        "vsphere_guest_hostname": get("guest.hostName") or "",
        "vsphere_tools_status": tools_status(get("guest.toolsRunningStatus"), get("guest.toolsVersionStatus2")),
        "vsphere_power_state": power_state(get("runtime.powerState"), get("runtime.connectionState")),
        "vsphere_connection_state": str(get("runtime.connectionState") or "unknown"),
        "vsphere_template": bool(get("config.template")),
        "vsphere_nics": view.nic_vars(guest_net),
        "vsphere_ips": own_addresses(view.cards, guest_net),
        "vsphere_cpu_count": int(get("config.hardware.numCPU") or 0),
        "vsphere_memory_mb": int(get("config.hardware.memoryMB") or 0),
        "vsphere_disks": disks,
        "vsphere_disk_enable_uuid": disk_enable_uuid(get("config.extraConfig"), get("config.flags.diskUuidEnabled")),
        "vsphere_restart_required": restart_required(get("config.extraConfig"), get("runtime.bootTime"), get("runtime.powerState")),
        "vsphere_pvscsi": view.pvscsi,
        "vsphere_snapshot_count": _snapshots(snapshot.rootSnapshotList) if snapshot else 0,
        "vsphere_datastores": sorted({disk["datastore"] for disk in disks if disk["datastore"]}),
    }
