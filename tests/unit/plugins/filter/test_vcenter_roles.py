from __future__ import annotations

from ansible_collections.cht.k3s.plugins.filter.vcenter_role_definitions import vcenter_role_definitions
from ansible_collections.cht.k3s.plugins.filter.vcenter_role_places import vcenter_role_places


def test_only_roles_that_vcenter_does_not_have_are_made():
    assert vcenter_role_definitions([]) == [
        {"name": "CNS-DATASTORE", "privileges": ["Datastore.FileManagement"]},
        {"name": "CNS-HOST-CONFIG-STORAGE", "privileges": ["Host.Config.Storage"]},
        {"name": "CNS-VM", "privileges": ["VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.AddRemoveDevice"]},
        {"name": "CNS-SEARCH-AND-SPBM", "privileges": ["Cns.Searchable", "StorageProfile.View"]},
    ]
    assert [role["name"] for role in vcenter_role_definitions(["CNS-VM"])] == ["CNS-DATASTORE", "CNS-HOST-CONFIG-STORAGE", "CNS-SEARCH-AND-SPBM"]


def test_each_object_gets_the_role_that_belongs_there():
    places = vcenter_role_places({"root": ["rootFolder"], "datastores": ["a", "b"], "file_clusters": ["c"], "vms": ["k3s"], "readable": ["dc"]})
    assert [(place["role"], place["type"], place["name"], place["recursive"]) for place in places] == [
        ("CNS-DATASTORE", "Datastore", "a", False),
        ("CNS-DATASTORE", "Datastore", "b", False),
        ("CNS-HOST-CONFIG-STORAGE", "ClusterComputeResource", "c", True),
        ("CNS-VM", "Folder", "k3s", True),
        ("CNS-SEARCH-AND-SPBM", "Folder", "rootFolder", False),
        ("ReadOnly", "Datacenter", "dc", True),
    ]
    assert vcenter_role_places({}) == []
