"""Run the scenarios of the project and write tests/results.json.

    python3 tests/run.py --list              what there is
    python3 tests/run.py --set ci            what CI runs
    python3 tests/run.py --set all           everything; scenarios that passed at this commit are not run again
    python3 tests/run.py site faults         the named ones, whatever ran before

A scenario is a command; most are pytest folders. What pytest skips is counted as «not run» and shown with its
reason; a scenario that should have run and did not is a failure.
"""
from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "results.json"
OUTPUT = ROOT / "tests" / "output"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cht-k3s"
COLLECTION = CACHE / "collections" / "ansible_collections" / "cht" / "k3s"


@dataclass(frozen=True)
class Scenario:
    """A command that proves something. sets: which selections hold it; limit: seconds after which it has failed.

    The lab waits more than it computes, so what needs no lab runs beside it, one after the other; its output comes when it has ended.
    beside: its niceness then; 0: it is one of those that are waited for.
    """

    name: str
    purpose: str
    command: tuple[str, ...]
    sets: tuple[str, ...] = ("ci", "all")
    limit: int = 900
    cwd: Path = ROOT
    beside: int = 0

    @property
    def is_pytest(self) -> bool:
        return self.command[0] == "pytest"


def _pytest(*paths: str) -> tuple[str, ...]:
    return ("pytest", "-q", "-ra", "--color=no", "--durations=10", "--durations-min=5", *paths)


# Tests that go another way to the same place are marked `extensive` and wait for `make test-all`.
_LEAN, _EXTENSIVE = ("-m", "not extensive"), ("-m", "extensive")
_API = ("tests/integration/kube", "tests/integration/cht", *(f"--ignore=tests/integration/cht/test_{name}.py" for name in (
    "waves", "backup", "volumes", "rebalance")))

