# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells that a k3s was installed by other means than this collection: the one place that says so.

A node of this collection has all its settings in a config.yaml of ours. So a unit with arguments, variables K3S_* beside it, somebody else's config.yaml or
none at all (k3s' defaults) are signs of a hand install, and its settings would get lost.
"""

from __future__ import annotations

import re

from .files import CONFIG_PATH, DATA_DIR, GOOD_CONFIG_PATH, REGISTRIES_PATH, foreign_file, ours
from .system import System
from .unit import SERVICES, UNIT_DIR, environment_paths, foreign_arguments, unit_path
from .values import environment_values

_VARIABLE = re.compile(r"\bK3S_[A-Z0-9_]+(?==)")


def places(system: System, data: bool) -> dict:
    """Path -> what is there that this collection did not write; {} for its own nodes and for machines without k3s.

    `data`: the machine holds data of a server or an agent.
    """
    found = {}
    units = [role for role in SERVICES if system.exists(unit_path(role))]
    others = _other_units(system)
    for role in units:
        if foreign_arguments(system.read(unit_path(role)), role):
            found[unit_path(role)] = "passes arguments to it"
        found.update(_beside(system, role))
        for path in environment_paths(role):
            names = sorted(name for name in environment_values(system.read(path)) if name.startswith("K3S_"))
            if names:
                found[path] = f"sets {', '.join(names)}"
    for path in others:
        found[path] = "runs it under another name"
    if not (units or others or data):
        return found
    config = system.read(CONFIG_PATH)
    if config is not None and not ours(config):
        found[CONFIG_PATH] = "was not written by this collection"
    elif config is None and not ours(system.read(GOOD_CONFIG_PATH)):
        if units or others:
            # A unit that says something is sign enough; nobody finds anything in a file that is not there.
            if not found:
                found[CONFIG_PATH] = "is not there, so it runs with k3s' defaults"
        else:
            found[DATA_DIR] = f"holds its data, and there is neither a unit nor {CONFIG_PATH}"
    if foreign_file(system.read(REGISTRIES_PATH)):
        found[REGISTRIES_PATH] = "has mirrors or logins of its own, which belong into k3s_registries"
    return found


def _beside(system: System, role: str) -> dict:
    """Path -> sign, of variables that the unit itself sets, and of drop-ins (`systemctl edit`) that tell k3s something."""
    drop_ins = f"{unit_path(role)}.d"
    paths = [unit_path(role), *(f"{drop_ins}/{name}" for name in system.listdir(drop_ins) if name.endswith(".conf"))]
    found = {}
    for path in paths:
        text = (system.read(path) or "").replace("\\\n", " ")
        if path != unit_path(role) and foreign_arguments(_last_start(text), role):
            found[path] = "passes arguments to it"
        names = sorted(set(_VARIABLE.findall("\n".join(line for line in text.splitlines() if line.startswith("Environment=")))))
        files = [line.partition("=")[2] for line in text.splitlines() if line.startswith("EnvironmentFile=") and path != unit_path(role) and line[16:]]
        if names or files:
            found[path] = f"sets {', '.join(names or files)}"
    return found


def _last_start(text: str) -> str:
    """The start that counts; an empty one before it takes back what the unit says."""
    return "\n".join(line for line in text.splitlines() if line.startswith("ExecStart=") and line[len("ExecStart="):].strip())


def _other_units(system: System) -> list:
    """Units that the installer of k3s was given another name for."""
    known = {f"{service}.service" for service in SERVICES.values()}
    found = []
    for name in system.listdir(UNIT_DIR):
        if name.startswith("k3s") and name.endswith(".service") and name not in known:
            text = system.read(f"{UNIT_DIR}/{name}") or ""
            if any(line.startswith("ExecStart=") and "/k3s " in line + " " for line in text.splitlines()):
                found.append(f"{UNIT_DIR}/{name}")
    return found


def refusal(found: dict) -> str:
    """Why such a machine is left alone; '' for one that is ours or has no k3s."""
    if not found:
        return ""
    what = "; ".join(f"{path} {sign}" for path, sign in found.items())
    if list(found) == [DATA_DIR]:
        what += " (its system was installed anew, or k3s was taken off by hand)"
    return (
        f"k3s was installed on this machine by other means: {what}. It is left alone, because its settings would get lost. Run playbooks/adopt.yml, which"
        " first reports them and then takes them over. Nothing was changed."
    )
