# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a machine for k3s: kernel modules, kernel parameters, swap, the size of the journal, time, firewall."""

from __future__ import annotations

import re

from . import state
from .firewall import Firewall
from .foreign import refusal
from .system import NodeError, System

MODULES_PATH = "/etc/modules-load.d/cht-k3s.conf"
SYSCTL_PATH = "/etc/sysctl.d/90-cht-k3s.conf"
JOURNAL_PATH = "/etc/systemd/journald.conf.d/cht-k3s.conf"
FSTAB_PATH = "/etc/fstab"
OFFLOAD_PATH = "/etc/udev/rules.d/90-cht-k3s-flannel.rules"
# Flannel's devices for VXLAN, of IPv4 and IPv6. k3s makes them anew, so a rule of udev has to set them.
FLANNEL_DEVICES = ("flannel.1", "flannel-v6.1")
OFFLOAD = "tx-checksum-ip-generic"
TIME_SERVICES = ("chronyd", "chrony", "systemd-timesyncd", "ntpsec", "ntp")
HEADER = "# Written by Ansible (cht.k3s.k3s_node): changes made here are overwritten.\n"
# Kernel parameters that only say how much of something there may be, and that nobody makes small to harden a machine.
_LIMIT = re.compile(
    r"fs\.inotify\.|fs\.(file-max|nr_open|aio-max-nr)\Z|vm\.max_map_count\Z|net\.core\.somaxconn\Z|net\.(netfilter\.)?nf_conntrack_max\Z"
    r"|kernel\.(pid_max|threads-max)\Z|kernel\.keys\."
)
_SWAP = re.compile(r"^([ \t]*[^#\s]\S*[ \t]+\S+[ \t]+swap([ \t].*|$))")


def parameter(value) -> str:
    """A value as the kernel takes it, which knows no words for true and false."""
    return str(int(value)) if isinstance(value, bool) else str(value)


