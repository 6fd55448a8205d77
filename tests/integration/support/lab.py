"""Drive the lab and Ansible as a user would, and read what came of it."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "lab"))

from cht_lab import tools  # noqa: E402

OUTPUT = ROOT / "tests" / "output"
LAB = str(ROOT / "tests" / "lab" / "lab")
CALLBACKS = Path(__file__).resolve().parent / "callback"
SERVERS = [f"control-plane-{i}" for i in (1, 2, 3)]
AGENTS = [f"agent-{i}" for i in range(1, 10)]
NODES = SERVERS + AGENTS
GOVC = (
    'GOVC_URL="https://$VMWARE_HOST/sdk" GOVC_USERNAME="$VMWARE_USER" GOVC_PASSWORD="$VMWARE_PASSWORD" GOVC_TLS_CA_CERTS="$VMWARE_CA_PATH" exec "$@"'
)


def plain(release: str) -> str:
    """The Kubernetes version of a release of k3s."""
    return release.removeprefix("v").partition("+")[0]


@dataclass
class Run:
    """A finished ansible-playbook: its exit code, its output and its recorded events."""

    code: int
    output: str
    events: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "task"]

    @property
    def stats(self) -> dict[str, dict[str, Any]]:
        return {event["host"]: event for event in self.events if event["event"] == "stats"}

    @property
    def changed(self) -> list[str]:
        """`host: task` of everything that changed something."""
        return [f"{t['host']}: {t['task']}" for t in self.tasks if t["changed"]]

    def results(self, action: str) -> list[dict[str, Any]]:
        """The results of all tasks of one module."""
        return [t["result"] | {"_host": t["host"]} for t in self.tasks if t["action"].endswith(action) and t["status"] != "skipped"]

    def roles(self) -> set[str]:
        """The roles of which any task ran (not skipped); the validation of arguments always runs, and is not counted."""
        return {t["role"].rpartition(".")[2] for t in self.tasks
                if t["status"] != "skipped" and t["role"] and not t["action"].endswith("validate_argument_spec")}

    def expect(self, code: int = 0) -> Run:
        """Fail with the end of the output unless the exit code is as expected (any failure for 1)."""
        good = self.code == 0 if code == 0 else self.code != 0
        assert good, f"exit code {self.code}\n{self.output[-6000:]}"
        return self


class Lab:
    """The lab's command, and playbooks run inside its network."""

    def __call__(self, *argv: str, check: bool = True, timeout: float = 600) -> str:
        """Run a verb of tests/lab/lab and return what it printed."""
        done = subprocess.run([LAB, *argv], capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"lab {' '.join(argv)}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def kubectl(self, *argv: str) -> Any:
        """kubectl with -o json, parsed."""
        return json.loads(self("kubectl", *argv, "-o", "json"))

    def govc(self, *argv: str) -> str:
        """What govc prints about the lab's vCenter."""
        return self("exec", "--", "sh", "-c", GOVC, "govc", str(tools.program("govc")), *argv)

    def renew(self) -> None:
        """Empty machines and a new vCenter, as after the VMs were delivered."""
        self("down")
        self("up", timeout=1200)

    def vms(self) -> dict[str, dict[str, Any]]:
        """The VMs of the lab's description, by name."""
        described = yaml.safe_load((ROOT / "tests" / "lab" / "lab.yml").read_text(encoding="utf-8"))
        return {vm["name"]: vm for vm in described["vms"]}

    def ansible_logins(self) -> dict[str, int]:
        """Logins of pyvmomi at vCenter since `reset_logins`: ok, failed, and sessions still open. The CPI is another client."""
        agents = json.loads(self("vcenter", "logins"))["by_agent"]
        own = [counts for name, counts in agents.items() if "pyvmomi" in name]
        ok, failed, closed = (sum(counts.get(key, 0) for counts in own) for key in ("logins", "failed", "logouts"))
        return {"ok": ok, "failed": failed, "open": ok - closed}

    def reset_logins(self) -> None:
        self("vcenter", "reset")

    def start(self, *argv: str, env: dict[str, str] | None = None, cwd: Path = ROOT, record: Path | None = None) -> subprocess.Popen[str]:
        """Start a command in the lab's network, in a process group of its own."""
        extra = {"ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS), "ANSIBLE_CALLBACKS_ENABLED": "record", "ANSIBLE_NOCOLOR": "1"}
        if record:
            extra["RECORD_FILE"] = str(record)
        return subprocess.Popen([LAB, "exec", "--", "env", *[f"{k}={v}" for k, v in {**extra, **(env or {})}.items()], *argv],
                                cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                                # A runner in the background ignores Ctrl-C, and its children would too.
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def playbook(self, *argv: str, playbook: str = "playbooks/site.yml", inventory: str = "inventories/lab", name: str = "run",
                 env: dict[str, str] | None = None, cwd: Path = ROOT, timeout: float = 1500, interrupt_after: str | None = None,
                 nth: int = 1, pause: float = 2) -> Run:
        """Run ansible-playbook in the lab's network.

        interrupt_after: press Ctrl-C `pause` seconds after the nth line with this text was printed.
        """
        OUTPUT.mkdir(parents=True, exist_ok=True)
        record = OUTPUT / f"{name}.jsonl"
        record.unlink(missing_ok=True)
        begin = time.monotonic()
        process = self.start("ansible-playbook", "-i", inventory, playbook, *argv, env=env, cwd=cwd, record=record)
        lines: list[str] = []
        seen = 0
        try:
            with open(OUTPUT / f"{name}.log", "w", encoding="utf-8") as log:
                assert process.stdout
                for line in process.stdout:
                    lines.append(line)
                    log.write(line)
                    log.flush()
                    seen += bool(interrupt_after and interrupt_after in line)
                    if seen == nth:
                        seen += 1
                        time.sleep(pause)
                        os.killpg(process.pid, signal.SIGINT)
                    if time.monotonic() - begin > timeout:
                        raise AssertionError(f"{name} took more than {timeout} s\n{''.join(lines)[-4000:]}")
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
        code = process.wait()
        events = [json.loads(text) for text in record.read_text().splitlines()] if record.exists() else []
        return Run(code, "".join(lines), events, time.monotonic() - begin)

    def pids(self) -> dict[str, str]:
        """Main process of the k3s service of every node: a restart changes it."""
        unit = {**{n: "k3s" for n in SERVERS}, **{n: "k3s-agent" for n in AGENTS}}
        return {node: self("ssh", node, f"systemctl show -p MainPID,NRestarts {unit[node]}").strip() for node in NODES}


@contextmanager
def own_lab(name: str, description: Path, *up: str, keep: bool = False) -> Iterator[Lab]:
    """A lab beside the others, with nothing on its machines; SSH's shared connections are kept apart as well.

    keep: use the one that runs, or start what is missing of it, and leave it running.
    """
    before = {key: os.environ.get(key) for key in ("LAB_NAME", "ANSIBLE_SSH_CONTROL_PATH_DIR")}
    os.environ.update(LAB_NAME=name, ANSIBLE_SSH_CONTROL_PATH_DIR=f"/tmp/cht-k3s-{name}-ssh")
    lab = Lab()
    try:
        if not keep:
            lab("down", timeout=300)
        lab("up", "--description", str(description), *up, timeout=2400)
        yield lab
    finally:
        if not keep:
            lab("down", timeout=300)
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
