"""The comparison that saves requests: in doubt it says "different", and never the other way round."""
from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.kube import compare
from hypothesis import given
from hypothesis import strategies as st

MANAGER = "cht.k3s"


def live(body: dict[str, Any], fields: dict[str, Any] | None, **entry: Any) -> dict[str, Any]:
    managed = [] if fields is None else [{"manager": MANAGER, "operation": "Apply", "apiVersion": "v1", "fieldsV1": fields, **entry}]
    return {"apiVersion": "v1", "kind": "Thing", **body, "metadata": {"name": "x", "managedFields": managed, **body.get("metadata", {})}}


def wanted(**body: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}, **body}


@pytest.mark.parametrize(("text", "number"), [
    ("1", Decimal(1)), ("1000m", Decimal(1)), ("0.5", Decimal("0.5")), ("500m", Decimal("0.5")), ("1Ki", Decimal(1024)), ("1k", Decimal(1000)),
    ("1.5Gi", Decimal(1610612736)),
    (2, Decimal(2)), ("1e3", Decimal(1000)), ("1E", Decimal(10) ** 18), ("", None), ("much", None), ("1 Gi", None), ("Gi", None),
])
def test_quantities(text: Any, number: Decimal | None) -> None:
    assert compare.quantity(text) == number


def test_secret_strings_become_data() -> None:
    found = compare.normalise({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "creationTimestamp": None}, "data": {"a": "eA=="},
        "stringData": {"b": "ü"}, "status": {},
    })
    assert found == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "eA==", "b": base64.b64encode("ü".encode()).decode()}}


def test_nothing_applied_yet_is_different() -> None:
    assert not compare.same(wanted(data={"a": "1"}), live({"data": {"a": "1"}}, None), MANAGER)
    assert compare.same(wanted(), live({}, None), MANAGER)


@pytest.mark.parametrize(("want", "have", "fields", "same"), [
    ({"data": {"a": "1"}}, {"data": {"a": "1"}}, {"f:data": {"f:a": {}}}, True),
    ({"data": {"a": "1"}}, {"data": {"a": "1", "b": "2"}}, {"f:data": {"f:a": {}}}, True),
    ({"data": {"a": "1"}}, {"data": {"a": "2"}}, {"f:data": {"f:a": {}}}, False),
    ({"data": {"a": "1"}}, {"data": {"a": "1"}}, {"f:data": {}}, True),
    ({"data": {"a": "1"}}, {"data": {"a": "1"}}, {"f:data": {"f:a": {}, "f:b": {}}}, False),
    ({"data": {"a": "1", "b": "1"}}, {"data": {"a": "1", "b": "1"}}, {"f:data": {"f:a": {}}}, False),
    ({"spec": {"on": True}}, {"spec": {"on": True}}, {"f:spec": {"f:on": {}}}, True),
    ({"spec": {"on": True}}, {"spec": {"on": 1}}, {"f:spec": {"f:on": {}}}, False),
    ({"spec": {"on": False}}, {"spec": {}}, {"f:spec": {"f:on": {}}}, False),
    ({"spec": {"list": [1, 2]}}, {"spec": {"list": [2, 1]}}, {"f:spec": {"f:list": {}}}, False),
    ({"spec": {"list": []}}, {"spec": {}}, {"f:spec": {}}, True),
    ({"spec": {"list": []}}, {"spec": {"list": [1]}}, {"f:spec": {}}, False),
    ({"spec": {"requests": {"cpu": "1000m"}}}, {"spec": {"requests": {"cpu": "1"}}}, {"f:spec": {"f:requests": {"f:cpu": {}}}}, True),
    ({"spec": {"requests": {"cpu": "1001m"}}}, {"spec": {"requests": {"cpu": "1"}}}, {"f:spec": {"f:requests": {"f:cpu": {}}}}, False),
    ({"spec": {"cpu": "1000m"}}, {"spec": {"cpu": "1"}}, {"f:spec": {"f:cpu": {}}}, False),
    ({"spec": {"c": [{"name": "a", "v": 1}]}}, {"spec": {"c": [{"name": "b"}, {"name": "a", "v": 1, "d": 0}]}},
     {"f:spec": {"f:c": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:v": {}}}}}, True),
    ({"spec": {"c": [{"name": "a", "v": 1}, {"name": "z"}]}}, {"spec": {"c": [{"name": "a", "v": 1}, {"name": "z"}]}},
     {"f:spec": {"f:c": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:v": {}}}}}, False),
    ({"spec": {"p": [{"port": 80}]}}, {"spec": {"p": [{"port": 80, "protocol": "TCP"}]}},
     {"f:spec": {"f:p": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}}, True),
    ({"spec": {"p": [{"port": 80}]}}, {"spec": {"p": [{"port": 80, "protocol": "UDP"}]}},
     {"f:spec": {"f:p": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}}, False),
    ({"metadata": {"name": "x", "finalizers": ["a"]}}, {"metadata": {"name": "x", "finalizers": ["a", "b"]}},
     {"f:metadata": {"f:finalizers": {'v:"a"': {}}}}, True),
    ({"metadata": {"name": "x", "finalizers": ["a"]}}, {"metadata": {"name": "x", "finalizers": ["b"]}},
     {"f:metadata": {"f:finalizers": {'v:"a"': {}}}}, False),
    ({"spec": {"a": {"b": 1}}}, {"spec": {"a": {"b": 1, "default": 2}}}, {"f:spec": {"f:a": {}}}, True),
    ({"spec": {"a": {}}}, {"spec": {"a": {"b": 1}}}, {"f:spec": {"f:a": {}}}, False),
    ({"spec": {"a": 1}}, {"spec": "text"}, {"f:spec": {"f:a": {}}}, False),
])
def test_same(want: dict[str, Any], have: dict[str, Any], fields: dict[str, Any], same: bool) -> None:
    assert compare.same(wanted(**want), live(have, fields), MANAGER) is same


@pytest.mark.parametrize("entry", [{"manager": "other"}, {"operation": "Update"}, {"subresource": "scale"}, {"apiVersion": "v2"}])
def test_what_others_own_is_not_ours(entry: dict[str, Any]) -> None:
    assert not compare.same(wanted(data={"a": "1"}), live({"data": {"a": "1"}}, {"f:data": {"f:a": {}}}, **entry), MANAGER)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3), lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8
)


def field_set(value: Any) -> dict[str, Any]:
    return {f"f:{key}": field_set(item) for key, item in value.items()} if isinstance(value, dict) else {}


@given(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1, max_size=3), st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3))
def test_same_means_that_every_value_is_there(want: dict[str, Any], have: dict[str, Any]) -> None:
    body = compare.normalise(wanted(spec=want))
    if compare.same(body, live({"spec": have}, {"f:spec": field_set(body["spec"])}), MANAGER):
        assert covers(body["spec"], have)


def covers(want: Any, have: Any) -> bool:
    if isinstance(want, dict):
        return (have in (None, {}) and all(covers(value, None) for value in want.values())) or (
            isinstance(have, dict) and all(covers(value, have.get(key)) for key, value in want.items())
        )
    return want == have or (want in ("", []) and not have)
