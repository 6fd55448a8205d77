# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From definitions and what runs to objects: credentials, images, volumes."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import credentials as creds
from ansible_collections.cht.k3s.plugins.module_utils.cht import proof
from ansible_collections.cht.k3s.plugins.module_utils.cht.fits import misfits
from ansible_collections.cht.k3s.plugins.module_utils.cht.plan import Live, Plan, plan_county
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import PUBLISHED_SECRET, County, read_counties


def read(**more: t.Any) -> County:
    entry = {"name": "nairobi", "host": "nairobi.health.example", "version": "4.22.0", "ingress": {"tls_in_front": True}, **more}
    counties, problems = read_counties([entry], None)
    assert not problems, problems
    return counties[0]


def plan(live: Live | None = None, on_newer: str = "keep", predict: bool = False, base_dir: str = "/", **more: t.Any) -> Plan:
    return plan_county(read(**more), live or Live(), on_newer, predict, base_dir)


def data(found: Plan) -> dict[str, str]:
    secret = next(item for item in found.objects if item["kind"] == "Secret")
    return creds.decode_secret(secret)


def live_secret(**entries: str) -> dict[str, t.Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    return {"metadata": {"name": creds.SECRET_NAME, "namespace": "nairobi"}, "data": encoded}


HELD = {"COUCHDB_USER": "medic", "COUCHDB_PASSWORD": "kept-password", "COUCHDB_SECRET": "kept-secret-0000000", "COUCHDB_UUID": "kept-uuid-00000000"}


def claim(name: str) -> dict[str, t.Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "4Gi"}}}
    return {"metadata": {"name": name, "namespace": "nairobi"}, "spec": spec}


def deployment(container: str, image: str) -> dict[str, t.Any]:
    return {
        "metadata": {"name": container, "namespace": "nairobi"},
        "spec": {"template": {"spec": {"containers": [{"name": container, "image": image}]}}},
    }


def test_credentials_are_generated_once_and_strong() -> None:
    first, second = plan(), plan()
    assert first.generated
    one, two = data(first), data(second)
    assert len(one["COUCHDB_PASSWORD"]) == 32 and one["COUCHDB_PASSWORD"] != two["COUCHDB_PASSWORD"]
    assert len({one["COUCHDB_SECRET"], one["COUCHDB_UUID"], two["COUCHDB_SECRET"], two["COUCHDB_UUID"]}) == 4
    assert one["COUCH_URL"] == f"http://medic:{one['COUCHDB_PASSWORD']}@haproxy.nairobi.svc.cluster.local:5984/medic"


def test_check_mode_generates_nothing() -> None:
    found = data(plan(predict=True))
    assert {found[key] for key in ("COUCHDB_PASSWORD", "COUCHDB_SECRET", "COUCHDB_UUID")} == {creds.PLACEHOLDER}


def test_credentials_of_the_cluster_are_kept() -> None:
    found = plan(Live.collect([live_secret(**HELD)], [], []))
    assert not found.generated
    assert {key: data(found)[key] for key in HELD} == HELD


def test_a_user_other_than_the_default_is_kept_too() -> None:
    found = plan(Live.collect([live_secret(**{**HELD, "COUCHDB_USER": "admin"})], [], []))
    assert not found.error and data(found)["COUCHDB_USER"] == "admin"


def test_given_credentials_are_used() -> None:
    found = plan(credentials={"user": "admin", "password": "given-password", "secret": "given-secret-0000", "uuid": "given-uuid-000000"})
    assert not found.generated
    assert data(found)["COUCHDB_PASSWORD"] == "given-password"
    assert data(found)["COUCH_URL"].startswith("http://admin:given-password@")


def test_another_password_in_the_list_does_not_lock_cht_out() -> None:
    found = plan(Live.collect([live_secret(**HELD)], [], []), credentials={"password": "other-password"})
    assert "credentials.password differs from what Secret cht-couchdb-credentials holds" in found.error
    assert not found.objects
    assert "other-password" not in found.error and "kept-password" not in found.error


def test_volumes_without_their_secret_get_no_new_credentials() -> None:
    claims = [claim(f"couchdb-{number}-claim0") for number in (1, 2, 3)]
    found = plan(Live.collect([], [], claims))
    assert "Secret cht-couchdb-credentials is gone but the volumes of CouchDB are there" in found.error
    given = {"password": "given-password", "secret": "given-secret-0000", "uuid": "given-uuid-000000"}
    assert not plan(Live.collect([], [], claims), credentials=given).error


