"""How fast is the inventory, next to the other plugins and to what cannot be undercut?

    python3 tests/bench/inventory/bench.py [--vms 3000] [--repeat 3] [--others]

Starts a vcsim with that many VMs and prints a table. Every row is a process of its own: seconds on the wall, seconds of
CPU (which a busy machine disturbs less), and peak memory; the best of the repetitions counts. The floor is one pass of
pyvmomi over the same properties plus `ansible-inventory --list` of a static file with the same hosts, variables and
groups and the same compose and keyed_groups.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "integration" / "vsphere")]

import conftest as _collection  # noqa: E402,F401  makes ansible_collections.cht.k3s importable
from vcenter import UPSTREAM, Vcenter  # noqa: E402

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.hostvars import SOURCES, properties_for  # noqa: E402

# What the measurements in the issue were made with.
SIX = ["vsphere_name", "vsphere_bios_uuid", "vsphere_instance_uuid", "vsphere_cpu_count", "vsphere_memory_mb", "vsphere_power_state"]
SIX_PROPERTIES = ["name", "config.uuid", "config.instanceUuid", "config.hardware.numCPU", "config.hardware.memoryMB", "runtime.powerState"]
CONSTRUCTED = {
    "compose": {"memory_gb": "vsphere_memory_mb // 1024"},
    "keyed_groups": [{"key": "vsphere_power_state", "prefix": "power"}],
}
OTHERS_KEYED = {"keyed_groups": [{"key": "runtime.powerState", "prefix": "power"}]}


@dataclass
class Cost:
    """What one process took."""

    wall: float = float("inf")
    cpu: float = float("inf")
    memory_mb: float = float("inf")

    def __add__(self, other: Cost) -> Cost:
        """Two processes, one after the other."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.memory_mb, other.memory_mb))


def measure(command: list[str], env: dict[str, str], repeat: int, expect: int | None = None) -> Cost:
    """Run a command and take its best."""
    best = Cost()
    for _round in range(repeat):
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            begin = time.monotonic()
            process = subprocess.Popen(command, env=env, stdout=output, stderr=errors)
            _pid, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            wall = time.monotonic() - begin
            output.seek(0)
            errors.seek(0)
            text = output.read()
            if process.returncode != 0:
                raise SystemExit(f"{' '.join(command)}: {errors.read().decode()[-3000:]}")
        if expect is not None:
            found = len(json.loads(text)["_meta"]["hostvars"])
            if found != expect:
                raise SystemExit(f"{' '.join(command)}: {found} hosts instead of {expect}")
        best = Cost(
            min(best.wall, wall),
            min(best.cpu, usage.ru_utime + usage.ru_stime),
            min(best.memory_mb, usage.ru_maxrss / 1024),
        )
    return best


