"""New certificates and a new token for a cluster that runs: seen in the files, in nobody's process list, and only once."""
from __future__ import annotations

import json
from pathlib import Path

from support.lab import Lab

WORD = "another-word-for-the-cluster"
NODES = {"control-plane-1": "k3s", "agent-1": "k3s-agent", "agent-2": "k3s-agent"}


def pids(lab: Lab) -> dict[str, str]:
    return {node: lab("ssh", node, f"systemctl show -p MainPID {unit}").strip() for node, unit in NODES.items()}


def rotate(lab: Lab, name: str, *argv: str):
    return lab.playbook(*argv, playbook="playbooks/rotate.yml", name=f"life-rotate-{name}")


def test_certificates_are_renewed_once_and_reported(life: Lab, tmp_path: Path) -> None:
    before, serving = pids(life), "sudo sha256sum /var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt /var/lib/rancher/k3s/server/tls/server-ca.crt"
    old = life("ssh", "control-plane-1", serving).splitlines()
    first = rotate(life, "certificates", "--tags", "certificates", "-e", "k3s_renew_within_days=365", "-e", f"k3s_report_dir={tmp_path}").expect()
    new = life("ssh", "control-plane-1", serving).splitlines()
    assert old[0] != new[0] and old[1] == new[1], "the server's certificate is new, its authority is not"
    assert not set(before.values()) & set(pids(life).values())
    report = json.loads((tmp_path / "certificates.json").read_text())
    assert set(report) == set(NODES) and all(report[node]["certificates"][0]["days"] >= 364 for node in NODES)
    assert "NODE             DAYS  ENDS" in first.output and "control-plane-1   364  20" in first.output
    settled = pids(life)
    assert rotate(life, "certificates-again", "--tags", "certificates").expect().changed == []
    assert pids(life) == settled


def test_a_token_that_cannot_be_right_changes_nothing(life: Lab) -> None:
    run = rotate(life, "no-token", "--tags", "token").expect(1)
    assert "Set k3s_new_token" in run.output and run.changed == []
    run = rotate(life, "bad-token", "--tags", "token", "-e", json.dumps({"k3s_new_token": "K10" + "a" * 64 + "::server:x"})).expect(1)
    assert "give the password alone" in run.output and run.changed == []


def test_the_token_is_changed_on_every_node_and_seen_nowhere(life: Lab, tmp_path: Path) -> None:
    secret = tmp_path / "token.yml"
    secret.write_text(f"k3s_new_token: {WORD}\n")
    before = pids(life)
    # Everything that any process is called with meanwhile, on the server.
    life("ssh", "control-plane-1", "sudo systemd-run -q --unit=watch-arguments sh -c 'while :; do ps -eo args >> /run/arguments; sleep 0.1; done'")
    run = rotate(life, "token", "--tags", "token", "-e", f"@{secret}", "-vvv").expect()
    life("ssh", "control-plane-1", "sudo systemctl stop watch-arguments")
    assert WORD not in run.output and WORD not in life("ssh", "control-plane-1", "sudo cat /run/arguments")
    assert WORD not in life("ssh", "control-plane-1", "sudo journalctl --no-pager -o cat")
    assert life("ssh", "control-plane-1", "sudo cat /var/lib/rancher/k3s/server/token").strip().endswith(f"::server:{WORD}")
    # The server was asked, and knows the new token only since its restart.
    assert pids(life)["control-plane-1"] != before["control-plane-1"]
    assert "before-rotation" not in life("ssh", "control-plane-1", "sudo ls -a /etc/rancher/k3s")
    probe = "sudo curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1:6443/v1-k3s/readyz -u node:"
    assert life("ssh", "control-plane-1", probe + WORD) == "200"
    settled = pids(life)
    for agent in ("agent-1", "agent-2"):
        assert life("ssh", agent, "sudo cat /etc/rancher/k3s/token").strip().endswith(WORD)
        assert pids(life)[agent] != before[agent]
    again = rotate(life, "token-again", "--tags", "token", "-e", f"@{secret}").expect()
    assert again.changed == [] and pids(life) == settled


def test_a_machine_joins_with_the_new_token(life: Lab) -> None:
    """And one that has the old one still is a member: its certificate is what it is known by."""
    life("vm", "wipe", "agent-2", timeout=120)
    life.playbook("--tags", "node,control_plane,agent", "-e", "k3s_cloud_provider=none", "-e", "control_plane_secrets_encryption=false",
                  "--limit", "agent-2,localhost", name="life-joined-anew").expect()
    ready = [n["metadata"]["name"] for n in life.kubectl("get", "nodes")["items"]
             for c in n["status"]["conditions"] if c["type"] == "Ready" and c["status"] == "True"]
    assert sorted(ready) == sorted(NODES)