def test_published_secret_of_an_adopted_county_is_reported() -> None:
    found = plan(Live.collect([live_secret(**{**HELD, "COUCHDB_SECRET": PUBLISHED_SECRET})], [], []))
    assert not found.error
    assert any("published with cht-chart-4x" in note for note in found.notes)


def images(found: Plan) -> set[str]:
    return {
        container["image"].rsplit(":", 1)[1]
        for item in found.objects
        if item["kind"] == "Deployment"
        for container in item["spec"]["template"]["spec"]["containers"]
        if container["name"] != "upgrade-service"
    }


RUNNING = ("cht-api", "cht-sentinel", "cht-haproxy", "cht-haproxy-healthcheck", "cht-couchdb-1", "cht-couchdb-2", "cht-couchdb-3")


CLAIMS = [claim(f"couchdb-{number}-claim0") for number in (1, 2, 3)]


def running(tag: str, *, registry: str = "public.ecr.aws/medic") -> Live:
    return Live.collect([live_secret(**HELD)], [deployment(name, f"{registry}/{name}:{tag}") for name in RUNNING], CLAIMS)


def test_an_older_county_is_upgraded() -> None:
    assert images(plan(running("4.20.0"))) == {"4.22.0"}


def test_a_county_upgraded_by_its_own_page_is_kept_and_reported() -> None:
    found = plan(running("4.23.0"))
    assert images(found) == {"4.23.0"}
    assert found.notes == [
        "runs 4.23.0, newer than the wanted 4.22.0: kept; raise its version in the list (or name it in cht_project_downgrade, if that version never started)"
    ]


def test_the_county_s_registry_is_put_back_after_an_upgrade_from_its_own_page() -> None:
    found = plan(running("4.23.0"), images={"registry": "mirror.example/cht"})
    names = {
        container["image"] for item in found.objects if item["kind"] == "Deployment" for container in item["spec"]["template"]["spec"]["containers"]
        if container["name"] != "upgrade-service"
    }
    assert {name.rpartition("/")[0] for name in names} == {"mirror.example/cht"} and {name.rpartition(":")[2] for name in names} == {"4.23.0"}
    assert "its images come from mirror.example/cht again, and not from where CHT's own page took them" in found.notes
    # What is named by its content is no tag, and is left.
    digest = f"public.ecr.aws/medic/cht-api:4.23.0@sha256:{'0' * 64}"
    live = running("4.23.0")
    live.deployments["nairobi"][0] = deployment("cht-api", digest)
    kept = plan(live, images={"registry": "mirror.example/cht"})
    api = next(item for item in kept.objects if item["metadata"]["name"] == "cht-api" and item["kind"] == "Deployment")
    assert api["spec"]["template"]["spec"]["containers"][0]["image"] == digest


def test_5x_without_nouveau_as_its_own_page_leaves_it_is_mended_by_the_list() -> None:
    live = running("5.0.0")
    refused = plan(live)
    assert "it lacks Nouveau" in refused.error and "raise its version in the list" in refused.error
    mended = plan(live, version="5.0.0")
    containers = [
        container["name"] for item in mended.objects if item["kind"] == "Deployment" for container in item["spec"]["template"]["spec"]["containers"]
    ]
    assert not mended.error and "cht-couchdb-nouveau" in containers and "upgrade-service" not in containers


def test_a_half_upgraded_county_is_left_as_it_is() -> None:
    live = running("4.20.0")
    live.deployments["nairobi"][0] = deployment("cht-api", "public.ecr.aws/medic/cht-api:4.23.0")
    assert images(plan(live)) == {"4.20.0", "4.23.0"}


def test_newer_can_fail_or_be_forced() -> None:
    assert "runs 4.23.0, newer than the wanted 4.22.0" in plan(running("4.23.0"), on_newer="fail").error
    forced = plan(running("4.23.0"), on_newer="force")
    assert images(forced) == {"4.22.0"} and "downgraded" in forced.notes[0]


def test_the_same_version_from_another_registry_is_no_newer_one() -> None:
    found = plan(running("4.22.0", registry="mirror.example"))
    assert images(found) == {"4.22.0"} and not found.notes


def test_5x_is_owned_by_the_role_and_never_downgraded_silently() -> None:
    live = running("5.2.0")
    assert "newer than the wanted 5.1.0, and CHT can't be downgraded" in plan(live, version="5.1.0").error
    assert not plan(live, version="5.1.0", on_newer="force").error
    assert images(plan(live, version="5.2.9")) == {"5.2.9"}


