"""The real vcsim behind the front, filled with what the description says."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import ssl
import sys
import time
import urllib.request
from typing import Any

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

from . import certs, front, node, paths, process, tools
from .description import Description, Vm
from .shell import LabError, say

VCSIM = ("127.0.0.1", 8989)
CONTROL = paths.RUN / "front.sock"
ACCOUNT = paths.SECRETS / "vcsim.json"
SETTINGS = paths.SECRETS / "front.json"
PASSWORDS = paths.SECRETS / "passwords.json"
DATASTORE = paths.VCENTER / "datastore"
FILLED = paths.VCENTER / "filled"


def _account() -> tuple[str, str]:
    """vcsim's own account, which nobody but the front and this module knows."""
    if not ACCOUNT.exists():
        ACCOUNT.touch(mode=0o600)
        ACCOUNT.write_text(json.dumps(["lab", secrets.token_hex(16)]), encoding="utf-8")
    name, password = json.loads(ACCOUNT.read_text(encoding="utf-8"))
    return name, password


def passwords(description: Description) -> dict[str, str]:
    """The accounts and their passwords of now: the description's, or what `lab vcenter password` made of them."""
    changed = json.loads(PASSWORDS.read_text(encoding="utf-8")) if PASSWORDS.exists() else {}
    return {user.name: changed.get(user.name, user.password) for user in description.vcenter.users}


def up(description: Description) -> None:
    """Start vcsim, fill it and start the front, as far as that is not done."""
    vcenter = description.vcenter
    certs.ensure(vcenter.address, vcenter.hostname)
    if process.running("vcsim") is None:
        _start_vcsim(description)
    elif not FILLED.exists():
        # The last run was interrupted while filling it.
        process.stop("vcsim")
        _start_vcsim(description)
    start_front(description)


def _start_vcsim(description: Description) -> None:
    vcenter = description.vcenter
    name, password = _account()
    FILLED.unlink(missing_ok=True)
    temporary = paths.VCENTER / "tmp"
    for folder in (temporary, DATASTORE):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    command = [
        tools.program("vcsim"), "-l", f"{VCSIM[0]}:{VCSIM[1]}", "-tlscert", certs.SERVER_CERT, "-tlskey", certs.SERVER_KEY,
        "-username", name, "-password", password, "-api-version", vcenter.api_version, "-dc", "1", "-cluster", "1",
        "-host", str(vcenter.hosts), "-standalone-host", "0", "-vm", "0", "-ds", "0", "-pg", "0",
    ]  # fmt: skip
    process.start("vcsim", command, env={**os.environ, "TMPDIR": str(temporary)}, cwd=paths.VCENTER)
    process.listening("vcsim", VCSIM, 30)
    content = connect()
    try:
        fill(content, description)
        _tag(content, description)
    finally:
        Disconnect(content)
    FILLED.touch()


def start_front(description: Description) -> None:
    """Let clients in."""
    vcenter = description.vcenter
    if process.running("front") is None:
        settings = {
            "users": passwords(description),
            "upstream": _account(),
            "listen": (vcenter.address, vcenter.port),
            "target": VCSIM,
            "cert": str(certs.SERVER_CERT),
            "key": str(certs.SERVER_KEY),
            "control": str(CONTROL),
            "version": vcenter.api_version.rpartition(".")[0] if description.csi == "real" else "",
        }
        SETTINGS.touch(mode=0o600)
        SETTINGS.write_text(json.dumps(settings), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(paths.LAB_DIR), "PYTHONDONTWRITEBYTECODE": "1"}
        process.start("front", [sys.executable, "-m", "cht_lab.front", SETTINGS], env=environment)
        process.listening("front", (vcenter.address, vcenter.port), 20)


def stop_front() -> None:
    """Shut clients out: vCenter does not answer, but forgets nothing except the sessions."""
    process.stop("front", grace=2)


def down() -> None:
    """End both."""
    stop_front()
    process.stop("vcsim", grace=5)


def connect() -> Any:
    """The lab's own session at vcsim, past the front, so that it is not counted."""
    name, password = _account()
    return SmartConnect(host=VCSIM[0], port=VCSIM[1], user=name, pwd=password, disableSslCertValidation=True)