SCENARIOS = (
    Scenario("python", "undefined names and the like, in every Python file", ("ruff", "check", "--quiet"), beside=10),
    Scenario("lint", "ansible-lint at profile production", ("ansible-lint", "--offline", "-q"), limit=1800, beside=10),
    Scenario("sanity", "ansible-test sanity, no ignores", (sys.executable, "tests/sanity.py"), limit=1800, beside=10),
    Scenario("unit", "logic without a network", _pytest("tests/unit"), limit=1800, beside=10),
    Scenario("lab", "the lab's own parts", _pytest("tests/lab/tests"), limit=1200),
    Scenario("standin", "the k3s stand-in: units", _pytest("tests/lab/k3s/tests/test_units.py"), beside=10),
    Scenario("contract", "the k3s stand-in against its contract", _pytest(
        "tests/lab/k3s/tests/test_hosts.py", "tests/lab/k3s/tests/test_contract.py"), limit=3000, beside=1),
    Scenario("contract-encryption", "the k3s stand-in: Secrets and their keys", _pytest("tests/lab/k3s/tests/test_encryption.py"), limit=3000, beside=1),
    Scenario("contract-given", "the contract against a given file, as with a real k3s", _pytest("tests/lab/k3s/tests/test_given.py"), ("all",), 3600),
    Scenario("nodes", "the k3s stand-in on whole machines", _pytest("tests/lab/k3s/tests/test_nodes.py"), ("all",), 1800),
    Scenario("api", "modules and roles against a real API server and controllers", _pytest(*_API, *_LEAN), limit=3000, beside=1),
    Scenario("api-extensive", "more of that: rotations, mirrors, adopted counties", _pytest(*_API, *_EXTENSIVE), ("all",), 1800),
    Scenario("waves", "counties changed in waves, volumes bound again, counties moved by the real scheduler, against a real API server", _pytest(
        "tests/integration/cht/test_waves.py", "tests/integration/cht/test_volumes.py", "tests/integration/cht/test_rebalance.py"), ("all",), 1800),
    Scenario("agent-loss", "an agent is lost with a county on it, fenced, comes back and gets a county again, in a lab of four", _pytest(
        "tests/integration/agent_loss"), ("all",), 3000),
    Scenario("downtime", "seconds without an answer of a county that is changed, asked through Traefik, in a lab of three", _pytest(
        "tests/integration/downtime"), ("all",), 3000),
    Scenario("backup", "counties saved and restored, killed half-way, against a real API server", _pytest(
        "tests/integration/cht/test_backup.py"), ("all",), 1800),
    Scenario("backup-chain", "a county saved and restored through the real CSI controller, in a lab of two", _pytest(
        "tests/integration/backup"), ("all",), 3000),
    Scenario("access", "a real nginx in front of the counties, asked by host name", _pytest("tests/integration/access"), ("all",)),
    Scenario("awx", "awx.yml against a server that answers as AWX", _pytest("tests/integration/awx"), ("all",), limit=3600, beside=10),
    Scenario("vsphere", "inventory, modules and preflight against vcsim", _pytest("tests/integration/vsphere", *_LEAN), limit=1800),
    Scenario("vsphere-extensive", "more of that: interrupted and refused changes of VMs", _pytest("tests/integration/vsphere", *_EXTENSIVE), ("all",)),
    Scenario("cpi-uuid", "the real CPI and the two UUIDs", _pytest("tests/integration/cpi")),
    Scenario("csi", "the real CSI controller: claims as volumes of vCenter, dead machines, rotation, removal, in a lab of four", _pytest(
        "tests/integration/csi/test_csi.py", "--durations=0"), ("all",), 3600),
    Scenario("csi-small", "the real syncer, an account of a Windows domain, in a lab of two", _pytest(
        "tests/integration/csi/test_csi_account.py", "tests/integration/csi/test_csi_syncer.py"), ("all",), 1800),
    Scenario("site", "a cluster from nothing, second run, check mode, tags, limits, AWX layout", _pytest(
        "tests/integration/site", *_LEAN), limit=3600),
    Scenario("site-extensive", "every role by its tag, as an AWX job too, on the cluster of `site`", _pytest(
        "tests/integration/site", *_EXTENSIVE), ("all",), 1800),
    Scenario("counties", "counties on the cluster of `site`: requests by host name, packets between them", _pytest(
        "tests/integration/counties")),
    Scenario("prepare-vms", "nodes of the cluster of `site` are emptied before their VMs are switched off", _pytest(
        "tests/integration/faults/test_prepare_vms.py")),
    Scenario("bad-input", "wrong input from every way of starting a playbook, wrong clocks", _pytest(
        "tests/integration/faults/test_bad_input.py", "tests/integration/faults/test_clock.py")),
    Scenario("interrupt", "Ctrl-C in the middle of joining, then another run", _pytest(
        "tests/integration/faults/test_interrupt.py"), limit=1800),
    Scenario("k3s", "joining, changing and rebuilding machines, in a lab of five", _pytest(
        "tests/integration/k3s/test_k3s_cluster.py", "tests/integration/k3s/test_k3s_unreachable.py"), ("all",), 3600),
    Scenario("k3s-restore", "backup, restore, interrupted and damaged restore", _pytest(
        "tests/integration/k3s/test_k3s_restore.py"), ("all",), 3000),
    Scenario("k3s-removal", "removing machines, also half-way and dead ones", _pytest(
        "tests/integration/k3s/test_k3s_removal.py"), ("all",), 1800),
    Scenario("k3s-faults", "frozen, cut off, dead and full machines", _pytest(
        "tests/integration/k3s/test_k3s_faults.py"), ("all",), 3600),
    Scenario("k3s-upgrade", "Kubernetes 1.34.4 to 1.35.4 and on to 1.36.3, all real: a first server that fails, an interruption, a late agent", _pytest(
        "tests/integration/k3s/test_k3s_upgrade.py"), ("all",), 2400),
    Scenario("k3s-life", "adopting, options, firewalls, rotation and fencing, in a lab of three", _pytest(
        "tests/integration/k3s/test_k3s_adopt.py", "tests/integration/k3s/test_k3s_options.py", "tests/integration/k3s/test_k3s_firewall.py",
        "tests/integration/k3s/test_k3s_rotate.py", "tests/integration/k3s/test_k3s_fence.py"), ("all",), 3600),
    Scenario("k3s-encryption", "Secrets of a cluster that was begun without encryption, encrypted and given another key, in a lab of three", _pytest(
        "tests/integration/k3s/test_k3s_encryption.py"), ("all",), 2400),
    Scenario("k3s-given", "a k3s that somebody gives, as a file of another name, in a lab of three", _pytest(
        "tests/integration/k3s/test_k3s_given.py"), ("all",), 1800),
    Scenario("molecule", "the molecule scenario on the lab", (
        "tests/lab/lab", "exec", "--", "molecule", "test"), ("all",), 1800),
)


@dataclass
class Outcome:
    """What became of one scenario."""

    scenario: str
    result: str
    seconds: float
    passed: int = 0
    failed: int = 0
    not_run: list[str] = field(default_factory=list)


def commit() -> str:
    """The commit that is tested, marked when the tree holds more than it."""
    def git(*argv: str) -> str:
        return subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")


