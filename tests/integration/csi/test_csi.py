"""Claims as volumes of vCenter, through the real CSI controller in the manifest's own Deployment with its own Secret.

The sidecars and the mount on the node are stand-ins of the lab. The tests build on each other: the cluster is made once.
"""
from __future__ import annotations

from typing import Any

from conftest import Cluster
from support.lab import Run

SKIP = ("--skip-tags", "cht_project,verify")
# All that has broken configuration files of others; the real CPI and the real CSI controller log in with it.
PASSWORD = 'n3w "p\\w#;$%: \'6@ ü€'


def workers(cluster: Cluster) -> list[dict[str, Any]]:
    """Pods of CPI and CSI."""
    return [
        *cluster.lab.kubectl("get", "pods", "-n", "vmware-system-csi")["items"],
        *cluster.lab.kubectl("get", "pods", "-n", "kube-system", "-l", "k8s-app=vsphere-cloud-controller-manager")["items"],
        *cluster.lab.kubectl("get", "pods", "-n", "kube-system", "-l", "component=cloud-controller-manager")["items"],
    ]


def pods(cluster: Cluster) -> dict[str, str]:
    """Name and restarts of each tell whether it was touched."""
    return {item["metadata"]["name"]: str(sum(s["restartCount"] for s in item["status"].get("containerStatuses", []))) for item in workers(cluster)}


def rests(cluster: Cluster) -> bool:
    """Whether all of them run and none is on its way out, as some time after a machine was lost."""
    found = [{entry["type"]: entry["status"] for entry in item["status"].get("conditions", [])} for item in workers(cluster)]
    return all(entry.get("Ready") == "True" for entry in found) and not any("deletionTimestamp" in item["metadata"] for item in workers(cluster))


def nodes(cluster: Cluster) -> dict[str, str]:
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in cluster.lab.kubectl("get", "nodes")["items"]}


def ready(cluster: Cluster, name: str) -> bool:
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in cluster.lab.kubectl("get", "node", name)["status"]["conditions"])


def failed(run: Run) -> list[str]:
    """The message of each task that failed."""
    return [" ".join(str(task["result"].get("msg", "")).split()) for task in run.tasks if task["status"] == "failed"]


def cluster_id(cluster: Cluster) -> str:
    return str(cluster.lab.kubectl("get", "namespace", "kube-system")["metadata"]["uid"])


def test_1_the_whole_is_installed_and_tested(cluster: Cluster) -> None:
    run = cluster.play("install", *SKIP).expect()
    smoke = run.results("csi_smoke_test")
    assert len(smoke) == 1 and set(smoke[0]["steps"]) == {"bound", "written", "snapshot", "deleted"}
    registered = {item["metadata"]["name"]: item["spec"]["drivers"] for item in cluster.lab.kubectl("get", "csinodes")["items"]}
    uuids = {item["metadata"]["name"]: item["spec"]["providerID"].removeprefix("vsphere://") for item in cluster.lab.kubectl("get", "nodes")["items"]}
    assert {name: drivers[0]["nodeID"] for name, drivers in registered.items()} == uuids
    left = cluster.lab.kubectl("get", "pv,pvc,volumesnapshots,volumesnapshotcontents,volumeattachments", "-A")["items"]
    assert left == [] and cluster.volumes() == {}, "the smoke test has to leave nothing"
    controllers = cluster.lab.kubectl("get", "pods", "-n", "vmware-system-csi", "-l", "app=vsphere-csi-controller")["items"]
    assert sorted(item["spec"]["nodeName"] for item in controllers) == ["control-plane-1", "control-plane-2", "control-plane-3"]


def test_2_second_run_changes_nothing(cluster: Cluster) -> None:
    run = cluster.play("again", *SKIP, csi_smoke_test=False).expect()
    assert run.changed == []


