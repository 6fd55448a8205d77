# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A county that the first release of the collection deployed, under this one: each of its pods is changed once, and never again."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Cluster
from kubelet import Kubelet

ROOT = Path(__file__).resolve().parents[3]
# What counts as 1.0.0.
FIRST = "85a7890"
COUNTY = {"name": "kept", "host": "kept.health.example", "version": "4.22.0", "couchdb": {"mode": "clustered"}}
WAITING = {"cht_project_wait": True, "cht_project_wait_timeout": 120, "cht_project_wait_report_every": 2}


@pytest.fixture(name="first_release", scope="module")
def fixture_first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path with the first release."""
    if subprocess.run(["git", "cat-file", "-e", f"{FIRST}^{{commit}}"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip(f"this clone's history does not go back to {FIRST}, the first release")
    path = tmp_path_factory.mktemp("first-release")
    target = path / "ansible_collections/cht/k3s"
    target.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", FIRST], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x", "-C", str(target)], input=archive, check=True)
    return path


def templates(cluster: Cluster) -> dict[str, int]:
    """Deployment -> how many templates of pods it has had."""
    found: dict[str, int] = {}
    for replica_set in cluster.items("/apis/apps/v1/namespaces/kept/replicasets"):
        owner = replica_set["metadata"]["ownerReferences"][0]["name"]
        found[owner] = found.get(owner, 0) + 1
    return found


def test_an_upgrade_of_the_collection_changes_each_pod_of_a_county_once(cluster: Cluster, first_release: Path) -> None:
    with Kubelet(cluster.server) as kubelet:
        command, environment = cluster._command("projects", cht_projects=[COUNTY])
        # The first release refuses what it does not know.
        variables = cluster.folder / "variables.json"
        variables.write_text(json.dumps({key: value for key, value in json.loads(variables.read_text()).items() if key != "cht_project_shrink"}))
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cluster.folder, timeout=300,
                              env={**environment, "ANSIBLE_COLLECTIONS_PATH": str(first_release)})
        assert done.returncode == 0, done.stdout + done.stderr
        # Its own waiting asks API in a way that the real one refuses.
        deadline = time.monotonic() + 60
        while len(kubelet.seen.get("kept", [])) < 8:
            assert time.monotonic() < deadline, kubelet.seen
            time.sleep(0.5)
        before = templates(cluster)
        assert set(before.values()) == {1} and len(before) == 8, before
        kubelet.seen.clear()
        run = cluster.counties(COUNTY, **WAITING)
        assert "changed" in run.row("kept")
        after = templates(cluster)
        assert all(count <= 2 for count in after.values()), after
        changed = sorted(name.removeprefix("cht-").removeprefix("haproxy-") for name, count in after.items() if count == 2)
        started = sorted(sign[1:] for sign in kubelet.seen["kept"] if sign.startswith("+"))
        assert started == changed, "a pod of each changed Deployment, once"
        assert cluster.counties(COUNTY, **WAITING).changed == 0 and templates(cluster) == after