def test_a_list_of_4x_makes_no_hybrid_of_a_county_that_runs_5x() -> None:
    assert "runs 5.2.0, which is newer than the wanted 4.22.0, and CHT can't be downgraded" in plan(running("5.2.0")).error
    branch = running("some-branch")
    branch.deployments["nairobi"].append(deployment("cht-couchdb-nouveau", "x/cht-couchdb-nouveau:some-branch"))
    assert "can't be downgraded" in plan(branch).error
    assert not plan(running("some-branch")).error


def space(name: str, county: str = "") -> dict[str, t.Any]:
    return {"metadata": {"name": name, "labels": {"cht.k3s/county": county} if county else {}}}


def ingress(namespace: str, host: str) -> dict[str, t.Any]:
    return {"metadata": {"name": "api-ingress", "namespace": namespace}, "spec": {"rules": [{"host": host}]}}


def test_a_county_that_was_renamed_or_moved_does_not_come_up_a_second_time() -> None:
    host = "nairobi.health.example"
    moved = Live.collect([], [], [], [space("old", "nairobi")], [])
    assert "is in the namespace old already, and would come up empty in nairobi: set namespace: old" in plan(moved).error
    assert not plan(moved, namespace="old").error
    renamed = Live.collect([], [], [], [space("old", "nairobi-old")], [ingress("old", host)])
    assert "host nairobi.health.example is that of the county nairobi-old" in plan(renamed).error
    assert not plan(renamed, namespace="old").error, "this is how a county is renamed"
    renamed.listed = {"nairobi-old": "old", "nairobi": "nairobi"}
    assert not plan(renamed).error, "one of the list has another host now"
    assert "namespace old is that of the county nairobi-old, which is in the list, too" in plan(renamed, namespace="old").error
    assert not plan(Live.collect([], [], [], [space("foreign")], [ingress("foreign", host)])).error
    helm = deployment("cht-api", "x/cht-api:4.20.0")
    helm["metadata"]["namespace"] = "foreign"
    assert "set namespace: foreign and cht_project_adopt: true" in plan(Live.collect([], [helm], [], [space("foreign")], [ingress("foreign", host)])).error
    own = Live.collect([live_secret(**HELD)], [], [], [space("nairobi", "nairobi")], [ingress("nairobi", host)])
    assert not plan(own).error


def test_too_old_a_version_is_not_taken_to_5x() -> None:
    assert "can't go to 5.0.0 in one step" in plan(running("4.4.1"), version="5.0.0").error


