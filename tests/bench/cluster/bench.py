"""How long does a run that changes nothing take on a cluster that stands, and where does the time go?

    LAB_NAME=x python3 tests/bench/cluster/bench.py [--repeat 3] [--tasks 15] [--limit PATTERN] [--add agent-9]

The lab must be up and its cluster built (`lab exec -- ansible-playbook -i inventories/lab playbooks/site.yml`). Printed are
the preflight alone, the run of `--tags preflight,node,control_plane,agent` split by role and by task, the SSH calls to each
machine, and what the machine was doing meanwhile: on a busy one the seconds of CPU say more than those on the wall.
--limit measures a part of the machines, to see how the time grows with their number in one and the same lab.
--add removes that agent from the cluster first, and then measures how long adding it takes.
"""
from __future__ import annotations

import argparse
import collections
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
LAB = str(ROOT / "tests" / "lab" / "lab")
TAGS = "preflight,node,control_plane,agent"


@dataclass
class Measured:
    """One finished run."""

    wall: float
    cpu: float
    load: tuple[float, float]
    events: list[dict[str, Any]]
    ssh: collections.Counter[str]

    @property
    def changed(self) -> int:
        return sum(event.get("changed", False) for event in self.events)

    def spent(self, key: str) -> list[tuple[str, float]]:
        """Seconds by `role` or `task`, the most first: a task lasts until the next one begins."""
        total: dict[str, float] = collections.defaultdict(float)
        starts = [event for event in self.events if event["event"] in ("start", "end")]
        for this, following in zip(starts, starts[1:], strict=False):
            role = this["role"].rpartition(".")[2] or "playbook"
            total[role if key == "role" else f"{role}: {this['task']}"[:90]] += following["at"] - this["at"]
        return sorted(total.items(), key=lambda item: -item[1])


def cpu_of_children() -> float:
    """CPU seconds of all finished children: Ansible on the controller. What the machines themselves use is not in it."""
    times = os.times()
    return times.children_user + times.children_system


def play(inventory: str, playbook: str, *argv: str) -> Measured:
    """Run a playbook in the lab; a failure ends the benchmark."""
    with tempfile.TemporaryDirectory(prefix="cht-k3s-bench-") as folder:
        timing, calls = Path(folder, "timing"), Path(folder, "ssh")
        calls.touch()
        env = {
            **os.environ,
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"), "ANSIBLE_CALLBACKS_ENABLED": "timing", "ANSIBLE_NOCOLOR": "1",
            "TIMING_FILE": str(timing), "SSH_COUNT_FILE": str(calls), "ANSIBLE_SSH_EXECUTABLE": str(HERE / "count_ssh.sh"),
        }
        load, cpu, begin = os.getloadavg()[0], cpu_of_children(), time.monotonic()
        done = subprocess.run([LAB, "exec", "--", "ansible-playbook", "-i", inventory, playbook, *argv],
                              cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        wall = time.monotonic() - begin
        if done.returncode:
            sys.exit(f"{playbook} {' '.join(argv)} gave {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-1000:]}")
        events = [json.loads(line) for line in timing.read_text(encoding="utf-8").splitlines()]
        return Measured(wall, cpu_of_children() - cpu, (load, os.getloadavg()[0]), events, collections.Counter(calls.read_text().split()))


def best(runs: list[Measured]) -> Measured:
    return min(runs, key=lambda run: run.wall)


def show(title: str, run: Measured) -> None:
    """One line for a run."""
    print(f"{title:34} {run.wall:7.1f} s   CPU {run.cpu:6.1f} s   load {run.load[0]:.1f} -> {run.load[1]:.1f}   changed {run.changed}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=15, help="how many tasks to show")
    parser.add_argument("--limit", metavar="PATTERN", help="only these machines")
    parser.add_argument("--add", metavar="AGENT", help="remove this agent and measure adding it")
    parser.add_argument("--inventory", default="inventories/lab")
    args = parser.parse_args()

    listed = subprocess.run([LAB, "exec", "--", "ansible-inventory", "-i", args.inventory, "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    groups = json.loads(listed.stdout)
    nodes = groups["control_plane"]["hosts"] + groups.get("agent", {}).get("hosts", [])
    limit = ["--limit", f"localhost,{args.limit}"] if args.limit else []
    print(f"{len(nodes)} nodes{f', of them {args.limit}' if limit else ''}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")

    show("preflight alone", best([play(args.inventory, "playbooks/preflight.yml", *limit) for _round in range(args.repeat)]))
    run = best([play(args.inventory, "playbooks/site.yml", "--tags", TAGS, *limit) for _round in range(args.repeat)])
    show("nothing to change", run)
    for key, most in (("role", 99), ("task", args.tasks)):
        print(f"\nby {key}")
        for name, seconds in run.spent(key)[:most]:
            print(f"  {seconds:6.2f} s  {name}")
    print("\nSSH calls by machine: " + ", ".join(f"{name} {count}" for name, count in sorted(run.ssh.items())))
    if run.changed:
        print(f"\n{run.changed} tasks changed something: build the cluster first", file=sys.stderr)
        return 1
    if args.add:
        play(args.inventory, "playbooks/remove_node.yml", "-e", json.dumps({"k3s_remove": [args.add]}))
        show(f"\nadding {args.add}", play(args.inventory, "playbooks/site.yml", "--tags", TAGS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
