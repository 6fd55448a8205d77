"""Processes are known by more than their id; tools are complete or not there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from cht_lab import cli, mirror, paths, process, tools
from cht_lab import description as descriptions
from cht_lab.shell import LabError


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUN", "LOGS", "TOOLS", "CACHE"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setattr(paths, name, folder)


def test_a_process_is_started_and_ended() -> None:
    pid = process.start("sleeper", ["sleep", "300"])
    assert process.running("sleeper") == pid
    assert process.stop("sleeper")
    assert process.start_time(pid) is None
    assert not process.stop("sleeper")


def test_a_reused_id_is_not_ours() -> None:
    process.pid_file("other").write_text(json.dumps({"pid": os.getpid(), "start": 1, "argv": []}), encoding="utf-8")
    assert process.running("other") is None
    assert not process.stop("other"), "it would have ended this very test"


@pytest.mark.parametrize("late", [0.0, 0.3], ids=["seen alive", "dead before it was noted"])
def test_a_process_that_dies_at_its_start_is_reported(late: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def after_a_while(pid: int) -> int | None:
        time.sleep(late)
        return start_time(pid)

    start_time = process.start_time
    with monkeypatch.context() as patch:
        patch.setattr(process, "start_time", after_a_while)
        process.start("dead", ["false"])
    with pytest.raises(LabError, match="dead ended at its start"):
        process.listening("dead", ("127.0.0.1", 1), 5)


def test_an_interrupted_build_is_not_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tools.TOOLS["govmomi"]

    def broken(_tool: tools.Tool, work: Path) -> None:
        (work / "vcsim").write_text("half", encoding="ascii")
        raise KeyboardInterrupt

    monkeypatch.setattr(tools, "_build", broken)
    with pytest.raises(KeyboardInterrupt):
        tools.ensure("govmomi")
    assert not tool.folder.exists()

    def whole(_tool: tools.Tool, work: Path) -> None:
        for name in tool.programs:
            (work / name).write_text("#!/bin/sh\n", encoding="ascii")
            (work / name).chmod(0o755)

    monkeypatch.setattr(tools, "_build", whole)
    assert tools.program("govc") == tool.folder / "govc"
    monkeypatch.setattr(tools, "_build", broken)
    assert tools.ensure("govmomi") == tool.folder, "what is in the cache is not built again"


def test_a_program_on_path_must_be_the_pinned_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tmp_path / "bin" / "coredns"
    found.parent.mkdir()
    monkeypatch.setenv("PATH", f"{found.parent}:{os.environ['PATH']}")
    work = tmp_path / "work"
    work.mkdir()
    for version, expected in (("CoreDNS-1.11.0", False), ("CoreDNS-1.14.3", True)):
        found.write_text(f"#!/bin/sh\necho {version}\n", encoding="ascii")
        found.chmod(0o755)
        assert tools._from_path(tools.TOOLS["coredns"], work) is expected


def test_a_wrong_checksum_stops(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"evil")
    tool = tools.Tool("x", "1", ("x",), downloads=(("x", tools.Download(source.as_uri(), "0" * 64)),))
    with pytest.raises(LabError, match="pinned"):
        tools._downloaded(tool, tmp_path)
    assert not (tmp_path / "x").exists()


def test_all_that_comes_from_the_internet_is_there_before_the_labs_network_is_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cached build hides it: on a new machine the lab's network has no way out."""
    order: list[str] = []

    class Entered(Exception):
        pass

    def enter() -> None:
        raise Entered

    for module, name in ((cli.image, "ensure"), (cli.tools, "ensure"), (mirror, "fetch")):
        monkeypatch.setattr(module, name, lambda *_args, kept=f"{module.__name__}.{name}": order.append(kept))
    for module, name in ((cli.node, "leftovers"), (cli.node, "keys"), (cli.node, "host_limits"), (cli.network, "up"), (cli, "_keep_description")):
        monkeypatch.setattr(module, name, lambda *_args: None)
    for name in ("STATE", "HOSTS_FILE", "RESOLV_FILE"):
        monkeypatch.setattr(paths, name, paths.RUN / name.lower())
    paths.STATE.mkdir()
    monkeypatch.setattr(paths, "ensure", lambda: None)
    monkeypatch.setattr(cli.network, "enter", enter)
    description = paths.LAB_DIR / "lab.yml"
    monkeypatch.setattr(cli, "current", lambda: descriptions.load(description))
    with pytest.raises(Entered):
        cli.main(["up", "--description", str(description)])
    assert order[0] == "cht_lab.image.ensure" and order[-1] == "cht_lab.mirror.fetch"
    assert order.count("cht_lab.tools.ensure") == len(tools.NEEDED)
