"""The lab's network: a namespace of its own with a bridge, and one namespace per machine. No way leads out."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from . import paths
from .description import Description, Vm
from .shell import LabError, run

NETNS = paths.NAME
BRIDGE = "br-lab"
RUN_NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise LabError(f"{what}: {os.strerror(number)}")


def exists(name: str = NETNS) -> bool:
    """Whether the namespace is there."""
    return (RUN_NETNS / name).exists()


def enter(name: str = NETNS) -> None:
    """Move this process into the namespace. Unlike `ip netns exec` it leaves /sys alone."""
    try:
        handle = os.open(RUN_NETNS / name, os.O_RDONLY)
    except OSError as error:
        raise LabError("the lab is not up: run `tests/lab/lab up`") from error
    try:
        _call(f"entering network namespace {name}", _libc.setns(handle, CLONE_NEWNET))
    finally:
        os.close(handle)


def private_files(binds: Iterable[tuple[Path, str]]) -> None:
    """Show this process and its children other files under some names, without a trace in the machine."""
    _call("new mount namespace", _libc.unshare(CLONE_NEWNS))
    _call("mount propagation", _libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None))
    for source, target in binds:
        real = os.path.realpath(target)
        if os.path.exists(real) and source.exists():
            _call(f"bind {source} to {real}", _libc.mount(str(source).encode(), real.encode(), None, MS_BIND, None))


def _add_namespace(name: str) -> None:
    if not exists(name):
        run(["ip", "netns", "add", name])


def _links(namespace: str) -> set[str]:
    lines = run(["ip", "-n", namespace, "-o", "link", "show"]).stdout.splitlines()
    return {line.split(": ")[1].split("@")[0] for line in lines}


def up(description: Description) -> None:
    """Make what is missing of the network."""
    _add_namespace(NETNS)
    links = _links(NETNS)
    if BRIDGE not in links:
        address = f"{description.bridge_address}/{description.prefix}"
        # forward_delay 0: a port must carry frames at once, not after 15 s of listening.
        run(["ip", "-n", NETNS, "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0"])
        run(["ip", "-n", NETNS, "address", "add", address, "dev", BRIDGE])
        run(["ip", "-n", NETNS, "link", "set", "lo", "up"])
        run(["ip", "-n", NETNS, "link", "set", BRIDGE, "up"])
        # Frames between machines are not the business of any packet filter of this namespace, and nothing is routed.
        script = (
            "for f in iptables ip6tables arptables; do echo 0 > /proc/sys/net/bridge/bridge-nf-call-$f; done 2>/dev/null;"
            " echo 0 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null; true"
        )
        run(["nsenter", f"--net={RUN_NETNS / NETNS}", "sh", "-c", script])
    for vm in description.nodes:
        _connect(vm, description, links)


def _connect(vm: Vm, description: Description, links: set[str]) -> None:
    if vm.port in links and exists(vm.netns):
        return
    _add_namespace(vm.netns)
    if vm.port not in links:
        # The kernel takes a deleted namespace down in its own time; until then the near end of its cable is still here.
        run(["ip", "-n", NETNS, "link", "delete", vm.port], check=False)
        run(["ip", "-n", NETNS, "link", "add", vm.port, "type", "veth", "peer", "name", "eth0", "address", vm.mac, "netns", vm.netns])
    run(["ip", "-n", NETNS, "link", "set", vm.port, "master", BRIDGE, "up"])
    run(["ip", "-n", vm.netns, "link", "set", "lo", "up"])
    run(["ip", "-n", vm.netns, "address", "replace", f"{vm.ip}/{description.prefix}", "dev", "eth0"])
    run(["ip", "-n", vm.netns, "link", "set", "eth0", "up"])
    # k3s wants a default route; this one ends in the lab's namespace, which forwards nothing.
    run(["ip", "-n", vm.netns, "route", "replace", "default", "via", description.bridge_address])


def fresh(vm: Vm, description: Description) -> None:
    """Give a machine that was stopped an empty network namespace: no routes, filters or bridges of its last run."""
    remove(vm.netns)
    _connect(vm, description, _links(NETNS) - {vm.port})


def remove(name: str) -> None:
    """Delete a namespace and with it every interface in it."""
    if exists(name):
        run(["ip", "netns", "delete", name])


def down() -> None:
    """Delete every namespace of the lab."""
    if not RUN_NETNS.is_dir():
        return
    for item in sorted(RUN_NETNS.iterdir()):
        if item.name == NETNS or item.name.startswith(f"{NETNS}-"):
            remove(item.name)


def cut(vm: Vm, peer: Vm | None = None) -> None:
    """Unplug a machine, or make it and one peer deaf to each other."""
    if peer is None:
        run(["ip", "-n", NETNS, "link", "set", vm.port, "nomaster"])
        return
    for chain, option in (("PREROUTING", "-s"), ("OUTPUT", "-d")):
        rule = [chain, option, peer.ip, "-m", "comment", "--comment", "cht-lab", "-j", "DROP"]
        base = ["nsenter", f"--net={RUN_NETNS / vm.netns}", "iptables", "-w", "-t", "raw"]
        if run([*base, "-C", *rule], check=False).returncode:
            run([*base, "-I", *rule])


def heal(vm: Vm, peer: Vm | None = None) -> None:
    """Undo `cut`."""
    if peer is None:
        run(["ip", "-n", NETNS, "link", "set", vm.port, "master", BRIDGE])
        return
    for chain, option in (("PREROUTING", "-s"), ("OUTPUT", "-d")):
        rule = [chain, option, peer.ip, "-m", "comment", "--comment", "cht-lab", "-j", "DROP"]
        base = ["nsenter", f"--net={RUN_NETNS / vm.netns}", "iptables", "-w", "-t", "raw"]
        while run([*base, "-D", *rule], check=False).returncode == 0:
            pass
