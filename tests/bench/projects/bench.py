"""How fast are fifty counties, next to other ways of sending the same objects and to what cannot be undercut?

    python3 tests/bench/projects/bench.py [--counties 50] [--repeat 5] [--only ours,kubectl,helm] [--scale]
    LAB_NAME=NAME tests/lab/lab exec -- python3 tests/bench/projects/bench.py --kubeconfig FILE

Without --kubeconfig everything is measured against one API server with etcd on this machine, started for it, without
controllers; with it, against that cluster, on which namespaces bench-* are created and removed. Each contender gets the
same objects, those that playbooks/projects.yml makes of the counties. "First" starts without any of them, "again" finds
all as they should be. Times are of whole processes, start of Python and Ansible included; the median of the repetitions,
in which the order of the contenders rotates; each starts when the machine has come to rest, or after a minute. Memory is
the highest sum of Pss over the process and all its children, sampled every 50 ms in one more run, since reading it costs
time. helm is built first where it is not there: about two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "lab"), str(ROOT / "tests" / "integration" / "kube")]

import conftest as _collection  # noqa: E402,F401  makes ansible_collections.cht.k3s importable
import yaml  # noqa: E402
from apiserver import ApiServer, tool  # noqa: E402
from cht_lab.tools import ensure  # noqa: E402

from ansible_collections.cht.k3s.plugins.module_utils.cht.plan import Live, plan_county  # noqa: E402
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import read_counties  # noqa: E402
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client  # noqa: E402
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import WELL_KNOWN, wave  # noqa: E402

COLLECTIONS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cht-k3s" / "collections"
PREFIX = "bench-"
SAMPLE = 0.05


def counties(count: int) -> list[dict[str, Any]]:
    """The definitions; with credentials, so that all contenders send the same Secrets."""
    return [
        {
            "name": f"{PREFIX}{number:03d}",
            "host": f"{PREFIX}{number:03d}.health.example",
            "version": "4.22.0",
            "credentials": {key: f"bench-{key}-0000000000{number:03d}" for key in ("password", "secret", "uuid")},
        }
        for number in range(count)
    ]


def objects(entries: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The objects of each county, Secrets with data as every tool may send them."""
    found, problems = read_counties(entries, None)
    if problems:
        raise SystemExit(str(problems[0]))
    return [plan_county(county, Live(), "keep", False, "/").objects for county in found]


