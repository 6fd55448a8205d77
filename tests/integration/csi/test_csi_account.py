"""An account that is written DOMAIN\\user, as vCenters with a Windows domain have it: CPI and CSI controller, both real, log in with it."""
from __future__ import annotations

from conftest import Cluster

ACCOUNT = {"vsphere_username": "MOH\\k3s", "vsphere_password": "Cp!&=%lab:{8}"}


def test_cpi_and_csi_work_with_an_account_of_a_windows_domain(small_cluster: Cluster) -> None:
    cluster = small_cluster
    nodes = {item["metadata"]["name"]: item["metadata"]["uid"] for item in cluster.lab.kubectl("get", "nodes")["items"]}
    run = cluster.play("account", "--tags", "vcenter", playbook="playbooks/rotate.yml", **ACCOUNT).expect()
    assert len(run.changed) == 2 and ACCOUNT["vsphere_password"] not in run.output
    cluster.claim("by-domain-account")
    assert cluster.bound("by-domain-account") in cluster.volumes()
    said = cluster.lab("kubectl", "logs", "-n", "kube-system", "-l", "name=vsphere-cloud-controller-manager", "--tail=-1")
    assert "cannot complete login" not in said.lower()
    assert {item["metadata"]["name"]: item["metadata"]["uid"] for item in cluster.lab.kubectl("get", "nodes")["items"]} == nodes
    assert cluster.play("account-again", "--tags", "vcenter", playbook="playbooks/rotate.yml", **ACCOUNT).expect().changed == []
    back = cluster.play("account-back", "--tags", "vcenter", playbook="playbooks/rotate.yml").expect()
    assert len(back.changed) == 2
