# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd units as k3s' own installer writes them."""

from __future__ import annotations

import re

from .yamltext import word

UNIT_DIR = "/etc/systemd/system"
SERVICES = {"server": "k3s", "agent": "k3s-agent"}


def unit_path(role: str) -> str:
    return f"{UNIT_DIR}/{SERVICES[role]}.service"


def environment_path(role: str) -> str:
    return f"{UNIT_DIR}/{SERVICES[role]}.service.env"


def environment_paths(role: str) -> list:
    """All files of variables that the unit reads; a later one beats an earlier one."""
    return [f"/etc/default/{SERVICES[role]}", f"/etc/sysconfig/{SERVICES[role]}", environment_path(role)]


def render_unit(role: str, binary: str) -> str:
    """The unit of a server or an agent; all settings are in config.yaml, so that there is one place to look."""
    service = SERVICES[role]
    return f"""[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-{UNIT_DIR}/{service}.service.env
KillMode=process
Delegate=yes
User=root
# Having non-zero Limit*s causes performance problems due to accounting overhead
# in the kernel. We recommend using cgroups to do container-local accounting.
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart={binary} {role}
"""


def render_environment(environment: dict) -> str:
    """The environment file: one NAME="value" a line, sorted."""
    lines = []
    for name in sorted(environment):
        value = word(environment[name]).replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'{name}="{value}"\n')
    return "".join(lines)


def foreign_arguments(unit_text: str | None, role: str) -> str:
    """What an existing unit passes to k3s besides its role, with its quotes: such a node was installed by hand or by another tool."""
    for line in (unit_text or "").replace("\\\n", " ").splitlines():
        if line.startswith("ExecStart="):
            words = line[len("ExecStart="):].strip().split(None, 1)
            rest = words[1].strip() if len(words) > 1 else ""
            return re.sub(rf"""\A["']?{role}["']?(\s+|\Z)""", "", rest)
    return ""