def with_status(version: str, *, generation: int = 1, ready: int = 0, reason: str = "ReplicaSetUpdated", container: str = "cht-api") -> dict[str, t.Any]:
    item = deployment(container, f"public.ecr.aws/medic/{container}:{version}")
    item["metadata"]["generation"] = generation
    item["status"] = {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": ready, "conditions": [{"type": "Progressing", "reason": reason}]}
    return item


@pytest.mark.parametrize(("item", "noted", "refused"), [
    (with_status("4.23.0"), "", False), (with_status("4.23.0", ready=1), "", True),
    (with_status("4.23.0", reason="NewReplicaSetAvailable"), "", True),
    # Of the template before.
    (with_status("4.23.0", generation=2, reason="NewReplicaSetAvailable"), "", False),
    (with_status("4.23.0", ready=1, container="cht-haproxy"), "", False), (with_status("4.23.0", ready=1, container="cht-couchdb-1"), "", True),
    (with_status("4.23.0"), "4.22.0", False), (with_status("4.23.0"), "4.23.0", True), (with_status("4.24.0"), "4.23.0", True),
])
def test_a_version_that_was_ready_is_not_taken_back(item: dict[str, t.Any], noted: str, refused: bool) -> None:
    namespace = {"metadata": {"name": "nairobi", "annotations": {proof.WAS_READY: noted} if noted else {}}}
    claims = [claim(f"couchdb-{number}-claim0") for number in (1, 2, 3)]
    found = plan(Live.collect([live_secret(**HELD)], [item], claims, [namespace]), on_newer="force")
    assert ("was ready on its data" in found.error) is refused, found.error
    assert refused or any(note.startswith("downgraded from 4.2") for note in found.notes)


@pytest.mark.parametrize(("noted", "refused"), [("4.23.0", True), ("4.22.0", False), ("", False)])
def test_data_that_was_kept_is_not_given_to_an_older_version(noted: str, refused: bool) -> None:
    namespace = {"metadata": {"name": "nairobi", "annotations": {proof.WAS_READY: noted}}}
    claims = [claim(f"couchdb-{number}-claim0") for number in (1, 2, 3)]
    assert ("was ready on the data that it kept" in plan(Live.collect([live_secret(**HELD)], [], claims, [namespace])).error) is refused


def test_what_was_ready_is_noted_once_and_never_lowered() -> None:
    written: list[t.Any] = []

    class Api:
        def json(self, *dummy: t.Any, **more: t.Any) -> None:
            written.append(more["body"]["metadata"]["annotations"][proof.WAS_READY])

    client: t.Any = Api()
    for noted, item in (("", with_status("4.23.0", ready=1)), ("4.23.0", with_status("4.23.0", ready=1)), ("4.23.0", with_status("4.22.0", ready=1)),
                        ("4.22.0", with_status("4.23.0", ready=1)), ("", with_status("4.23.0"))):
        proof.note(client, [{"metadata": {"name": "nairobi", "annotations": {proof.WAS_READY: noted}}}], {"nairobi": [item]})
    assert written == ["4.23.0", "4.23.0"]


def test_a_changed_couchdb_mode_does_not_start_an_empty_database() -> None:
    found = plan(Live.collect([live_secret(**HELD)], [], [claim("couchdb-claim0")]))
    assert "another CouchDB mode" in found.error
    three = [claim(f"couchdb-{number}-claim0") for number in (1, 2, 3)]
    fewer = plan(Live.collect([live_secret(**HELD)], [], three), couchdb={"nodes": 2})
    assert "can't be taken away" in fewer.error


def test_a_lost_volume_is_not_replaced_by_an_empty_one_but_an_interrupted_run_goes_on() -> None:
    claims = [claim("couchdb-1-claim0")]
    assert not plan(Live.collect([live_secret(**HELD)], [], claims)).error
    started = Live.collect([live_secret(**HELD)], [deployment("cht-couchdb-1", "x/cht-couchdb:4.22.0")], claims)
    assert "lacks the CouchDB volumes couchdb-2-claim0, couchdb-3-claim0" in plan(started).error


@pytest.mark.parametrize(("size", "problem"), [("20e9", ""), ("much", "has something in the cluster that can't be read: 'much' is not a quantity")])
def test_a_claim_that_can_t_be_read_ends_the_run_for_nobody(size: str, problem: str) -> None:
    odd = [claim(f"couchdb-{number}-claim0") for number in (1, 2, 3)]
    odd[0]["spec"]["resources"]["requests"]["storage"] = size
    assert plan(Live.collect([live_secret(**HELD)], [], odd)).error == problem


SINGLE = {"mode": "single"}


def waiting_claim(**spec: t.Any) -> dict[str, t.Any]:
    found = claim("couchdb-claim0")
    found["spec"].update({"storageClassName": "vmware-cs", **spec})
    return {**found, "status": {"phase": "Pending"}}


@pytest.mark.parametrize(("item", "remade"), [
    (waiting_claim(), True), (waiting_claim(storageClassName="vmware-sc"), False),
    (waiting_claim(storageClassName="vmware-sc", resources={"requests": {"storage": "9Gi"}}), True),
    (waiting_claim(volumeName="pv"), False), (waiting_claim(dataSource={"kind": "VolumeSnapshot", "name": "x"}), False),
    ({**waiting_claim(), "status": {"phase": "Bound"}}, False), ({**waiting_claim(), "status": {"phase": "Lost"}}, False),
])
def test_a_claim_that_never_got_a_volume_is_made_anew_as_it_is_wanted(item: dict[str, t.Any], remade: bool) -> None:
    found = plan(Live.collect([live_secret(**HELD)], [], [item]), couchdb={**SINGLE, "storage": "4Gi"} if remade else SINGLE)
    assert not found.error and list(found.remake) == (["couchdb-claim0"] if remade else [])
    assert any("never got a volume, and is made anew" in note for note in found.notes) is remade
    made = next(entry["spec"] for entry in found.objects if entry["kind"] == "PersistentVolumeClaim")
    assert made["storageClassName"] == ("vmware-sc" if remade else item["spec"]["storageClassName"])


@pytest.mark.parametrize(("more", "note"), [
    ({}, ""),
    ({"couchdb": {"mode": "single", "storage_class": "vmware-cs"}}, "couchdb.storage_class: there is no StorageClass 'vmware-cs'; did you mean 'vmware-sc'?"),
    ({"placement": {"nodes": ["agnet-1"]}}, "placement.nodes: there is no node 'agnet-1'; did you mean 'agent-1'?"),
    ({"ingress": {"class_name": "nginx", "tls_in_front": True}}, "ingress.class_name: there is no IngressClass 'nginx'; known are: traefik"),
    ({"tls": {"mode": "secret", "secret": "mine"}}, "tls.secret: there is no Secret 'mine' in the namespace nairobi"),
    ({"tls": {"mode": "secret", "secret": "there"}}, ""),
])
def test_what_a_county_names_and_the_cluster_does_not_have(more: dict[str, t.Any], note: str) -> None:
    there = (["vmware-sc"], ["agent-1"], ["traefik"], {("nairobi", "there")})
    assert misfits(read(**more), [], *there) == ([note] if note else [])
    # A claim that is there has its class for good.
    assert not [text for text in misfits(read(**more), ["couchdb-claim0", *(f"couchdb-{number}-claim0" for number in (1, 2, 3))], *there) if "Class '" in text
                and "Storage" in text]


@pytest.mark.parametrize(("host", "days", "note"), [
    ("nairobi.health.example", 9, ""), ("kisumu.health.example", 9, "tls.certificate is not for nairobi.health.example: Hostname mismatch"),
])
def test_a_certificate_for_another_host_is_noted(tmp_path: Path, host: str, days: int, note: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(days), "-subj", f"/CN={host}"]
    files = ["-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c")]
    subprocess.run([*command, "-addext", f"subjectAltName=DNS:{host}", *files], check=True, capture_output=True)
    found = plan(tls={"mode": "files", "certificate": str(tmp_path / "c"), "private_key": str(tmp_path / "k")})
    assert not found.error
    assert [text for text in found.notes if text.startswith("tls.")] == [text for text in found.notes if note and text.startswith(note)]
    assert bool(note) == any(text.startswith("tls.") for text in found.notes)