class Preparer:
    """One run of k3s_node on one machine.

    What the kernel refuses is a warning: k3s itself also goes on without, and inside a container it cannot be set at all.
    """

    def __init__(self, system: System, check_mode: bool = False) -> None:
        self.system = system
        self.check_mode = check_mode
        self.actions: list = []
        self.diff: list = []
        self.warnings: list = []

    def run(
        self, modules: list, sysctls: dict, swap: bool, journal_size: str, time_sync: bool = False, firewall: Firewall | None = None,
        flannel_tx_checksum: bool = True,
    ) -> dict:
        self._refuse_a_foreign_node()
        ethtool = self._ethtool(flannel_tx_checksum)
        self._file(MODULES_PATH, HEADER + "".join(f"{name}\n" for name in modules))
        for name in modules:
            self._load(name)
        wanted = {name: self._not_lowered(name, parameter(value)) for name, value in sysctls.items() if value is not None}
        self._file(SYSCTL_PATH, HEADER + "".join(f"{name} = {wanted[name]}\n" for name in sorted(wanted)))
        for name in sorted(wanted):
            self._sysctl(name, wanted[name])
        if not swap:
            self._swap_off()
        if journal_size and self._file(JOURNAL_PATH, f"{HEADER}[Journal]\nSystemMaxUse={journal_size}\n") and not self.check_mode:
            done = self.system.systemctl("restart", "systemd-journald.service")
            if done.rc != 0:
                self.warnings.append(f"systemd-journald was not restarted: {done.err.strip()}")
        if time_sync:
            self._time_sync()
        if ethtool:
            self._flannel_offload(flannel_tx_checksum, ethtool)
        if firewall is not None:
            self._firewall(firewall)
        active = Firewall(self.system, [], [], []).active()
        return {"changed": bool(self.actions), "actions": self.actions, "diff": self.diff, "firewall": active}

    def _refuse_a_foreign_node(self) -> None:
        """Before anything is changed: a cluster that was built by hand is adopted first."""
        why = refusal(state.foreign(self.system))
        if why:
            raise NodeError(why)

    def _time_sync(self) -> None:
        """One of the time services runs; which one is the machine's choice."""
        units = {name: self.system.unit(name) for name in TIME_SERVICES}
        if any(unit.active == "active" for unit in units.values()):
            return
        name = next((name for name, unit in units.items() if unit.loaded and unit.enabled != "masked"), "")
        if not name:
            self.warnings.append("No time service is installed (chrony, systemd-timesyncd). Clocks that differ break etcd and certificates.")
            return
        self.actions.append(f"enable and start {name}")
        if not self.check_mode:
            done = self.system.systemctl("enable", "--now", f"{name}.service")
            if done.rc != 0:
                raise NodeError(f"The time service {name} does not start: {done.err.strip()}. See its journal, or set node_time_sync: false.")

    def _ethtool(self, wanted: bool) -> str:
        """The program for flannel's devices; '' where nothing is to be done to them: they stay as the kernel has them unless the role switched them."""
        if wanted and not self.system.exists(OFFLOAD_PATH):
            return ""
        program = next((path for path in ("/usr/sbin/ethtool", "/sbin/ethtool", "/usr/bin/ethtool") if self.system.exists(path)), "")
        if not program:
            raise NodeError(
                "node_flannel_tx_checksum needs the program ethtool, which is not installed here. Install the system's package ethtool, and run again."
                " Nothing was changed."
            )
        return program

    def _flannel_offload(self, wanted: bool, program: str) -> None:
        """Checksum offload on flannel's devices: off now and whenever they are made, or on again."""
        if wanted:
            self.actions.append(f"remove {OFFLOAD_PATH}")
            self.diff.append({"before_header": OFFLOAD_PATH, "after_header": OFFLOAD_PATH, "before": self.system.read(OFFLOAD_PATH) or "", "after": ""})
            if not self.check_mode:
                self.system.remove(OFFLOAD_PATH)
            changed = True
        else:
            names = "|".join(FLANNEL_DEVICES)
            changed = self._file(OFFLOAD_PATH, f'{HEADER}ACTION=="add", SUBSYSTEM=="net", KERNEL=="{names}", RUN+="{program} -K $name {OFFLOAD} off"\n')
        if changed and not self.check_mode:
            done = self.system.run(["udevadm", "control", "--reload"])
            if done.rc != 0:
                self.warnings.append(f"udev did not read {OFFLOAD_PATH}: {(done.err or done.out).strip()}. Restart the machine.")
        state = "on" if wanted else "off"
        for device in FLANNEL_DEVICES:
            if not self.system.exists(f"/sys/class/net/{device}"):
                continue
            shown = self.system.run([program, "-k", device])
            if re.search(rf"^[ \t]*{OFFLOAD}: {state}\b", shown.out, re.MULTILINE):
                continue
            self.actions.append(f"{OFFLOAD} {state} on {device}")
            if not self.check_mode:
                done = self.system.run([program, "-K", device, OFFLOAD, state])
                if done.rc != 0:
                    raise NodeError(f"`{program} -K {device} {OFFLOAD} {state}` gave {done.rc}: {(done.err or done.out).strip()}.")

    def _firewall(self, firewall: Firewall) -> None:
        kind = firewall.active()
        commands = firewall.missing(kind)
        self.actions += [" ".join(words) for words in commands]
        if commands and not self.check_mode:
            firewall.apply(kind, commands)

    def _file(self, path: str, text: str) -> bool:
        before = self.system.read(path)
        if before == text:
            return False
        self.actions.append(f"file {path}")
        self.diff.append({"before_header": path, "after_header": path, "before": before or "", "after": text})
        if not self.check_mode:
            self.system.write(path, text, 0o644)
        return True

    def _load(self, name: str) -> None:
        if self.system.exists("/sys/module/" + name.replace("-", "_")):
            return
        # The dry run says whether the kernel has it, so that check mode predicts the same.
        possible = self.system.run(["modprobe", "--dry-run", name])
        if possible.rc != 0:
            self.warnings.append(f"The kernel module {name} cannot be loaded: {possible.err.strip() or 'modprobe failed'}")
            return
        if not self.check_mode:
            loaded = self.system.run(["modprobe", name])
            if loaded.rc != 0:
                self.warnings.append(f"The kernel module {name} cannot be loaded: {loaded.err.strip() or 'modprobe failed'}")
                return
            if not self.system.exists("/sys/module/" + name.replace("-", "_")):
                return
        self.actions.append(f"load {name}")

    def _not_lowered(self, name: str, value: str) -> str:
        """The value of a parameter, or that of the machine where it is a limit that is higher already: others set it for a reason."""
        current = (self.system.read("/proc/sys/" + name.replace(".", "/")) or "").strip()
        if not _LIMIT.match(name) or not (current.isdigit() and value.isdigit()):
            return value
        return max(value, current, key=int)

    def _sysctl(self, name: str, value: str) -> None:
        path = "/proc/sys/" + name.replace(".", "/")
        current = self.system.read(path)
        if current is None:
            self.warnings.append(f"The kernel parameter {name} does not exist here")
            return
        if current.split() == value.split():
            return
        if not self.system.writable(path):
            self.warnings.append(f"The kernel parameter {name} is {current.strip()} and cannot be set to {value} here")
            return
        self.actions.append(f"sysctl {name}={value}")
        self.diff.append({"before_header": name, "after_header": name, "before": current, "after": value + "\n"})
        if not self.check_mode:
            self.system.poke(path, value + "\n")

    def _swap_off(self) -> None:
        fstab = self.system.read(FSTAB_PATH)
        if fstab is not None:
            without = "".join(_SWAP.sub(r"# swap is off for k3s: \1", line) for line in fstab.splitlines(keepends=True))
            if without != fstab:
                self.actions.append(f"file {FSTAB_PATH}")
                self.diff.append({"before_header": FSTAB_PATH, "after_header": FSTAB_PATH, "before": fstab, "after": without})
                if not self.check_mode:
                    self.system.write(FSTAB_PATH, without, 0o644)
        if len((self.system.read("/proc/swaps") or "").splitlines()) > 1:
            if not self.check_mode:
                done = self.system.run(["swapoff", "--all"], timeout=300)
                if done.rc != 0:
                    self.warnings.append(f"Swap is still on: {done.err.strip()}")
                    return
            self.actions.append("swapoff")
