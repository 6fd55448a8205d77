from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.cht.k3s.plugins.module_utils.inputs import Inputs, group_problems, load_role_options

ROLES = {"cpi": {"cpi_version": {"type": "str"}}, "control_plane": {"control_plane_disable": {"type": "list"}}}


def test_a_typo_is_named_with_what_it_resembles() -> None:
    inputs = Inputs(ROLES, ["vsphere_moid"])
    assert inputs.unknown(["cpi_verson", "cpi_version", "vsphere_moid", "other", "control_plane_disabled"]) == [
        "control_plane_disabled", "cpi_verson"]
    assert inputs.describe_unknown("cpi_verson", ["a", "b", "c", "d"]) == (
        "unknown variable cpi_verson (on a, b, c and 1 more): did you mean cpi_version?")


def test_without_a_near_name_the_docs_are_named() -> None:
    assert "ansible-doc -t role cht.k3s.cpi" in Inputs(ROLES).describe_unknown("cpi_zzzzzzzzz", ["a"])


@pytest.mark.parametrize("count,good", [(0, False), (1, True), (2, False), (3, True), (4, False), (5, True), (6, False)])
def test_etcd_wants_an_odd_number(count: int, good: bool) -> None:
    problems = group_problems({"control_plane": [f"s{i}" for i in range(count)]}, None)
    assert (problems == []) is good
    if not good:
        assert f"has {count} host(s)" in problems[0]


def test_a_failed_source_hides_the_consequences() -> None:
    assert group_problems({}, "wrong password") == ["the vSphere inventory could not be read: wrong password"]


def test_a_node_is_a_server_or_an_agent() -> None:
    assert "in both groups" in group_problems({"control_plane": ["a"], "agent": ["a"]}, None)[0]


def test_every_role_variable_carries_its_roles_name() -> None:
    roles = Path(__file__).parents[4] / "roles"
    options = load_role_options(roles, yaml.safe_load)
    assert options
    for role, names in options.items():
        assert [name for name in names if not name.startswith(role + "_") and name != "cht_projects"] == []


def test_defaults_and_specs_name_the_same_options() -> None:
    roles = Path(__file__).parents[4] / "roles"
    for role, options in load_role_options(roles, yaml.safe_load).items():
        path = roles / role / "defaults" / "main.yml"
        defaults = yaml.safe_load(path.read_text()) or {} if path.exists() else {}
        assert sorted(set(defaults) - set(options)) == [], f"{role}: defaults without a spec"
        with_default = {name for name, spec in options.items() if "default" in spec}
        assert sorted(with_default - set(defaults)) == [], f"{role}: a default in the spec, none in defaults/main.yml"


def test_each_role_names_all_its_variables_in_its_readme() -> None:
    roles = Path(__file__).parents[4] / "roles"
    for role, options in load_role_options(roles, yaml.safe_load).items():
        text = (roles / role / "README.md").read_text(encoding="utf-8")
        assert [name for name in options if name not in text] == [], f"roles/{role}/README.md does not name these"
