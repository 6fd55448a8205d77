# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of vsphere_disk_uuid.

The setting counts from the next time that a VM is powered on. One that runs is marked when it is set, so that also a later run
knows that it has to be powered off and on; the mark names the boot in which it was set, so any power cycle since ends it.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hostvars import RESTART_MARK, boot_text, is_true
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.lookup import find_vms
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.power import PowerCycler, require_tools, run_tasks
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.properties import read_objects

try:
    from pyVmomi import vim
except ImportError:
    vim = None

KEY = "disk.EnableUUID"
VARIABLES = ("vsphere_path", "vsphere_power_state", "vsphere_tools_status", "vsphere_restart_required")


@dataclass(frozen=True)
class Config:
    """What a VM has now."""

    key: str = KEY
    value: str | None = None
    boot: str = ""


def setting(extra_config: Any) -> tuple[str, str | None]:
    """The key as this VM spells it, and its value; None if it has none."""
    for option in extra_config or ():
        if option.key.lower() == KEY.lower():
            return option.key, str(option.value)
    return KEY, None


def ensure_disk_uuid(session: VsphereSession, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Set what is missing, cycle what may be cycled, report the rest."""
    found = find_vms(session, params["vms"], params["search_by"], params["datacenters"], VARIABLES)
    vms = {record["vsphere_moid"]: record for record in found.values()}
    config = {
        item.moid: Config(*setting(item.values.get("config.extraConfig")), boot_text(item.values.get("runtime.bootTime")))
        for item in session.run(lambda: read_objects(session, "VirtualMachine", vms, ("config.extraConfig", "runtime.bootTime")))
    }
    to_change = [moid for moid in vms if not is_true(config[moid].value)]
    to_cycle = [
        moid
        for moid, record in vms.items()
        if (moid in to_change or record["vsphere_restart_required"])
        and params["power_cycle"] != "never"
        and record["vsphere_power_state"] == "on"
    ]
    if params["power_cycle"] == "graceful":
        require_tools([vms[moid] for moid in to_cycle])
    if not check_mode:
        _change(session, {moid: vms[moid] for moid in to_change}, config, params["timeout"])
        cycler = PowerCycler(session, params["power_cycle"], params["power_timeout"])
        for moid in to_cycle:
            cycler.cycle(moid, vms[moid]["vsphere_path"], vms[moid]["vsphere_tools_status"])
    return _result(params["vms"], found, config, set(to_change), set(to_cycle))


def _change(session: VsphereSession, vms: Mapping[str, Any], config: Mapping[str, Config], timeout: float) -> None:
    def start(moid: str) -> Any:
        options = [vim.option.OptionValue(key=config[moid].key, value="TRUE")]
        if vms[moid]["vsphere_power_state"] != "off":
            # In the same task: a run that ends behind it must not leave the one without the other.
            options.append(vim.option.OptionValue(key=RESTART_MARK, value=config[moid].boot))
        return session.reference("VirtualMachine", moid).ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=options))

    run_tasks(
        session,
        f"Setting {KEY}",
        [(record["vsphere_path"], lambda moid=moid: start(moid)) for moid, record in vms.items()],
        timeout,
    )


def _result(
    queries: list[str],
    found: Mapping[str, dict[str, Any]],
    config: Mapping[str, Config],
    changed: set[str],
    cycled: set[str],
) -> dict[str, Any]:
    vms, before, after = [], {}, {}
    for query in queries:
        record = found[query]
        moid = record["vsphere_moid"]
        path = record["vsphere_path"]
        on = record["vsphere_power_state"] != "off"
        waits = moid in changed or record["vsphere_restart_required"]
        vms.append(
            {
                "query": query,
                "name": record["vsphere_name"],
                "path": path,
                "changed": moid in changed,
                "power_cycled": moid in cycled,
                "restart_required": on and waits and moid not in cycled,
            }
        )
        before[path] = [f"{KEY} = {config[moid].value}"]
        after[path] = [f"{KEY} = {'TRUE' if moid in changed else config[moid].value}"]
        if moid in cycled and moid not in changed:
            before[path].append("power = on, from before the setting")
            after[path].append("power = off and on")
    return {
        "changed": bool(changed or cycled),
        "vms": vms,
        "restart_required": any(vm["restart_required"] for vm in vms),
        "diff": {"before": _text(before), "after": _text(after)},
    }


def _text(state: Mapping[str, list[str]]) -> str:
    return "".join(f"{path}: {line}\n" for path, lines in sorted(state.items()) for line in lines)
