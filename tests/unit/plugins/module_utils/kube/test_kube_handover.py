"""What kubectl owns of an object becomes ours, and nothing else does."""
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.kube import handover
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError

MANAGER = "cht.k3s"
COPY = f"f:{handover.LAST_APPLIED}"


def entry(manager: str, fields: dict[str, Any], operation: str = "Update", **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields, **more}


def live(*entries: dict[str, Any], annotations: dict[str, str] | None = None, version: str = "1") -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
        "name": "a", "namespace": "n", "resourceVersion": version, "annotations": annotations or {}, "managedFields": list(entries)}}


OURS = entry(MANAGER, {"f:spec": {"f:replicas": {}}}, "Apply")


@pytest.mark.parametrize(("manager", "first", "later"), [
    ("kubectl-client-side-apply", True, True),
    ("before-first-apply", True, True),
    ("kubectl-create", True, False),
    ("kubectl-edit", True, False),
    ("kubectl-patch", True, False),
    ("kubectl", True, False),
    ("kubectl-label", False, False),
    ("kubectl-annotate", False, False),
    ("kube-controller-manager", False, False),
    ("k3s", False, False),
    ("helm", False, False),
])
def test_whose_fields_become_ours(manager: str, first: bool, later: bool) -> None:
    """Of what is ours already only a whole manifest is taken back: an edit beside our fields is an administrator's own."""
    found = entry(manager, {"f:spec": {"f:x": {}}})
    assert bool(handover.left_by_kubectl(live(found), MANAGER)) is first
    assert bool(handover.left_by_kubectl(live(found, OURS), MANAGER)) is later


def test_entries_that_are_not_of_the_object_itself_stay() -> None:
    status = entry("kubectl-edit", {"f:status": {}}, subresource="status")
    old = entry("kubectl-client-side-apply", {"f:spec": {}}, apiVersion="apps/v1beta1")
    assert handover.left_by_kubectl(live(status, old), MANAGER) == []
    assert handover.left_by_kubectl({"metadata": {}}, MANAGER) == []


def test_the_fields_are_united_under_our_name() -> None:
    controller = entry("kube-controller-manager", {"f:status": {}}, subresource="status")
    applied = entry("kubectl-client-side-apply", {"f:metadata": {"f:annotations": {".": {}, COPY: {}, "f:b": {}}}, "f:spec": {"f:paused": {}}})
    found = handover.handed_over(live(OURS, applied, controller), MANAGER)
    fields = {"f:metadata": {"f:annotations": {".": {}, "f:b": {}}}, "f:spec": {"f:replicas": {}, "f:paused": {}}}
    assert found == [controller, entry(MANAGER, fields, "Apply")]
    assert COPY in applied["fieldsV1"]["f:metadata"]["f:annotations"], "what was read is not changed"


class Server:
    """Refuses the first requests, as when somebody writes at the same moment."""

    def __init__(self, refusals: int, status: int = 409, found: dict[str, Any] | None = None) -> None:
        self.refusals, self.status, self.found = refusals, status, found
        self.sent: list[dict[str, Any]] = []

    def json(self, method: str, path: str, body: Any, content_type: str) -> dict[str, Any]:
        assert (method, path, content_type) == ("PATCH", "/a", "application/merge-patch+json")
        if len(self.sent) < self.refusals:
            self.sent.append({})
            raise ApiError(self.status, "no")
        self.sent.append(body["metadata"])
        return {}

    def find(self, path: str) -> dict[str, Any] | None:
        return self.found


def test_the_copy_with_the_old_password_goes_and_a_race_is_run_again() -> None:
    applied = entry("kubectl-client-side-apply", {"f:spec": {"f:paused": {}}})
    old = live(applied, annotations={handover.LAST_APPLIED: "secret", "other": "x"})
    server = Server(2, found=live(applied, version="7"))
    assert handover.hand_over(server, "/a", old, MANAGER)  # type: ignore[arg-type]
    assert server.sent[2]["resourceVersion"] == "7" and "annotations" not in server.sent[2]
    server = Server(0)
    assert handover.hand_over(server, "/a", old, MANAGER)  # type: ignore[arg-type]
    assert server.sent[0]["annotations"] == {handover.LAST_APPLIED: None} and server.sent[0]["resourceVersion"] == "1"


def test_nothing_to_take_sends_nothing_and_other_errors_are_told() -> None:
    server = Server(0)
    assert not handover.hand_over(server, "/a", live(OURS), MANAGER) and server.sent == []  # type: ignore[arg-type]
    with pytest.raises(ApiError):
        handover.hand_over(Server(9, 403), "/a", live(entry("kubectl-create", {})), MANAGER)  # type: ignore[arg-type]
    assert handover.hand_over(Server(9), "/a", live(entry("kubectl-create", {})), MANAGER), "it is gone meanwhile"  # type: ignore[arg-type]
