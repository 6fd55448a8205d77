# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is, read from its own files. Runs on the node: standard library only."""
from __future__ import annotations

import os
import platform
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.cht.k3s.plugins.module_utils.k3s import cgroups
from ansible_collections.cht.k3s.plugins.module_utils.k3s.firewall import Firewall
from ansible_collections.cht.k3s.plugins.module_utils.k3s.state import foreign
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import System

_DMI = "sys/class/dmi/id"
_LISTEN = "0A"
# Where k3s keeps programs: its own file, and what it unpacks.
PROGRAMS = ("/var/lib/rancher/k3s", "/usr/local/bin")
_UNITS = ("k3s.service", "k3s-agent.service")


class Host:
    """Facts of the machine whose file system is below ``root``."""

    def __init__(self, root="/"):
        self._root = root

    def _path(self, path):
        return os.path.join(self._root, path)

    def _text(self, path):
        try:
            with open(self._path(path), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def firmware(self):
        """What VMware writes into the firmware tables. Needs root."""
        return {
            "product_serial": self._text(f"{_DMI}/product_serial").strip(),
            "product_uuid": self._text(f"{_DMI}/product_uuid").strip().lower(),
        }

    def system(self):
        """Distribution and kernel."""
        release = {}
        for line in self._text("etc/os-release").splitlines():
            key, found, value = line.partition("=")
            if found:
                release[key] = value.strip().strip("\"'")
        return {
            "os_id": release.get("ID", ""),
            "os_version": release.get("VERSION_ID", ""),
            "os_name": release.get("PRETTY_NAME", ""),
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "hostname": socket.gethostname(),
        }

    def size(self):
        """Processors and memory as the kernel sees them."""
        memory = {}
        for line in self._text("proc/meminfo").splitlines():
            key, _colon, value = line.partition(":")
            words = value.split()
            if words and words[0].isdigit():
                memory[key] = int(words[0]) // 1024
        return {
            "cpu_count": os.cpu_count() or 0,
            "memory_mb": memory.get("MemTotal", 0),
            "swap_mb": memory.get("SwapTotal", 0),
        }

    def disks(self, paths):
        """Free space where each path is, or where its nearest existing parent is."""
        result = []
        for path in paths:
            stat = self._stat(path)
            result.append(
                {
                    "path": path,
                    "free_gb": round(stat.f_bavail * stat.f_frsize / 1024**3, 1),
                    "size_gb": round(stat.f_blocks * stat.f_frsize / 1024**3, 1),
                }
            )
        return result

    def firewall(self):
        """The firewall that is active, 'ufw' or 'firewalld', or ''."""
        return Firewall(System(self._root), [], [], []).active()

    def noexec(self, paths):
        """Those of the paths below which no program can run."""
        return [path for path in paths if self._stat(path).f_flag & os.ST_NOEXEC]

    def _stat(self, path):
        """The file system of a path, or of its nearest existing parent."""
        existing = self._path(path.lstrip("/"))
        while not os.path.exists(existing) and os.path.dirname(existing) != existing:
            existing = os.path.dirname(existing)
        return os.statvfs(existing)

    def default_route(self):
        """Whether there is a default route, of IPv4 or IPv6, that is up and rejects nothing."""
        four = [line.split() for line in self._text("proc/net/route").splitlines()[1:]]
        six = [line.split() for line in self._text("proc/net/ipv6_route").splitlines()]
        return any(
            len(words) > 7 and words[1] == words[7] == "00000000" and _usable(words[3]) for words in four
        ) or any(len(words) > 9 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo" and _usable(words[8]) for words in six)

    def k3s_installed(self):
        """Whether a k3s unit is there; then k3s' ports are taken by k3s itself."""
        return any(os.path.exists(self._path(f"etc/systemd/system/{unit}")) for unit in _UNITS)

    def k3s_foreign(self):
        """Where the machine has a k3s that this collection did not install."""
        return [f"{path} {sign}" for path, sign in foreign(System(self._root)).items()]

    def cgroups(self):
        """The version of control groups, and whether a file tells the kubelet to start with version 1."""
        system = System(self._root)
        return {"cgroup_version": cgroups.version(system), "cgroup_v1_configured": cgroups.configured_v1(system)}

    def listening(self):
        """TCP ports that something listens on."""
        ports = set()
        for table in ("proc/net/tcp", "proc/net/tcp6"):
            for line in self._text(table).splitlines()[1:]:
                fields = line.split()
                if len(fields) > 3 and fields[3] == _LISTEN:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
        return ports

    def ports_in_use(self, wanted):
        """Those of the wanted ports that are taken."""
        taken = self.listening() if wanted else set()
        return sorted(port for port in wanted if port in taken)


def _usable(flags):
    """A route that is up (RTF_UP) and is none to nowhere (RTF_REJECT)."""
    return int(flags, 16) & 0x1 == 0x1 and not int(flags, 16) & 0x200


def reach_one(host, port, timeout, refused_ok=False):
    """Whether a TCP connection comes about. A refusal proves that nothing on the way blocks it."""
    target = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=timeout):
            return {"target": target, "ok": True, "error": ""}
    except socket.gaierror as exc:
        return {"target": target, "ok": False, "error": f"name not resolved ({exc.strerror})"}
    except ConnectionRefusedError:
        return {"target": target, "ok": refused_ok, "error": "" if refused_ok else "connection refused"}
    except (socket.timeout, TimeoutError):
        return {"target": target, "ok": False, "error": f"no answer within {timeout:g} s (a firewall drops it?)"}
    except OSError as exc:
        return {"target": target, "ok": False, "error": exc.strerror or str(exc)}


def _reach_target(target, timeout):
    result = reach_one(target["host"], target["port"], timeout, bool(target.get("refused_ok", False)))
    result["purpose"] = target.get("purpose", "")
    return result


def reach(targets, timeout):
    """All targets at once: a blocked one costs its time-out, not the sum of them."""
    if not targets:
        return []
    with ThreadPoolExecutor(max_workers=min(64, len(targets))) as pool:
        return list(pool.map(lambda target: _reach_target(target, timeout), targets))


def collect(disk_paths, ports, targets, timeout, root="/"):
    """All facts. The clock is read last, as near to the answer as possible."""
    host = Host(root)
    facts = {
        **host.firmware(),
        **host.system(),
        **host.size(),
        **host.cgroups(),
        "disks": host.disks(disk_paths),
        "firewall": host.firewall(),
        "noexec": host.noexec(PROGRAMS),
        "default_route": host.default_route(),
        "k3s_installed": host.k3s_installed(),
        "k3s_foreign": host.k3s_foreign(),
        "ports_in_use": host.ports_in_use(ports),
        "reach": reach(targets, timeout),
    }
    facts["clock"] = time.time()
    return facts
