# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A health check of haproxy that hangs is told from one that says what is so."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht import healthcheck
from ansible_collections.cht.k3s.plugins.module_utils.kube.portforward import ForwardError

Object = dict[str, t.Any]
NODES = [f"couchdb@couchdb-{number}.nairobi.svc.cluster.local" for number in (1, 2, 3)]
SERVICES = ("api", "couchdb-1", "couchdb-2", "couchdb-3", "haproxy", "healthcheck", "sentinel")


def deployment(service: str, ready: bool) -> Object:
    status = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1) if ready else {}
    return {"metadata": {"name": f"cht-{service}", "labels": {"cht.service": service}}, "spec": {"replicas": 1}, "status": status}


class FakeApi:
    """An API server with the pods of a county."""

    def items(self, path: str, query: t.Any = None) -> t.Iterator[Object]:
        for service in SERVICES:
            yield {"metadata": {"name": f"{service}-x", "labels": {"cht.service": service}}, "status": {"phase": "Running"}}

    def find(self, path: str) -> None:
        return None


def hang(monkeypatch: pytest.MonkeyPatch, *answers: bytes | None, nodes: list[str] = NODES) -> str:
    left = list(answers)

    def read(client: t.Any, namespace: str, pod: str, port: int, timeout: float) -> bytes:
        assert (pod, port) == ("healthcheck-x", 5555)
        answer = left.pop(0)
        if answer is None:
            raise ForwardError("port 5555 of pod healthcheck-x: no answer in time")
        return answer

    monkeypatch.setattr(healthcheck, "read", read)
    monkeypatch.setattr(healthcheck, "request", lambda *dummy: (200, json.dumps({"all_nodes": nodes, "cluster_nodes": nodes}).encode()))
    return healthcheck.hanging(FakeApi(), "nairobi", sleep=lambda seconds: None)  # type: ignore[arg-type]


def test_one_that_never_says_up_although_all_nodes_answer_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hang(monkeypatch, None, None, None) == "healthcheck-x"
    assert hang(monkeypatch, b"down\n", b"", None) == "healthcheck-x"


@pytest.mark.parametrize("answers", [(b"up\n",), (None, b"up\n"), (b"down\n", None, b"up\n")])
def test_one_that_says_up_once_works(monkeypatch: pytest.MonkeyPatch, answers: tuple[bytes | None, ...]) -> None:
    assert hang(monkeypatch, *answers) == ""


def test_one_that_is_right_to_say_down_is_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hang(monkeypatch, nodes=NODES[:2]) == ""


@pytest.mark.parametrize(("down", "answer"), [
    (("api",), True), ((), False), (("api", "couchdb-2"), False), (("api", "haproxy"), False), (("sentinel",), False),
])
def test_a_county_is_asked_when_api_alone_is_down(down: tuple[str, ...], answer: bool) -> None:
    assert healthcheck.suspicious([deployment(service, service not in down) for service in SERVICES]) is answer
    assert not healthcheck.suspicious([])
