"""The description of the lab: one YAML file, checked when it is read."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from . import paths
from .shell import LabError

LAB_BLOCK = ipaddress.ip_network("198.18.0.0/15")
UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$")


@dataclass(frozen=True)
class Vm:
    """A virtual machine as vCenter shows it and, with `node`, a machine that runs."""

    name: str
    bios_uuid: str
    instance_uuid: str
    ip: str = ""
    role: str = ""
    cpus: int = 2
    memory_mb: int = 4096
    hardware_version: int = 19
    # None: the setting is not there at all.
    disk_enable_uuid: str | None = "TRUE"
    scsi: str = "pvscsi"
    disk_gb: int = 100
    folder: str = ""
    tags: tuple[str, ...] = ()
    powered_on: bool = True
    template: bool = False
    # running, notRunning or notInstalled, as in guest.toolsRunningStatus and guest.toolsStatus.
    tools: str = "running"
    # What VMware Tools report, where it differs from the name and address.
    guest_hostname: str | None = None
    guest_ip: str | None = None
    # What the machine itself has, where it differs from the name.
    hostname: str | None = None
    snapshots: int = 0
    node: bool = True

    @property
    def reported_hostname(self) -> str:
        """The host name in vCenter."""
        return self.name if self.guest_hostname is None else self.guest_hostname

    @property
    def reported_ip(self) -> str:
        """The address in vCenter."""
        return self.ip if self.guest_ip is None else self.guest_ip

    @property
    def own_hostname(self) -> str:
        """What `hostname` says on the machine."""
        return self.name if self.hostname is None else self.hostname

    @property
    def port(self) -> str:
        """The name of the machine's port on the bridge; a Linux interface name has 15 characters at most."""
        return "lab" + self.ip.rsplit(".", 1)[-1]

    @property
    def mac(self) -> str:
        """The network card's address, in VMware's range; it stays the same when the machine is started anew."""
        return "00:50:56:0c:" + ":".join(f"{int(part):02x}" for part in (self.ip or "0.0.0.0").split(".")[2:])

    @property
    def netns(self) -> str:
        """The machine's network namespace."""
        return f"{paths.NAME}-{self.name}"


@dataclass(frozen=True)
class User:
    """An account of vCenter."""

    name: str
    password: str


@dataclass(frozen=True)
class VCenter:
    """The vCenter and its inventory."""

    address: str
    hostname: str
    users: tuple[User, ...]
    port: int = 443
    api_version: str = "7.0.3.0"
    datacenter: str = "dc-moh"
    cluster: str = "cluster-cht"
    hosts: int = 3
    datastore: str = "datastore-cht"
    network: str = "VM Network"
    folder: str = "k3s"
    tag_category: str = "cht-role"


@dataclass(frozen=True)
class Description:
    """The whole lab."""

    vcenter: VCenter
    vms: tuple[Vm, ...]
    bridge_address: str = "198.18.0.2"
    prefix: int = 24
    source: str = ""
    nodes: tuple[Vm, ...] = field(default=())
    # stub: CSI's containers only run; real: the controller does its work in vCenter.
    csi: str = "stub"
    # What CHT's stubs take is multiplied by it; 1: as long as the real ones.
    stub_time: float = 0.1

    def vm(self, name: str) -> Vm:
        """The VM of that name."""
        for vm in self.vms:
            if vm.name == name:
                return vm
        raise LabError(f"no VM is named {name} in {self.source}; there are: {', '.join(vm.name for vm in self.vms)}")

    def node(self, name: str) -> Vm:
        """The VM of that name, which must be a machine that runs."""
        vm = self.vm(name)
        if not vm.node:
            raise LabError(f"{name} exists in vCenter only; the machines are: {', '.join(vm.name for vm in self.nodes)}")
        return vm


def serial(bios_uuid: str) -> str:
    """The BIOS UUID as VMware shows it in the DMI serial number: VMware-42 0e 3f 11 8a 5c 4d 01-9b 77 c0 ..."""
    pairs = re.findall("..", bios_uuid.replace("-", "").lower())
    return f"VMware-{' '.join(pairs[:8])}-{' '.join(pairs[8:])}"


def _known(kind: type, data: dict[str, Any], where: str) -> dict[str, Any]:
    names = {item.name for item in fields(kind)}
    unknown = sorted(set(data) - names)
    if unknown:
        raise LabError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(names))}")
    return data


def _merge(base: dict[str, Any], extra: dict[str, Any], where: str) -> dict[str, Any]:
    """A variant is the base lab with changes: `extends: FILE`, `change: {VM: {key: value}}`, `add: [VM]`, `remove: [NAME]`."""
    result = dict(base)
    vms = [dict(vm) for vm in base.get("vms", [])]
    names = {vm["name"] for vm in vms}
    for name, change in (extra.get("change") or {}).items():
        if name not in names:
            raise LabError(f"{where}: change.{name}: no such VM")
        vms = [{**vm, **change} if vm["name"] == name else vm for vm in vms]
    removed = set(extra.get("remove") or [])
    if removed - names:
        raise LabError(f"{where}: remove: no such VM: {', '.join(sorted(removed - names))}")
    vms = [vm for vm in vms if vm["name"] not in removed] + list(extra.get("add") or [])
    result["vms"] = vms
    for key in ("network", "vcenter", "defaults"):
        result[key] = {**base.get(key, {}), **(extra.get(key) or {})}
    result["roles"] = {**base.get("roles", {}), **(extra.get("roles") or {})}
    for key in ("csi", "stub_time"):
        if key in extra:
            result[key] = extra[key]
    unknown = sorted(set(extra) - {"extends", "change", "remove", "add", "network", "vcenter", "defaults", "roles", "csi", "stub_time"})
    if unknown:
        raise LabError(f"{where}: unknown key {', '.join(unknown)}")
    return result


