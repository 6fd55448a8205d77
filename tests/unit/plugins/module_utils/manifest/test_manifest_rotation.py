"""A change of the password is a change of the password only."""
from __future__ import annotations

import base64
import copy
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.manifest import csi, logins, rotation, vcenters
from ansible_collections.cht.k3s.plugins.module_utils.manifest.shape import HASH_ANNOTATION

HOST = {"hostname": "vcenter.example.org", "username": "k3s@vsphere.local", "password": "new", "datacenters": ["DC"]}


def workload(kind: str = "DaemonSet", **images: str) -> dict[str, Any]:
    containers = [{"name": name.replace("_", "-"), "image": image} for name, image in images.items()]
    return {"kind": kind, "metadata": {"name": "w", "namespace": "n"}, "spec": {"template": {"spec": {"containers": containers}}}}


def test_the_same_images_are_no_problem() -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s", "namespace": "n"}}
    assert rotation.problems([secret, workload(driver="d:1")], [workload(driver="d:1")]) == []


def test_another_image_is_named() -> None:
    assert rotation.problems([workload(driver="d:2")], [workload(driver="d:1")]) == ["DaemonSet n/w runs d:1 as driver, the variables say d:2"]


def test_a_container_more_or_less_is_named() -> None:
    assert rotation.problems([workload(a="i", b="i")], [workload(a="i")]) == ["DaemonSet n/w runs no as b, the variables say i"]
    assert rotation.problems([workload(a="i")], [workload(a="i", b="i")]) == ["DaemonSet n/w runs i as b, the variables say none"]


def test_what_is_not_there_is_named() -> None:
    assert rotation.problems([workload("Deployment", a="i")], [{}, workload(a="i")]) == ["Deployment n/w is not in the cluster"]


def predicted(**results: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "namespace": "" if kind == "ClusterRole" else "n", "name": "x", "result": result} for kind, result in results.items()]


def test_any_other_change_is_named_once_the_images_agree() -> None:
    same = [workload(driver="d:1")]
    assert rotation.problems(same, same, predicted(Secret="unchanged", DaemonSet="unchanged")) == []
    assert rotation.problems(same, same, predicted(ConfigMap="updated", ClusterRole="created", Secret="unchanged")) == [
        "ConfigMap n/x differs from the variables in more than that", "ClusterRole x differs from the variables in more than that",
    ]
    found = rotation.problems([workload(driver="d:2")], same, predicted(DaemonSet="updated"))
    assert found == ["DaemonSet n/w runs d:1 as driver, the variables say d:2"], "the image says it all"


def hashed(value: str | None) -> dict[str, Any]:
    found = workload(driver="d:1")
    found["spec"]["template"]["metadata"] = {"annotations": {HASH_ANNOTATION: value} if value else None}
    return found


def test_a_rotation_that_was_interrupted_goes_on() -> None:
    """The Secret is new, the pods are not: their older hash is no other change."""
    wanted = [hashed("new"), {"kind": "Secret", "metadata": {"name": "s", "namespace": "n"}}]
    kept = copy.deepcopy(wanted)
    assert rotation.baseline(wanted, [hashed("old"), {}])[0]["spec"]["template"]["metadata"]["annotations"] == {HASH_ANNOTATION: "old"}
    assert rotation.baseline(wanted, [hashed(None)]) == rotation.baseline(wanted, []) == wanted == kept


def encoded(data: dict[str, str]) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}


def test_the_credentials_in_use_are_those_of_each_part() -> None:
    """Between the two halves of a rotation the cloud provider has the new password and the driver the old one."""
    cpi_secret = encoded({"vcenter.example.org.username": "k3s@vsphere.local", "vcenter.example.org.password": "new"})
    old = vcenters.parse([{**HOST, "username": "former@vsphere.local", "password": 'o"l\\d'}], "x")
    csi_secret = encoded(csi.render_config(old, {"cluster_id": "c"}))
    assert logins.current([HOST], cpi_secret, None) == [HOST]
    assert logins.current([HOST], None, csi_secret) == [{**HOST, "username": "former@vsphere.local", "password": 'o"l\\d'}]
    other = {**HOST, "hostname": "[fd00::1]"}
    assert logins.current([HOST, other], None, csi_secret)[1] == other, "a vCenter that the cluster does not know stays, and is found as a change"
    six = encoded({"server_1": "fd00::1", "username_1": "a@b", "password_1": "p"})
    assert logins.current([other], six, None) == [{**other, "username": "a@b", "password": "p"}]
