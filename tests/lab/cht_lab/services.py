"""vCenter and mirror: start, stop, ask."""

from __future__ import annotations

import json
import os
import sys

from . import mirror, paths, process, vcenter as center
from .description import Description, Vm
from .shell import LabError


def up(description: Description) -> None:
    """Start what does not run."""
    center.up(description)
    mirror.prepare(description.csi == "real", description.stub_time)
    address = description.vcenter.address
    if process.running("mirror") is None:
        _start("mirror", address)
        for port in (mirror.HTTP_PORT, mirror.REGISTRY_PORT):
            process.listening("mirror", (address, port), 20)
    wanted, other = ("csi", "volumes") if description.csi == "real" else ("volumes", "csi")
    process.stop(other, grace=2)
    if process.running(wanted) is None:
        _start(wanted)


def _start(name: str, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(paths.LAB_DIR), "PYTHONDONTWRITEBYTECODE": "1"}
    process.start(name, [sys.executable, "-m", f"cht_lab.{name}", *arguments], env=environment)


def down() -> None:
    """End all of it."""
    for name in ("volumes", "csi", "mirror"):
        process.stop(name, grace=2)
    center.down()


def stop_csi() -> None:
    """Its sockets lie on the machines' disks, which can't be unmounted while they are open."""
    process.stop("csi", grace=2)


def power(description: Description, vms: list[Vm] | None = None) -> None:
    """Make vCenter's power states those of the machines."""
    center.power(list(vms if vms is not None else description.nodes))


def status() -> list[str]:
    """A line for each service."""
    return [f"{name:20} {'on' if process.running(name) else 'off'}" for name in ("vcsim", "front", "mirror", "volumes", "csi")]


def vcenter(description: Description, action: str, value: str | None, user: str | None = None) -> list[str]:
    """Change or ask vCenter."""
    if action in {"password", "delay", "deny"} and value is None:
        raise LabError(f"lab vcenter {action}: a value is missing")
    if action == "password":
        center.set_password(description, user or description.vcenter.users[0].name, value or "")
    elif action == "delay":
        center.tell(do="delay", ms=int(value or 0))
    elif action in {"deny", "allow"}:
        center.tell(do="deny", privileges=value.split(",") if action == "deny" and value else [])
    elif action == "logins":
        report = center.tell(do="report")
        report.pop("sessions")
        return [json.dumps(report, indent=2)]
    elif action == "sessions":
        return [json.dumps(center.tell(do="report")["sessions"], indent=2)]
    elif action in {"drop", "reset"}:
        return [json.dumps(center.tell(do=action))]
    elif action in {"stop", "restart"}:
        center.stop_front()
    if action in {"start", "restart"}:
        center.start_front(description)
    return []
