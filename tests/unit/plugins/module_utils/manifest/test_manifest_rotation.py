"""A change of the password is a change of the password only."""
from __future__ import annotations

from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.manifest import rotation


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
