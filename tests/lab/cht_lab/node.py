"""The machines: systemd-nspawn with a real systemd, an overlay as disk and a network namespace as network card."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from . import cgroups, image, network, paths, process, tools
from .description import Description, Vm, serial
from .shell import LabError, run, say


def folder(vm: Vm) -> Path:
    """Where the machine's disk is."""
    return paths.NODES / vm.name


# nspawn ends with 133 when the machine wants a reboot, and leaves the new start to whoever started it.
SUPERVISE = """
while :; do
    "$@" & child=$!
    trap 'kill -TERM $child' TERM
    wait $child; code=$?
    while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
    [ $code -eq 133 ] || exit $code
done
"""


def _name(vm: Vm) -> str:
    return f"node-{vm.name}"


def running(vm: Vm) -> bool:
    """Whether the machine is on, paused included."""
    return process.running(_name(vm)) is not None


def serves(vm: Vm) -> bool:
    """Whether the machine's API listens; only from inside the lab's network. A server that was just started does not yet."""
    try:
        with socket.create_connection((vm.ip, 6443), timeout=1):
            return True
    except OSError:
        return False


def paused(vm: Vm) -> bool:
    """Whether the machine is frozen."""
    return running(vm) and cgroups.frozen(vm.name)


def mounted(path: Path) -> bool:
    """Whether something is mounted there."""
    real = str(path)
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        return any(line.split()[1] == real for line in mounts)


def keys(description: Description) -> None:
    """The key of the user `ops`, a fixed host key for each machine, and known_hosts with them."""
    if not paths.SSH_KEY.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ops@lab", "-f", paths.SSH_KEY])
    lines = []
    for vm in description.nodes:
        key = paths.SECRETS / f"host-{vm.name}"
        if not key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{vm.name}", "-f", key])
        kind, public = key.with_suffix(".pub").read_text(encoding="ascii").split()[:2]
        lines.append(f"{vm.ip},{vm.name} {kind} {public}\n")
    paths.KNOWN_HOSTS.write_text("".join(lines), encoding="ascii")


def hosts_file(description: Description, own: Vm | None = None) -> str:
    """Names and addresses of the whole lab."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines.append(f"{description.vcenter.address} {description.vcenter.hostname}")
    for vm in description.nodes:
        names = vm.own_hostname if own is vm else vm.name
        lines.append(f"{vm.ip} {names}")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _mount(vm: Vm) -> Path:
    """Mount the machine's disk: the image below, its own layer above."""
    base = folder(vm)
    merged = base / "merged"
    for name in ("upper", "work", "merged", "rancher", "containerd"):
        (base / name).mkdir(parents=True, exist_ok=True)
    if not mounted(merged):
        note = base / "image"
        if not note.exists():
            note.write_text(str(image.ensure()), encoding="utf-8")
        lower = note.read_text(encoding="utf-8")
        if not Path(lower).is_dir():
            raise LabError(f"{vm.name}: its disk is based on {lower}, which is gone: run `lab vm wipe {vm.name}`")
        run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={base / 'upper'},workdir={base / 'work'}", merged])
    return merged


def _first_boot(vm: Vm, description: Description, root: Path) -> None:
    """What an installer leaves on a new disk."""
    if (folder(vm) / "installed").exists():
        return
    _write(root / "etc/hostname", vm.own_hostname + "\n")
    _write(root / "etc/hosts", hosts_file(description, vm))
    _write(root / "etc/machine-id", "")
    host_key = paths.SECRETS / f"host-{vm.name}"
    _write(root / "etc/ssh/ssh_host_ed25519_key", host_key.read_text(encoding="ascii"), 0o600)
    _write(root / "etc/ssh/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub").read_text(encoding="ascii"))
    home = root / "home/ops"
    _write(home / ".ssh/authorized_keys", paths.SSH_KEY.with_suffix(".pub").read_text(encoding="ascii"), 0o600)
    owner = home.stat()
    (home / ".ssh").chmod(0o700)
    for path in (home / ".ssh", home / ".ssh/authorized_keys"):
        os.chown(path, owner.st_uid, owner.st_gid)
    (folder(vm) / "installed").touch()


