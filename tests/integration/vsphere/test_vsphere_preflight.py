"""The preflight against the real vcsim: every faulty VM of the lab's description, every privilege."""
from __future__ import annotations

import pytest
from pyVmomi import vim

from ansible_collections.cht.k3s.plugins.module_utils.preflight.findings import CHECKS
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.privileges import ROLES

MINIMUM = {"control_plane": {"cpu": 4, "memory_mb": 8192}, "agent": {"cpu": 48, "memory_mb": 196608}}


def nodes(vcenter, **more):
    """The inventory's view of the cluster; the machines themselves are not examined here."""
    return [
        {"name": vm.name, "role": vm.role, "address": vm.ip, **more} for vm in vcenter.description.vms if vm.role
    ]


def run(module, vcenter, **more):
    result = module(
        "vsphere_preflight",
        **{"nodes": nodes(vcenter), "minimum": MINIMUM, "accept": ["host-unreachable"], **vcenter.options, **more},
    )
    assert not result.get("failed"), result
    return result


def found(result):
    return sorted((item["object"], item["id"]) for item in result["findings"] if not item["accepted"])


def test_a_good_cluster_has_no_findings_and_costs_one_session(module, vcenter):
    result = run(module, vcenter, versions={"k3s": "v1.31.14+k3s1"})
    assert found(result) == []
    assert result["counts"] == {"error": 0, "warning": 0, "accepted": 12}
    assert result["changed"] is False and result["vcenter_api_version"] == "7.0.3.0"
    assert vcenter.counts == (1, 0, 0)
    # Two searches of a fixed cost: the nodes by their names, and their BIOS UUIDs in the whole vCenter. 25 for these twelve.
    assert sum(vcenter.ledger.report()["methods"].values()) < 26


def test_what_storage_classes_name_is_looked_for_in_vcenter(module, vcenter):
    result = run(module, vcenter, storage_classes=[
        {"name": "good", "storage_policy": "vSAN Default Storage Policy"}, {"name": "bad", "storage_policy": "Gold", "datastore_url": "ds:///vmfs/volumes/no/"},
    ])
    assert found(result) == [("bad", "storage-datastore"), ("bad", "storage-policy")], result["findings"]
    messages = {item["id"]: item["message"] for item in result["findings"]}
    url = messages["storage-datastore"].rpartition("it shows ")[2].partition(" (")[0]
    assert found(run(module, vcenter, storage_classes=[{"name": "good", "datastore_url": url}])) == []


def test_every_faulty_vm_is_found_by_name(module, faulty):
    result = run(module, faulty)
    assert found(result) == sorted(
        [
            ("agent-1", "vm-hardware-version"),
            ("agent-2", "vm-disk-uuid"),
            ("agent-3", "vm-pvscsi"),
            ("agent-4", "vm-bios-uuid-duplicate"),
            ("agent-5", "vm-bios-uuid-duplicate"),
            ("agent-6", "vm-guest-name"),
            ("agent-7", "vm-power"),
            ("agent-8", "vm-tools"),
            ("agent-9", "vm-ip"),
            ("agent-9", "vm-snapshots"),
            ("control-plane-2", "vm-disk-uuid"),
        ]
    )
    for item in result["findings"]:
        assert item["message"] and item["remedy"] and item["id"] in CHECKS


def test_check_mode_says_the_same(module, faulty):
    assert found(module("vsphere_preflight", check=True, nodes=nodes(faulty), accept=["host-unreachable"], **faulty.options)) == found(
        module("vsphere_preflight", nodes=nodes(faulty), accept=["host-unreachable"], **faulty.options)
    )


# File volumes are not used: nothing is asked about their privilege.
ASKED = [name for privileges, where in ROLES.values() if where != "file_clusters" for name in privileges]


@pytest.mark.parametrize("privilege", ASKED)
def test_each_missing_privilege_is_named_with_its_object(module, vcenter, privilege):
    vcenter.ledger.denied = {privilege}
    try:
        result = run(module, vcenter)
    finally:
        vcenter.ledger.denied = set()
    missing = [item for item in result["findings"] if item["id"] == "privilege"]
    assert missing and all(privilege in item["message"] for item in missing)
    assert all(item["playbook"] == "cht.k3s.vcenter_roles" for item in missing)
    role = next(name for name, (privileges, _where) in ROLES.items() if privilege in privileges)
    objects = {item["object"] for item in missing}
    expected = {
        "CNS-DATASTORE": {"datastore datastore-cht"},
        "CNS-VM": {f"/dc-moh/vm/k3s/{vm.name}" for vm in vcenter.description.vms if vm.role},
        "CNS-SEARCH-AND-SPBM": {"the root of vCenter"},
    }
    assert objects == expected[role] if role in expected else "/dc-moh" in objects


def test_a_template_and_a_vm_that_does_not_exist(module, vcenter):
    result = run(module, vcenter, nodes=[{"name": "debian-12-template"}, {"name": "agent-99"}, {"name": "agent-1", "address": "198.18.0.21"}])
    ids = dict((name, check) for name, check in found(result))
    assert ids["debian-12-template"] == "vm-template"
    assert ids["agent-99"] == "vm-missing"
    assert "agent-9" in next(item["message"] for item in result["findings"] if item["id"] == "vm-missing")


