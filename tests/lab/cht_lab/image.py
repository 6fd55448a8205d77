"""The nodes' root file system: Debian by debootstrap, shared by all nodes as the lower layer of an overlay."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import paths
from .shell import LabError, run, say

SUITE = "bookworm"
# Empty: debootstrap's own default.
URL = os.environ.get("LAB_DEBIAN_MIRROR", "")

SYSTEM = [
    "systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "python3-apt", "sudo", "iproute2", "iptables", "ipset", "iputils-ping",
    "ca-certificates", "openssl", "curl", "procps", "kmod", "ufw",
]  # fmt: skip
CONTAINERS = ["conntrack", "ethtool", "socat", "busybox-static", "haproxy"]

# Files of the image that a node of a real site has from its own installation. Everything that only the lab needs is
# in one unit, cht-lab-node.service, which runs before any other.
NODE_SETUP = r"""#!/bin/sh
# What a virtual machine has and this container lacks. Runs once at boot, before everything else.
# /run/cht-lab/node.env is bound by the lab: LAB_SERIAL, LAB_UUID.
set -u
. /etc/cht-lab/node.env

# Kubelet and runc write to the controllers; nspawn mounts them read-only.
for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -d "$dir" ] && mountpoint -q "$dir" && mount -o remount,bind,rw "$dir"
done

# Kubelet exits without it.
[ -e /dev/kmsg ] || ln -s /dev/null /dev/kmsg

# Mount propagation to pods.
mount --make-rshared /

# Values that kubelet and the node role want, without changing the machine below.
mkdir -p /run/cht-lab/proc
fake() {
    name=$(echo "$1" | tr / _)
    echo "$2" > "/run/cht-lab/proc/$name"
    [ -e "/proc/sys/$1" ] && mount --bind "/run/cht-lab/proc/$name" "/proc/sys/$1"
}
fake vm/overcommit_memory 1
fake vm/panic_on_oom 0
fake kernel/panic 10
fake kernel/panic_on_oops 1
fake kernel/keys/root_maxkeys 1000000
fake kernel/keys/root_maxbytes 25000000
# Values that a role may set and that would be the whole machine's: writable here, without effect.
for name in vm/max_map_count vm/swappiness vm/dirty_ratio vm/dirty_background_ratio fs/file-max fs/aio-max-nr \
    fs/inotify/max_user_instances fs/inotify/max_user_watches kernel/pid_max kernel/threads-max; do
    [ -e "/proc/sys/$name" ] && fake "$name" "$(cat "/proc/sys/$name")"
done

# The VM's UUID where VMware shows it.
dmi=/run/cht-lab/dmi
mkdir -p "$dmi"
echo "$LAB_SERIAL" > "$dmi/product_serial"
echo "$LAB_UUID" > "$dmi/product_uuid"
echo "VMware, Inc." > "$dmi/sys_vendor"
echo "VMware Virtual Platform" > "$dmi/product_name"
echo "No Enclosure" > "$dmi/chassis_vendor"
chmod 0400 "$dmi/product_serial" "$dmi/product_uuid"
if [ -d /sys/class/dmi/id ]; then
    for file in "$dmi"/*; do
        [ -e "/sys/class/dmi/id/${file##*/}" ] && mount --bind "$file" "/sys/class/dmi/id/${file##*/}"
    done
else
    # The machine below has no DMI, and sysfs takes no new folders: a tmpfs with the old classes bound into it.
    mkdir -p /run/cht-lab/class
    mount --bind /sys/class /run/cht-lab/class
    mount --make-private /run/cht-lab/class
    mount -t tmpfs -o mode=0755 tmpfs /sys/class
    for class in /run/cht-lab/class/*; do
        name=${class##*/}
        mkdir "/sys/class/$name" && mount --bind "$class" "/sys/class/$name"
    done
    mkdir -p /sys/class/dmi/id
    mount --bind "$dmi" /sys/class/dmi/id
