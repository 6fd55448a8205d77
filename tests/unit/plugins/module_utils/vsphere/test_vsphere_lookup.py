from __future__ import annotations

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import lookup


def record(name, moid, ips=(), path=None):
    return {
        "vsphere_name": name,
        "vsphere_moid": moid,
        "vsphere_path": path or f"/dc/vm/{name}",
        "vsphere_ips": list(ips),
        "vsphere_guest_hostname": name,
        "vsphere_bios_uuid": f"aa-{moid}",
        "vsphere_instance_uuid": f"bb-{moid}",
    }


def test_each_query_gets_what_it_stands_for():
    records = [record("a", "vm-1", ["192.0.2.1"]), record("b", "vm-2", ["2001:db8::2"])]
    assert [r["vsphere_moid"] for r in lookup.assign(["b"], "name", records)["b"]] == ["vm-2"]
    assert [r["vsphere_moid"] for r in lookup.assign(["192.0.2.1"], "ip", records)["192.0.2.1"]] == ["vm-1"]
    assert [r["vsphere_moid"] for r in lookup.assign(["2001:DB8::2"], "ip", records)["2001:DB8::2"]] == ["vm-2"]
    assert [r["vsphere_moid"] for r in lookup.assign(["AA-VM-1"], "bios_uuid", records)["AA-VM-1"]] == ["vm-1"]


def test_a_path_may_be_given_as_shown_or_as_stored():
    stored = record("a/b", "vm-1", path="/dc/vm/a%2fb")
    assert lookup.assign(["/dc/vm/a/b"], "path", [stored])["/dc/vm/a/b"] == [stored]
    assert lookup.assign(["/dc/vm/a%2fb"], "path", [stored])["/dc/vm/a%2fb"] == [stored]


def test_names_are_compared_letter_by_letter():
    assert lookup.assign(["Agent-1"], "name", [record("agent-1", "vm-1")])["Agent-1"] == []


def test_all_problems_are_named_at_once_with_candidates():
    twins = [record("web", "vm-1"), record("web", "vm-2", path="/dc2/vm/web")]
    found = lookup.assign(["web", "agent-1"], "name", twins)
    texts = lookup.problems(found, "name", {"web", "agent-11", "agent-2"}, {})
    assert texts[0] == "the name 'web' stands for /dc/vm/web and /dc2/vm/web"
    assert texts[1].startswith("no VM has the name 'agent-1' (similar: agent-")
