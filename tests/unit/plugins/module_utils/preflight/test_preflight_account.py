from __future__ import annotations

from types import SimpleNamespace as Thing

from ansible_collections.cht.k3s.plugins.module_utils.preflight import account
from ansible_collections.cht.k3s.plugins.module_utils.vsphere import privileges
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.privileges import ROLES, Missing, Place
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import Node, Tree

TREE = Tree(
    [
        Node("dc", "Datacenter", "DC0", "root"),
        Node("hf", "Folder", "host", "dc"),
        Node("c0", "ClusterComputeResource", "C0", "hf"),
        Node("c1", "ClusterComputeResource", "C1", "hf"),
        Node("h1", "HostSystem", "esx1", "c0"),
        Node("h2", "HostSystem", "esx2", "c0"),
        Node("h3", "HostSystem", "esx3", "c1"),
    ]
)
RECORDS = [{"vsphere_host": "esx1", "vsphere_moid": "vm-1", "vsphere_path": "/DC0/vm/agent-1"}]


def test_all_hosts_of_the_vms_clusters_count_since_vms_move():
    assert account._hosts(TREE, RECORDS) == {"h1": "esx1", "h2": "esx2"}
    assert account._hosts(TREE, [{"vsphere_host": ""}]) == {}


def test_privileges_are_asked_for_where_each_role_belongs():
    session = Thing(content=Thing(rootFolder=Thing(_moId="root")))
    places = account._places(session, TREE, RECORDS, {"h1": "esx1"}, {"ds": "shared"})
    assert [place.path for place in places["root"]] == ["the root of vCenter"]
    assert [place.path for place in places["datastores"]] == ["datastore shared"]
    assert [place.path for place in places["vms"]] == ["/DC0/vm/agent-1"]
    assert [place.path for place in places["readable"]] == ["host esx1", "/DC0/host/C0", "/DC0/host", "/DC0"]
    # File volumes are not used, so there is no cluster on which their privilege is needed.
    assert set(places) == {where for _privileges, where in ROLES.values()} - {"file_clusters"}


class Manager:
    """Denies what it is told to and remembers what it was asked."""

    def __init__(self, denied):
        self.denied = denied
        self.asked = []

    def HasUserPrivilegeOnEntities(self, entities, user, wanted):
        self.asked.append((user, len(entities), tuple(wanted)))
        return [
            Thing(
                entity=entity,
                privAvailability=[Thing(privId=name, isGranted=name not in self.denied) for name in wanted],
            )
            for entity in entities
        ]


def test_one_request_for_each_role_and_every_missing_privilege_named():
    manager = Manager({"VirtualMachine.Config.AddRemoveDevice"})
    session = Thing(
        content=Thing(
            authorizationManager=manager, sessionManager=Thing(currentSession=Thing(userName="VSPHERE.LOCAL\\k3s"))
        ),
        reference=lambda kind, moid: Thing(_moId=moid),
    )
    places = {
        "vms": [Place("VirtualMachine", "vm-1", "/dc/vm/a"), Place("VirtualMachine", "vm-2", "/dc/vm/b")],
        "root": [Place("Folder", "root", "root")],
        "datastores": [],
    }
    missing = privileges.missing_privileges(session, places)
    assert [(item.privilege, item.role, item.path) for item in missing] == [
        ("VirtualMachine.Config.AddRemoveDevice", "CNS-VM", "/dc/vm/a"),
        ("VirtualMachine.Config.AddRemoveDevice", "CNS-VM", "/dc/vm/b"),
    ]
    assert len(manager.asked) == 2


def test_findings_name_account_privilege_role_and_object():
    view = account.AccountView("VSPHERE.LOCAL\\k3s", {}, [Missing("Cns.Searchable", "CNS-SEARCH-AND-SPBM", "the root of vCenter")])
    finding = account.account_findings(view)[0]
    assert (finding.id, finding.object) == ("privilege", "the root of vCenter")
    assert "VSPHERE.LOCAL\\k3s" in finding.message and "Cns.Searchable" in finding.message


def test_hosts_without_a_common_datastore():
    shared = account.AccountView(mounts={"esx1": {"a", "b"}, "esx2": {"b"}})
    assert account.account_findings(shared) == []
    apart = account.AccountView(mounts={"esx1": {"a"}, "esx2": set()})
    finding = account.account_findings(apart)[0]
    assert finding.id == "vm-datastores"
    assert "esx1: a; esx2: none" in finding.message


def lacking(*datastores, shared):
    missing = [Missing("Datastore.FileManagement", "CNS-DATASTORE", f"datastore {name}") for name in datastores]
    missing.append(Missing("Cns.Searchable", "CNS-SEARCH-AND-SPBM", "the root of vCenter"))
    return [(item.object, item.severity) for item in account.account_findings(account.AccountView("k3s", {}, missing, shared))]


def test_one_datastore_is_enough_for_the_account():
    """An account of the playbook vcenter_roles has its role on the datastores that it was made for, not on one for ISO images."""
    root = ("the root of vCenter", "error")
    assert lacking("iso", shared=2) == [("datastore iso", "warning"), root]
    assert lacking("iso", "shared-1", shared=2) == [("datastore iso", "error"), ("datastore shared-1", "error"), root]
    assert lacking("shared-1", shared=1) == [("datastore shared-1", "error"), root]


def test_every_shared_datastore_is_counted(monkeypatch):
    """Two that have one name, in two datacenters, are two."""
    stores = {"h1": ("d1", "d2", "d3"), "h2": ("d1", "d2")}

    def read(_session, kind, moids, _paths):
        if kind == "HostSystem":
            return [Thing(moid=moid, values={"datastore": [Thing(_moId=store) for store in stores[moid]]}) for moid in moids]
        return [Thing(moid=moid, values={"name": "same"}) for moid in moids]

    monkeypatch.setattr(account, "read_objects", read)
    session = Thing(content=Thing(
        rootFolder=Thing(_moId="root"), authorizationManager=Manager({"Datastore.FileManagement"}), sessionManager=Thing(currentSession=Thing(userName="k3s")),
    ), reference=lambda kind, moid: Thing(_moId=moid))
    view = account.read_account(session, TREE, RECORDS)
    assert view.shared == 2 and [item.path for item in view.missing] == ["datastore same", "datastore same"]
    assert [item.severity for item in account.account_findings(view)] == ["error", "error"]
