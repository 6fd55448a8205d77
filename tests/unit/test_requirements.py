"""What the collection asks for is what it uses."""
from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Package -> what Python calls it, where that is another name.
NAMES = {"pyvmomi": "pyVmomi", "ansible-core": "ansible"}
# Asked for by name when somebody wants what it does: test_what_is_optional_is_listed_with_its_reason.
OPTIONAL = {"awx.awx", "community.general"}
# They come with ansible-core.
WITH_ANSIBLE = {"yaml", "jinja2"}
IMPORT = re.compile(r"^\s*(?:from|import) ([A-Za-z_0-9]+)", re.MULTILINE)


def plugins() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "plugins").rglob("*.py")))


def tasks() -> str:
    places = [*(ROOT / "roles").glob("*/tasks/**/*.yml"), *(ROOT / "playbooks").glob("**/*.yml")]
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(places))


def packages() -> set[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {re.split(r"[<>=~ ]", line)[0] for line in lines if line and not line.startswith("#")}


def collections() -> dict[str, str]:
    document = yaml.safe_load((ROOT / "collections" / "requirements.yml").read_text(encoding="utf-8"))
    return {entry["name"]: entry["version"] for entry in document["collections"] if "name" in entry}


def test_every_package_is_imported_and_every_import_is_asked_for() -> None:
    imported = set(IMPORT.findall(plugins()))
    known = {NAMES.get(name, name) for name in packages()}
    assert known - imported == set()
    third = imported - set(sys.stdlib_module_names) - {"ansible_collections", "the"} - WITH_ANSIBLE
    assert {name for name in third if name.islower() or name == "pyVmomi"} <= known


def test_every_collection_has_a_task() -> None:
    used = set(re.findall(r"^\s*(?:- )?([a-z_]+\.[a-z_]+)\.[a-z_0-9]+:", tasks(), re.MULTILINE)) - {"ansible.builtin", "cht.k3s"}
    assert used == set(collections()) | OPTIONAL and not OPTIONAL & set(collections())


def test_galaxy_asks_for_the_same_collections() -> None:
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["dependencies"] == collections()


def test_what_is_optional_is_listed_with_its_reason() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.search(r"^# Only for .*S3.*\n# boto3", text, re.MULTILINE)
    text = (ROOT / "collections" / "requirements.yml").read_text(encoding="utf-8")
    assert all(re.search(rf"^  # Only for playbooks/\w+\.yml.*\n  # - name: {re.escape(name)}\n  #   version: \S+$", text, re.MULTILINE) for name in OPTIONAL)
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in [*packages() - {"ansible-core"}, *collections(), *OPTIONAL, "boto3"])