def test_3_a_claim_lives_and_dies_as_a_volume_of_vcenter(cluster: Cluster) -> None:
    cluster.apply({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "passing"}, "provisioner": "csi.vsphere.vmware.com",
        "reclaimPolicy": "Delete", "allowVolumeExpansion": True,
    })
    cluster.claim("passing", storageClassName="passing")
    cluster.pod("writer", "passing", "echo kept > /data/file; while :; do sleep 1; done")
    volume = cluster.bound("passing")
    assert cluster.volumes()[volume] == ["1.0GB", cluster_id(cluster)]
    cluster.wait("start of the pod", lambda: cluster.lab.kubectl("get", "pod", "writer")["status"]["phase"] == "Running")
    attached = cluster.lab.kubectl("get", "volumeattachments")["items"]
    assert [(item["spec"]["source"]["persistentVolumeName"], item["status"]["attached"]) for item in attached] == [(volume, True)]
    cluster.claim("passing", "2Gi", storageClassName="passing")
    cluster.wait("expansion", lambda: cluster.lab.kubectl("get", "pvc", "passing")["status"]["capacity"]["storage"] == "2Gi", 240)
    assert cluster.volumes()[volume][0] == "2.0GB"
    assert cluster.lab("kubectl", "exec", "writer", "--", "cat", "/data/file").strip() == "kept"
    cluster.gone("pod/writer", "pvc/passing")
    cluster.wait("end of the volume", lambda: volume not in cluster.volumes())
    assert cluster.lab.kubectl("get", "pv,volumeattachments")["items"] == []
    cluster.gone("storageclass/passing")


def test_4_our_modules_and_the_driver_work_at_the_same_time(cluster: Cluster) -> None:
    names = [f"busy-{number}" for number in range(3)]
    for name in names:
        cluster.claim(name)
    task: dict[str, Any] = {"name": "Tasks in vCenter", "cht.k3s.vsphere_disk_uuid": {
        "hostname": "{{ vsphere_hostname }}", "username": "{{ vsphere_username }}", "password": "{{ vsphere_password }}",
        "ca_path": "{{ vsphere_ca_path }}", "vms": ["dhis2-db"],
    }}
    role = {"name": "Settings", "ansible.builtin.import_role": {"name": "cht.k3s.vsphere"}}
    cluster.own("tasks", [role, task]).expect()
    volumes = [cluster.bound(name) for name in names]
    assert set(volumes) <= set(cluster.volumes())
    for name in names[1:]:
        cluster.gone(f"pvc/{name}")


def test_5_a_cluster_id_in_use_is_refused(cluster: Cluster) -> None:
    tasks = [
        {"name": "The check of a new cluster", "ansible.builtin.include_role": {"name": "cht.k3s.csi", "tasks_from": "cluster_id"},
         "vars": {"__csi_cluster_id": "{{ wanted }}"}},
    ]
    refused = cluster.own("id-in-use", tasks, wanted=cluster_id(cluster)).expect(1)
    assert "Another cluster uses it" in " ".join(refused.output.split())
    cluster.own("id-free", tasks, wanted="6f4a7b1e-0000-4000-8000-000000000001").expect()


def test_6_another_controller_takes_over_when_its_pod_is_deleted(cluster: Cluster) -> None:
    former = cluster.holder()
    cluster.lab("kubectl", "delete", "pod", former, "-n", "vmware-system-csi", "--wait=false")
    cluster.claim("handed-over")
    assert cluster.bound("handed-over") in cluster.volumes() and cluster.holder() != former
    cluster.forget("handed-over")


def test_7_another_controller_takes_over_when_its_server_dies(cluster: Cluster) -> None:
    former = cluster.holder()
    server = str(cluster.lab.kubectl("get", "pod", former, "-n", "vmware-system-csi")["spec"]["nodeName"])
    cluster.lab("vm", "kill", server, timeout=60)
    try:
        cluster.claim("server-lost")
        assert cluster.bound("server-lost") in cluster.volumes() and cluster.holder() != former
    finally:
        cluster.lab("vm", "start", server, timeout=120)
    cluster.wait(f"return of {server}", lambda: ready(cluster, server))
    cluster.forget("server-lost")
    cluster.settle()


