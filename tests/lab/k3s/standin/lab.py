# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs from machine to machine in the lab: places of the programs, limits that can't be raised there."""
from __future__ import annotations

import json
import pathlib
from typing import Any

from . import stamp

SETTINGS = pathlib.Path("/etc/lab-k3s/settings.json")

DEFAULTS: dict[str, Any] = {
    "bin_root": "/opt/lab/k8s",
    # kubelet's own settings that a container without CAP_SYS_RESOURCE needs. That it may start on cgroup v1 is for the user to say, as on a real machine.
    "kubelet": {
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        "enforceNodeAllocatable": ["pods"],
    },
    # all nodes share one disk; and a joining member waits 5 s plus two election time-outs when its first publish is lost
    "etcd_args": ["unsafe-no-fsync=true", "heartbeat-interval=200", "election-timeout=2000"],
    "containerd": {
        "restrict_oom_score_adj": True,
        "disable_apparmor": True,
        "disable_hugetlb_controller": True,
    },
    "parts_root": "/opt/lab/parts",
    "images": {
        "coredns": "rancher/mirrored-coredns-coredns:1.14.3",
        "traefik": "rancher/mirrored-library-traefik:3.6.12",
    },
}


def load() -> dict[str, Any]:
    data = json.loads(json.dumps(DEFAULTS))
    if SETTINGS.is_file():
        given = json.loads(SETTINGS.read_text(encoding="utf-8"))
        data["images"].update(given.pop("images", {}))
        data.update(given)
    return data


_settings: dict[str, Any] | None = None


def get(key: str) -> Any:
    global _settings
    if _settings is None:
        _settings = load()
    return _settings[key]


def minor() -> int:
    """Of the release that is played; 0 where none is stamped. Some texts are those of a release."""
    return int(stamp.VERSION.lstrip("v").split(".")[1])


def program(name: str) -> str:
    """Of the stamped version; a version that was never built runs the newest build there is under its own label."""
    root = pathlib.Path(get("bin_root"))
    place = root / stamp.KUBERNETES / name
    if not place.exists():
        built = sorted(root.glob(f"*/{name}"), key=lambda item: [int(part) for part in item.parent.name.split(".") if part.isdigit()])
        place = built[-1] if built else place
    return str(place)


def part(tool: str) -> pathlib.Path:
    """The folder of what k3s brings beside Kubernetes: containerd, runc, network."""
    return pathlib.Path(get("parts_root")) / tool