def _wait(task: Any) -> Any:
    deadline = time.monotonic() + 30
    while task.info.state not in (vim.TaskInfo.State.success, vim.TaskInfo.State.error):
        if time.monotonic() > deadline:
            raise LabError("vcsim: a task does not end")
        time.sleep(0.01)
    if task.info.state == vim.TaskInfo.State.error:
        raise LabError(f"vcsim: {task.info.error.msg or task.info.error}")
    return task.info.result


def fill(service: Any, description: Description) -> None:
    """Name the inventory and create every VM."""
    vcenter = description.vcenter
    root = service.content.rootFolder
    datacenter = root.childEntity[0]
    cluster = datacenter.hostFolder.childEntity[0]
    for item, name in ((datacenter, vcenter.datacenter), (cluster, vcenter.cluster)):
        _wait(item.Rename_Task(name))
    # One folder as datastore of all hosts: shared storage. vcsim can't rename a datastore, so it starts without one.
    for host in cluster.host:
        host.configManager.datastoreSystem.CreateLocalDatastore(vcenter.datastore, str(DATASTORE))
    network = next((item for item in datacenter.network if item.name == vcenter.network), datacenter.network[0])
    folders: dict[str, Any] = {}
    for number, vm in enumerate(description.vms):
        if vm.folder not in folders:
            folders[vm.folder] = datacenter.vmFolder.CreateFolder(vm.folder) if vm.folder else datacenter.vmFolder
        host = cluster.host[number % len(cluster.host)]
        _create(vm, folders[vm.folder], cluster.resourcePool, host, vcenter.datastore, network)


def _devices(vm: Vm, datastore: str, network: Any) -> list[Any]:
    changes = []
    add = vim.vm.device.VirtualDeviceSpec.Operation.add
    if vm.scsi != "none":
        kind = vim.vm.device.ParaVirtualSCSIController if vm.scsi == "pvscsi" else vim.vm.device.VirtualLsiLogicController
        sharing = vim.vm.device.VirtualSCSIController.Sharing.noSharing
        changes.append(vim.vm.device.VirtualDeviceSpec(operation=add, device=kind(key=1000, busNumber=0, sharedBus=sharing)))
        backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName=f"[{datastore}] {vm.name}/disk1.vmdk", diskMode="persistent", thinProvisioned=True
        )
        disk = vim.vm.device.VirtualDisk(key=2000, controllerKey=1000, unitNumber=0, capacityInKB=vm.disk_gb * 1024 * 1024, backing=backing)
        create = vim.vm.device.VirtualDeviceSpec.FileOperation.create
        changes.append(vim.vm.device.VirtualDeviceSpec(operation=add, fileOperation=create, device=disk))
    nic = vim.vm.device.VirtualVmxnet3(
        key=4000,
        addressType="manual",
        macAddress=vm.mac if vm.ip else None,
        backing=vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName=network.name, network=network),
    )
    changes.append(vim.vm.device.VirtualDeviceSpec(operation=add, device=nic))
    return changes


def _create(vm: Vm, folder: Any, pool: Any, host: Any, datastore: str, network: Any) -> None:
    extra = []
    if vm.disk_enable_uuid is not None:
        extra.append(vim.option.OptionValue(key="disk.EnableUUID", value=vm.disk_enable_uuid))
    spec = vim.vm.ConfigSpec(
        name=vm.name,
        guestId="debian12_64Guest",
        version=f"vmx-{vm.hardware_version}",
        numCPUs=vm.cpus,
        memoryMB=vm.memory_mb,
        uuid=vm.bios_uuid,
        instanceUuid=vm.instance_uuid,
        files=vim.vm.FileInfo(vmPathName=f"[{datastore}] {vm.name}/{vm.name}.vmx"),
        deviceChange=_devices(vm, datastore, network),
        extraConfig=extra,
    )
    machine = _wait(folder.CreateVM_Task(config=spec, pool=pool, host=host))
    for number in range(vm.snapshots):
        _wait(machine.CreateSnapshot_Task(name=f"snapshot-{number + 1}", description="left behind", memory=False, quiesce=False))
    _power(machine, vm, vm.powered_on)
    if vm.template:
        machine.MarkAsTemplate()


