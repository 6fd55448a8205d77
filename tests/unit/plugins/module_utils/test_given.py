"""Text that stands for a list or a mapping."""
from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.cht.k3s.plugins.filter import as_dict as dict_filter
from ansible_collections.cht.k3s.plugins.filter import as_list as list_filter
from ansible_collections.cht.k3s.plugins.filter.preflight_nodes import preflight_nodes
from ansible_collections.cht.k3s.plugins.module_utils.given import as_dict, as_list
from ansible_collections.cht.k3s.plugins.module_utils.inputs import Inputs, load_role_options

ROLES = Path(__file__).resolve().parents[4] / "roles"


@pytest.mark.parametrize(("value", "meant"), [
    ("max-pods=100", ["max-pods=100"]), ("a, b,", ["a", "b"]), ("", []), (" ", []), (None, []), (443, ["443"]), (["a,b"], ["a,b"]), (("a",), ["a"]),
    ("max-pods=100\nsystem-reserved=cpu=1,memory=1Gi\n", ["max-pods=100", "system-reserved=cpu=1,memory=1Gi"]),
    ('["a", "b,c"]', ["a", "b,c"]), ("['a', 'b']", ["a", "b"]), ("[]", []),
])
def test_a_list(value: t.Any, meant: list[str]) -> None:
    assert as_list(value) == meant == list_filter.FilterModule().filters()["as_list"](value)


@pytest.mark.parametrize(("value", "meant"), [
    ("disk=ssd,zone=a", {"disk": "ssd", "zone": "a"}), ('{"disk": "ssd", "size": 1}', {"disk": "ssd", "size": 1}), ("", {}), (None, {}),
    ({"a": [1]}, {"a": [1]}),
])
def test_a_mapping(value: t.Any, meant: dict[str, t.Any]) -> None:
    assert as_dict(value) == meant == dict_filter.FilterModule().filters()["as_dict"](value)


@pytest.mark.parametrize(("read", "value"), [(as_list, "[a, b"), (as_list, "[a, b]"), (as_list, {}), (as_dict, "HTTP_PROXY=p NO_PROXY=a,secret"), (as_dict, []),
                                             (as_dict, "secret")])
def test_what_means_neither_is_refused_without_being_shown(read: t.Callable[[t.Any], t.Any], value: t.Any) -> None:
    if value == "[a, b":
        assert read(value) == ["[a", "b"]
        return
    with pytest.raises(TypeError, match="is expected, and this") as caught:
        read(value)
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs(load_role_options(ROLES, yaml.safe_load))


def test_text_that_can_not_be_read_is_refused_with_what_to_give(inputs: Inputs) -> None:
    assert inputs.read("agent_kubelet_args", "max-pods=100") == ["max-pods=100"]
    assert inputs.read("agent_labels", "ssd=true") == {"ssd": "true"}
    assert inputs.read("control_plane_disable", None) is None
    with pytest.raises(TypeError, match="one argument a line"):
        inputs.read("agent_kubelet_args", "system-reserved=cpu=1,memory=1Gi")
    for name in ("cpi_vcenters", "csi_vcenters", "vm_machines", "storageclass_classes", "preflight_reach"):
        with pytest.raises(TypeError, match="as YAML or JSON"):
            inputs.read(name, "name=a")


def test_preflight_reads_the_text_of_hosts_alike() -> None:
    given = {"agent_kubelet_args": "max-pods=100", "cpi_nodes": "internal_vm_network_name=VM-Network", "agent_config": '{"kubelet-arg": "v=2"}'}
    node = preflight_nodes({"agent": ["a"]}, {"a": given}, ["a"])[0]
    assert node["kubelet_args"] == ["max-pods=100", "v=2"]
