from __future__ import annotations

from types import SimpleNamespace as Thing

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import disk_uuid


def test_an_existing_key_keeps_its_spelling():
    assert disk_uuid.setting([Thing(key="x", value="1"), Thing(key="disk.enableUUID", value="FALSE")]) == ("disk.enableUUID", "FALSE")
    assert disk_uuid.setting(None) == ("disk.EnableUUID", None)


def vm(moid, power="on"):
    return {"vsphere_name": moid, "vsphere_moid": moid, "vsphere_path": f"/dc/vm/{moid}", "vsphere_power_state": power}


def test_the_result_tells_who_still_needs_a_power_cycle():
    found = {"a": vm("a"), "b": vm("b", "off"), "c": vm("c"), "d": vm("d")}
    config = {name: ("disk.EnableUUID", "TRUE" if name == "d" else None) for name in found}
    result = disk_uuid._result(["a", "b", "c", "d"], found, config, {"a", "b", "c"}, {"c"})
    assert [item["restart_required"] for item in result["vms"]] == [True, False, False, False]
    assert [item["changed"] for item in result["vms"]] == [True, True, True, False]
    assert result["changed"] and result["restart_required"]
    assert "/dc/vm/a: disk.EnableUUID = None" in result["diff"]["before"]
    assert "/dc/vm/a: disk.EnableUUID = TRUE" in result["diff"]["after"]
    assert "/dc/vm/d: disk.EnableUUID = TRUE" in result["diff"]["before"]
