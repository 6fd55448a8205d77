# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node below a temporary directory, with a systemd and an API made of plain data."""
from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.cht.k3s.plugins.module_utils.k3s.api import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import Entry, Result, System, UnitState

VERSION = "v1.34.4+k3s1"


class FakeSystem(System):
    """Files are real, everything else is what the test says."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.units: dict[str, UnitState] = {}
        self.calls: list[tuple[str, ...]] = []
        self.lines: list[str] = []
        self.entries: list[Entry] = []
        self.version = ""
        self.clock = 1_000_000.0
        self.pid = 100
        self.on_start = lambda: None

    def unit(self, name: str) -> UnitState:
        unit = self.units.setdefault(name, UnitState())
        unit.active_for = unit.running_for = self.clock - unit.started_at
        return unit

    def systemctl(self, *argv: str, timeout: float = 120) -> Result:
        self.calls.append(argv)
        name = argv[-1].removesuffix(".service")
        unit = self.unit(name)
        if argv[0] in ("start", "restart"):
            self.pid += 1
            self.units[name] = UnitState(loaded=True, active="active", sub="running", enabled=unit.enabled, pid=self.pid, started_at=self.clock)
            self.on_start()
        elif argv[0] == "enable":
            unit.enabled = "enabled"
        elif argv[0] == "disable":
            unit.enabled = "disabled"
        elif argv[0] == "stop":
            self.units[name] = UnitState(loaded=True, enabled=unit.enabled)
        return Result(0, "", "")

    def run(self, argv: list, timeout: float = 60, env: dict | None = None) -> Result:
        if argv[-1] == "--version":
            return Result(0, f"{os.path.basename(argv[0])} version {self.version} (0123abcd)\ngo version go1.24\n", "") if self.version else Result(127, "", "")
        self.calls.append(tuple(argv))
        return Result(1, "", "")

    def journal(self, unit: str, since: float, cursor: str = "") -> list:
        """`lines` are said again and again; `entries` once, at their time."""
        told = [entry for entry in self.entries if since <= entry.time <= self.clock]
        new = told[int(cursor or 0):]
        said = [Entry("", self.clock, line, str(len(told))) for line in self.lines]
        return [*(Entry(entry.start, entry.time, entry.text, str(len(told))) for entry in new), *said]

    def hostname(self) -> str:
        return "Control-Plane-1"

    def now(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def put(self, path: str, text: str = "x", mode: int = 0o600) -> None:
        self.write(path, text, mode)
        os.utime(self.path(path), (self.clock - 100, self.clock - 100))

    def age(self) -> None:
        """All files are older than anything that runs."""
        for folder, dummy, names in os.walk(self.root):
            for name in names:
                os.utime(os.path.join(folder, name), (self.clock - 50, self.clock - 50), follow_symlinks=False)

    def commands(self, *verbs: str) -> list[tuple[str, ...]]:
        return [call for call in self.calls if call[0] in (verbs or ("start", "restart", "enable", "stop"))]


class FakeApi:
    """Nodes by name; None means that the API is down."""

    def __init__(self) -> None:
        self.objects: dict[str, dict] | None = {}
        self.uid = "6d7c0a52"
        self.recorded: str | None = None

    def node(self, name: str):
        if self.objects is None:
            raise ApiError("down")
        return self.objects.get(name)

    def nodes(self):
        if self.objects is None:
            raise ApiError("down")
        return list(self.objects.values())

    def get(self, path: str):
        """Only the namespace whose UID names the cluster, and what the collection keeps in it."""
        if self.objects is None:
            raise ApiError("down")
        if path == "/api/v1/namespaces/kube-system/configmaps/cht-k3s":
            if self.recorded is None:
                raise ApiError("not found", 404)
            return {"data": {"cluster": self.recorded}}
        assert path == "/api/v1/namespaces/kube-system"
        return {"metadata": {"name": "kube-system", "uid": self.uid, "creationTimestamp": "2026-01-01T00:00:00Z"}}

    def close(self) -> None:
        pass


def make_node(name: str, ready: bool = True, voter: bool | None = True, provider: str = "", version: str = VERSION, beat: str = "2036-01-01T00:00:00Z") -> dict:
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown", "lastHeartbeatTime": beat, "message": "kubelet stopped"}]
    labels = {}
    if voter is not None:
        labels = {"node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/etcd": "true"}
        conditions.append({"type": "EtcdIsVoter", "status": "True" if voter else "False", "reason": "MemberNotLearner" if voter else "MemberIsLearner"})
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"providerID": provider} if provider else {},
        "status": {"conditions": conditions, "nodeInfo": {"kubeletVersion": version}},
    }
