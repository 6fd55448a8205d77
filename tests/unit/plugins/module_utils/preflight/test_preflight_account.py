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
