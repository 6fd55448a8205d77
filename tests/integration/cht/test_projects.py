# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counties on a real API server: first run, second run, check mode, drift, faults."""

from __future__ import annotations

import base64
import subprocess
import threading
import time
from unittest.mock import patch

import pytest
import yaml
from conftest import Cluster, county
from kubelet import Kubelet

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError

DEPLOYMENT = "/apis/apps/v1/namespaces/{}/deployments/{}"
SECRET = "/api/v1/namespaces/{}/secrets/cht-couchdb-credentials"


def password(cluster: Cluster, namespace: str) -> str:
    secret = cluster.get(SECRET.format(namespace))
    assert secret is not None
    return base64.b64decode(secret["data"]["COUCHDB_PASSWORD"]).decode()


def test_check_mode_predicts_the_first_run_and_the_second_changes_nothing(cluster: Cluster) -> None:
    entry = county("first")
    predicted = cluster.counties(entry, arguments=("--check", "--diff"))
    assert cluster.get("/api/v1/namespaces/first") is None, "check mode wrote something"
    assert "29 objects would be created" in predicted.row("first")
    real = cluster.counties(entry)
    assert "29 objects created" in real.row("first")
    assert real.changed == predicted.changed == 1
    before = cluster.resource_versions("first")
    again = cluster.counties(entry)
    assert again.changed == 0
    assert "unchanged" in again.row("first")
    assert cluster.resource_versions("first") == before
    secret = password(cluster, "first")
    assert len(secret) == 32
    for run in (predicted, real, again):
        assert secret not in run.text


def test_check_mode_without_a_cluster_predicts_everything(cluster: Cluster) -> None:
    playbook = cluster.folder / "nowhere.yml"
    playbook.write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - cht.k3s.cht_projects:\n        kubeconfig: ''\n"
        "        projects: [{name: nowhere, host: nowhere.health.example, version: 5.2.0, ingress: {tls_in_front: true}}]\n      register: found\n"
        "    - ansible.builtin.debug: {msg: \"{{ found.summary.created }} of {{ found.counties[0].state }}\"}\n"
    )
    run = cluster.play(str(playbook), "--check")
    assert "25 of changed" in run.text
    run = cluster.play(str(playbook), expect=2)
    assert "kubeconfig is empty: there is no cluster to talk to" in run.text


def test_one_changed_option_shows_and_does_exactly_that(cluster: Cluster) -> None:
    cluster.counties(county("oneopt"))
    before = cluster.resource_versions("oneopt")
    changed = county("oneopt", host="other.health.example")
    shown = cluster.counties(changed, arguments=("--check", "--diff"))
    assert "1 objects would be updated" in shown.row("oneopt")
    assert "+  - host: other.health.example" in shown.text
    assert cluster.resource_versions("oneopt") == before
    cluster.counties(changed)
    after = cluster.resource_versions("oneopt")
    assert {key for key in after if after[key] != before.get(key)} == {"ingresses/api-ingress"}


def test_a_hand_edit_is_put_back(cluster: Cluster) -> None:
    cluster.counties(county("drift"))
    path = DEPLOYMENT.format("drift", "cht-sentinel")
    cluster.patch(path, {"spec": {"replicas": 3}})
    run = cluster.counties(county("drift"))
    assert "1 objects updated" in run.row("drift")
    assert (cluster.get(path) or {})["spec"]["replicas"] == 1


def test_another_manager_s_field_is_a_conflict_of_that_county_alone(cluster: Cluster) -> None:
    cluster.counties(county("conflict"), county("noconflict"))
    cluster.patch(DEPLOYMENT.format("conflict", "cht-api"), {"spec": {"replicas": 2}}, manager="some-operator")
    run = cluster.counties(county("conflict"), county("noconflict", host="new.health.example"), expect=2)
    assert "failed" in run.row("conflict") and "belongs to some-operator" in run.row("conflict")
    assert "changed" in run.row("noconflict")
    forced = cluster.counties(county("conflict"), county("noconflict", host="new.health.example"), cht_project_force_conflicts=True)
    assert "changed" in forced.row("conflict")


