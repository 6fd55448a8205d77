# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take k3s off a node, with everything it leaves in the kernel."""

from __future__ import annotations

import contextlib
import os
import re
import signal

from . import state
from .files import CONFIG_DIR, COPY, DATA_DIR
from .join import LINKS
from .system import NodeError, System
from .unit import SERVICES, environment_path, environment_paths, unit_path

MOUNTS = ("/run/k3s", DATA_DIR, "/var/lib/kubelet/pods", "/var/lib/kubelet/plugins", "/run/netns/cni-")
# What is mounted here is somebody's data, or made by containerd, whatever it is mounted from.
VOLUMES = ("/var/lib/kubelet/pods/", "/var/lib/kubelet/plugins/", DATA_DIR + "/storage", DATA_DIR + "/agent/containerd/")
INTERFACES = ("cni0", "flannel.1", "flannel-v6.1", "flannel-wg", "flannel-wg-v6", "kube-ipvs0")
# Rules of flannel are in FLANNEL-FWD and FLANNEL-POSTRTG, and in comments in small letters.
RULES = re.compile(r"KUBE-|CNI-|flannel|FLANNEL")
# /etc/rancher/node stays: its password lets a machine of the same name come back. The configuration goes last: by it an interrupted run is still
# known as this collection's.
TREES = ("/run/k3s", "/run/flannel", DATA_DIR, "/var/lib/kubelet", CONFIG_DIR)
# Leases of addresses and logs of pods: k3s' own where k3s is, and somebody else's on a machine without it.
SHARED = ("/var/lib/cni", "/var/log/pods", "/var/log/containers")
# What k3s' install script puts beside the binary.
SCRIPTS = ("k3s-killall.sh", "k3s-uninstall.sh", "k3s-agent-uninstall.sh")


