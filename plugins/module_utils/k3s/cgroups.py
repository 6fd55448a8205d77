# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of control groups on a machine, and whether a release of k3s starts with it."""

from __future__ import annotations

import re

from .files import DATA_DIR
from .release import version_key
from .system import System

# The first minor release whose kubelet does not start with version 1 unless it is told to.
REFUSED_SINCE = (1, 35)
REMEDY = (
    "Boot it with version 2 (systemd.unified_cgroup_hierarchy=1 on the kernel's command line), or, as long as the kubelet still takes it, add"
    " fail-cgroupv1=false to control_plane_kubelet_args and agent_kubelet_args"
)
KUBELET_CONF = DATA_DIR + "/agent/etc/kubelet.conf.d"
_FALSE = ("0", "f", "F", "false", "False", "FALSE")


def version(system: System) -> int:
    """1 or 2; 0 where it can't be told. Version 2 beside version 1, as some systems mount it, is version 1 to the kubelet."""
    kinds = [mount.kind for mount in system.mounts() if mount.path == "/sys/fs/cgroup"]
    return 0 if not kinds else 2 if kinds[-1] == "cgroup2" else 1


def accepts_v1(arguments) -> bool:
    """The kubelet's arguments let it start with version 1."""
    words = [arguments] if isinstance(arguments, str) else arguments or []
    given = [str(word).partition("=")[2] for word in words if str(word).partition("=")[0] == "fail-cgroupv1"]
    return bool(given) and given[-1] in _FALSE


def configured_v1(system: System) -> bool:
    """The same by a file of the kubelet's configuration, which k3s reads from a folder."""
    texts = [system.read(f"{KUBELET_CONF}/{name}") or "" for name in system.listdir(KUBELET_CONF) if name.endswith(".conf")]
    found = [value for text in texts for value in re.findall(r"""^[ \t]*["']?failCgroupV1["']?[ \t]*:[ \t]*(true|false)\b""", text, re.MULTILINE)]
    return bool(found) and found[-1] == "false"


def refused(release: str) -> bool:
    """The release does not start with version 1 by itself."""
    return version_key(release)[:2] >= REFUSED_SINCE


def problem(system: System, release: str, arguments) -> str:
    """Why k3s of this release would not start here; '' where it would."""
    if not refused(release) or version(system) != 1 or accepts_v1(arguments) or configured_v1(system):
        return ""
    return f"This machine has version 1 of control groups (cgroups), and the kubelet of k3s {release} does not start with it. {REMEDY}"