def test_a_bad_county_is_reported_and_the_others_are_done(cluster: Cluster) -> None:
    run = cluster.counties(county("good"), county("bad", hots="x"), county("worse", version="3.0.0"), expect=2)
    assert "unknown key 'hots': did you mean 'host'?" in run.row("bad")
    assert "is not supported" in run.row("worse")
    assert "changed" in run.row("good")
    assert cluster.get(DEPLOYMENT.format("good", "cht-api")) is not None
    assert cluster.get("/api/v1/namespaces/bad") is None


def test_bad_counties_can_be_refused_before_anything_changes(cluster: Cluster) -> None:
    run = cluster.counties(county("fine"), county("wrong", hots="x"), expect=2, cht_project_on_invalid="refuse")
    assert "county 'wrong': unknown key 'hots': did you mean 'host'?" in run.text
    assert cluster.get("/api/v1/namespaces/fine") is None


def test_the_check_before_anything_else_goes_on_when_bad_counties_are_skipped(cluster: Cluster) -> None:
    playbook = cluster.folder / "validate.yml"
    role = {"ansible.builtin.import_role": {"name": "cht.k3s.cht_project", "tasks_from": "validate"}}
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [role]}]))
    entries = [county("fine"), county("wrong", hots="x")]
    told = cluster.play(str(playbook), cht_projects=entries)
    assert "county 'wrong': unknown key 'hots': did you mean 'host'?" in told.text and told.changed == 0
    assert "1 problems in the definitions" in cluster.play(str(playbook), expect=2, cht_projects=entries, cht_project_on_invalid="refuse").text


def upgrade(cluster: Cluster, path: str, agent: str) -> set[str]:
    """Set a newer image as the upgrade service does it: the whole object is read, changed and put, and only a User-Agent tells by whom."""
    while True:
        deployment = cluster.get(path)
        assert deployment is not None
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container["image"] = container["image"].replace(":4.22.0", ":4.23.0")
        try:
            with patch.dict(cluster.client.access.headers, {"User-Agent": agent}):
                put = cluster.client.json("PUT", path, body=deployment)
        except ApiError as error:
            assert error.status == 409  # its controller wrote the status in between
            continue
        return {entry["manager"] for entry in put["metadata"]["managedFields"]}