class Remover:
    """One run of state=absent."""

    def __init__(self, system: System, binary: str, check_mode: bool = False) -> None:
        self.system = system
        self.binary = binary
        self.check_mode = check_mode
        self.actions: list = []
        self.diff: list = []

    def absent(self) -> dict:
        """Remove the units of both kinds, processes, mounts, links, rules and files."""
        version = state.installed_version(self.system, self.binary)
        units = [role for role in SERVICES if self.system.exists(unit_path(role))]
        for role in units:
            self._act(f"remove {SERVICES[role]}.service", unit_path(role))
        directory = os.path.dirname(self.binary)
        # What an adoption kept comes first: the copies of variables hold the token.
        kept = [path + COPY for role in SERVICES for path in (*reversed(environment_paths(role)), unit_path(role))]
        kept += [f"{CONFIG_DIR}/{name}" for name in self.system.listdir(CONFIG_DIR) if name.endswith(COPY)]
        own = [environment_path(role) for role in SERVICES] + [f"{directory}/{name}" for name in SCRIPTS]
        copies = [path for path in kept if self.system.exists(path)]
        files = [path for path in own if self.system.exists(path)]
        links = [f"{directory}/{name}" for name in LINKS if self._is_our_link(f"{directory}/{name}")]
        trees = [tree for tree in TREES if self.system.exists(tree) and not self.system.bare(tree)]
        staged = os.path.join(directory, ".k3s-from-controller")
        binaries = [path for path in (self.binary, staged) if self.system.exists(path)]
        if units or trees or binaries:
            trees = [tree for tree in SHARED if self.system.exists(tree) and not self.system.bare(tree)] + trees
        for path in copies + files + links + trees + binaries:
            self._act(f"remove {path}", path)
        if self.actions and not self.check_mode:
            for path in copies:
                self.system.remove(path)
            for role in units:
                self._checked("disable", "--now", f"{SERVICES[role]}.service")
            self._kill_leftovers()
            self._unmount()
            self._refuse_what_is_mounted()
            self._clean_network()
            for role in units:
                self.system.remove(unit_path(role))
            for path in files + links + trees + binaries:
                self.system.remove(path)
            self.system.systemctl("daemon-reload")
            self.system.systemctl("reset-failed", *[f"{SERVICES[role]}.service" for role in units])
        return {
            "changed": bool(self.actions), "actions": self.actions, "diff": self.diff, "restarted": False, "steps": [],
            "membership": {"role": "", "node": state.node_name(self.system), "joining": ""},
            "version": {"before": version, "after": ""},
        }

    def _act(self, action: str, path: str) -> None:
        self.actions.append(action)
        self.diff.append({"before_header": path, "after_header": path, "before": "present\n", "after": "absent\n"})

    def _is_our_link(self, path: str) -> bool:
        target = self.system.path(path)
        return os.path.islink(target) and os.path.basename(os.readlink(target)) == os.path.basename(self.binary)

    def _checked(self, *argv: str) -> None:
        done = self.system.systemctl(*argv, timeout=180)
        if done.rc != 0:
            raise NodeError(f"systemctl {' '.join(argv)} failed: {(done.err or done.out).strip()}. Nothing of k3s was removed yet.")

    # -- what KillMode=process leaves running ----------------------------------------------------

    def _kill_leftovers(self) -> None:
        """End container shims and all below them, and whatever still runs from the data directory."""
        processes = self._processes()
        roots = {
            pid for pid, (_parent, command) in processes.items()
            if DATA_DIR + "/data/" in command.split(" ", 1)[0] or ("containerd-shim" in command.split(" ", 1)[0] and "/k3s/" in command)
        }
        doomed = set(roots)
        grown = True
        while grown:
            children = {pid for pid, (parent, _command) in processes.items() if parent in doomed} - doomed
            doomed |= children
            grown = bool(children)
        for pid in sorted(doomed):
            if pid > 1 and pid != os.getpid():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def _processes(self) -> dict:
        """pid -> (parent, command line)."""
        found = {}
        for name in self.system.listdir("/proc"):
            if not name.isdigit():
                continue
            status = self.system.read(f"/proc/{name}/stat")
            command = self.system.read(f"/proc/{name}/cmdline")
            if status and command:
                # The name in brackets may contain spaces; the parent is the second field after it.
                found[int(name)] = (int(status.rsplit(")", 1)[1].split()[1]), command.replace("\0", " "))
        return found

    def _own_disks(self) -> set:
        """File systems of the machine that hold k3s' data: they are emptied, and never unmounted. Volumes of pods are none of them."""
        return {mount for tree in (CONFIG_DIR, DATA_DIR, "/var/lib/kubelet") for mount in self.system.lasting_mounts(tree)
                if not mount.startswith(VOLUMES)}

    def _unmount(self) -> None:
        """Innermost first, and as often as something is mounted there."""
        own = self._own_disks()
        for mount in sorted((mount.path for mount in self.system.mounts()), reverse=True):
            if mount not in own and any(mount.startswith(prefix + "/") or mount.startswith(prefix) and prefix.endswith("cni-") for prefix in MOUNTS):
                if self.system.run(["umount", mount]).rc != 0:
                    self.system.run(["umount", "--lazy", mount])

    def _refuse_what_is_mounted(self) -> None:
        """Removing a tree would empty a volume that is still mounted in it."""
        mounts = {mount.path for mount in self.system.mounts()} - self._own_disks()
        left = sorted(mount for mount in mounts if any(mount.startswith(tree + "/") for tree in TREES))
        if left:
            raise NodeError(f"Still mounted after k3s was stopped: {', '.join(left[:5])}. Its files are not removed. Unmount that, and run again.")

    def _clean_network(self) -> None:
        for name in self.system.listdir("/run/netns"):
            if name.startswith("cni-"):
                self.system.run(["ip", "netns", "delete", name])
        for interface in INTERFACES:
            if self.system.exists(f"/sys/class/net/{interface}"):
                self.system.run(["ip", "link", "delete", interface])
        for family in ("iptables", "ip6tables"):
            saved = self.system.run([f"{family}-save"])
            if saved.rc != 0:
                continue
            kept = [line for line in saved.out.splitlines() if not RULES.search(line)]
            if len(kept) != len(saved.out.splitlines()):
                self.system.restore_rules(family, "\n".join(kept) + "\n")