def test_8_the_volume_of_a_dead_machine_moves_once_it_is_fenced(cluster: Cluster) -> None:
    cluster.claim("moving")
    preferred = {"weight": 100, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["agent-1"]}]}}
    pod = cluster.pod_spec("moving", "hostname >> /data/hosts; while :; do sleep 1; done")
    cluster.apply({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": {"metadata": {"labels": {"app": "db"}}, "spec": {
            **pod, "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}}}}},
    })

    def runs_on() -> str:
        found = cluster.lab.kubectl("get", "pods", "-l", "app=db")["items"]
        return str(found[0]["spec"].get("nodeName", "")) if found and found[0]["status"]["phase"] == "Running" else ""

    def attached_to() -> list[str]:
        return [item["spec"]["nodeName"] for item in cluster.lab.kubectl("get", "volumeattachments")["items"] if (item.get("status") or {}).get("attached")]

    cluster.wait("start on agent-1", lambda: runs_on() == "agent-1")
    assert attached_to() == ["agent-1"]
    cluster.lab("vm", "kill", "agent-1", timeout=60)
    cluster.wait("silence of agent-1", lambda: not ready(cluster, "agent-1"))
    assert attached_to() == ["agent-1"], "a volume stays with a silent machine, which may still write to it"
    fenced = cluster.play("fence", "-e", "k3s_fence=agent-1", playbook="playbooks/fence_node.yml").expect()
    assert len(fenced.changed) == 1
    cluster.wait("start on another machine", lambda: runs_on() not in ("", "agent-1"))
    assert attached_to() == [runs_on()]
    assert len(cluster.lab("kubectl", "exec", "db-0", "--", "cat", "/data/hosts").split()) == 2, "what the first pod wrote is still there"
    cluster.lab("vm", "start", "agent-1", timeout=120)
    cluster.play("release", "-e", "k3s_fence=agent-1", "--tags", "release", playbook="playbooks/fence_node.yml").expect()
    cluster.gone("statefulset/db")
    cluster.forget("moving")
    cluster.settle()


def test_9_vcenter_goes_away_in_the_middle_of_a_run(cluster: Cluster) -> None:
    """After the preflight, before a claim is asked for: one message; all that ran goes on, and the next run is good."""
    cluster.wait("rest", lambda: rests(cluster))
    before, machines = pods(cluster), nodes(cluster)
    try:
        lost = cluster.during(
            "Check that every node has its providerID", lambda: cluster.lab("vcenter", "stop"), "vcenter-lost", "--tags", "csi", csi_timeout=60).expect(1)
    finally:
        cluster.lab("vcenter", "start")
    messages = failed(lost)
    assert len(messages) == 1 and "The storage does not work: the claim is not bound after 60 s" in messages[0], messages
    assert 'failed to connect to VirtualCenter host: "198.18.0.2"' in cluster.lab("logs", "csi"), "what the driver answers to csi-provisioner"
    assert lost.changed == [] and (pods(cluster), nodes(cluster)) == (before, machines)
    healed = cluster.play("vcenter-back", "--tags", "csi").expect()
    assert healed.changed == [] and "bound" in healed.results("csi_smoke_test")[0]["steps"]
    assert (pods(cluster), nodes(cluster)) == (before, machines)


def test_10_the_cloud_provider_starts_while_vcenter_is_away(cluster: Cluster) -> None:
    """No node is removed, and nobody has to help once vCenter is back."""
    machines = nodes(cluster)
    before = {name: count for name, count in pods(cluster).items() if name.startswith("vsphere-csi")}

    def says(text: str) -> bool:
        return text in cluster.lab("kubectl", "logs", "-n", "kube-system", "-l", "name=vsphere-cloud-controller-manager", "--tail=-1")

    try:
        lost = cluster.during(
            "Refuse nodes that the cloud provider would remove", lambda: cluster.lab("vcenter", "stop"), "cpi-lost", "--tags", "cpi", cpi_log_level=3).expect()
        assert lost.changed == ["localhost: cht.k3s.cpi : Apply the objects"]
        cluster.wait("a try to connect", lambda: says("dial tcp 198.18.0.2:443: connect: connection refused"))
        assert not says("Found node")
        assert nodes(cluster) == machines
    finally:
        cluster.lab("vcenter", "start")
    cluster.wait("a node that is found", lambda: says("Found node"))
    assert cluster.play("cpi-again", "--tags", "cpi", cpi_log_level=3).expect().changed == []
    assert cluster.play("cpi-before", "--tags", "cpi").expect().changed == lost.changed
    assert nodes(cluster) == machines
    assert {name: count for name, count in pods(cluster).items() if name.startswith("vsphere-csi")} == before