fi
exit 0
"""

FILES: dict[str, tuple[int, str]] = {
    "/usr/local/lib/cht-lab/node-setup": (0o755, NODE_SETUP),
    "/etc/systemd/system/cht-lab-node.service": (
        0o644,
        "[Unit]\nDescription=What a virtual machine has and this container lacks\nDefaultDependencies=no\n"
        "Before=sysinit.target systemd-sysctl.service systemd-modules-load.service\n\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/lib/cht-lab/node-setup\n\n[Install]\nWantedBy=sysinit.target\n",
    ),
    # Limits that can't be raised here are cleared; roles leave foreign drop-ins alone.
    "/etc/systemd/system/k3s.service.d/50-lab.conf": (0o644, "[Service]\nLimitNOFILE=\nLimitNPROC=\nLimitCORE=\nOOMScoreAdjust=0\n"),
    "/etc/systemd/system/k3s-agent.service.d/50-lab.conf": (0o644, "[Service]\nLimitNOFILE=\nLimitNPROC=\nLimitCORE=\nOOMScoreAdjust=0\n"),
    "/etc/systemd/system/containerd.service.d/50-lab.conf": (
        0o644,
        "[Service]\nExecStartPre=\nLimitNOFILE=\nLimitNPROC=\nLimitCORE=\nOOMScoreAdjust=0\n",
    ),
    "/etc/systemd/system/ssh.service.d/50-lab.conf": (0o644, "[Service]\nOOMScoreAdjust=0\n"),
    "/etc/systemd/system/systemd-journald.service.d/50-lab.conf": (0o644, "[Service]\nOOMScoreAdjust=0\nLimitNOFILE=\n"),
    "/etc/systemd/journald.conf.d/50-lab.conf": (0o644, "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\nForwardToConsole=no\n"),
    "/etc/ssh/sshd_config.d/50-lab.conf": (0o644, "UseDNS no\nPasswordAuthentication no\nPermitRootLogin no\nMaxStartups 100\nMaxSessions 50\n"),
    "/etc/sudoers.d/ops": (0o440, "ops ALL=(ALL) NOPASSWD: ALL\n"),
    "/etc/resolv.conf": (0o644, ""),
    "/etc/machine-id": (0o644, ""),
    "/etc/cht-lab/node.env": (0o644, "LAB_SERIAL=\nLAB_UUID=\n"),
}

# Units that fight with a container or that a node does not need.
MASKED = [
    "haproxy.service", "systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket",
    "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "dpkg-db-backup.timer",
    "getty.target", "console-getty.service", "systemd-networkd.service", "systemd-resolved.service", "containerd.service",
]  # fmt: skip


def recipe() -> str:
    """The short hash of everything that makes the image what it is."""
    parts = json.dumps([3, SUITE, SYSTEM, CONTAINERS, sorted((k, list(v)) for k, v in FILES.items()), MASKED])
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


def _base_recipe() -> str:
    return hashlib.sha256(json.dumps([SUITE, SYSTEM, CONTAINERS]).encode()).hexdigest()[:12]


def path() -> Path:
    """The folder of the image for this recipe, whether it exists yet or not."""
    return paths.CACHE / f"image-{recipe()}"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process builds a thing; another one that wants it waits for it."""
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    with open(paths.CACHE / f".{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure() -> Path:
    """Build the image unless it is in the cache; a build that was interrupted leaves nothing that looks finished."""
    image = path()
    if image.is_dir():
        return image
    with locked("image"):
        if image.is_dir():
            return image
        base = _ensure_base()
        started = time.monotonic()
        work = image.with_name(image.name + ".part")
        shutil.rmtree(work, ignore_errors=True)
        run(["cp", "-a", "--reflink=auto", base, work])
        _configure(work)
        work.rename(image)
        say(f"image: {image} made in {time.monotonic() - started:.0f} s")
    return image


def _ensure_base() -> Path:
    base = paths.CACHE / f"debian-{SUITE}-{_base_recipe()}"
    if base.is_dir():
        return base
    if shutil.which("debootstrap") is None:
        raise LabError("debootstrap is not installed: apt-get install debootstrap")
    work = base.with_name(base.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    debs = paths.CACHE / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    say(f"image: debootstrap {SUITE} (about 3 minutes) ...")
    started = time.monotonic()
    run(["debootstrap", "--variant=minbase", f"--include={','.join(SYSTEM + CONTAINERS)}", f"--cache-dir={debs}", SUITE, work, *([URL] if URL else [])])
    shutil.rmtree(work / "var/cache/apt/archives", ignore_errors=True)
    shutil.rmtree(work / "var/lib/apt/lists", ignore_errors=True)
    for folder in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (work / folder).mkdir(parents=True)
    work.rename(base)
    say(f"image: debootstrap took {time.monotonic() - started:.0f} s")
    return base


def _configure(root: Path) -> None:
    for name, (mode, text) in FILES.items():
        target = root / name.lstrip("/")
        if target.is_symlink():
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)
    units = root / "etc/systemd/system"
    for unit in MASKED:
        link = units / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    run(["chroot", root, "systemctl", "enable", "cht-lab-node.service", "ssh.service"])
    run(["chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", "ops"])
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for folder in ("opt/lab", "var/lib/rancher", "var/lib/containerd", "etc/rancher", "home/ops/.ssh"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    run(["chroot", root, "chown", "-R", "ops:ops", "/home/ops"])
    (root / "etc/hostname").unlink(missing_ok=True)
