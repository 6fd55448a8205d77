"""Backup and restore: nothing that was saved is lost, and no half-way state hurts."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.k3s import SERVERS, Cluster, play, said, site

READYZ = "https://127.0.0.1:6443/v1-k3s/readyz"
CA = "sudo sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt"


@pytest.fixture(scope="module")
def s3(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What stands in for S3: moto's server, over TLS, with a bucket; the settings that reach it."""
    folder = tmp_path_factory.mktemp("s3")
    certificate, key = folder / "s3.crt", folder / "s3.key"
    subprocess.run([
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=s3",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate),
    ], check=True, capture_output=True)
    moto = str(Path(sys.executable).parent / "moto_server")
    process = cluster.lab.start(moto, "-H", "127.0.0.1", "-p", "5443", "-s", "-c", str(certificate), "-k", str(key))
    settings = {
        "k3s_backup_s3_bucket": "moh-backup", "k3s_backup_s3_endpoint": "https://127.0.0.1:5443", "k3s_backup_s3_region": "us-east-1",
        "k3s_backup_s3_access_key": "AKIAEXAMPLE", "k3s_backup_s3_secret_key": "s3-secret-never-shown", "k3s_backup_s3_ca_file": str(certificate),
    }
    try:
        _boto(cluster, settings, "for turn in range(60):\n try:\n  s3.create_bucket(Bucket=bucket)\n  break\n except Exception:\n  time.sleep(1)")
        yield settings
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _boto(cluster: Cluster, settings: dict[str, Any], code: str) -> str:
    """Run lines of Python inside the lab's network, with a client of the storage."""
    head = (
        "import boto3, time\n"
        f"bucket = {settings['k3s_backup_s3_bucket']!r}\n"
        f"s3 = boto3.client('s3', endpoint_url={settings['k3s_backup_s3_endpoint']!r}, verify={settings['k3s_backup_s3_ca_file']!r},"
        f" region_name='us-east-1', aws_access_key_id='AKIAEXAMPLE', aws_secret_access_key='x')\n"
    )
    process = cluster.lab.start(sys.executable, "-c", head + code)
    output, _errors = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def backup(cluster: Cluster, s3: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup with one object in it, and one object that came after it."""
    folder = tmp_path_factory.mktemp("backup")
    cluster.mark("before-backup")
    cluster.lab("kubectl", "delete", "configmap", "after-backup", "--ignore-not-found")
    run = play(cluster.lab, "backup", "backup", {"k3s_backup_dir": str(folder), **s3}).expect()
    assert s3["k3s_backup_s3_secret_key"] not in run.output
    cluster.mark("after-backup")
    return next((folder / "lab").iterdir())


def _marks(cluster: Cluster) -> set[str]:
    return {item["metadata"]["name"] for item in cluster.lab.kubectl("get", "configmaps")["items"]}


def _damaged(backup: Path, folder: Path) -> Path:
    """A copy of the backup whose snapshot is cut off."""
    damaged = folder / backup.name
    damaged.mkdir()
    (damaged / "token").write_text((backup / "token").read_text())
    (damaged / backup.name).write_bytes((backup / backup.name).read_bytes()[:50_000])
    return damaged


def test_a_backup_is_whole_and_its_owners(cluster: Cluster, backup: Path) -> None:
    assert sorted(path.name for path in backup.iterdir()) == sorted([backup.name, "token"])
    assert all(path.stat().st_mode & 0o077 == 0 for path in [backup, *backup.iterdir()])
    assert (backup / backup.name).stat().st_size > 100_000
    assert (backup / "token").read_text().startswith("K10")


def test_the_same_backup_is_in_s3(cluster: Cluster, backup: Path, s3: dict[str, Any]) -> None:
    listing = _boto(cluster, s3, "for item in s3.list_objects_v2(Bucket=bucket)['Contents']: print(item['Key'], item['Size'])")
    assert sorted(listing.split("\n"))[1:] == sorted(f"lab/{backup.name}/{path.name} {path.stat().st_size}" for path in backup.iterdir())


def test_a_storage_whose_certificate_is_not_known_gets_nothing(cluster: Cluster, backup: Path, s3: dict[str, Any], tmp_path: Path) -> None:
    run = play(cluster.lab, "backup", "s3-unknown", {"k3s_backup_dir": str(tmp_path), **s3, "k3s_backup_s3_ca_file": ""}).expect(2)
    assert "but not in S3" in said(run) and "Failed while looking up bucket" in said(run) and "k3s_backup_s3_ca_file" in said(run)
    listing = _boto(cluster, s3, "for item in s3.list_objects_v2(Bucket=bucket)['Contents']: print(item['Key'])")
    assert len(listing.split()) == 2, "those of the first backup"
    assert len(list((tmp_path / "lab").iterdir())) == 1, "the controller has its copy all the same"


def test_old_snapshots_on_the_server_go_once_the_new_one_is_off_it(cluster: Cluster, backup: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        play(cluster.lab, "backup", f"prune-{name}", {"k3s_backup_dir": str(tmp_path), "k3s_snapshot_keep": 1}).expect()
    kept = [line for server in SERVERS for line in cluster.lab(
        "ssh", server, "sudo sh -c 'ls /var/lib/rancher/k3s/server/db/snapshots 2>/dev/null | grep ^backup- || true'").split()]
    copies = sorted((path.name for path in (tmp_path / "lab").iterdir()), key=lambda name: int(name.rsplit("-", 1)[1]))
    assert len(copies) == 2 and kept == copies[-1:]


def test_a_backup_needs_a_place_and_a_restore_the_cluster_name(cluster: Cluster, backup: Path) -> None:
    assert "Set k3s_backup_dir" in said(play(cluster.lab, "backup", "nowhere", {}).expect(1))
    relative = play(cluster.lab, "restore", "relative", {"k3s_restore_from": "lab/x", "k3s_confirm": "lab"}).expect(1)
    assert relative.changed == [] and "with its whole path; it is lab/x" in said(relative)
    refused = play(cluster.lab, "restore", "unconfirmed", {"k3s_restore_from": str(backup)}).expect(1)
    assert refused.changed == [] and "Nothing was changed" in said(refused)


def test_a_damaged_snapshot_changes_nothing(cluster: Cluster, backup: Path, tmp_path: Path) -> None:
    run = play(cluster.lab, "restore", "damaged", {"k3s_restore_from": str(_damaged(backup, tmp_path)), "k3s_confirm": "lab"}).expect(1)
    assert "Nothing was restored and no data was changed" in said(run)
    cluster.heals("damaged-after", "before-backup", "after-backup")


def test_a_wrong_token_changes_nothing(cluster: Cluster, backup: Path, tmp_path: Path) -> None:
    """k3s writes it, and the passwords made of it, before it has opened the snapshot with it; then the server would not start again."""
    wrong = tmp_path / backup.name
    shutil.copytree(backup, wrong)
    (wrong / "token").write_text("not-the-token-of-that-time")
    look = 'stat -c "%n %Y" token cred/passwd && sha256sum token cred/passwd && ls -d before-reset* tls-* || true'
    kept = f"sudo sh -c 'cd /var/lib/rancher/k3s/server && {look}'"
    before = cluster.lab("ssh", "control-plane-1", kept)
    run = play(cluster.lab, "restore", "wrong-token", {"k3s_restore_from": str(wrong), "k3s_confirm": "lab"}).expect(1)
    assert "encrypted with different token" in said(run) and "Nothing was restored and no data was changed" in said(run)
    # The time of `token` is that of the start after it: k3s writes it anew each time.
    assert [line for line in cluster.lab("ssh", "control-plane-1", kept).splitlines() if not line.startswith("token ")] == [
        line for line in before.splitlines() if not line.startswith("token ")]
    cluster.heals("wrong-token-after", "before-backup", "after-backup")


def test_an_interrupted_restore_is_refused_until_it_is_finished(cluster: Cluster, backup: Path, tmp_path: Path) -> None:
    """The first server has the old data back, the others have the new: neither site.yml, a reboot nor a second try brings them together."""
    lab = cluster.lab
    restore = {"k3s_restore_from": str(backup), "k3s_confirm": "lab"}
    assert play(lab, "restore", "cut-short", restore, interrupt_after="control_plane : Put the snapshot back").code != 0
    refused = site(lab, "cut-short-site").expect(1)
    assert f"A restore of this cluster was begun and not finished ({backup.name})" in said(refused)
    lab("vm", "kill", "control-plane-2", timeout=60)
    lab("vm", "start", "control-plane-2", timeout=120)
    again = play(lab, "restore", "cut-short-damaged", {"k3s_restore_from": str(_damaged(backup, tmp_path)), "k3s_confirm": "lab"}).expect(1)
    assert "An earlier restore was begun and not finished" in said(again) and "no data was changed" not in said(again)
    for name in SERVERS:
        state = lab("ssh", name, "systemctl is-active k3s; systemctl is-enabled k3s; true").split()
        assert state == ["inactive", "disabled"], f"{name}: {state}"
    play(lab, "restore", "finished", restore).expect()
    assert {"before-backup"} <= _marks(cluster) and "after-backup" not in _marks(cluster)
    cluster.heals("finished-after", "before-backup")


def test_everything_comes_back_after_all_three_servers_are_lost(cluster: Cluster, backup: Path, s3: dict[str, Any], tmp_path: Path) -> None:
    """And after the controller has lost its copies: they come from S3."""
    lab = cluster.lab
    authority = lab("ssh", "control-plane-1", CA).split()[0]
    for name in SERVERS:
        lab("vm", "wipe", name, timeout=300)
    again = tmp_path / backup.name
    wrong = play(lab, "restore", "s3-typo", {"k3s_restore_from": str(tmp_path / "typo"), "k3s_confirm": "lab", **s3}).expect(1)
    assert "can't be had from S3" in said(wrong) and "Nothing was changed" in said(wrong)
    # Everything that any process is called with meanwhile, on the server that gets the snapshot.
    lab("ssh", "control-plane-1", "sudo systemd-run -q --unit=watch-arguments sh -c 'while :; do ps -eo args >> /run/arguments; sleep 0.1; done'")
    run = play(lab, "restore", "lost", {"k3s_restore_from": str(again), "k3s_confirm": "lab", **s3}).expect()
    lab("ssh", "control-plane-1", "sudo systemctl stop watch-arguments")
    password = (backup / "token").read_text().strip().rpartition(":")[2]
    arguments = lab("ssh", "control-plane-1", "sudo cat /run/arguments")
    assert "--cluster-reset-restore-path=" in arguments and password not in arguments and password not in run.output
    assert "cluster-reset" not in lab("ssh", "control-plane-1", "sudo ls -a /etc/rancher/k3s") and "before-reset" not in lab(
        "ssh", "control-plane-1", "sudo ls -a /var/lib/rancher/k3s/server")
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in backup.iterdir())
    assert all(path.stat().st_mode & 0o077 == 0 for path in [again, *again.iterdir()])
    assert "before-backup" in _marks(cluster)
    assert {lab("ssh", name, CA).split()[0] for name in SERVERS} == {authority}, "the certificates come back with the snapshot"
    cluster.heals("lost-after", "before-backup")


def test_a_snapshot_of_before_a_rotation_is_restored_with_its_token(cluster: Cluster, backup: Path, tmp_path: Path) -> None:
    """The servers' passwords are newer than it, which k3s refuses to start with. And every server takes the token that was rotated to."""
    lab, secret = cluster.lab, tmp_path / "token.yml"
    secret.write_text("k3s_new_token: a-word-of-after-the-backup\n")
    rotate = ("--tags", "token", "-e", f"@{secret}")
    # Ended between the change and the restart of the server that was asked, which takes the old token until then.
    assert play(lab, "rotate", "rotation-cut-short", {}, *rotate, interrupt_after="k3s : Change the token of the cluster").code != 0
    first = play(lab, "rotate", "rotation", {}, *rotate).expect()
    assert [host for host in SERVERS if not any(line.startswith(f"{host}:") for line in first.changed)] == []
    assert play(lab, "rotate", "rotation-again", {}, *rotate).expect().changed == []
    for name in SERVERS:
        assert lab("ssh", name, f"""sudo curl -sk -o /dev/null -w '%{{http_code}}' -u node:a-word-of-after-the-backup {READYZ}""") == "200", name
        old = (backup / "token").read_text().strip().rpartition(":")[2]
        assert lab("ssh", name, f"sudo curl -sk -o /dev/null -w '%{{http_code}}' -u node:{old} {READYZ}") == "401", name
    assert "leaves out control-plane-2, control-plane-3" in said(play(lab, "rotate", "rotation-limited", {}, *rotate, "--limit", "control-plane-1").expect(1))
    play(lab, "restore", "after-rotation", {"k3s_restore_from": str(backup), "k3s_confirm": "lab"}).expect()
    assert "before-backup" in _marks(cluster)
    cluster.heals("after-rotation-after", "before-backup")
