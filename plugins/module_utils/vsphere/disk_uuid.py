# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of vsphere_disk_uuid."""
from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hostvars import is_true
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.lookup import find_vms
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.power import PowerCycler, require_tools, run_tasks
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.properties import read_objects

try:
    from pyVmomi import vim
except ImportError:
    vim = None

KEY = "disk.EnableUUID"


def setting(extra_config: Any) -> tuple[str, str | None]:
    """The key as this VM spells it, and its value; None if it has none."""
    for option in extra_config or ():
        if option.key.lower() == KEY.lower():
            return option.key, str(option.value)
    return KEY, None


def ensure_disk_uuid(session: VsphereSession, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Set what is missing, cycle what may be cycled, report the rest."""
    found = find_vms(
        session,
        params["vms"],
        params["search_by"],
        params["datacenters"],
        ("vsphere_path", "vsphere_power_state", "vsphere_tools_status"),
    )
    vms = {record["vsphere_moid"]: record for record in found.values()}
    config = {
        item.moid: setting(item.values.get("config.extraConfig"))
        for item in session.run(lambda: read_objects(session, "VirtualMachine", vms, ("config.extraConfig",)))
    }
    to_change = [moid for moid in vms if not is_true(config[moid][1])]
    to_cycle = [
        moid
        for moid in to_change
        if params["power_cycle"] != "never" and vms[moid]["vsphere_power_state"] == "on"
    ]
    if params["power_cycle"] == "graceful":
        require_tools([vms[moid] for moid in to_cycle])
    if not check_mode:
        _change(session, {moid: vms[moid] for moid in to_change}, config, params["timeout"])
        cycler = PowerCycler(session, params["power_cycle"], params["power_timeout"])
        for moid in to_cycle:
            cycler.cycle(moid, vms[moid]["vsphere_path"], vms[moid]["vsphere_tools_status"])
    return _result(params["vms"], found, config, set(to_change), set(to_cycle))


def _change(
    session: VsphereSession, vms: Mapping[str, Any], config: Mapping[str, tuple[str, str | None]], timeout: float
) -> None:
    def start(moid: str) -> Any:
        spec = vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key=config[moid][0], value="TRUE")])
        return session.reference("VirtualMachine", moid).ReconfigVM_Task(spec)

    run_tasks(
        session,
        f"Setting {KEY}",
        [(record["vsphere_path"], lambda moid=moid: start(moid)) for moid, record in vms.items()],
        timeout,
    )


def _result(
    queries: list[str],
    found: Mapping[str, dict[str, Any]],
    config: Mapping[str, tuple[str, str | None]],
    changed: set[str],
    cycled: set[str],
) -> dict[str, Any]:
    vms, before, after = [], {}, {}
    for query in queries:
        record = found[query]
        moid = record["vsphere_moid"]
        path = record["vsphere_path"]
        on = record["vsphere_power_state"] != "off"
        vms.append(
            {
                "name": record["vsphere_name"],
                "path": path,
                "changed": moid in changed,
                "power_cycled": moid in cycled,
                "restart_required": moid in changed and on and moid not in cycled,
            }
        )
        before[path] = config[moid][1]
        after[path] = "TRUE" if moid in changed else config[moid][1]
    lines = [{path: f"{KEY} = {value}" for path, value in state.items()} for state in (before, after)]
    return {
        "changed": bool(changed),
        "vms": vms,
        "restart_required": any(vm["restart_required"] for vm in vms),
        "diff": {"before": _text(lines[0]), "after": _text(lines[1])},
    }


def _text(lines: Mapping[str, str]) -> str:
    return "".join(f"{path}: {text}\n" for path, text in sorted(lines.items()))
