# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks and power of VMs. Waiting is polling: update collectors would need a session of their own each."""
from __future__ import annotations

import time
from typing import Any, Callable, Sequence

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hostvars import RESTART_MARK, power_state, restart_mark
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.lookup import find_vms
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.properties import read_objects

try:
    from pyVmomi import vim
except ImportError:
    vim = None

_POLL = 1.0


def wait_for_tasks(session: VsphereSession, tasks: Sequence[tuple[str, Any]], timeout: float) -> list[str]:
    """Wait for (VM path, task) pairs together; returns a sentence for each that failed."""
    paths = {task._moId: path for path, task in tasks}
    open_tasks = set(paths)
    failed: list[str] = []
    deadline = time.monotonic() + timeout
    while open_tasks:
        for item in session.run(lambda: read_objects(session, "Task", sorted(open_tasks), ("info.state", "info.error"))):
            state = str(item.values.get("info.state"))
            if state == "success":
                open_tasks.discard(item.moid)
            elif state == "error":
                open_tasks.discard(item.moid)
                failed.append(f"{paths[item.moid]}: {_fault_text(item.values.get('info.error'))}")
        if open_tasks and time.monotonic() > deadline:
            failed.extend(f"{paths[moid]}: not finished after {timeout:.0f} s" for moid in sorted(open_tasks))
            break
        if open_tasks:
            time.sleep(_POLL / 5)
    return failed


def _fault_text(fault: Any) -> str:
    text = getattr(fault, "localizedMessage", None) or getattr(fault, "msg", None) or ""
    return text or type(fault).__name__


def run_tasks(
    session: VsphereSession, what: str, starts: Sequence[tuple[str, Callable[[], Any]]], timeout: float
) -> None:
    """Start all, wait for all, and report all that failed."""
    tasks: list[tuple[str, Any]] = []
    failed: list[str] = []
    for path, start in starts:
        try:
            # A request that met an ended session was not carried out, so it may be repeated.
            tasks.append((path, session.run(start)))
        except VsphereError as exc:
            failed.append(f"{path}: {exc.what}")
    failed += wait_for_tasks(session, tasks, timeout)
    if failed:
        raise VsphereError(
            "task",
            f"{what} failed in vCenter {session.options.address} for {'; '.join(failed)}.",
            "Look at the task in vCenter; the account may lack the privilege, or the VM is locked by another task.",
        )


def require_tools(records: Sequence[dict[str, Any]]) -> None:
    """A graceful shutdown needs Tools; that is said before anything is changed."""
    without = [
        f"{record['vsphere_path']} ({record['vsphere_tools_status'].replace('_', ' ')})"
        for record in records
        if record["vsphere_tools_status"] != "running"
    ]
    if without:
        raise VsphereError(
            "power",
            f"VMs without running VMware Tools cannot be shut down gracefully: {', '.join(without)}.",
            "Start Tools in the guests, or allow power_cycle: hard. Nothing was changed.",
        )


class PowerCycler:
    """Turns one VM off and on again and waits until its guest is back."""

    def __init__(self, session: VsphereSession, how: str, timeout: float) -> None:
        self._session = session
        self._how = how
        self._timeout = timeout

    def _values(self, moid: str, *paths: str) -> list[Any]:
        found = self._session.run(lambda: read_objects(self._session, "VirtualMachine", [moid], paths))
        return [found[0].values.get(path) for path in paths]

    def _is_off(self, moid: str) -> bool:
        return power_state(*self._values(moid, "runtime.powerState", "runtime.connectionState")) == "off"

    def _tools_run(self, moid: str) -> bool:
        return str(self._values(moid, "guest.toolsRunningStatus")[0]) == "guestToolsRunning"

    def _wait(self, done: Callable[[], bool], name: str, what: str) -> None:
        deadline = time.monotonic() + self._timeout
        while not done():
            if time.monotonic() > deadline:
                raise VsphereError(
                    "power",
                    f"{name} {what} within {self._timeout:.0f} s.",
                    "Look at the VM's console. VMs after it in the list were not touched.",
                )
            time.sleep(_POLL)

    def off(self, moid: str, name: str) -> None:
        """Power off; ``graceful`` asks the guest. A VM that is off already stays so, which a repetition needs."""
        if self._is_off(moid):
            return
        vm = self._session.reference("VirtualMachine", moid)
        if self._how == "graceful":
            self._session.run(vm.ShutdownGuest)
        else:
            run_tasks(self._session, "Powering off", [(name, vm.PowerOffVM_Task)], self._timeout)
        self._wait(lambda: self._is_off(moid), name, "did not power off")

    def on(self, moid: str, name: str, wait_for_tools: bool) -> None:
        """Power on and wait for the guest, so that the next VM only follows when this one is back."""
        vm = self._session.reference("VirtualMachine", moid)
        self._forget_restart(moid, name)
        run_tasks(self._session, "Powering on", [(name, lambda: vm.PowerOnVM_Task(None))], self._timeout)
        if wait_for_tools:
            self._wait(lambda: self._tools_run(moid), name, "is on, but Tools did not start")

    def _forget_restart(self, moid: str, name: str) -> None:
        """What waited for the VM to be off counts from now on; another boot so soon could not be told from the one before."""
        found = self._session.run(lambda: read_objects(self._session, "VirtualMachine", [moid], ("config.extraConfig",)))
        if restart_mark(found[0].values.get("config.extraConfig")):
            spec = vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key=RESTART_MARK, value="")])
            vm = self._session.reference("VirtualMachine", moid)
            run_tasks(self._session, f"Removing {RESTART_MARK}", [(name, lambda: vm.ReconfigVM_Task(spec))], self._timeout)

    def cycle(self, moid: str, name: str, tools: str) -> None:
        """Off and on."""
        self.off(moid, name)
        self.on(moid, name, wait_for_tools=tools == "running")


def ensure_off(
    session: VsphereSession, queries: Sequence[str], search_by: str, datacenters: Sequence[str], pull: bool, timeout: float, check_mode: bool
) -> dict[str, Any]:
    """The VMs are off: those that are not make it fail, or have their plug pulled."""
    found = find_vms(session, queries, search_by, datacenters, ("vsphere_path", "vsphere_power_state", "vsphere_connection_state", "vsphere_moid"))
    running = [found[query] for query in queries if found[query]["vsphere_power_state"] != "off"]
    lost = [record for record in running if record["vsphere_connection_state"] not in ("connected", "unknown")]
    if lost:
        raise VsphereError(
            "power",
            "vCenter does not reach these VMs, so whether they run is not known: "
            f"{', '.join(record['vsphere_path'] + ' (' + record['vsphere_connection_state'] + ')' for record in lost)}.",
            "What it shows is what it saw last. Bring their ESXi hosts and storage back, or make sure on the hosts themselves that they are off and "
            "remove them from the inventory there. Nothing was changed.",
        )
    if running and not pull:
        raise VsphereError(
            "power",
            f"These VMs are not off: {', '.join(record['vsphere_path'] + ' (' + record['vsphere_power_state'] + ')' for record in running)}.",
            "A machine that runs still writes to its disks. Shut it down, or let it be powered off by its name. Nothing was changed.",
        )
    if not check_mode:
        cycler = PowerCycler(session, "hard", timeout)
        for record in running:
            cycler.off(record["vsphere_moid"], record["vsphere_path"])
    vms = [{"query": query, "path": found[query]["vsphere_path"], "power_state": found[query]["vsphere_power_state"]} for query in queries]
    return {"changed": bool(running), "vms": vms}
