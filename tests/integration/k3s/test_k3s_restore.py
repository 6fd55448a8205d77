"""Backup and restore: nothing that was saved is lost, and no half-way state hurts."""
from __future__ import annotations

from pathlib import Path

import pytest
from support.k3s import SERVERS, Cluster, play, said, site

CA = "sudo sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt"


@pytest.fixture(scope="module")
def backup(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup with one object in it, and one object that came after it."""
    folder = tmp_path_factory.mktemp("backup")
    cluster.mark("before-backup")
    cluster.lab("kubectl", "delete", "configmap", "after-backup", "--ignore-not-found")
    play(cluster.lab, "backup", "backup", {"k3s_backup_dir": str(folder)}).expect()
    cluster.mark("after-backup")
    return next((folder / "lab").iterdir())


def _marks(cluster: Cluster) -> set[str]:
    return {item["metadata"]["name"] for item in cluster.lab.kubectl("get", "configmaps")["items"]}


def test_a_backup_is_whole_and_its_owners(cluster: Cluster, backup: Path) -> None:
    assert sorted(path.name for path in backup.iterdir()) == sorted([backup.name, "token"])
    assert all(path.stat().st_mode & 0o077 == 0 for path in [backup, *backup.iterdir()])
    assert (backup / backup.name).stat().st_size > 100_000
    assert (backup / "token").read_text().startswith("K10")


def test_a_backup_needs_a_place_and_a_restore_the_cluster_name(cluster: Cluster, backup: Path) -> None:
    assert "Set k3s_backup_dir" in said(play(cluster.lab, "backup", "nowhere", {}).expect(1))
    refused = play(cluster.lab, "restore", "unconfirmed", {"k3s_restore_from": str(backup)}).expect(1)
    assert refused.changed == [] and "Nothing was changed" in said(refused)


def test_a_damaged_snapshot_changes_nothing(cluster: Cluster, backup: Path, tmp_path: Path) -> None:
    damaged = tmp_path / backup.name
    damaged.mkdir()
    (damaged / "token").write_text((backup / "token").read_text())
    (damaged / backup.name).write_bytes((backup / backup.name).read_bytes()[:50_000])
    run = play(cluster.lab, "restore", "damaged", {"k3s_restore_from": str(damaged), "k3s_confirm": "lab"}).expect(1)
    assert "Nothing was restored and no data was changed" in said(run)
    cluster.heals("damaged-after", "before-backup", "after-backup")


def test_an_interrupted_restore_is_refused_until_it_is_finished(cluster: Cluster, backup: Path) -> None:
    """The first server has the old data back, the others have the new: site.yml must not bring them together."""
    lab = cluster.lab
    restore = {"k3s_restore_from": str(backup), "k3s_confirm": "lab"}
    assert play(lab, "restore", "cut-short", restore, interrupt_after="control_plane : Put the snapshot back").code != 0
    refused = site(lab, "cut-short-site").expect(1)
    assert f"A restore of this cluster was begun and not finished ({backup.name})" in said(refused)
    play(lab, "restore", "finished", restore).expect()
    assert {"before-backup"} <= _marks(cluster) and "after-backup" not in _marks(cluster)
    cluster.heals("finished-after", "before-backup")


def test_everything_comes_back_after_all_three_servers_are_lost(cluster: Cluster, backup: Path) -> None:
    lab = cluster.lab
    authority = lab("ssh", "control-plane-1", CA).split()[0]
    for name in SERVERS:
        lab("vm", "wipe", name, timeout=300)
    play(lab, "restore", "lost", {"k3s_restore_from": str(backup), "k3s_confirm": "lab"}).expect()
    assert "before-backup" in _marks(cluster)
    assert {lab("ssh", name, CA).split()[0] for name in SERVERS} == {authority}, "the certificates come back with the snapshot"
    cluster.heals("lost-after", "before-backup")
