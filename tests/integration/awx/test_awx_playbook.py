"""playbooks/awx.yml against a server that answers as AWX: from nothing, again, after secrets were entered, and when something goes."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

import awx_api  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "inventories" / "awx.yml"


@pytest.fixture(scope="module")
def awx() -> awx_api.Awx:
    return awx_api.Awx([f"playbooks/{path.name}" for path in (ROOT / "playbooks").glob("*.yml")])


@pytest.fixture(scope="module")
def address(awx: awx_api.Awx) -> Iterator[str]:
    yield from awx_api.serve(awx)


class Run:
    """A run of the playbook: what was said and how much was changed."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.text = done.stdout + done.stderr
        self.said = " ".join(self.text.split())

    @property
    def changed(self) -> int:
        found = re.search(r"localhost\s*:.*changed=(\d+)", self.text)
        assert found, self.text
        return int(found.group(1))


def run(address: str, home: Path, *argv: str, data: Path = DATA, **env: str) -> Run:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CONTROLLER_", "TOWER_"))}
    environment |= {"CONTROLLER_HOST": address, "CONTROLLER_OAUTH_TOKEN": awx_api.TOKEN, "HOME": str(home), "ANSIBLE_NOCOLOR": "1",
                    "ANSIBLE_LOCALHOST_WARNING": "false", **env}
    return Run(subprocess.run(["ansible-playbook", "playbooks/awx.yml", "-i", "localhost,", "-e", f"@{data}", *argv], cwd=ROOT, capture_output=True, text=True,
                              env=environment, check=False))


@pytest.fixture
def changed(tmp_path: Path) -> Any:
    def write(**values: Any) -> Path:
        path = tmp_path / "awx.yml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(DATA.read_text()), **values}))
        return path
    return write


def test_check_mode_on_an_awx_that_has_nothing(awx: awx_api.Awx, address: str, tmp_path: Path) -> None:
    done = run(address, tmp_path, "--check", "--diff")
    assert done.code == 0 and "job_templates/site.yml" in done.said and done.changed > 0, done.text
    assert awx.written() == [] and awx.refusals == []


def test_all_is_made(awx: awx_api.Awx, address: str, tmp_path: Path) -> None:
    done = run(address, tmp_path)
    assert done.code == 0, done.text + "\n".join(awx.refusals)
    assert awx.refusals == []
    data = yaml.safe_load(DATA.read_text())
    assert awx.names("schedules") == sorted(entry["name"] for entry in data["awx_schedules"])
    assert awx.names("workflow_job_template_nodes") == ["approval", "cluster", "counties", "preflight", "report", "storage"]
    assert awx.listed("workflow_job_template_nodes", "preflight", "success_nodes") == ["approval"]
    assert awx.listed("workflow_job_template_nodes", "counties", "always_nodes") == ["report"]
    approval = awx.things["workflow_approval_templates"][awx.get("workflow_job_template_nodes", "approval")["unified_job_template"]]
    assert approval["timeout"] == 86400
    assert awx.get("workflow_job_template_nodes", "storage")["job_tags"] == "csi,storageclass"
    assert awx.listed("job_templates", "upgrade.yml", "labels") == ["changes"]
    # The key of the repositories is none of a job's business.
    assert awx.listed("job_templates", "site.yml", "credentials") == ["Bucket of backups", "SSH key of the nodes", "Vault", "vCenter"]
    assert awx.listed("organizations", "CHT example", "notification_templates_error") == ["Mail"]
    # Without it AWX would install no collection.
    assert awx.listed("organizations", "CHT example", "galaxy_credentials") == ["Ansible Galaxy"]
    assert awx.holders("job_templates", "site.yml", "execute") == ["CHT operators"]
    assert awx.holders("job_templates", "reset.yml", "execute") == [] and awx.holders("job_templates", "reset.yml", "read") == ["CHT operators", "CHT readers"]
    assert awx.holders("workflow_job_templates", "site", "approval") == ["CHT operators"]
    source = awx.get("inventory_sources", "k3s")
    assert source["source_path"] == "inventories/example/vsphere.yml"
    assert source["source_project"] == awx.get("projects", "k3s (inventory)")["id"] != awx.get("job_templates", "site.yml")["project"]
    assert awx.get("credential_types", "cht.k3s vCenter")["injectors"]["env"]["VMWARE_VALIDATE_CERTS"] == "True"
    saved = awx.get("schedules", "Counties are saved")
    assert saved["extra_data"] == {"cht_project_backup": ["all"]}
    assert saved["rrule"] == "DTSTART;TZID=Africa/Nairobi:20260101T010000 RRULE:FREQ=DAILY;INTERVAL=1"


