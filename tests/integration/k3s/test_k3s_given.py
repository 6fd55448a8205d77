"""LAB_K3S=FILE and LAB_K3S_OLD=FILE are all that a lab with another k3s needs: here the stand-in as two files of other names."""
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import ROOT, Lab, own_lab, plain, tools

NODES = ("control-plane-1", "agent-1", "agent-2")
BUILD = ROOT / "tests" / "lab" / "k3s" / "build.py"
# Not the one that the lab has otherwise; the kubelet says it too. Of the other only its file is asked for.
GIVEN, OLDER = tools.K3S_OLD_VERSION, "v1.33.7+k3s3"
PARTS = ("--tags", "node,control_plane,agent", "-e", "k3s_cloud_provider=none")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By the variable that names it."""
    folder = tmp_path_factory.mktemp("given")
    found = {"LAB_K3S": folder / "a-k3s-of-mine", "LAB_K3S_OLD": folder / "an-older-one"}
    for file, version in zip(found.values(), (GIVEN, OLDER), strict=True):
        command = [sys.executable, "-B", str(BUILD), "--version", version, "--kubernetes", plain(GIVEN), "--output", str(file)]
        subprocess.run(command, check=True)
    return found


@pytest.fixture(scope="module")
def lab(files: dict[str, Path]) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        for name, file in files.items():
            patch.setenv(name, str(file))
        with own_lab("given", Path(__file__).parent / "life.yml", "--tool", f"kubernetes-{plain(GIVEN)}") as made:
            yield made


def test_the_lab_installs_the_given_file_and_goes_on_without_the_variable(lab: Lab, files: dict[str, Path]) -> None:
    os.environ.pop("LAB_K3S")
    os.environ.pop("LAB_K3S_OLD")
    lab.playbook(*PARTS, name="given-built").expect()
    wanted = hashlib.sha256(files["LAB_K3S"].read_bytes()).hexdigest()
    for node in NODES:
        assert lab("ssh", node, "sha256sum /usr/local/bin/k3s").split()[0] == wanted
        assert lab("ssh", node, "k3s --version").startswith(f"k3s version {GIVEN} (")
    assert lab.playbook(*PARTS, name="given-again").expect().changed == []
    older = lab("exec", "--", "curl", "-sf", f"http://198.18.0.2:8080/k3s/{OLDER.replace('+', '%2B')}/sha256sum-amd64.txt")
    assert older.split()[0] == hashlib.sha256(files["LAB_K3S_OLD"].read_bytes()).hexdigest()


def test_the_supervisor_is_asked_where_every_k3s_has_it(lab: Lab) -> None:
    """The token is changed through port 6443, with no variable that says so."""
    lab.playbook("--tags", "token", "-e", "k3s_new_token=a-word-for-the-given-one", playbook="playbooks/rotate.yml", name="given-token").expect()
    assert lab("ssh", "control-plane-1", "sudo cat /var/lib/rancher/k3s/server/token").strip().endswith("::server:a-word-for-the-given-one")