def _set(machine: Any, values: dict[str, str]) -> None:
    options = [vim.option.OptionValue(key=f"SET.{key}", value=value) for key, value in values.items()]
    _wait(machine.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=options)))


def _power(machine: Any, vm: Vm, on: bool) -> None:
    """Switch a VM in vCenter and let Tools report what they would."""
    is_on = machine.runtime.powerState == vim.VirtualMachinePowerState.poweredOn
    if on and not is_on:
        _wait(machine.PowerOnVM_Task())
    elif is_on and not on:
        _wait(machine.PowerOffVM_Task())
    tools_run = on and vm.tools == "running"
    values = {
        "guest.toolsStatus": "toolsOk" if tools_run else "toolsNotInstalled" if vm.tools == "notInstalled" else "toolsNotRunning",
        "guest.toolsRunningStatus": "guestToolsRunning" if tools_run else "guestToolsNotRunning",
        "guest.guestState": "running" if on else "notRunning",
    }
    if tools_run:
        values |= {"guest.hostName": vm.reported_hostname, "guest.ipAddress": vm.reported_ip}
    _set(machine, values)


def _rest(path: str, token: str = "", body: Any = None, method: str = "POST", basic: str = "") -> Any:
    request = urllib.request.Request(f"https://{VCSIM[0]}:{VCSIM[1]}/rest/com/vmware/cis/{path}", method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("vmware-api-session-id", token)
    if basic:
        request.add_header("Authorization", "Basic " + base64.b64encode(basic.encode()).decode())
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(request, data=data, context=ssl._create_unverified_context(), timeout=20) as answer:  # noqa: S323, SLF001
        text = answer.read()
    return json.loads(text).get("value") if text else None


def _tag(service: Any, description: Description) -> None:
    """Make the category and tags and put them on the VMs."""
    token = _rest("session", basic=":".join(_account()))
    spec = {"name": description.vcenter.tag_category, "description": "the VM's part in the cluster", "cardinality": "MULTIPLE"}
    category = _rest("tagging/category", token, {"create_spec": {**spec, "associable_types": ["VirtualMachine"]}})
    tags = {}
    for name in sorted({tag for vm in description.vms for tag in vm.tags}):
        tags[name] = _rest("tagging/tag", token, {"create_spec": {"name": name, "description": "", "category_id": category}})
    ids = {name: machine._moId for name, machine in machines(service).items()}  # noqa: SLF001
    for vm in description.vms:
        for tag in vm.tags:
            _rest(f"tagging/tag-association/id:{tags[tag]}?~action=attach", token, {"object_id": {"type": "VirtualMachine", "id": ids[vm.name]}})
    _rest("session", token, method="DELETE")


def machines(service: Any) -> dict[str, Any]:
    """All VMs of vcsim by name."""
    content = service.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    try:
        return {machine.name: machine for machine in view.view}
    finally:
        view.Destroy()


def power(vms: list[Vm]) -> None:
    """Let vCenter show what the machines do."""
    service = connect()
    try:
        found = machines(service)
        for vm in vms:
            on = node.running(vm)
            machine = found[vm.name]
            if on != (machine.runtime.powerState == vim.VirtualMachinePowerState.poweredOn):
                _power(machine, vm, on)
    finally:
        Disconnect(service)


def tell(**request: Any) -> dict[str, Any]:
    """Send the front a command."""
    try:
        return front.command(CONTROL, **request)
    except OSError as error:
        raise LabError(f"vCenter is stopped: `lab vcenter start` ({error})") from error


def set_password(description: Description, user: str, password: str) -> None:
    """Give an account another password, as an administrator would."""
    known = passwords(description)
    if user not in known:
        raise LabError(f"vCenter has no user {user}; there are: {', '.join(known)}")
    known[user] = password
    PASSWORDS.touch(mode=0o600)
    PASSWORDS.write_text(json.dumps(known), encoding="utf-8")
    if process.running("front") is not None:
        tell(do="password", user=user, password=password)
    say(f"vcenter: {user} has a new password; open sessions go on")
