"""A machine whose clock is wrong, as libfaketime shows it to the Python that Ansible starts there."""
from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from support.lab import Lab, Run

NODE = "agent-1"
FOLDER = "/opt/fake-clock"
# The package carries the library ready built, for any glibc.
LIBRARY = Path(str(importlib.util.find_spec("libfaketime").origin)).parent / "vendor/libfaketime/src/libfaketime.so.1"


def ad_hoc(lab: Lab, module: str, arguments: str) -> None:
    """One task on the machine."""
    process = lab.start("ansible", "-i", "inventories/lab", NODE, "--become", "-m", f"ansible.builtin.{module}", "-a", arguments)
    output, _errors = process.communicate(timeout=120)
    assert process.returncode == 0, output


@pytest.fixture
def preflight(lab: Lab, tmp_path: Path) -> Iterator[Callable[[str], Run]]:
    """Run the preflight while the machine's Python sees a clock that is off by so much."""
    wrapper = tmp_path / "python3"

    def run(offset: str) -> Run:
        wrapper.write_text(
            f"#!/bin/sh\nLD_PRELOAD={FOLDER}/libfaketime.so.1 FAKETIME={offset} DONT_FAKE_MONOTONIC=1 exec /usr/bin/python3 \"$@\"\n"
        )
        ad_hoc(lab, "file", f"path={FOLDER} state=directory mode=0755")
        ad_hoc(lab, "copy", f"src={LIBRARY} dest={FOLDER}/ mode=0644")
        ad_hoc(lab, "copy", f"src={wrapper} dest={FOLDER}/python3 mode=0755")
        extra = tmp_path / "clock.yml"
        extra.write_text(yaml.safe_dump({"agent": {"hosts": {NODE: {"ansible_python_interpreter": f"{FOLDER}/python3"}}}}))
        return lab.playbook("-i", str(extra), playbook="playbooks/preflight.yml", name=f"clock{offset}")

    yield run
    ad_hoc(lab, "file", f"path={FOLDER} state=absent")


def clocks(run: Run) -> list[tuple[str, str]]:
    """The objects and messages of all findings about clocks."""
    (result,) = run.results("vsphere_preflight")
    return [(finding["object"], finding["message"]) for finding in result["findings"] if finding["id"] == "host-clock"]


@pytest.mark.parametrize(("offset", "side"), [("-120s", "behind"), ("+45s", "ahead of")])
def test_a_wrong_clock_is_named_with_its_offset(preflight: Callable[[str], Run], offset: str, side: str) -> None:
    run = preflight(offset).expect(1)
    ((name, message),) = clocks(run)
    assert name == NODE and side in message
    seconds = abs(float(offset[:-1]))
    shown = float(message.partition("at least ")[2].partition(" s")[0])
    assert seconds - 15 < shown <= seconds
    assert message in " ".join(run.output.split()) and "Synchronise the clock" in " ".join(run.output.split())
    assert run.changed == []


def test_a_small_offset_is_none(preflight: Callable[[str], Run]) -> None:
    assert clocks(preflight("+1s")) == []
