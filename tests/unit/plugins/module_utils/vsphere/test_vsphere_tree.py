from __future__ import annotations

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tree import Node, Tree, plain_name


@pytest.fixture
def tree():
    return Tree(
        [
            Node("dc1", "Datacenter", "DC0", "root"),
            Node("vmf", "Folder", "vm", "dc1"),
            Node("cht", "Folder", "cht", "vmf"),
            Node("odd", "Folder", "a%2fb", "vmf"),
            Node("hf", "Folder", "host", "dc1"),
            Node("cl", "ClusterComputeResource", "C0", "hf"),
            Node("h1", "HostSystem", "esx1", "cl"),
            Node("rp", "ResourcePool", "Resources", "cl"),
        ]
    )


def test_paths_start_below_the_root_folder(tree):
    assert tree.path("cht") == "/DC0/vm/cht"
    assert tree.path("unknown") == ""


def test_datacenter_and_cluster_are_found_from_anywhere_below(tree):
    assert tree.datacenter("cht").name == "DC0"
    assert tree.cluster("h1").name == "C0"
    assert tree.cluster("cht") is None


@pytest.mark.parametrize("wanted", ["/DC0/vm/cht", "/DC0/vm/cht/", "vm/cht", "cht"])
def test_a_folder_is_found_by_path_or_its_end(tree, wanted):
    assert tree.one(("Folder",), wanted, "folder").moid == "cht"


@pytest.mark.parametrize("wanted", ["/DC0/vm/a%2fb", "/DC0/vm/a/b", "a%2fb", "a/b"])
def test_a_slash_in_a_name_may_be_written_either_way(tree, wanted):
    assert tree.one(("Folder",), wanted, "folder").moid == "odd"


def test_a_missing_folder_is_an_error_with_the_nearest_names(tree):
    with pytest.raises(VsphereError, match=r"no folder '/DC0/vm/chtt'.*Did you mean /DC0/vm/cht") as caught:
        tree.one(("Folder",), "/DC0/vm/chtt", "folder")
    assert caught.value.kind == "container-missing"


def test_only_the_three_characters_that_vcenter_escapes_are_unescaped():
    assert plain_name("a%2fb%2Fc%5cd%25e") == "a/b/c\\d%e"
    assert plain_name("100%20 %zz ä") == "100%20 %zz ä"
    assert plain_name("%252f") == "%2f"


KINDS = [("Folder", "k3s"), ("Datacenter", "DC"), ("ClusterComputeResource", "C0"), ("ResourcePool", "Resources")]


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_name_that_stands_for_several_is_refused_with_their_paths(kind, name):
    tree = Tree([Node("f1", "Folder", "prod", "root"), Node("f2", "Folder", "test", "root"), Node("o-1", kind, name, "f1"), Node("o-2", kind, name, "f2")])
    with pytest.raises(VsphereError, match=rf"The thing '{name}' stands for /prod/{name} \(o-1\) and /test/{name} \(o-2\)") as caught:
        tree.one((kind,), name, "thing")
    assert caught.value.kind == "container-ambiguous"
    assert [tree.one((kind,), wanted, "thing").moid for wanted in (f"/prod/{name}", f"test/{name}", "o-2")] == ["o-1", "o-2", "o-2"]