def test_11_vcenter_goes_away_before_the_password_was_tried(cluster: Cluster) -> None:
    before, machines = pods(cluster), nodes(cluster)
    try:
        lost = cluster.during(
            "cht.k3s.cpi : Read what runs", lambda: cluster.lab("vcenter", "stop"), "rotate-lost", "--tags", "vcenter", playbook="playbooks/rotate.yml",
            vsphere_password="next#1").expect(1)
    finally:
        cluster.lab("vcenter", "start")
    assert len(failed(lost)) == 1 and "vCenter 198.18.0.2:443 cannot be reached (Connection refused)" in " ".join(lost.output.split())
    assert lost.changed == [] and (pods(cluster), nodes(cluster)) == (before, machines) and "next#1" not in lost.output


def test_12_a_wrong_password_changes_nothing(cluster: Cluster) -> None:
    before, machines = pods(cluster), nodes(cluster)
    cluster.lab.reset_logins()
    refused = cluster.play("wrong-password", "--tags", "vcenter", playbook="playbooks/rotate.yml", vsphere_password="wrong#1").expect(1)
    assert "refused the login" in refused.output and "wrong#1" not in refused.output
    assert cluster.lab.ansible_logins()["failed"] == 1, "more than one attempt locks the account"
    assert refused.changed == [] and (pods(cluster), nodes(cluster)) == (before, machines)


def test_13_a_new_password_restarts_what_reads_it(cluster: Cluster) -> None:
    before, machines = pods(cluster), nodes(cluster)
    cluster.lab("vcenter", "password", PASSWORD)
    cluster.lab.reset_logins()
    run = cluster.play("rotate", "--tags", "vcenter", playbook="playbooks/rotate.yml").expect()
    assert len(run.changed) == 2 and cluster.lab.ansible_logins() == {"ok": 2, "failed": 0, "open": 0}, "one for the inventory, one to try the password"
    assert PASSWORD not in run.output
    after = pods(cluster)
    kept = {name for name in before if name in after}
    assert {name.rsplit("-", 1)[0] for name in kept} == {"vsphere-csi-node"}, "the node plugin reads no password"
    assert nodes(cluster) == machines
    cluster.claim("after")
    assert cluster.bound("after") in cluster.volumes(), "the controller logs in with the new password"
    cluster.gone("pvc/after")
    again = cluster.play("rotate-again", "--tags", "vcenter", playbook="playbooks/rotate.yml").expect()
    assert again.changed == []


def test_14_rotation_is_no_upgrade(cluster: Cluster) -> None:
    refused = cluster.play("no-upgrade", "--tags", "vcenter", playbook="playbooks/rotate.yml", cpi_image="registry.example.org/cpi:1").expect(1)
    assert "Only the password may change here" in " ".join(refused.output.split())
    assert refused.changed == []


def test_15_an_image_that_is_not_there_is_named_with_its_override(cluster: Cluster) -> None:
    refused = cluster.play("no-image", "--tags", "csi_snapshots", csi_snapshot_image="registry.k8s.io/sig-storage/missing:v1", csi_timeout=90).expect(1)
    text = " ".join(refused.output.split())
    assert "registry.k8s.io/sig-storage/missing:v1" in text and "Set csi_snapshot_image or csi_image_registry" in text
    assert cluster.play("image", "--tags", "csi_snapshots").expect().changed == ["localhost: cht.k3s.csi : Apply the snapshot-controller"]


def test_16_removal_waits_for_the_last_volume(cluster: Cluster) -> None:
    refused = cluster.play("remove-refused", playbook="playbooks/remove_csi.yml").expect(1)
    text = " ".join(refused.output.split())
    assert "The storage driver is still needed" in text and "default/busy-0" in text
    assert refused.changed == []
    volume = cluster.bound("busy-0")
    cluster.gone("pvc/busy-0")
    retained = [item["metadata"]["name"] for item in cluster.lab.kubectl("get", "pv")["items"]]
    assert volume in retained
    still = cluster.play("remove-retained", playbook="playbooks/remove_csi.yml").expect(1)
    assert f"{volume} of default/busy-0, Released" in " ".join(still.output.split()), "a retained volume needs the driver too"
    cluster.gone(*[f"pv/{name}" for name in retained])
    assert volume in cluster.volumes(), "a retained disk outlives its PersistentVolume"
    assert len(cluster.play("remove", playbook="playbooks/remove_csi.yml").expect().changed) == 1
    assert cluster.lab.kubectl("get", "csidrivers")["items"] == []
    assert cluster.play("remove-again", playbook="playbooks/remove_csi.yml").expect().changed == []