def _read(file: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise LabError(f"description {file} can't be read: {error}") from error
    if not isinstance(data, dict):
        raise LabError(f"description {file}: a mapping is needed at the top")
    if "extends" in data:
        return _merge(_read((file.parent / data["extends"]).resolve()), data, str(file))
    return data


def load(file: Path) -> Description:
    """Read a description and check it."""
    return parse(_read(file), str(file))


def parse(data: dict[str, Any], source: str) -> Description:
    """Check a description and fill in its defaults."""
    network = data.get("network") or {}
    vcenter = dict(data.get("vcenter") or {})
    users = tuple(User(**_known(User, user, f"{source}: vcenter.users")) for user in vcenter.pop("users", []))
    if not users:
        raise LabError(f"{source}: vcenter.users: at least one user is needed")
    defaults = data.get("defaults") or {}
    roles = data.get("roles") or {}
    vms: list[Vm] = []
    for item in data.get("vms") or []:
        where = f"{source}: VM {item.get('name')}"
        role = item.get("role", "")
        if role and role not in roles:
            raise LabError(f"{where}: role {role} is not one of {', '.join(roles)}")
        values = _known(Vm, {**defaults, **roles.get(role, {}), **item}, where)
        values.setdefault("folder", vcenter.get("folder", "k3s"))
        values["tags"] = tuple(values.get("tags", ()))
        vms.append(_checked(Vm(**values), where))
    for attribute in ("name", "instance_uuid"):
        _unique(vms, attribute, source)
    if data.get("csi", "stub") not in {"stub", "real"}:
        raise LabError(f"{source}: csi must be stub or real, not {data['csi']}")
    stub_time = data.get("stub_time", 0.1)
    if not isinstance(stub_time, (int, float)) or isinstance(stub_time, bool) or stub_time < 0:
        raise LabError(f"{source}: stub_time must be a factor, 1 for as long as the real ones take, not {stub_time}")
    nodes = tuple(vm for vm in vms if vm.node)
    _unique(nodes, "ip", source)
    return Description(
        vcenter=VCenter(users=users, **_known(VCenter, vcenter, f"{source}: vcenter")),
        vms=tuple(vms),
        bridge_address=network.get("bridge_address", "198.18.0.2"),
        prefix=int(network.get("prefix", 24)),
        source=source,
        nodes=nodes,
        csi=data.get("csi", "stub"),
        stub_time=float(stub_time),
    )


def _checked(vm: Vm, where: str) -> Vm:
    if not NAME.match(vm.name):
        raise LabError(f"{where}: the name must be a host name")
    for attribute in ("bios_uuid", "instance_uuid"):
        if not UUID.match(getattr(vm, attribute)):
            raise LabError(f"{where}: {attribute} must be a dashed lower-case UUID, not {getattr(vm, attribute)!r}")
    if vm.node and not vm.ip:
        raise LabError(f"{where}: a machine needs an ip")
    if vm.ip and ipaddress.ip_address(vm.ip) not in LAB_BLOCK:
        raise LabError(f"{where}: ip {vm.ip} is not in {LAB_BLOCK}, the only block the lab uses")
    if vm.scsi not in {"pvscsi", "lsilogic", "none"}:
        raise LabError(f"{where}: scsi must be pvscsi, lsilogic or none, not {vm.scsi}")
    return vm


def _unique(vms: tuple[Vm, ...] | list[Vm], attribute: str, source: str) -> None:
    seen: dict[str, str] = {}
    for vm in vms:
        value = getattr(vm, attribute)
        if value in seen:
            raise LabError(f"{source}: {seen[value]} and {vm.name} have the same {attribute} {value}")
        seen[value] = vm.name


def dump(description: Description) -> str:
    """A description with nothing left to fill in."""
    vcenter = {item.name: getattr(description.vcenter, item.name) for item in fields(VCenter)}
    vcenter["users"] = [{"name": user.name, "password": user.password} for user in description.vcenter.users]
    vms = []
    for vm in description.vms:
        values = {item.name: getattr(vm, item.name) for item in fields(Vm)}
        values["tags"] = list(vm.tags)
        vms.append(values)
    data = {
        "network": {"bridge_address": description.bridge_address, "prefix": description.prefix},
        "vcenter": vcenter,
        "roles": {vm.role: {} for vm in description.vms if vm.role},
        "vms": vms,
        "csi": description.csi,
        "stub_time": description.stub_time,
    }
    return "---\n" + yaml.safe_dump(data, sort_keys=False)
