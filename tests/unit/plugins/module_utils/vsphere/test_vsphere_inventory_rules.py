from __future__ import annotations

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import inventory
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.vms import Selection, name_matcher, texts


def test_names_match_exactly_by_pattern_or_by_expression():
    matches = name_matcher(["agent-*", "~db-[0-9]+$", "odd[name]"])
    assert matches("agent-1") and matches("db-12") and matches("odd[name]")
    assert not matches("db-x") and not matches("my-agent-1")


def test_a_wrong_expression_is_named():
    with pytest.raises(VsphereError, match=r"'~\(x' is no regular expression"):
        name_matcher(["~(x"])


def test_one_text_is_a_list_of_one_and_a_number_is_what_people_wrote():
    assert texts("*VM0", "names") == ["*VM0"] and texts(5, "x") == ["5"] and texts(True, "x") == ["true"]
    assert texts(None, "x") == texts("", "x") == texts([], "x") == [] and texts(("a", 1), "x") == ["a", "1"]
    for wrong in ({"a": 1}, [["a"]], [{"a": 1}], [None]):
        with pytest.raises(VsphereError, match="names is not a list of texts"):
            texts(wrong, "names")


def test_a_rule_with_one_name_as_text_does_not_match_letters():
    rule = {"names": "control-*", "tags": "role:server", "attributes": {"env": 5}}
    matches = inventory.rule_matcher("control_plane", rule, lambda *dummy: False, [("role", "server")])
    assert matches(record("control-plane-1")) and not matches(record("agent-1")) and not matches(record("c"))
    assert matches(record("x", vsphere_tags={"role": ["server"]})) and not matches(record("x", vsphere_tags={"r": ["o"]}))
    assert matches(record("x", vsphere_custom_attributes={"env": "5"}))
    with pytest.raises(VsphereError, match="control_plane.attributes is not a dictionary"):
        inventory.rule_matcher("control_plane", {"attributes": "env"}, lambda *dummy: False, ())


@pytest.mark.parametrize(
    ("addresses", "cidrs", "expected"),
    [
        (["10.42.0.1", "192.0.2.5"], ["192.0.2.0/24"], "192.0.2.5"),
        (["192.0.2.5", "2001:db8::5"], ["2001:db8::/32", "192.0.2.0/24"], "2001:db8::5"),
        (["192.0.2.5"], ["198.51.100.0/24"], None),
        (["fe80::1%eth0", "192.0.2.5"], [], "192.0.2.5"),
        (["fe80::1"], [], None),
        (["2001:db8::5"], [], "2001:db8::5"),
        (["nonsense"], [], None),
        ([], ["192.0.2.0/24"], None),
    ],
)
def test_the_address_to_connect_to(addresses, cidrs, expected):
    assert inventory.pick_address(addresses, inventory.networks(cidrs)) == expected


def test_a_wrong_network_is_named():
    with pytest.raises(VsphereError, match="'192.0.2.0/99' in ansible_host_cidr"):
        inventory.networks(["192.0.2.0/99"])


def record(name, uuid="u", **more):
    return {"vsphere_name": name, "vsphere_path": f"/dc/vm/{name}", "vsphere_bios_uuid": uuid, **more}


def never(_expression, _record):
    raise AssertionError("no expression was given")


@pytest.mark.parametrize(
    ("rule", "vm", "expected"),
    [
        ({"names": ["agent-*"]}, record("agent-1"), True),
        ({"names": ["agent-*"]}, record("db"), False),
        ({"tags": ["agent"]}, record("x", vsphere_tags={"role": ["agent"]}), True),
        ({"tags": ["role:agent"]}, record("x", vsphere_tags={"role": ["agent"]}), True),
        ({"tags": ["other:agent"]}, record("x", vsphere_tags={"role": ["agent"]}), False),
        ({"attributes": {"k3s": "ag*"}}, record("x", vsphere_custom_attributes={"k3s": "agent"}), True),
        ({"attributes": {"k3s": "ag*"}}, record("x"), False),
        ({}, record("x"), False),
    ],
)
def test_group_rules(rule, vm, expected):
    assert inventory.rule_matcher("agent", rule, never, inventory.carried([vm]))(vm) is expected


@pytest.mark.parametrize("first", [("app", "x"), ("role", "x")])
def test_a_rule_does_not_join_tags_of_two_categories(first):
    """Somebody's tag app:x on a database made it a server."""
    vms = [record("a", vsphere_tags={"role": ["x"]}), record("db", vsphere_tags={"app": ["x"], "role": ["role:x"]})]
    known = inventory.carried(vms)
    with pytest.raises(VsphereError) as caught:
        inventory.rule_matcher("control_plane", {"tags": ["x"]}, never, known)
    assert caught.value.kind == "tag-ambiguous" and caught.value.what == "In the rule of group control_plane the tag 'x' stands for app:x and role:x."
    assert "category:tag" in caught.value.remedy
    # The whole name always says which, also where another tag is called like it.
    test = inventory.rule_matcher("control_plane", {"tags": [":".join(first)]}, never, known)
    assert [vm["vsphere_name"] for vm in vms if test(vm)] == (["a"] if first[0] == "role" else ["db"])
    # What only VMs of another group carry is no reason to stop.
    assert inventory.rule_matcher("control_plane", {"tags": ["x"]}, never, inventory.carried(vms[:1]))(vms[0]) is True


def test_an_expression_decides_when_nothing_else_did():
    asked = []
    test = inventory.rule_matcher("agent", {"expression": "x"}, lambda text, vm: asked.append((text, vm)) or True, ())
    assert test(record("x")) is True
    assert asked[0][0] == "x"


def test_a_misspelt_part_of_a_rule_is_refused():
    with pytest.raises(VsphereError, match="agent has unknown keys: name"):
        inventory.rule_matcher("agent", {"name": ["x"]}, never, ())


def test_duplicate_names_and_uuids_are_all_named():
    hosts = [("a", record("a", "u1")), ("a", record("b", "u2")), ("c", record("c", "u1"))]
    with pytest.raises(VsphereError) as caught:
        inventory.refuse_duplicates(hosts)
    assert "the host name a stands for /dc/vm/a and /dc/vm/b" in str(caught.value)
    assert "the BIOS UUID u1 belongs to /dc/vm/a and /dc/vm/c" in str(caught.value)


def test_vms_without_uuid_are_no_duplicates_of_each_other():
    inventory.refuse_duplicates([("a", record("a", "")), ("b", record("b", ""))])


def test_a_host_in_both_groups_is_refused():
    with pytest.raises(VsphereError, match="both control_plane and agent: x"):
        inventory.refuse_both_groups({"control_plane": ["x", "y"], "agent": ["x"]})


def test_a_selection_knows_when_names_come_first():
    assert not Selection().restricted
    assert Selection(names=["a"]).restricted and Selection(folders=["f"]).restricted
    assert Selection(folders=["f"]).containers and not Selection(tags=["t"]).containers