class Target:
    """The cluster that is measured against."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.client = Client.from_kubeconfig(str(kubeconfig))

    def empty(self) -> None:
        """Remove the namespaces and what is in them."""
        names = [item["metadata"]["name"] for item in self.client.items("/api/v1/namespaces") if item["metadata"]["name"].startswith(PREFIX)]
        kinds = [item for item in WELL_KNOWN.values() if item.namespaced and item.kind not in ("Event", "Lease", "Job", "CronJob", "Pod", "ReplicaSet")]

        def send(method: str, path: str, gone: tuple[int, ...] = (404,), **more: Any) -> None:
            """A change of what controllers may be removing as well."""
            try:
                self.client.json(method, path, **more)
            except ApiError as error:
                if error.status not in gone:
                    raise

        def remove(name: str) -> None:
            for kind in kinds:
                send("DELETE", kind.collection(name), (404, 405), body={"propagationPolicy": "Background", "gracePeriodSeconds": 0})
            for service in list(self.client.items(f"/api/v1/namespaces/{name}/services")):
                send("DELETE", f"/api/v1/namespaces/{name}/services/{service['metadata']['name']}")
            for claim in list(self.client.items(f"/api/v1/namespaces/{name}/persistentvolumeclaims")):
                path = f"/api/v1/namespaces/{name}/persistentvolumeclaims/{claim['metadata']['name']}"
                send("PATCH", path, body={"metadata": {"finalizers": None}}, content_type="application/merge-patch+json")
            send("DELETE", f"/api/v1/namespaces/{name}", (404, 409))
            # Without a namespace controller nobody else finishes a namespace that is being deleted.
            left = self.client.find(f"/api/v1/namespaces/{name}")
            if left is not None:
                left["spec"]["finalizers"] = []
                send("PUT", f"/api/v1/namespaces/{name}/finalize", (404, 409), body=left)

        for release in list(self.client.items("/api/v1/namespaces/default/secrets")):
            if release["type"] == "helm.sh/release.v1":
                self.client.json("DELETE", f"/api/v1/namespaces/default/secrets/{release['metadata']['name']}")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(remove, names))
        while any(item["metadata"]["name"].startswith(PREFIX) for item in self.client.items("/api/v1/namespaces")):
            time.sleep(0.2)


class Contenders:
    """Each sends all objects once and returns when they are in the cluster."""

    def __init__(self, target: Target, entries: list[dict[str, Any]], folder: Path) -> None:
        self.target, self.folder = target, folder
        self.groups = objects(entries)
        ordered = sorted((item for group in self.groups for item in group), key=lambda item: wave(item["kind"]))
        self.ordered = ordered
        (folder / "all.yml").write_text("---\n".join(json.dumps(item) + "\n" for item in ordered))
        (folder / "inventory.yml").write_text(yaml.safe_dump({"all": {
            "hosts": {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}},
            "children": {"control_plane": {"hosts": {"server": {"ansible_host": "127.0.0.1"}}}},
        }}))
        (folder / "ours.json").write_text(json.dumps({"k3s_kubeconfig": str(target.kubeconfig), "cht_project_wait": False, "cht_projects": entries}))
        (folder / "theirs.yml").write_text(yaml.safe_dump([{
            "hosts": "localhost", "gather_facts": False, "tasks": [{
                "name": "One county", "kubernetes.core.k8s": {
                    "kubeconfig": "{{ kubeconfig }}", "state": "present", "apply": True, "server_side_apply": {"field_manager": "bench"},
                    "resource_definition": "{{ item }}",
                },
                "loop": "{{ bench_groups }}", "loop_control": {"label": ""},
            }],
        }]))
        (folder / "theirs.json").write_text(json.dumps({"bench_groups": self.groups, "kubeconfig": str(target.kubeconfig)}))
        # One release of one chart: its objects as they are, without a template in them.
        chart = folder / "chart"
        (chart / "templates").mkdir(parents=True, exist_ok=True)
        (chart / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "bench", "version": "1.0.0"}))
        (chart / "objects.yml").write_text("---\n".join(json.dumps(item) + "\n" for item in ordered))
        (chart / "templates" / "objects.yml").write_text('{{ .Files.Get "objects.yml" }}\n')
        self.environment = {
            **os.environ, "ANSIBLE_COLLECTIONS_PATH": f"{COLLECTIONS}:{os.environ.get('ANSIBLE_COLLECTIONS_PATH', '')}", "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(folder / "home"),
        }
        self.all: dict[str, Callable[[], None]] = {
            "ours": self.ours, "kubectl": self.kubectl, "kubernetes.core": self.kubernetes_core, "helm": self.helm,
            "floor": self.floor,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def _run(self, command: list[str]) -> None:
        with open(self.folder / "output.log", "wb") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.folder)
            code = self.process.wait()
            self.process = None
        if code:
            raise SystemExit(f"{' '.join(command)}: exit {code}\n{(self.folder / 'output.log').read_text()[-3000:]}")

    def _playbook(self, *arguments: str) -> None:
        self._run([str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.folder / "inventory.yml"), *arguments])

    def ours(self) -> None:
        """playbooks/projects.yml."""
        self._playbook("-e", f"@{self.folder / 'ours.json'}", "cht.k3s.projects")

    def kubectl(self) -> None:
        """kubectl apply --server-side of one file."""
        self._run([
            str(tool("kubectl")), "--kubeconfig", str(self.target.kubeconfig), "apply", "--server-side", "--force-conflicts",
            "-f", str(self.folder / "all.yml"),
        ])

    def kubernetes_core(self) -> None:
        """kubernetes.core.k8s with a list for each county."""
        self._playbook("-e", f"@{self.folder / 'theirs.json'}", str(self.folder / "theirs.yml"))

    def helm(self) -> None:
        """helm upgrade --install of one chart with all objects."""
        self._run([
            str(ensure("helm") / "helm"), "upgrade", "--install", "bench", str(self.folder / "chart"), "--kubeconfig", str(self.target.kubeconfig),
            "--namespace", "default",
        ])

    def floor(self) -> None:
        """The bare requests over eight kept connections, namespaces first."""
        client = Client.from_kubeconfig(str(self.target.kubeconfig))

        def send(item: dict[str, Any]) -> None:
            place = WELL_KNOWN[item["apiVersion"], item["kind"]]
            client.apply(place.path(item["metadata"]["name"], item["metadata"].get("namespace")), item, "bench-floor", force=True)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, [item for item in self.ordered if item["kind"] == "Namespace"]))
            list(pool.map(send, [item for item in self.ordered if item["kind"] != "Namespace"]))
        client.close()


def family(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield pid
    try:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from family(int(child))
    except OSError:
        return


def pss(pid: int) -> int:
    """KiB that a process and its descendants take, shared pages counted once."""
    total = 0
    for member in family(pid):
        try:
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total


def peak(contenders: Contenders, action: Callable[[], None]) -> int:
    """MiB at the highest while a contender runs."""
    highest, end = 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not end.wait(SAMPLE):
            process = contenders.process
            if process is not None:
                highest = max(highest, pss(process.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        action()
    finally:
        end.set()
        thread.join()
    return highest // 1024


def settle(limit: float = 60) -> None:
    """Wait until controllers have done what the last change gave them to do: half of the processors idle for two seconds."""

    def idle() -> tuple[int, int]:
        numbers = [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return numbers[3], sum(numbers)

    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = idle()
        time.sleep(2)
        after = idle()
        if (after[0] - before[0]) * 2 > after[1] - before[1]:
            return


def timed(action: Callable[[], None]) -> float:
    """Seconds that an action takes."""
    settle()
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


def measure(target: Target, count: int, repeat: int, names: list[str], folder: Path) -> dict[str, tuple[float, float, int]]:
    """First, again and memory of each contender: medians."""
    contenders = Contenders(target, counties(count), folder)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(repeat):
        for name in names[turn % len(names):] + names[: turn % len(names)]:
            target.empty()
            times[name].append((timed(contenders.all[name]), timed(contenders.all[name])))
            print(f"  round {turn + 1}, {name}: {times[name][-1][0]:.1f} s, again {times[name][-1][1]:.1f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    found = {}
    for name in names:
        memory = 0
        if name != "floor":
            target.empty()
            memory = peak(contenders, contenders.all[name])
        found[name] = (statistics.median(pair[0] for pair in times[name]), statistics.median(pair[1] for pair in times[name]), memory)
    target.empty()
    return found


def show(found: dict[str, tuple[float, float, int]], count: int, where: str, repeat: int) -> None:
    """The table."""
    total = sum(len(group) for group in objects(counties(count)))
    print(f"\n{count} counties, {total} objects, {where}; median of {repeat}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':17}{'first':>9}{'again':>9}{'x kubectl':>15}{'peak Pss':>11}")
    base = found.get("kubectl")
    for name, (first, again, memory) in found.items():
        ratio = f"{first / base[0]:.2f} / {again / base[1]:.2f}" if base else ""
        print(f"{name:17}{first:7.1f} s{again:7.1f} s{ratio:>15}{f'{memory} MiB' if memory else '-':>11}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counties", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", default="ours,kubectl,kubernetes.core,helm,floor", help="contenders")
    parser.add_argument("--scale", action="store_true", help="also four times as many counties, ours only, once")
    parser.add_argument("--kubeconfig", type=Path, help="a cluster instead of an API server of our own")
    args = parser.parse_args()
    names = args.only.split(",")

    def run(kubeconfig: Path, where: str) -> None:
        with tempfile.TemporaryDirectory(prefix="cht-bench-") as name:
            target = Target(kubeconfig)
            found = measure(target, args.counties, args.repeat, names, Path(name))
            show(found, args.counties, where, args.repeat)
            if args.scale:
                more = measure(target, 4 * args.counties, 1, ["ours"], Path(name))
                show(more, 4 * args.counties, where, 1)
                print(f"four times the counties: {more['ours'][0] / found['ours'][0]:.1f} x the time")

    if args.kubeconfig:
        run(args.kubeconfig, "the given cluster")
        return
    if "helm" in names:
        ensure("helm")
    with ApiServer() as server:
        run(server.kubeconfig, "one API server and etcd on this machine, no controllers (not the lab)")


if __name__ == "__main__":
    main()