@pytest.mark.parametrize(("name", "agent", "manager"), [("upgraded", "", "unknown"), ("upgraded-fetch", "node-fetch/1.0", "node-fetch")])
def test_the_upgrade_service_s_newer_image_is_kept(cluster: Cluster, name: str, agent: str, manager: str) -> None:
    cluster.counties(county(name))
    for deployed in ("cht-api", "cht-sentinel", "cht-haproxy", "cht-haproxy-healthcheck", "cht-couchdb-1", "cht-couchdb-2", "cht-couchdb-3"):
        assert manager in upgrade(cluster, DEPLOYMENT.format(name, deployed), agent)
    run = cluster.counties(county(name))
    assert "runs 4.23.0, newer than the wanted 4.22.0: kept" in run.row(name)
    images = [item["spec"]["template"]["spec"]["containers"][0]["image"] for item in cluster.items(f"/apis/apps/v1/namespaces/{name}/deployments")]
    assert sum(image.endswith(":4.23.0") for image in images) == 7
    assert cluster.counties(county(name)).changed == 0
    later = cluster.counties(county(name, version="4.24.0"))
    assert "changed" in later.row(name)
    api = cluster.get(DEPLOYMENT.format(name, "cht-api")) or {}
    assert api["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":4.24.0")
    assert "newer than the wanted" in cluster.counties(county(name), expect=2, cht_project_on_newer="fail").row(name)


def test_from_4_to_5(cluster: Cluster) -> None:
    cluster.counties(county("major"))
    run = cluster.counties(county("major", version="5.2.0"))
    assert "changed" in run.row("major")
    couchdb = cluster.get(DEPLOYMENT.format("major", "cht-couchdb-1")) or {}
    assert [item["name"] for item in couchdb["spec"]["template"]["spec"]["containers"]] == ["cht-couchdb-1", "cht-couchdb-nouveau"]
    api = cluster.get(DEPLOYMENT.format("major", "cht-api")) or {}
    assert api["spec"]["strategy"] == {"type": "Recreate"}
    assert "5 objects removed" in run.row("major")
    for path in ("/apis/apps/v1/namespaces/major/deployments/upgrade-service", "/api/v1/namespaces/major/serviceaccounts/cht-upgrade-service-user"):
        assert cluster.get(path) is None
    assert cluster.counties(county("major", version="5.2.0")).changed == 0


def test_what_is_switched_off_goes(cluster: Cluster) -> None:
    small = {"couchdb": {"mode": "single"}}
    cluster.counties(county("limited", quota={"pods": "20"}, limit_range={"max": {"memory": "8Gi"}}, **small))
    entry = county("limited", network_policy=False, **small)
    assert "4 objects would be removed" in cluster.counties(entry, arguments=("--check",)).row("limited")
    assert "4 objects removed" in cluster.counties(entry).row("limited")
    for path in ("/api/v1/namespaces/limited/resourcequotas", "/api/v1/namespaces/limited/limitranges",
                 "/apis/networking.k8s.io/v1/namespaces/limited/networkpolicies"):
        assert cluster.items(path) == []
    assert cluster.counties(entry).changed == 0


def test_a_renamed_county_is_no_second_one(cluster: Cluster) -> None:
    small = {"couchdb": {"mode": "single"}}
    cluster.counties(county("before", **small))
    renamed = {**county("after", **small), "host": "before.health.example"}
    assert "host before.health.example is that of the county before" in cluster.counties(renamed, expect=2).row("after")
    assert cluster.get("/api/v1/namespaces/after") is None
    assert "set namespace: before" in cluster.counties(county("before", namespace="elsewhere", **small), expect=2).row("before")
    cluster.counties({**renamed, "namespace": "before"})
    space = cluster.get("/api/v1/namespaces/before") or {}
    assert space["metadata"]["labels"]["cht.k3s/county"] == "after"


def test_a_volume_grows_and_never_shrinks(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/growing/persistentvolumeclaims/couchdb-claim0"
    single = {"mode": "single", "storage": "8Gi"}
    spec = {"capacity": {"storage": "8Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "vmware-sc", "hostPath": {"path": "/nowhere/growing"},
            "claimRef": {"namespace": "growing", "name": "couchdb-claim0"}}
    cluster.create("/api/v1/persistentvolumes", {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "growing-pv"}, "spec": spec})
    cluster.counties(county("growing", couchdb=single))
    deadline = time.monotonic() + 30
    while not (cluster.get(path) or {})["spec"].get("volumeName"):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    refused = cluster.counties(county("growing", couchdb={**single, "storage": "4Gi"}), expect=2)
    assert "couchdb.storage 4Gi is smaller than the 8Gi of claim couchdb-claim0, and a volume can't shrink: put 8Gi back" in refused.text
    assert refused.changed == 0
    assert (cluster.get(path) or {})["spec"]["resources"]["requests"]["storage"] == "8Gi"


def test_a_quota_that_is_exceeded_is_told_as_the_county_s_obstacle(cluster: Cluster) -> None:
    run = cluster.counties(
        county("quota", quota={"pods": "0"}), county("noquota"), expect=2, cht_project_wait=True, cht_project_wait_timeout=12,
        cht_project_wait_report_every=4,
    )
    assert "waiting" in run.row("quota") and "exceeded quota" in run.row("quota")
    assert "counties ready: 0 of 2" in run.text


def test_why_a_claim_is_pending_is_told(cluster: Cluster) -> None:
    entry = county("noclass", couchdb={"mode": "single", "storage_class": "no-such-class"})
    run = cluster.counties(entry, expect=2, cht_project_wait=True, cht_project_wait_timeout=8, cht_project_wait_report_every=8)
    assert 'claim couchdb-claim0 is Pending (StorageClass no-such-class): storageclass.storage.k8s.io "no-such-class" not found' in run.row("noclass")


def test_waiting_ends_when_the_pods_are_ready(cluster: Cluster) -> None:
    with Kubelet(cluster.server):
        run = cluster.counties(county("ready"), cht_project_wait=True, cht_project_wait_timeout=60)
        assert "changed" in run.row("ready")
        second = cluster.counties(county("ready"), cht_project_wait=True, cht_project_wait_timeout=60)
    assert second.changed == 0


def test_a_missing_image_is_told(cluster: Cluster) -> None:
    cluster.counties(county("noimage"))
    deadline = time.monotonic() + 30
    while not (pods := cluster.items("/api/v1/namespaces/noimage/pods")) and time.monotonic() < deadline:
        time.sleep(0.3)
    pod = next(item for item in pods if "haproxy-healthcheck" in item["metadata"]["name"])
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    container = {"name": "cht-haproxy-healthcheck", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    status = {"phase": "Pending", "containerStatuses": [container]}
    cluster.patch(f"/api/v1/namespaces/noimage/pods/{pod['metadata']['name']}/status", {"status": status}, "kubelet")
    run = cluster.counties(county("noimage"), expect=2, cht_project_wait=True, cht_project_wait_timeout=3)
    assert "container cht-haproxy-healthcheck: ImagePullBackOff" in run.row("noimage")


def test_an_api_server_that_goes_away_in_the_middle(cluster: Cluster) -> None:
    """The run goes on when it is back, and the next one finds nothing to do."""
    entries = [county(f"lost-{number:02d}") for number in range(12)]
    stopped = threading.Event()

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not cluster.get("/api/v1/namespaces/lost-00") and time.monotonic() < deadline:
            time.sleep(0.02)
        cluster.server.stop_api()
        time.sleep(2)
        cluster.server.start_api()
        stopped.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    run = cluster.counties(*entries, expect=None)
    thread.join()
    assert stopped.is_set()
    assert run.code == 0, run.text
    assert cluster.counties(*entries).changed == 0


def test_an_interrupted_run_is_finished_by_the_next(cluster: Cluster) -> None:
    """Only Secret and a first claim are there, as after a Ctrl-C; the credentials stay."""
    cluster.counties(county("halfway"))
    kept = password(cluster, "halfway")
    for item in cluster.items("/apis/apps/v1/namespaces/halfway/deployments"):
        cluster.client.json("DELETE", DEPLOYMENT.format("halfway", item["metadata"]["name"]))
    for number in (2, 3):
        cluster.client.json("DELETE", f"/api/v1/namespaces/halfway/persistentvolumeclaims/couchdb-{number}-claim0")
    deadline = time.monotonic() + 90
    # A claim goes only after the pods that use it.
    while len(cluster.items("/api/v1/namespaces/halfway/persistentvolumeclaims")) > 1 and time.monotonic() < deadline:
        time.sleep(0.3)
    run = cluster.counties(county("halfway"))
    assert "10 objects created" in run.row("halfway")
    assert password(cluster, "halfway") == kept


def test_a_folder_with_a_file_for_each_county(cluster: Cluster) -> None:
    folder = cluster.folder / "counties"
    folder.mkdir()
    (folder / "infile.yml").write_text("host: infile.health.example\nversion: 4.22.0\ncouchdb: {mode: single}\n")
    run = cluster.play("projects", cht_project_dir="counties")
    assert "infile" in run.text, "a relative path starts beside the inventory"
    assert "changed" in run.row("infile")
    (folder / "torn.yml").write_text("host: torn.health.example\n\tversion: 4.22.0\n")
    torn = cluster.play("projects", cht_project_dir="counties", expect=2)
    assert "unchanged" in torn.row("infile") and "failed" in torn.row("torn") and "torn.yml can't be read" in torn.row("torn")
    listed = cluster.play("remove_project", cht_project_dir="counties", cht_project_remove="torn, other", expect=2)
    assert "torn is still in cht_projects" in listed.text
    missing = cluster.play("projects", cht_project_dir=str(folder / "nowhere"), expect=None)
    assert missing.code != 0 and "does not exist: correct the path" in missing.text


@pytest.mark.parametrize("name", ["tls"])
def test_certificates_renew(cluster: Cluster, name: str) -> None:
    def certificate() -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        subprocess.run([*command, "-keyout", str(cluster.folder / "k"), "-out", str(cluster.folder / "c")], check=True, capture_output=True)

    certificate()
    # One of the two beside the inventory, which a localhost that is in none does not know.
    entry = county(name, tls={"mode": "files", "certificate": "c", "private_key": str(cluster.folder / "k")})
    cluster.counties(entry)
    assert cluster.counties(entry).changed == 0
    certificate()
    run = cluster.counties(entry, arguments=("--diff",))
    assert "1 objects updated" in run.row(name)
    assert "PRIVATE KEY" not in run.text


def test_a_removed_county_keeps_its_data_and_comes_back_with_it(cluster: Cluster) -> None:
    cluster.counties(county("leaving"), county("staying"))
    kept = password(cluster, "leaving")
    claim = cluster.get("/api/v1/namespaces/leaving/persistentvolumeclaims/couchdb-1-claim0") or {}
    assert cluster.counties(county("staying")).changed == 0
    assert cluster.get(DEPLOYMENT.format("leaving", "cht-api")), "leaving the list removes nothing"
    listed = cluster.play("remove_project", expect=2, cht_projects=[county("leaving")], cht_project_remove="leaving")
    assert "leaving is still in cht_projects" in listed.text
    shown = cluster.play("remove_project", "--check", cht_project_remove="leaving")
    assert "Deployment cht-api" in shown.text and cluster.get(DEPLOYMENT.format("leaving", "cht-api"))
    run = cluster.play("remove_project", cht_project_remove="leaving")
    assert run.changed == 1
    assert cluster.items("/apis/apps/v1/namespaces/leaving/deployments") == []
    assert cluster.items("/apis/networking.k8s.io/v1/namespaces/leaving/ingresses") == []
    assert cluster.get(DEPLOYMENT.format("staying", "cht-api"))
    assert cluster.play("remove_project", cht_project_remove="leaving").changed == 0
    cluster.counties(county("leaving"))
    assert password(cluster, "leaving") == kept
    again = cluster.get("/api/v1/namespaces/leaving/persistentvolumeclaims/couchdb-1-claim0") or {}
    assert again["metadata"]["uid"] == claim["metadata"]["uid"]


def test_data_goes_only_when_it_is_named_too(cluster: Cluster) -> None:
    cluster.counties(county("gone"))
    alone = cluster.play("remove_project", expect=2, cht_project_remove="other", cht_project_remove_data="gone")
    assert "name a county in both" in alone.text
    cluster.play("remove_project", cht_project_remove=["gone"], cht_project_remove_data=["gone"])
    assert cluster.get("/api/v1/namespaces/gone") is None
    assert cluster.play("remove_project", cht_project_remove=["gone"], cht_project_remove_data=["gone"]).changed == 0


def test_a_namespace_that_is_no_county_is_not_removed(cluster: Cluster) -> None:
    cluster.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foreign"}})
    run = cluster.play("remove_project", expect=2, cht_project_remove=["foreign"], cht_project_remove_data=["foreign"])
    assert "it is not a county's" in run.text
    assert cluster.get("/api/v1/namespaces/foreign")


def test_credentials_are_shown_when_asked_for(cluster: Cluster) -> None:
    cluster.counties(county("shown"))
    run = cluster.play("project_credentials", cht_project_show="shown")
    assert password(cluster, "shown") in run.text
    assert "counties: 'nobody' is not known" in cluster.play("project_credentials", expect=2, cht_project_show="nobody").text
