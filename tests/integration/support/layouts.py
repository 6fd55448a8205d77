"""The three ways in which the playbooks are started: checkout, installed collection, AWX project through ansible-runner."""
from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

from support.lab import ROOT, Lab, Run

CREDENTIALS = ("VMWARE_HOST", "VMWARE_PORT", "VMWARE_USER", "VMWARE_PASSWORD", "VMWARE_VALIDATE_CERTS", "VMWARE_CA_PATH",
               "LAB_SSH_KEY", "LAB_KNOWN_HOSTS")


def lab_environment(lab: Lab) -> dict[str, str]:
    """What AWX' credentials would put into a job's environment."""
    shown = dict(word.split("=", 1) for word in shlex.split(lab("env")) if "=" in word)
    return {name: shown[name] for name in CREDENTIALS}


def export(target: Path) -> Path:
    """The files that git knows, without history, as a project sync leaves them."""
    target.mkdir(parents=True)
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def install_collection(project: Path, target: Path) -> Path:
    """Build the collection and install it below target, as `ansible-galaxy collection install` does."""
    built = project.parent / "built"
    subprocess.run(["ansible-galaxy", "collection", "build", "--output-path", str(built), str(project)], check=True, capture_output=True)
    archive = next(built.glob("cht-k3s-*.tar.gz"))
    folder = target / "ansible_collections" / "cht" / "k3s"
    folder.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return target


class Layout:
    """A way to start playbooks. name: how tests call it."""

    name = "checkout"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.environment = lab_environment(lab)

    def home(self) -> dict[str, str]:
        """A fresh home directory: nothing may be left from an earlier run."""
        home = self.folder / f"home-{len(list(self.folder.glob('home-*')))}"
        home.mkdir(parents=True)
        return {"HOME": str(home), "ANSIBLE_HOME": str(home / ".ansible")}

    def playbook(self, name: str, *argv: str, env: dict[str, str] | None = None) -> Run:
        return self.lab.playbook(*argv, name=name, env={**self.home(), **(env or {})})


class Installed(Layout):
    """`ansible-playbook cht.k3s.site` from any folder, without the checkout's ansible.cfg."""

    name = "installed"

    def __init__(self, lab: Lab, folder: Path) -> None:
        super().__init__(lab, folder)
        self.project = export(folder / "src")
        self.collections = install_collection(self.project, folder / "collections")
        self.work = folder / "work"
        shutil.copytree(self.project / "inventories", self.work / "inventories")

    def playbook(self, name: str, *argv: str, env: dict[str, str] | None = None) -> Run:
        return self.lab.playbook(*argv, playbook="cht.k3s.site", name=name, cwd=self.work,
                                 env={**self.home(), "ANSIBLE_COLLECTIONS_PATH": str(self.collections), **(env or {})})


class Awx(Layout):
    """ansible-runner with a private data directory as AWX makes it; the inventory is what its inventory source stored."""

    name = "awx"

    def __init__(self, lab: Lab, folder: Path) -> None:
        super().__init__(lab, folder)
        self.data = folder / "data"
        self.project = export(self.data / "project")
        self.collections = install_collection(self.project, self.data / "requirements_collections")
        (self.data / "env").mkdir()

    def update_inventory(self, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """What AWX does to update an inventory source from a project."""
        done = subprocess.run(
            [*self._inside({**(env or {})}), "ansible-inventory", "-i", "inventories/lab/vsphere.yml", "--list", "--export"],
            cwd=self.project, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            script = self.data / "inventory" / "hosts"
            script.parent.mkdir(exist_ok=True)
            (self.data / "inventory.json").write_text(done.stdout)
            script.write_text(f"#!/bin/sh\nexec cat {self.data / 'inventory.json'}\n")
            script.chmod(0o755)
        return done

    def _inside(self, env: dict[str, str]) -> list[str]:
        from support.lab import LAB

        variables = {**self.home(), "ANSIBLE_COLLECTIONS_PATH": str(self.collections), **env}
        return [LAB, "exec", "--", "env", *[f"{k}={v}" for k, v in variables.items()]]

    def playbook(self, name: str, *argv: str, env: dict[str, str] | None = None) -> Run:
        """Run site.yml as a job; the events come from ansible-runner's own artifacts."""
        ident = f"{name}-{os.getpid()}"
        (self.data / "env" / "envvars").write_text(json.dumps({
            **self.environment, **self.home(), "ANSIBLE_COLLECTIONS_PATH": str(self.collections), **(env or {})}))
        (self.data / "env" / "cmdline").write_text(" ".join(argv))
        done = subprocess.run([*self._inside({}), "ansible-runner", "run", str(self.data), "-p", "playbooks/site.yml", "--ident", ident],
                              capture_output=True, text=True, check=False, cwd=self.folder)
        events = [_event(json.loads(p.read_text())) for p in sorted((self.data / "artifacts" / ident / "job_events").glob("*.json"))]
        stats = [e for e in events if e.get("event") == "stats_all"]
        flat = [e for e in events if e.get("event") == "task"]
        for whole in stats:
            hosts = {h for kind in whole["data"].values() if isinstance(kind, dict) for h in kind}
            flat += [{"event": "stats", "host": h, **{k: v.get(h, 0) for k, v in whole["data"].items() if isinstance(v, dict)}} for h in hosts]
        return Run(done.returncode, done.stdout + done.stderr, flat)


def _event(event: dict[str, object]) -> dict[str, object]:
    """An event of ansible-runner in the form of support/callback/record.py."""
    data: dict[str, object] = event.get("event_data") or {}  # type: ignore[assignment]
    kind = str(event.get("event", ""))
    if kind == "playbook_on_stats":
        return {"event": "stats_all", "data": data}
    status = {"runner_on_ok": "ok", "runner_on_failed": "failed", "runner_on_skipped": "skipped", "runner_on_unreachable": "unreachable"}.get(kind)
    if not status:
        return {}
    result: dict[str, object] = data.get("res") or {}  # type: ignore[assignment]
    return {"event": "task", "status": status, "host": data.get("host", ""), "task": data.get("task", ""), "action": data.get("task_action", ""),
            "role": data.get("role", ""), "changed": bool(result.get("changed")), "result": result}