@pytest.mark.parametrize(("entry", "shared", "error"), [
    ({"storage": "2Gi"}, {}, "couchdb.storage 2Gi is smaller than the 4Gi of claim couchdb-1-claim0, and a volume can't shrink: put 4Gi back"),
    ({"storage": "4096Mi"}, {}, ""), ({"storage": "6Gi"}, {}, ""),
    # What all share is for new counties: one that is larger stays as it is.
    ({}, {"storage": "2Gi"}, ""), ({}, {}, ""),
])
def test_less_storage_than_there_is_is_refused(entry: dict[str, str], shared: dict[str, str], error: str) -> None:
    live = Live.collect([live_secret(**HELD)], [], [claim(f"couchdb-{number}-claim0") for number in (1, 2, 3)])
    found = {"name": "nairobi", "host": "nairobi.health.example", "version": "4.22.0", "ingress": {"tls_in_front": True}, "couchdb": entry}
    counties, problems = read_counties([found], {"couchdb": shared})
    assert not problems
    said = plan_county(counties[0], live, "keep", False, "/").error
    assert said.startswith(error) and bool(said) == bool(error)


def test_a_named_volume_is_not_asked_for_less_than_it_has() -> None:
    live = Live.collect([live_secret(**HELD)], [], [])
    live.volumes = {"pv-kept": kept_volume()}
    assert "4Gi is smaller than the 8Gi of volume pv-kept" in plan(live, couchdb={**SINGLE, "volumes": ["pv-kept"], "storage": "4Gi"}).error


HOST_PATH = {"hostPath": {"path": "/var/lib/couchdb1"}}


