# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s' subcommands."""
from __future__ import annotations

import os
import signal
import sys
import threading

from . import stamp

TOOLS = ("kubectl", "crictl", "ctr")


def version(name: str) -> int:
    print(f"{name} version {stamp.VERSION} ({stamp.COMMIT})")
    print("go version go1.24.12")
    return 0


def run_tool(name: str, arguments: list[str]) -> int:
    if name == "kubectl":
        from . import lab
        env = dict(os.environ)
        if "KUBECONFIG" not in env and os.path.exists("/etc/rancher/k3s/k3s.yaml"):
            if not os.access("/etc/rancher/k3s/k3s.yaml", os.R_OK):
                print("error: open /etc/rancher/k3s/k3s.yaml: permission denied", file=sys.stderr)
                return 1
            env["KUBECONFIG"] = "/etc/rancher/k3s/k3s.yaml"
        os.execve(lab.program("kubectl"), ["kubectl", *arguments], env)
    import shutil
    place = shutil.which(name, path="/var/lib/rancher/k3s/data/current/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if place is None:
        print(f"{name} is not part of the lab's k3s stand-in", file=sys.stderr)
        return 1
    env = {**os.environ, "CONTAINERD_ADDRESS": "/run/k3s/containerd/containerd.sock", "CONTAINERD_NAMESPACE": "k8s.io",
           "CONTAINER_RUNTIME_ENDPOINT": "unix:///run/k3s/containerd/containerd.sock"}
    os.execve(place, [name, *arguments], env)
    return 1


def serve(kind: str, arguments: list[str]) -> int:
    from . import config, flags, log, proc
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *unused: stop.set())
    failed: list[Exception] = []

    def body() -> None:
        try:
            options = config.load(flags.SERVER if kind == "server" else flags.AGENT, arguments)
            if kind == "server":
                from .server import Server
                server = Server(options)
                server.run()
                if options["cluster-reset"]:
                    stop.set()
            else:
                from .agent import Agent
                Agent(options).run()
        except log.Fatal as err:
            failed.append(err)
            stop.set()
        except Exception as err:  # noqa: BLE001 - a thread's failure must end the program
            import traceback
            traceback.print_exc()
            failed.append(log.Fatal(f"Error: {err}"))
            stop.set()

    threading.Thread(target=body, name="main-run", daemon=True).start()
    while not stop.wait(3600):
        pass
    if failed and isinstance(failed[0], log.Shutdown):
        log.shutdown_line(str(failed[0]))
    elif failed:
        log.fatal_line(str(failed[0]))
        os._exit(1)
    proc.stop_all()
    sys.stderr.flush()
    os._exit(0)


def main(arguments: list[str]) -> int:
    name = os.path.basename(arguments[0])
    rest = arguments[1:]
    if name in TOOLS:
        return run_tool(name, rest)
    if not rest or rest[0] in ("-h", "--help", "help"):
        print("NAME:\n   k3s - Kubernetes, but small and simple\n\nCOMMANDS:\n   server agent kubectl crictl ctr check-config token etcd-snapshot certificate")
        return 0
    command, rest = rest[0], rest[1:]
    if command in ("--version", "-v"):
        return version(name)
    if command in ("server", "agent"):
        return serve(command, rest)
    if command in TOOLS:
        return run_tool(command, rest)
    if command == "check-config":
        print("STATUS: pass")
        return 0
    from . import log, tools
    try:
        return tools.run(command, rest)
    except log.Fatal as err:
        log.fatal_line(str(err))
        return 1
