"""A cluster that was begun without encryption: its Secrets stay readable, are encrypted, and get another key, also after interrupted runs."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.k3s import SERVERS, said, voters
from support.lab import Lab, Run, own_lab

SITE = ("--tags", "node,control_plane", "-e", json.dumps({"k3s_cloud_provider": "none"}))
CONFIGURATION = "/var/lib/rancher/k3s/server/cred/encryption-config.json"
TAKING = "TASK [cht.k3s.k3s : Bring each server to it]"
MARKED = [f"marked-{number}" for number in range(5)]


@pytest.fixture(scope="module")
def plain() -> Iterator[Lab]:
    """Three servers that were begun without."""
    keep = os.environ.get("K3S_LAB") == "keep"
    with own_lab("encryption", Path(__file__).parent / "servers.yml", keep=keep) as lab:
        lab.playbook(*SITE, "-e", json.dumps({"control_plane_secrets_encryption": False}), name="encryption-built").expect()
        for name in MARKED:
            lab("kubectl", "create", "secret", "generic", name, "--from-literal=key=plainly-visible")
        yield lab


def encrypt(lab: Lab, name: str, folder: Path, *argv: str, rotate: bool = False, **options: object) -> Run:
    given = {"k3s_confirm": "lab", "k3s_backup_dir": str(folder), "k3s_encryption_rotate": rotate}
    return lab.playbook("-e", json.dumps(given), *argv, playbook="playbooks/secrets_encryption.yml", name=f"encryption-{name}", **options)


def readable(lab: Lab) -> bool:
    """Through each server, and what one writes the others read."""
    for server in SERVERS:
        lab("ssh", server, f"sudo k3s kubectl create secret generic by-{server} --from-literal=key=x --dry-run=client -o yaml | sudo k3s kubectl apply -f -")
    wanted = {*MARKED, *(f"by-{server}" for server in SERVERS)}
    return all(wanted <= set(lab("ssh", server, "sudo k3s kubectl get secrets -o name").replace("secret/", "").split()) for server in SERVERS)


def keys(lab: Lab) -> set[str]:
    """Of each server, told apart without being shown; '' where it has none."""
    return {lab("ssh", server, f"sudo sh -c 'test ! -e {CONFIGURATION} || sha256sum < {CONFIGURATION}'").strip() for server in SERVERS}


def services(lab: Lab) -> list[str]:
    return [lab("ssh", server, "systemctl show k3s -p MainPID").strip() for server in SERVERS]


def test_the_default_leaves_the_secrets_of_a_cluster_that_runs(plain: Lab) -> None:
    before = services(plain)
    for argv in (("--check", "--diff"), ()):
        run = plain.playbook(*SITE, *argv, name="encryption-default").expect()
        assert "playbooks/secrets_encryption.yml encrypts them" in " ".join(run.output.split())
        assert run.changed == [] and services(plain) == before
    assert readable(plain)
    assert "secrets-encryption" not in plain("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml")


def test_it_asks_for_the_name_and_for_a_place_of_the_snapshot(plain: Lab, tmp_path: Path) -> None:
    run = plain.playbook(playbook="playbooks/secrets_encryption.yml", name="encryption-unconfirmed").expect(2)
    assert "-e k3s_confirm=NAME. Nothing was changed" in said(run)
    run = plain.playbook("-e", "k3s_confirm=lab", playbook="playbooks/secrets_encryption.yml", name="encryption-nowhere")
    assert run.code and "set k3s_backup_dir" in said(run) and run.changed == []
    run = encrypt(plain, "predicted", tmp_path, "--check").expect()
    assert len([line for line in run.changed if "Bring each server" in line]) == 2 and not os.listdir(tmp_path)
    assert keys(plain) == {""}


def test_the_secrets_are_encrypted_also_by_a_run_that_was_interrupted(plain: Lab, tmp_path: Path) -> None:
    run = encrypt(plain, "interrupted", tmp_path, interrupt_after=TAKING, nth=1, pause=20)
    assert run.code != 0
    encrypt(plain, "resumed", tmp_path).expect()
    assert readable(plain) and voters(plain) == SERVERS
    assert len(keys(plain)) == 1 and "k8s:enc:aescbc" in stored(plain)
    before = services(plain)
    assert encrypt(plain, "again", tmp_path).expect().changed == []
    assert plain.playbook(*SITE, name="encryption-site").expect().changed == [] and services(plain) == before
    run = plain.playbook(*SITE, "-e", json.dumps({"control_plane_secrets_encryption": False}), name="encryption-off").expect()
    assert "They stay encrypted" in " ".join(run.output.split()) and run.changed == [] and services(plain) == before


def test_another_key_also_by_a_run_that_was_interrupted(plain: Lab, tmp_path: Path) -> None:
    before = keys(plain)
    run = encrypt(plain, "rotate-interrupted", tmp_path, rotate=True, interrupt_after=TAKING, nth=2, pause=5)
    assert run.code != 0 and readable(plain)
    encrypt(plain, "rotate-resumed", tmp_path, rotate=True).expect()
    after = keys(plain)
    assert len(after) == 1 and after != before and readable(plain) and voters(plain) == SERVERS
    assert encrypt(plain, "rotate-again", tmp_path).expect().changed == [] and keys(plain) == after


def stored(lab: Lab) -> str:
    """A Secret as it lies in etcd, printable."""
    tls = "/var/lib/rancher/k3s/server/tls/etcd"
    return lab("ssh", "control-plane-1", f"sudo sh -c 'set -- /opt/lab/k8s/*/etcdctl; $1 --endpoints=https://127.0.0.1:2379 --cacert={tls}/server-ca.crt"
               f" --cert={tls}/client.crt --key={tls}/client.key get /registry/secrets/default/marked-0' | tr -c '[:print:]' '.'")