def start(vm: Vm, description: Description) -> bool:
    """Switch the machine on. False if it was on already."""
    if running(vm):
        return False
    _clear(vm)
    network.fresh(vm, description)
    root = _mount(vm)
    _first_boot(vm, description, root)
    env_file = folder(vm) / "node.env"
    _write(env_file, f"LAB_SERIAL='{serial(vm.bios_uuid)}'\nLAB_UUID='{vm.bios_uuid}'\n")
    groups = cgroups.make(vm.name)
    command: list[str | Path] = [
        "sh", "-c", SUPERVISE, vm.name, "systemd-nspawn", "--quiet", f"--directory={root}", "--boot", "--register=no", "--keep-unit",
        f"--machine={vm.name}", f"--hostname={vm.own_hostname}", f"--uuid={vm.instance_uuid}",
        # A console that nobody reads is full one day, and PID 1 then waits for ever to write to it.
        f"--network-namespace-path={network.RUN_NETNS / vm.netns}", "--console=read-only", "--resolv-conf=off", "--timezone=off",
        "--link-journal=no", "--capability=all", "--system-call-filter=add_key", "--system-call-filter=keyctl",
        f"--bind={folder(vm) / 'rancher'}:/var/lib/rancher", f"--bind={folder(vm) / 'containerd'}:/var/lib/containerd",
        f"--bind={paths.VOLUMES}:/var/lib/lab-volumes", f"--bind-ro={env_file}:/etc/cht-lab/node.env",
    ]  # fmt: skip
    for version, binaries in tools.kubernetes_versions().items():
        if binaries.is_dir():
            command.append(f"--bind-ro={binaries}:/opt/lab/k8s/{version}")
    for name in tools.PARTS:
        command.append(f"--bind-ro={tools.TOOLS[name].folder}:/opt/lab/parts/{name}")
    process.start(_name(vm), command, env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}, before=lambda: cgroups.join(groups))
    return True


def _clear(vm: Vm) -> None:
    """Take away what a machine that is off may have left: processes, cgroups, the disk's mount."""
    cgroups.freeze(vm.name, False)
    if not cgroups.kill(vm.name):
        raise LabError(f"{vm.name}: some of its processes can't be ended: {sorted(cgroups.members(vm.name))}")
    cgroups.remove(vm.name)
    merged = folder(vm) / "merged"
    deadline = time.monotonic() + 5
    while mounted(merged):
        # A socket of the CSI stand-in on this disk is closed a moment after the machine is off.
        done = run(["umount", merged], check=False)
        if done.returncode and time.monotonic() > deadline:
            raise LabError(f"umount {merged}: {done.stderr.strip()}")
        time.sleep(0.1 if done.returncode else 0)


def stop(vm: Vm, *, grace: float = 60.0) -> None:
    """Shut the machine down in order, as VMware Tools would."""
    cgroups.freeze(vm.name, False)
    process.stop(_name(vm), grace=grace)
    _clear(vm)


def kill(vm: Vm) -> None:
    """Pull the plug."""
    if process.running(_name(vm)):
        cgroups.kill(vm.name)
        process.stop(_name(vm), grace=5, sign=signal.SIGKILL)
    _clear(vm)


def wipe(vm: Vm) -> None:
    """Give the machine an empty disk: the same VM, installed anew."""
    kill(vm)
    shutil.rmtree(folder(vm), ignore_errors=False)


def answers(vm: Vm) -> bool:
    """Whether sshd of the machine says hello; only from inside the lab's network."""
    try:
        with socket.create_connection((vm.ip, 22), timeout=1) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def wait(vms: Iterable[Vm], seconds: float = 90.0) -> None:
    """Wait until all of them can be reached by SSH."""
    pending = list(vms)
    deadline = time.monotonic() + seconds
    while pending:
        pending = [vm for vm in pending if not answers(vm)]
        if not pending:
            return
        dead = [vm.name for vm in pending if not running(vm)]
        if dead:
            raise LabError(f"{', '.join(dead)} ended while booting: see {paths.LOGS}/node-*.log")
        if time.monotonic() > deadline:
            raise LabError(f"no answer by SSH after {seconds:.0f} s: {', '.join(vm.name for vm in pending)}: see `lab logs NODE`")
        time.sleep(0.2)


def leftovers(known: set[str]) -> None:
    """End machines that an older description had."""
    names = {item.name for item in paths.NODES.iterdir()} if paths.NODES.is_dir() else set()
    for name in sorted((names | cgroups.leftovers()) - known):
        say(f"removing {name}, which the description does not have")
        ghost = Vm(name=name, bios_uuid="", instance_uuid="")
        kill(ghost)
        shutil.rmtree(paths.NODES / name, ignore_errors=True)


INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_BEFORE = Path("/run/cht-k3s-lab.max_user_instances")


def host_limits(wanted: bool) -> None:
    """Raise the one limit of this machine that a dozen kubelets exceed, and put the old value back with the last lab."""
    others = [folder for folder in paths.STATE.parent.glob("cht-k3s-lab*") if folder != paths.STATE]
    try:
        before = INOTIFY.read_text(encoding="ascii")
        if wanted and int(before) < 8192:
            INOTIFY_BEFORE.write_text(before, encoding="ascii")
            INOTIFY.write_text("8192", encoding="ascii")
        elif not wanted and not others and INOTIFY_BEFORE.exists():
            INOTIFY.write_text(INOTIFY_BEFORE.read_text(encoding="ascii"), encoding="ascii")
            INOTIFY_BEFORE.unlink()
    except OSError as error:
        say(f"lab: {INOTIFY} stays as it is ({error}); with many machines kubelet may report 'too many open files'")
