# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small machines for the contract's tests: own network, mount, PID and host name namespaces, nothing of the host is written.

They have no containerd and run servers with --disable-agent: what is tested here is the
launcher with the real etcd and API server. Pods and nodes are tested on the lab.
"""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

PREFIX = "198.18.255"
# A given k3s unpacks itself and has more to start than the stand-in, and the machine may have two cores.
PATIENCE = 3 if os.environ.get("LAB_K3S") else 1


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


class Network:
    """A bridge in a namespace of its own: no address of the tests exists outside."""

    def __init__(self, name: str):
        self.name = name
        self.count = 0
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", name, "link", "set", "br0", "up")

    def attach(self, namespace: str, address: str) -> None:
        self.count += 1
        port = f"p{self.count}"
        run("ip", "netns", "add", namespace)
        run("ip", "-n", self.name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "-n", self.name, "link", "set", port, "master", "br0", "up")
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            run("ip", "-n", namespace, "link", "set", link, "up")
        # k3s asks for a default route; nobody has this address.
        run("ip", "-n", namespace, "route", "add", "default", "via", f"{PREFIX}.1", "dev", "eth0")

    def remove(self) -> None:
        run("ip", "netns", "del", self.name, check=False)


class Daemon:
    """A running k3s: its log, its readiness, its end."""

    def __init__(self, process: subprocess.Popen, listener: socket.socket):
        self.process = process
        self.lines: list[str] = []
        self.ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def _listen(self, listener: socket.socket) -> None:
        listener.settimeout(600)
        try:
            if b"READY=1" in listener.recv(4096):
                self.ready.set()
        except OSError:
            pass

    def log(self) -> str:
        return "\n".join(self.lines)

    def signal(self, number: int) -> None:
        """To the launcher itself: nsenter, its parent here, only waits for it."""
        with contextlib.suppress(OSError):
            for child in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split():
                os.kill(int(child), number)

    def wait_line(self, text: str, seconds: float = 60) -> str:
        end = time.monotonic() + seconds * PATIENCE
        while time.monotonic() < end:
            for line in list(self.lines):
                if text in line:
                    return line
            if self.process.poll() is not None:
                time.sleep(0.3)
                if text not in self.log():
                    break
            time.sleep(0.1)
        raise AssertionError(f"{text!r} not logged; log:\n" + "\n".join(self.lines[-40:]))

    def wait_exit(self, seconds: float = 60) -> int:
        try:
            code = self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {seconds * PATIENCE:g} s; log:\n" + "\n".join(self.lines[-40:])) from None
        time.sleep(0.2)
        return code

    def wait_ready(self, seconds: float = 90) -> None:
        end = time.monotonic() + seconds * PATIENCE
        while not self.ready.wait(0.2):
            assert self.process.poll() is None, "ended:\n" + "\n".join(self.lines[-30:])
            assert time.monotonic() < end, "not ready:\n" + "\n".join(self.lines[-30:])


class Host:
    def __init__(self, network: Network, folder: pathlib.Path, name: str, number: int, binary: pathlib.Path, programs: pathlib.Path):
        self.name, self.ip, self.binary = name, f"{PREFIX}.{number}", binary
        self.namespace = f"{network.name}-{name}"
        self.folder = folder / name
        network.attach(self.namespace, self.ip)
        mounts = []
        for place in ("etc", "var/lib"):
            for kind in ("upper", "work"):
                (self.folder / place / kind).mkdir(parents=True, exist_ok=True)
            base = self.folder / place
            mounts.append(f"mount -t overlay overlay -o lowerdir=/{place},upperdir={base}/upper,workdir={base}/work /{place}")
        (self.folder / "run").mkdir()
        mounts.append("mount -t tmpfs tmpfs /run")
        root = self.folder / "k8s"
        root.mkdir()
        (root / programs.name.rpartition("-")[2]).symlink_to(programs)
        script = "; ".join(["set -e", *mounts, f"hostname {name}", "mkdir -p /etc/lab-k3s /etc/rancher/k3s", "echo up", "exec sleep infinity"])
        self.holder = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--mount", "--propagation", "private", "--uts", "--pid", "--fork",
             "--kill-child", "--mount-proc", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "up\n"
        children = pathlib.Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text(encoding="ascii").split()
        self.pid = children[0]
        self.write("/etc/lab-k3s/settings.json", json.dumps({"bin_root": str(root), "etcd_args": ["unsafe-no-fsync=true"]}))
        self.daemons: list[Daemon] = []

    def enter(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--pid", "--", *command]

    def sh(self, script: str, check: bool = True) -> str:
        done = subprocess.run(self.enter("sh", "-c", script), capture_output=True, text=True, check=False, timeout=180)
        assert not check or done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def code(self, *command: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        done = subprocess.run(self.enter(*command), capture_output=True, text=True, check=False, timeout=180, env={**os.environ, **(env or {})})
        return done.returncode, done.stdout + done.stderr

    def k3s(self, *arguments: str) -> str:
        code, text = self.code(str(self.binary), *arguments)
        assert code == 0, text
        return text

    def write(self, place: str, text: str, mode: int = 0o600) -> None:
        script = f"umask 077; mkdir -p $(dirname {place}); cat > {place}; chmod {mode:o} {place}"
        subprocess.run(self.enter("sh", "-c", script), input=text, text=True, check=True)

    def config(self, text: str) -> None:
        self.write("/etc/rancher/k3s/config.yaml", text)

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> Daemon:
        # an abstract socket belongs to the network namespace, a path to the mount namespace: use the path of the host's folder
        place = self.folder / f"notify{time.monotonic_ns()}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(place))
        environment = {**os.environ, "NOTIFY_SOCKET": str(place), **(env or {})}
        process = subprocess.Popen(self.enter(str(self.binary), *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        daemon = Daemon(process, listener)
        self.daemons.append(daemon)
        return daemon

    def refused(self, *arguments: str, seconds: float = 60, code: int = 1) -> str:
        """Start, expect that it ends with a code, give the log. One that is not refused in time is ended: k3s' servers share their port, so
        one that is left over would answer for the next."""
        daemon = self.start(*arguments)
        try:
            assert daemon.wait_exit(seconds) == code, daemon.log()
        finally:
            if daemon.process.poll() is None:
                daemon.signal(signal.SIGKILL)
                daemon.process.wait(10)
        return daemon.log()

    def kill(self, name: str = "KILL") -> None:
        """The launchers only, as the kernel's OOM killer or `kill -9` of the main PID would."""
        for daemon in self.daemons:
            if daemon.process.poll() is None:
                daemon.signal(getattr(signal, f"SIG{name}"))

    def clear(self) -> None:
        """End everything that runs on the machine, whatever it is called, so that its names and ports are free."""
        # The first process of the machine's own namespace is spared; without that namespace this must do nothing.
        self.sh('[ "$(cat /proc/1/comm)" = sleep ] && kill -KILL -1', check=False)
        for daemon in self.daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.process.wait(10)

    def processes(self) -> str:
        return self.sh("ps -eo args --no-headers | grep -v -E '^(ps|sleep|sh|grep)|<defunct>'", check=False)

    def wipe(self) -> None:
        """As before the first start; what k3s unpacked of itself may stay."""
        self.clear()
        self.sh("awk '$2 ~ \"^/(run/k3s|run/netns/cni|var/lib/(kubelet|rancher))\" {print $2}' /proc/mounts | sort -r | xargs -r umount -l", check=False)
        self.sh("rm -rf /var/lib/rancher/k3s/[!d]* /etc/rancher/k3s/* /etc/rancher/node")
        self.daemons = [daemon for daemon in self.daemons if daemon.process.poll() is None]

    def stop(self) -> None:
        running = [daemon for daemon in self.daemons if daemon.process.poll() is None]
        if running:
            self.kill("TERM")
        for daemon in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.process.wait(20)
        self.clear()

    def remove(self) -> None:
        for daemon in self.daemons:
            daemon.process.kill()
        self.holder.kill()
        self.holder.wait()
        run("ip", "netns", "del", self.namespace, check=False)
