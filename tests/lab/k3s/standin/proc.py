# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes: they die with the launcher, and an exit nobody asked for ends the launcher, as in k3s' one process."""
from __future__ import annotations

import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable

from . import log

_children: dict[str, "Child"] = {}
_lock = threading.Lock()


class Child:
    """One program, started and waited for by a thread of its own.

    The thread must outlive the child: the kernel sends PDEATHSIG when the *thread* that forked ends.
    """

    def __init__(self, name: str, argv: list[str], *, env: dict[str, str] | None = None, log_file: pathlib.Path | None = None,
                 restart: bool = False, on_exit: Callable[[int], None] | None = None, kill_signal: str = "KILL"):
        self.name, self.argv, self.env, self.log_file = name, argv, env, log_file
        self.restart, self.on_exit, self.kill_signal = restart, on_exit, kill_signal
        self.process: subprocess.Popen | None = None
        self.stopping = False
        self.started = threading.Event()
        self.ended = threading.Event()
        with _lock:
            _children[name] = self
        threading.Thread(target=self._run, name=f"child-{name}", daemon=True).start()
        self.started.wait(30)

    def _environment(self) -> dict[str, str]:
        env = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET" and not key.startswith("K3S_")}
        env.update(self.env or {})
        return env

    def _run(self) -> None:
        while not self.stopping:
            sink = None
            if self.log_file is not None:
                self.log_file.parent.mkdir(parents=True, exist_ok=True)
                sink = open(self.log_file, "ab")  # noqa: SIM115 - handed to the child
            command = ["setpriv", f"--pdeathsig={self.kill_signal}", "--", *self.argv]
            try:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink or 2, stderr=sink or 2, env=self._environment(),
                                                start_new_session=True)
            except OSError as err:
                self.started.set()
                log.die(f"Error: failed to start {self.name}: {err}")
                return
            finally:
                if sink is not None:
                    sink.close()
            self.started.set()
            code = self.process.wait()
            if self.stopping:
                break
            if self.on_exit is not None:
                self.on_exit(code)
            elif self.restart:
                log.error(f"{self.name} exited: exit status {code}, restarting")
                time.sleep(5)
            else:
                log.shutdown_line(f"{self.name.removeprefix('kube-') if self.name != 'kube-proxy' else self.name} exited: exit status {code}")
                os._exit(0)
            if not self.restart:
                break
        self.ended.set()

    def stop(self, timeout: float) -> None:
        self.stopping = True
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        if not self.ended.wait(timeout):
            self.process.kill()
            self.ended.wait(5)


def get(name: str) -> Child | None:
    with _lock:
        return _children.get(name)


def stop_all() -> None:
    """Orderly: what talks to the API first, etcd near the end; shims of pods are not ours and stay."""
    order = ["kubelet", "kube-proxy", "flannel", "network-policy", "kube-controller-manager", "kube-scheduler", "kube-apiserver", "etcd", "containerd"]
    with _lock:
        children = dict(_children)
    for child in children.values():
        child.stopping = True
    # seconds each group may take: the real k3s is one process and ends at once
    for group, seconds in ((order[:6], 1.5), (order[6:7], 1.5), (order[7:], 3.0)):
        threads = [threading.Thread(target=children[name].stop, args=(seconds,)) for name in group if name in children]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