def run(scenario: Scenario, quiet: bool = False) -> Outcome:
    """Run one scenario, its output shown, or when quiet (beside others) shown at its end, and kept in tests/output."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    argv = list(scenario.command)
    report = OUTPUT / f"{scenario.name}.xml"
    report.unlink(missing_ok=True)
    if scenario.is_pytest:
        argv += [f"--junit-xml={report}", "-p", "no:cacheprovider"]
    if quiet:
        argv = ["nice", "-n", str(scenario.beside), *argv]
    else:
        print(f"\n=== {scenario.name}: {scenario.purpose}", flush=True)
    start = time.monotonic()
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with open(OUTPUT / f"{scenario.name}.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(argv, cwd=scenario.cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                   # What a shell starts in the background ignores Ctrl-C, and so would pytest.
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        timed_out = _copy(process, log, start + scenario.limit, quiet)
    seconds = time.monotonic() - start
    passed, failed, not_run = _count(report) if scenario.is_pytest else (int(not process.returncode), 0, [])
    good = process.returncode == 0 and passed > 0 and not timed_out
    outcome = Outcome(scenario.name, "passed" if good else "failed", round(seconds, 1), passed, failed, not_run)
    if not good and not outcome.failed:
        outcome.failed = 1
    if quiet:
        output = (OUTPUT / f"{scenario.name}.log").read_text(encoding="utf-8")
        print(f"\n=== {scenario.name}: {scenario.purpose}\n{output}", end="", flush=True)
    print(f"=== {scenario.name}: {outcome.result} in {seconds:.0f} s"
          + (f" (stopped after {scenario.limit} s)" if timed_out else ""), flush=True)
    return outcome


def _copy(process: subprocess.Popen[str], log: TextIO, deadline: float, quiet: bool) -> bool:
    """Show (unless quiet) and keep the output; end the process at the deadline. True if it had to be ended.

    Ctrl-C has pytest take its labs away; a playbook of a test that was only killed would go on in the lab of the next.
    """
    ended = threading.Event()

    def watch() -> None:
        if not ended.wait(max(0.0, deadline - time.monotonic())):
            late.set()
            process.send_signal(signal.SIGINT)
            if not ended.wait(120):
                process.kill()

    late = threading.Event()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert process.stdout
    for line in process.stdout:
        if not quiet:
            sys.stdout.write(line)
            sys.stdout.flush()
        log.write(line)
    process.wait()
    ended.set()
    return late.is_set()


def _count(report: Path) -> tuple[int, int, list[str]]:
    """Passed, failed and the reasons of what was not run, from a JUnit file."""
    if not report.exists():
        return 0, 1, []
    passed = failed = 0
    not_run = []
    for case in ET.parse(report).getroot().iter("testcase"):
        skipped = case.find("skipped")
        if skipped is not None:
            not_run.append(f"{case.get('name')}: {skipped.get('message')}")
        elif case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        else:
            passed += 1
    return passed, failed, not_run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--set", dest="selection", choices=["ci", "all"])
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:10} {'+'.join(scenario.sets):8} {scenario.purpose}")
        return 0
    known = {scenario.name: scenario for scenario in SCENARIOS}
    wrong = [name for name in args.names if name not in known]
    if wrong or not (args.names or args.selection):
        parser.error(f"unknown scenario {', '.join(wrong)}" if wrong else "name scenarios or use --set")
    chosen = [s for s in SCENARIOS if s.name in args.names or args.selection in s.sets]

    state = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    now = commit()
    if state.get("commit") != now:
        state = {"commit": now, "scenarios": {}}
    done = threading.Lock()

    def keep(scenario: Scenario, quiet: bool = False) -> None:
        outcome = asdict(run(scenario, quiet))
        with done:
            state["scenarios"][scenario.name] = outcome
            RESULTS.write_text(json.dumps(state, indent=2) + "\n")

    with ThreadPoolExecutor(1) as lane:
        beside = []
        for scenario in chosen:
            before = state["scenarios"].get(scenario.name)
            if args.selection == "all" and before and before["result"] == "passed":
                print(f"=== {scenario.name}: passed before at this commit", flush=True)
            elif scenario.beside and len(chosen) > 1:
                beside.append(lane.submit(keep, scenario, True))
            else:
                keep(scenario)
        for future in beside:
            future.result()
    return report(state, [s.name for s in chosen])


def report(state: dict[str, object], names: list[str]) -> int:
    """Print the table and the counting line; 0 if all passed."""
    scenarios: dict[str, dict[str, object]] = state["scenarios"]  # type: ignore[assignment]
    print(f"\ncommit {state['commit']}")
    totals = {"passed": 0, "failed": 0, "not_run": 0}
    for name in names:
        row = scenarios[name]
        print(f"{name:10} {row['result']:7} {row['seconds']:8.1f} s   {row['passed']} passed, {row['failed']} failed, "
              f"{len(row['not_run'])} not run")  # type: ignore[arg-type]
        for reason in row["not_run"]:
            print(f"           not run: {reason}")
        totals["passed"] += row["passed"]  # type: ignore[operator]
        totals["failed"] += row["failed"]  # type: ignore[operator]
        totals["not_run"] += len(row["not_run"])  # type: ignore[arg-type]
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['not_run']} skipped")
    return int(any(scenarios[name]["result"] != "passed" for name in names))


if __name__ == "__main__":
    sys.exit(main())