def database(folder: str | None = "data", **source: t.Any) -> dict[str, t.Any]:
    """A single CouchDB as it runs, on its claim unless another source is given."""
    found = deployment("cht-couchdb", "x/cht-couchdb:4.22.0")
    pod = found["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "disk", **(source or {"persistentVolumeClaim": {"claimName": "couchdb-claim0"}})}]
    mounts = [{"name": "disk", "mountPath": "/opt/couchdb/data"}, {"name": "disk", "mountPath": "/opt/couchdb/etc/local.d", "subPath": "local.d"}]
    if folder is not None:
        mounts[0]["subPath"] = folder
    pod["containers"][0]["volumeMounts"] = mounts
    return found


def test_a_running_couchdb_without_any_claim_gets_no_empty_one() -> None:
    lost = Live.collect([live_secret(**HELD)], [database()], [])
    assert "lacks the CouchDB volumes couchdb-claim0, and CouchDB would start empty" in plan(lost, couchdb=SINGLE).error
    # A single CouchDB of cht-chart-4x on k3s: no claim, but a folder of the agent.
    helm = Live.collect([live_secret(**HELD)], [database(**HOST_PATH)], [])
    assert "CouchDB would start empty" in plan(helm, couchdb=SINGLE).error
    assert not plan(Live.collect([live_secret(**HELD)], [database()], [claim("couchdb-claim0")]), couchdb=SINGLE).error


def kept_volume(size: str = "8Gi") -> dict[str, t.Any]:
    return {"metadata": {"name": "pv-kept"}, "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}}


def test_named_volumes_take_the_place_of_a_lost_claim_or_a_folder() -> None:
    for one in (database(), database(**HOST_PATH)):
        live = Live.collect([live_secret(**HELD)], [one], [])
        live.volumes = {"pv-kept": kept_volume()}
        found = plan(live, couchdb={**SINGLE, "volumes": ["pv-kept"]})
        assert not found.error and "claim couchdb-claim0 gets the volume pv-kept" in found.notes


def test_credentials_that_were_kept_are_found_by_the_volumes_again() -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in HELD.items()}

    def kept(name: str, data: dict[str, str]) -> dict[str, t.Any]:
        return {"metadata": {"name": name, "namespace": "cht-backups", "labels": {creds.KEPT_OF: "nairobi"}}, "data": data}

    secrets = [kept("nairobi-credentials-20260102-030405", encoded), kept("nairobi-credentials-20250102-030405", {})]
    live = Live.collect(secrets, [], [])
    live.volumes = {"pv-kept": left_volume("pv-kept", "couchdb-claim0")}
    found = plan(live, couchdb={**SINGLE, "volumes": ["pv-kept"]})
    assert not found.error and {key: data(found)[key] for key in HELD} == HELD
    assert "credentials of Secret cht-backups/nairobi-credentials-20260102-030405, kept when nairobi was removed" in found.notes
    # A volume of another county has other credentials.
    live.volumes = {"pv-kept": left_volume("pv-kept", "couchdb-claim0", "kisumu")}
    assert "Secret cht-couchdb-credentials is gone" in plan(live, couchdb={**SINGLE, "volumes": ["pv-kept"]}).error
    # Without named volumes a county is a new one.
    assert plan(Live.collect(secrets, [], [])).generated


def left_volume(name: str, claim_of: str | None, namespace: str = "nairobi", **annotations: str) -> dict[str, t.Any]:
    """A volume as a county left it: it points to a claim that is gone, or was made by hand and points to none."""
    spec: dict[str, t.Any] = {"capacity": {"storage": "4Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}
    if claim_of:
        spec["claimRef"] = {"namespace": namespace, "name": claim_of, "uid": "1111-gone"}
    return {"metadata": {"name": name, "annotations": dict(annotations)}, "spec": spec}


GIVEN = {"credentials": {"password": "given-password", "secret": "given-secret-0000", "uuid": "given-uuid-000000"}}


def plan_on(volumes: list[dict[str, t.Any]], **couchdb: t.Any) -> Plan:
    live = Live()
    live.volumes = {item["metadata"]["name"]: item for item in volumes}
    return plan(live, couchdb={"volumes": [item["metadata"]["name"] for item in volumes], **couchdb}, **GIVEN)


def test_volumes_in_another_order_are_refused_with_the_right_one() -> None:
    one, two, three = (left_volume(f"pv-{number}", f"couchdb-{number}-claim0") for number in (1, 2, 3))
    assert not plan_on([one, two, three]).error
    found = plan_on([one, three, two])
    assert "pv-3 holds the data of the claim nairobi/couchdb-3-claim0, not of nairobi/couchdb-2-claim0" in found.error
    assert "name them in their order, [pv-1, pv-2, pv-3]" in found.error and not found.objects
    foreign = plan_on([one, two, left_volume("pv-x", "data-of-something")])
    assert "name the volumes of the claims couchdb-1-claim0, couchdb-2-claim0, couchdb-3-claim0" in foreign.error


def test_volumes_of_a_cluster_in_another_namespace_are_refused() -> None:
    found = plan_on([left_volume(f"pv-{number}", f"couchdb-{number}-claim0", "former") for number in (1, 2, 3)])
    assert "named after their namespace and would not open it: set namespace: former" in found.error
    # A lone CouchDB has no such names, but a node of a cluster is no lone CouchDB.
    assert not plan_on([left_volume("pv-1", "couchdb-claim0", "former")], mode="single").error
    assert "not of nairobi/couchdb-claim0" in plan_on([left_volume("pv-1", "couchdb-1-claim0")], mode="single").error


def test_what_a_volume_was_is_known_after_it_was_bound_again() -> None:
    swapped = [
        left_volume("pv-2", "couchdb-1-claim0", **{"cht.k3s/data-of": "nairobi/couchdb-2-claim0"}),
        left_volume("pv-1", "couchdb-2-claim0", **{"cht.k3s/data-of": "nairobi/couchdb-1-claim0"}),
        left_volume("pv-3", "couchdb-3-claim0"),
    ]
    assert "name them in their order, [pv-1, pv-2, pv-3]" in plan_on(swapped).error
    assert not plan_on([swapped[1], swapped[0], swapped[2]]).error


def test_a_volume_is_taken_on_the_word_of_one_county_only_and_that_is_said() -> None:
    volumes = [left_volume("pv-1", "couchdb-1-claim0"), left_volume("pv-3", "couchdb-3-claim0"), left_volume("pv-2", "couchdb-2-claim0")]
    found = plan_on(volumes, volumes_unproven=["pv-2", "pv-3"])
    assert not found.error
    assert "couchdb.volumes_unproven: pv-3 held the data of nairobi/couchdb-3-claim0 and becomes couchdb-2-claim0, as the definition wants it" in found.notes
    assert "pv-2 holds the data" in plan_on(volumes, volumes_unproven=["pv-3"]).error
    unknown = plan_on([left_volume("pv-new", None)], mode="single")
    assert not unknown.error and any("pv-new never had a claim" in note for note in unknown.notes)
    dummy, problems = read_counties([{
        "name": "nairobi", "host": "nairobi.health.example", "version": "4.22.0", "couchdb": {"mode": "single", "volumes_unproven": ["pv-1"]},
    }], None)
    assert "couchdb.volumes_unproven names pv-1, which is not in couchdb.volumes" in str(problems[0])


def test_a_named_volume_is_asked_for_as_it_is_though_more_storage_is_wanted() -> None:
    live = Live.collect([live_secret(**HELD)], [], [])
    live.volumes = {"pv-kept": kept_volume()}
    entry = {"couchdb": {**SINGLE, "volumes": ["pv-kept"], "storage": "20Gi"}}
    spec = next(item for item in plan(live, **entry).objects if item["kind"] == "PersistentVolumeClaim")["spec"]
    assert (spec["resources"]["requests"]["storage"], spec["volumeName"], spec["storageClassName"]) == ("8Gi", "pv-kept", "fast")
    # Bound, it grows, and keeps the name that was applied: a claim's volume can't be changed.
    bound = claim("couchdb-claim0")
    bound["spec"].update(volumeName="pv-kept", storageClassName="fast", resources={"requests": {"storage": "8Gi"}})
    bound["metadata"]["managedFields"] = [{"manager": "cht.k3s", "operation": "Apply", "fieldsV1": {"f:spec": {"f:volumeName": {}}}}]
    live = Live.collect([live_secret(**HELD)], [], [bound])
    live.volumes = {"pv-kept": kept_volume()}
    spec = next(item for item in plan(live, **entry).objects if item["kind"] == "PersistentVolumeClaim")["spec"]
    assert (spec["resources"]["requests"]["storage"], spec["volumeName"]) == ("20Gi", "pv-kept")
    bound["spec"]["storageClassName"] = ""
    fixed = plan(live, **entry)
    spec = next(item for item in fixed.objects if item["kind"] == "PersistentVolumeClaim")["spec"]
    assert spec["resources"]["requests"]["storage"] == "8Gi" and "claim couchdb-claim0 stays at 8Gi, not 20Gi: without a StorageClass" in fixed.notes[-1]
    bound["metadata"]["managedFields"][0]["operation"] = "Update"
    assert "volumeName" not in next(item for item in plan(live, **entry).objects if item["kind"] == "PersistentVolumeClaim")["spec"]


@pytest.mark.parametrize(("runs", "given", "named"), [
    ("storage/medic-core/couchdb/data", None, "storage/medic-core/couchdb/data"), (None, None, "/"), ("data", "/", "data"), ("data", "", "data"),
])
def test_a_couchdb_that_keeps_its_data_in_another_folder_does_not_start_empty(runs: str | None, given: str | None, named: str) -> None:
    live = Live.collect([live_secret(**HELD)], [database(runs)], [claim("couchdb-claim0")])
    found = plan(live, couchdb={**SINGLE, **({} if given is None else {"data_path": given})})
    assert f"set couchdb.data_path to '{named}'" in found.error and not found.objects
    assert not plan(live, couchdb={**SINGLE, "data_path": named}).error


def test_data_on_another_claim_is_not_left_behind() -> None:
    other = database(persistentVolumeClaim={"claimName": "moved-by-hand"})
    live = Live.collect([live_secret(**HELD)], [other], [claim("couchdb-claim0")])
    assert "cht-couchdb keeps its data in claim moved-by-hand, not in claim couchdb-claim0" in plan(live, couchdb=SINGLE).error


def test_a_county_on_volumes_of_two_moments_is_not_started() -> None:
    mark = {"cht.k3s/restoring": '{"set": "nairobi-20260102-030405", "volumes": {"couchdb-1-claim0": "pv-x"}}'}
    found = plan(Live.collect([live_secret(**HELD)], [], [], [{"metadata": {"name": "nairobi", "annotations": mark}}]))
    assert "a restore of the set nairobi-20260102-030405 is half done" in found.error and "cht_project_restore=nairobi-20260102-030405" in found.error
    assert not found.objects
    note = {"id": "x", "what": "restore", "place": "another-host", "pid": 7, "since": time.time(), "seen": time.time()}
    running = {"metadata": {"name": "nairobi", "annotations": {"cht.k3s/operation": json.dumps(note)}}}
    assert "another run works on it (restore since" in plan(Live.collect([live_secret(**HELD)], [], [], [running])).error
    done = [{"metadata": {"name": "nairobi"}}, {"metadata": {"name": "kisumu", "annotations": mark}}]
    assert not plan(Live.collect([live_secret(**HELD)], [], [], done)).error


def test_a_county_that_was_restored_keeps_those_volumes() -> None:
    bound = claim("couchdb-claim0")
    bound["spec"]["volumeName"] = "pv-new"
    live = Live.collect([live_secret(**HELD)], [], [bound])
    live.volumes = {name: {"metadata": {"name": name}, "spec": {"capacity": {"storage": "4Gi"}}} for name in ("pv-old", "pv-new")}
    entry = {"couchdb": {"mode": "single", "volumes": ["pv-old"]}}
    assert "claim couchdb-claim0 is bound to the volume pv-new, not pv-old" in plan(live, **entry).error
    live.volumes["pv-new"]["metadata"]["annotations"] = {"cht.k3s/restored-from": "nairobi-20260102-030405"}
    found = plan(live, **entry)
    assert not found.error and not found.rebind and found.objects
    assert any("since a restore claim couchdb-claim0 has the volume pv-new, not pv-old: take couchdb.volumes out" in note for note in found.notes)


@pytest.fixture(name="certificate")
def fixture_certificate(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        command += ["-subj", f"/CN={name}", "-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.crt")]
        subprocess.run(command, check=True, capture_output=True)
    return tmp_path


def test_a_certificate_is_read_from_files_or_text(certificate: Path) -> None:
    files = plan(base_dir=str(certificate), tls={"mode": "files", "certificate": "one.crt", "private_key": "one.key"})
    text = plan(tls={"mode": "files", "certificate": (certificate / "one.crt").read_text(), "private_key": (certificate / "one.key").read_text()})
    for found in (files, text):
        assert not found.error
        tls = next(item for item in found.objects if item["metadata"]["name"] == "api-tls-secret")
        assert tls["type"] == "kubernetes.io/tls"
        assert creds.decode_secret(tls)["tls.key"].startswith("-----BEGIN")


def test_a_key_of_another_certificate_is_refused(certificate: Path) -> None:
    found = plan(base_dir=str(certificate), tls={"mode": "files", "certificate": "one.crt", "private_key": "two.key"})
    assert "don't fit together" in found.error
    missing = plan(base_dir=str(certificate), tls={"mode": "files", "certificate": "three.crt", "private_key": "two.key"})
    assert "three.crt' can't be read" in missing.error