def one(result, name):
    """The only finding about a host."""
    (finding,) = [item for item in result["findings"] if item["object"] == name and not item["accepted"]]
    return finding


def test_vms_with_nothing_to_reach_them_by(module, own):
    def tell(name, **values):
        own.change(name, extraConfig=[vim.option.OptionValue(key=f"SET.guest.{key}", value=value) for key, value in values.items()])

    tell("agent-1", ipAddress="")
    tell("agent-2", ipAddress="2001:db8::22")
    tell("agent-3", toolsRunningStatus="guestToolsNotRunning")
    own.change("agent-4", name="with%2fslash")
    agents = [{"name": f"agent-{n}", "role": "agent", "address": f"198.18.0.2{n}"} for n in (1, 2, 3)]
    slash = {"name": "agent-4", "vm": "with/slash", "role": "agent", "address": "198.18.0.24"}
    result = run(module, own, nodes=[*agents, slash])
    assert one(result, "agent-1")["message"] == "the guest reports no address"
    assert "198.18.0.22 of the inventory is not among the guest's addresses 2001:db8::22" in one(result, "agent-2")["message"]
    assert "Tools are not running" in one(result, "agent-3")["message"] and "open-vm-tools" in one(result, "agent-3")["remedy"]
    assert not [item for item in result["findings"] if item["object"] == "agent-4" and not item["accepted"]]
    agents[1]["address"] = "2001:DB8:0::22"
    assert ("agent-2", "vm-ip") not in found(run(module, own, nodes=agents))
    assert own.counts[1:] == (0, 0)


def test_a_vm_in_an_unlisted_datacenter_and_two_of_one_name(module, own):
    service = own.connect()
    other = service.content.rootFolder.CreateDatacenter("dc-other")
    from cht_lab.vcenter import _wait

    vms = own.vms(service)
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False)
    _wait(vms["agent-2"].CloneVM_Task(vms["dhis2-db"].parent, "agent-2", spec))
    nodes = [{"name": f"agent-{n}", "role": "agent", "address": f"198.18.0.2{n}"} for n in (1, 2)]
    twice = one(run(module, own, nodes=nodes), "agent-2")
    assert twice["id"] == "vm-ambiguous" and "/dc-moh/vm/k3s/agent-2 and /dc-moh/vm/other/agent-2" in twice["message"]
    assert "vsphere_datacenters" in twice["remedy"]
    meant = [{**node, "moid": vms[node["name"]]._moId} for node in nodes]
    copy = [item for item in run(module, own, nodes=meant)["findings"] if item["object"] == "agent-2"]
    assert "vm-ambiguous" not in [item["id"] for item in copy]
    missing = one(run(module, own, nodes=nodes[:1], datacenters=[other.name]), "agent-1")
    assert missing["id"] == "vm-missing" and "vsphere_datacenters" in missing["remedy"]
    assert "it is /dc-moh/vm/k3s/agent-1, in a datacenter that is not listed" in missing["message"]
    message = module("vsphere_vm_uuid", vms=["agent-1"], datacenters=["dc-other"], **own.options)["msg"]
    assert "no VM has the name 'agent-1' (it is /dc-moh/vm/k3s/agent-1, in a datacenter that is not listed)" in message


def test_vms_of_another_vcenter_are_said_to_be_unchecked(module, vcenter):
    """The one that was asked is known by its name in any case."""
    mine = {"name": "agent-1", "address": "198.18.0.21", "vcenter": vcenter.options["hostname"].upper()}
    other = {"name": "agent-77", "vcenter": "b.example.org", "moid": "vm-1"}
    result = run(module, vcenter, nodes=[mine, other, {"name": "agent-78"}])
    assert found(result) == [("agent-77", "vm-other-vcenter"), ("agent-78", "vm-missing")]
    assert result["counts"]["error"] == 1 and result["counts"]["warning"] == 1


def test_a_slow_vcenter_is_a_finding(module, vcenter):
    vcenter.ledger.delay_ms = 1500
    try:
        finding = next(item for item in run(module, vcenter, timeout=1)["findings"] if item["id"] == "vcenter-connection")
    finally:
        vcenter.ledger.delay_ms = 0
    assert "did not answer within 1 s" in finding["message"] and "VMWARE_TIMEOUT" in finding["remedy"]


def test_a_wrong_password_is_a_finding_after_one_attempt(module, vcenter):
    result = run(module, vcenter, password="wrong", versions={"k3s": "v1.34.4+k3s1", "cpi": "1.31.0"})
    assert sorted(item["id"] for item in result["findings"] if not item["accepted"]) == ["vcenter-connection", "version-set"]
    assert vcenter.counts == (0, 1, 0)


def test_two_hundred_findings_at_once(module, vcenter):
    many = [{"name": f"missing-{number}"} for number in range(200)]
    result = run(module, vcenter, nodes=many)
    assert result["counts"]["error"] == 200
    assert vcenter.counts == (1, 0, 0)


def test_a_misspelt_finding_to_accept_is_refused(module, vcenter):
    result = module("vsphere_preflight", nodes=nodes(vcenter), accept=["vm-snapshot"], **vcenter.options)
    assert result["failed"] and "did you mean 'vm-snapshots'?" in result["msg"]
    assert vcenter.counts == (0, 0, 0)