def test_people_enter_secrets_and_the_next_run_changes_nothing(awx: awx_api.Awx, address: str, tmp_path: Path) -> None:
    awx.get("credentials", "vCenter")["inputs"] = {"host": "vcenter.example.org", "username": "k3s", "password": "of-people", "ca": "PEM"}
    awx.get("notification_templates", "Mail")["notification_configuration"]["password"] = "of-people"
    before = json.dumps(awx.things)
    done = run(address, tmp_path)
    assert done.code == 0 and done.changed == 0, done.text + "\n".join(awx.refusals)
    assert json.dumps(awx.things) == before and awx.refusals == []
    assert "of-people" not in done.text and "not meant any more" not in done.text.partition("PLAY RECAP")[2]
    # What is there can be looked at in check mode, too.
    assert run(address, tmp_path, "--check", "--diff", "--tags", "awx_base").changed == 0


def test_what_the_file_does_not_name_any_more_is_told_and_removed_when_asked(awx: awx_api.Awx, address: str, tmp_path: Path, changed: Any) -> None:
    data = yaml.safe_load(DATA.read_text())
    # Made by hand: nobody's business but theirs.
    mine = {**awx.get("schedules", "Report"), "id": 9999, "name": "By hand", "description": "mine"}
    awx.things["schedules"][9999] = mine
    path = changed(awx_schedules=data["awx_schedules"][:1], awx_credentials={k: v for k, v in data["awx_credentials"].items() if k != "s3"})
    told = run(address, tmp_path, "--tags", "awx_remove", data=path)
    assert told.code == 0 and told.changed == 0, told.text
    assert "schedules/Certificates, schedules/Counties are saved, schedules/Watch, schedules/etcd is saved, credentials/Bucket of backups" in told.said
    assert "By hand" not in told.said and "Certificates" in awx.names("schedules")
    refused = run(address, tmp_path, "-e", "awx_remove=schedules/Report", data=path)
    assert refused.code != 0 and "awx_remove: schedules/Report can't be removed" in refused.said and "Nothing was changed" in refused.said
    one = run(address, tmp_path, "--tags", "awx_remove", "-e", "awx_remove=schedules/Certificates", data=path)
    assert one.code == 0 and one.changed == 1 and "Certificates" not in awx.names("schedules"), one.text
    all_ = run(address, tmp_path, "--tags", "awx_remove", "-e", "awx_remove=all", data=path)
    assert all_.code == 0 and all_.changed == 4, all_.text
    assert awx.names("schedules") == ["By hand", "Report"] and "Bucket of backups" not in awx.names("credentials")
    last = run(address, tmp_path, "--tags", "awx_remove", "-e", "awx_remove=all", data=path)
    assert last.code == 0 and last.changed == 0 and awx.refusals == [], last.text


@pytest.mark.parametrize(("values", "message"), [
    ({"awx_schedules": [{"name": "x", "template": "raport", "every": "day"}]}, "there is no job template for 'raport'; did you mean 'report'?"),
    ({"awx_credentials": {"vcentre": "x"}}, "vcentre"),
    ({"awx_scm_url": None}, "awx_scm_url"),
    ({"awx_organisation": "x"}, "did you mean awx_organization?"),
])
def test_a_file_that_can_not_be_followed_changes_nothing(awx: awx_api.Awx, address: str, tmp_path: Path, changed: Any, values: dict[str, Any],
                                                         message: str) -> None:
    before = len(awx.written())
    given = {**yaml.safe_load(DATA.read_text()), **values}
    path = tmp_path / "wrong.yml"
    path.write_text(yaml.safe_dump({name: value for name, value in given.items() if value is not None}))
    done = run(address, tmp_path, data=path)
    assert done.code != 0 and message in done.said and len(awx.written()) == before, done.text


def test_what_is_missing_is_named(address: str, tmp_path: Path) -> None:
    done = run(address, tmp_path, CONTROLLER_OAUTH_TOKEN="")
    assert done.code != 0 and "Set CONTROLLER_HOST" in done.said
    # Ansible has the collection from the Python package `ansible`; a Python that does not find it is one that has it not.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda name, *a: None if name == 'ansible_collections.awx.awx' else find(name, *a)\n")
    done = run(address, tmp_path, PYTHONPATH=str(tmp_path))
    assert done.code != 0 and "The collection awx.awx is not installed" in done.said and done.changed == 0, done.text