class Bench:
    """All measurements over one vCenter."""

    def __init__(self, vcenter: Vcenter, folder: Path, vms: int, repeat: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ansible.cfg").write_text("")
        self.vms = vms
        self.repeat = repeat
        # Straight to vcsim: the front between would be part of every measurement.
        self.connection = {
            "hostname": "127.0.0.1",
            "port": vcenter.upstream_port,
            "username": UPSTREAM[0],
            "password": UPSTREAM[1],
            "ca_path": str(vcenter.cert),
        }
        bin_folder = Path(sys.executable).parent
        self.inventory = str(bin_folder / "ansible-inventory")
        collections = next(path for path in sys.meta_path if hasattr(path, "_n_configured_paths"))._n_configured_paths
        self.env = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": ":".join(str(path) for path in collections),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_INVENTORY_ENABLED": "auto,yaml,ini,ansible.builtin.constructed",
            "REQUESTS_CA_BUNDLE": str(vcenter.cert),
        }

    def write(self, name: str, data: Any) -> Path:
        """An inventory source. JSON is YAML, and the quickest for Ansible to read."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
        return path

    def list(self, *sources: Path, expect: int | None = None, repeat: int | None = None) -> Cost:
        """ansible-inventory --list."""
        arguments = [argument for source in sources for argument in ("-i", str(source))]
        return measure([self.inventory, *arguments, "--list"], self.env, repeat or self.repeat, expect)

    def start(self) -> Cost:
        """ansible-inventory with next to nothing to read."""
        return self.list(self.write("empty.json", {"all": {"hosts": {"localhost": {}}}}))

    def ours(self, name: str, expect: int, **options: Any) -> tuple[Cost, Path]:
        """This plugin."""
        source = self.write(f"{name}.vsphere.yml", {"plugin": "cht.k3s.vsphere", **self.connection, **CONSTRUCTED, **options})
        return self.list(source, expect=expect), source

    def static(self, name: str, source: Path, expect: int) -> Cost:
        """A static file with the same hosts, variables and groups; composed and keyed by constructed, as above."""
        done = subprocess.run([self.inventory, "-i", str(source), "--list"], env=self.env, capture_output=True, text=True, check=True)
        data = json.loads(done.stdout)
        hosts = {host: {key: value for key, value in variables.items() if key != "memory_gb"} for host, variables in data["_meta"]["hostvars"].items()}
        groups = {group: {"hosts": dict.fromkeys(data.get(group, {}).get("hosts", []), {})} for group in ("control_plane", "agent")}
        static = self.write(f"{name}-static.json", {"all": {"hosts": hosts, "children": groups}})
        constructed = self.write(f"{name}-constructed.yml", {"plugin": "ansible.builtin.constructed", **CONSTRUCTED})
        return self.list(static, constructed, expect=expect)

    def one_pass(self, properties: list[str]) -> Cost:
        """pyvmomi alone."""
        settings = json.dumps({**self.connection, "properties": properties})
        return measure([sys.executable, str(HERE / "one_pass.py"), settings], self.env, self.repeat)

    def others(self) -> list[tuple[str, Cost]]:
        """The plugins that come with the ansible package, once each: they take minutes."""
        connection = {key: value for key, value in self.connection.items() if key != "ca_path"}
        community = self.write(
            "community.vmware.yml",
            {"plugin": "community.vmware.vmware_vm_inventory", **connection, "validate_certs": False, "with_nested_properties": True,
             "properties": SIX_PROPERTIES, "hostnames": ["name"], **OTHERS_KEYED},
        )  # fmt: skip
        vmware = self.write(
            "vmware.vms.yml",
            {"plugin": "vmware.vmware.vms", **connection, "validate_certs": False, "properties": SIX_PROPERTIES, "hostnames": ["name"], **OTHERS_KEYED},
        )
        rows = []
        for name, source in (("community.vmware.vmware_vm_inventory", community), ("vmware.vmware.vms", vmware)):
            try:
                rows.append((name, self.list(source, expect=self.vms, repeat=1)))
            except SystemExit as problem:
                sys.stdout.write(f"{name}: not run: {problem}\n")
        return rows


def show(rows: list[tuple[str, Cost]]) -> None:
    """The table."""
    sys.stdout.write(f"\n{'':58}{'wall s':>9}{'CPU s':>9}{'MB':>7}\n")
    for name, cost in rows:
        sys.stdout.write(f"{name:58}{cost.wall:9.2f}{cost.cpu:9.2f}{cost.memory_mb:7.0f}\n")


def ratio(name: str, value: float, limit: float, unit: str = "x") -> bool:
    """One goal."""
    good = value <= limit
    sys.stdout.write(f"{'reached' if good else 'MISSED ':8} {name}: {value:.2f}{unit} (at most {limit:g}{unit})\n")
    return good


def run(bench: Bench, others: bool) -> bool:
    """Measure, print, judge."""
    rows: list[tuple[str, Cost]] = []
    verdicts: list[tuple[str, float, float, str]] = []
    start = bench.start()
    rows.append(("ansible-inventory's own start", start))
    for title, variables in (("six properties", SIX), ("all host variables", list(SOURCES))):
        name = title.replace(" ", "-")
        options = {"variables": variables} if variables is SIX else {}
        ours, source = bench.ours(name, bench.vms, **options)
        one = bench.one_pass(SIX_PROPERTIES if variables is SIX else properties_for(variables))
        static = bench.static(name, source, bench.vms)
        floor = one + static
        rows += [
            (f"{title}: cht.k3s.vsphere", ours),
            (f"{title}: one pass of pyvmomi", one),
            (f"{title}: ansible-inventory of a static file", static),
            (f"{title}: floor (the two above)", floor),
        ]
        verdicts += [
            (f"{title}: time over the floor (wall)", ours.wall / floor.wall, 1.3, "x"),
            (f"{title}: time over the floor (CPU)", ours.cpu / floor.cpu, 1.3, "x"),
            (f"{title}: memory over a static inventory's", ours.memory_mb / static.memory_mb, 2.0, "x"),
        ]
    few, _source = bench.ours("few", 12, names=["*_VM1[0-9]", "*_VM2[01]"])
    rows.append((f"12 of {bench.vms}: cht.k3s.vsphere", few))
    verdicts += [
        (f"12 of {bench.vms}: over the start (wall)", few.wall - start.wall, 1.5, " s"),
        (f"12 of {bench.vms}: over the start (CPU)", few.cpu - start.cpu, 1.5, " s"),
    ]
    if others:
        rows += [(f"six properties: {name}", cost) for name, cost in bench.others()]
    show(rows)
    sys.stdout.write("\n")
    # All of them are printed, whatever the first says.
    results = [ratio(*verdict) for verdict in verdicts]
    return all(results)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", type=int, default=3000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--others", action="store_true", help="measure the other plugins too (minutes)")
    arguments = parser.parse_args()
    shape = ("-dc", "1", "-cluster", "1", "-host", "3", "-standalone-host", "0", "-vm", str(arguments.vms), "-autostart=false")
    with tempfile.TemporaryDirectory(prefix="cht-k3s-bench-") as folder, Vcenter(Path(folder), arguments=shape) as vcenter:
        good = run(Bench(vcenter, Path(folder) / "sources", arguments.vms, arguments.repeat), arguments.others)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
