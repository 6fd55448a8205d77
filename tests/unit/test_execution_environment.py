# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The execution environment: everything in it is pinned, and ansible-builder makes a Containerfile of it. No image is built here."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
HASHED = ROOT / "meta" / "ee-requirements.txt"
DEFINITION: dict[str, Any] = yaml.safe_load((ROOT / "execution-environment.yml").read_text(encoding="utf-8"))


def pinned() -> dict[str, tuple[str, int]]:
    """Package -> version, number of hashes."""
    entries = re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", HASHED.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: (version, hashes.count("--hash")) for name, version, hashes in entries}


def asked(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_package_has_its_version_and_its_hashes() -> None:
    lines = [line for line in HASHED.read_text(encoding="utf-8").splitlines() if line and not line.lstrip().startswith(("#", "--hash"))]
    assert len(lines) == len(pinned()) > 30 and all(count for dummy, count in pinned().values())
    assert re.fullmatch(r"\S+:\d+\.\d+", DEFINITION["images"]["base_image"]["name"])


def test_the_packages_are_those_that_the_collection_asks_for() -> None:
    found = pinned()
    for requirement in asked("requirements.txt"):
        assert requirement.specifier.contains(found[requirement.name][0]), requirement
    # For copies in S3, which are optional elsewhere: nobody adds a package to an image.
    assert "boto3" in found
    for part in ("ansible_core", "ansible_runner"):
        name, _sep, version = DEFINITION["dependencies"][part]["package_pip"].partition("==")
        assert found[name][0] == version


def test_the_collections_are_those_that_the_project_asks_for() -> None:
    wanted = {entry["name"]: entry["version"] for entry in yaml.safe_load((ROOT / "collections" / "requirements.yml").read_text())["collections"]
              if "name" in entry}
    given = {entry["name"]: entry["version"] for entry in DEFINITION["dependencies"]["galaxy"]["collections"]}
    assert set(given) == set(wanted) == set(DEFINITION["dependencies"]["exclude"]["all_from_collections"])
    assert all(Requirement(f"x{wanted[name]}").specifier.contains(given[name]) for name in wanted)


def test_the_python_is_one_that_ansible_runs_on() -> None:
    """The base's own is 3.9."""
    version = re.fullmatch(r"python3\.(\d+)", DEFINITION["dependencies"]["python_interpreter"]["package_system"])
    assert version and int(version[1]) >= 11
    assert f"3.{version[1]}" in HASHED.read_text(encoding="utf-8").partition("\n\n")[0][:400]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-builder"), "create", "-f", str(ROOT / "execution-environment.yml"), "-c", str(folder),
                           "--output-filename", "Containerfile"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_ansible_builder_makes_a_containerfile(context: Path) -> None:
    steps = (context / "Containerfile").read_text(encoding="utf-8").splitlines()
    hashed = next(number for number, step in enumerate(steps) if "--require-hashes" in step)
    # What the builder installs by itself is there by then.
    assert hashed < next(number for number, step in enumerate(steps) if "$ANSIBLE_INSTALL_REFS" in step and step.startswith("RUN"))
    assert (context / "_build" / "configs" / "ee-requirements.txt").read_bytes() == HASHED.read_bytes()
    assert yaml.safe_load((context / "_build" / "requirements.yml").read_text()) == DEFINITION["dependencies"]["galaxy"]


def test_navigator_hands_on_the_account_of_vcenter_and_keeps_no_output() -> None:
    settings = yaml.safe_load((ROOT / "ansible-navigator.yml").read_text(encoding="utf-8"))["ansible-navigator"]
    assert {"VMWARE_HOST", "VMWARE_USER", "VMWARE_PASSWORD", "VMWARE_CA_PATH"} <= set(settings["execution-environment"]["environment-variables"]["pass"])
    assert settings["playbook-artifact"]["enable"] is False
