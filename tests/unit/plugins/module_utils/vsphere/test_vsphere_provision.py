from __future__ import annotations

import base64
import json

import pytest
import yaml

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import provision
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.provision import Guest, Machine, Site

KEY = "ssh-ed25519 AAAAC3Nz ops@example.org"
GUEST = Guest("192.0.2.1", ["192.0.2.2"], ["example.org"], "ops", [KEY], {})
SERVER = Machine("control-plane-1", "control_plane", "192.0.2.11/24", 4, 8192, 50)
AGENT = Machine("agent-1", "agent", "192.0.2.21/24", 48, 196608, 50)
FOLDER = "/dc/vm/k3s"


def vm(path, **more):
    """A VM as the reader shows it."""
    return {
        "vsphere_name": path.rpartition("/")[2], "vsphere_path": path, "vsphere_moid": "vm-1", "vsphere_template": False,
        "vsphere_power_state": "off", "vsphere_ips": [], **more,
    }  # fmt: skip


def site(*vms, **more):
    """A vCenter with a template and these VMs."""
    template = vm("/dc/vm/debian-12", vsphere_template=True)
    return Site(vms=[template, *vms], folder=FOLDER, staging=f"{FOLDER}/being-made", **{"datastores": ["shared"], "networks": ["VM Network"], **more})


def test_sizes_come_from_the_role_unless_given():
    entries = [
        {"name": "a", "role": "agent", "address": "192.0.2.3/24", "cpu": 2},
        {"name": "b", "role": "agent", "address": "192.0.2.4/24", "memory_mb": None},
    ]
    made = provision.machines(entries, {"agent": {"cpu": 48, "memory_mb": 100, "disk_gb": 50}})
    assert [(machine.cpu, machine.memory_mb, machine.disk_gb) for machine in made] == [(2, 100, 50), (48, 100, 50)]


def test_a_good_list_has_no_problems():
    assert provision.list_problems([SERVER, AGENT]) == []
    assert provision.guest_problems([SERVER, AGENT], GUEST) == []
    assert provision.site_problems([SERVER, AGENT], site(), "debian-12", "shared", "VM Network") == []


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("192.0.2.21", "is no address with its network"),
        ("192.0.2.300/24", "is no address with its network"),
        ("192.0.2.0/24", "is the network's own or broadcast address"),
        ("192.0.2.255/24", "is the network's own or broadcast address"),
        ("192.0.2.11/24", "the address 192.0.2.11 is there twice"),
    ],
)
def test_bad_addresses(address, text):
    (problem,) = provision.list_problems([SERVER, Machine("agent-1", "agent", address, 1, 1, 1)])
    assert text in problem


def test_all_problems_of_a_list_at_once():
    bad = Machine("Agent_1", "worker", "192.0.2.21/24", 0, 1, 1)
    problems = " ".join(provision.list_problems([bad, bad]))
    for text in ("Agent_1 is there twice", "cannot be a node's name", "'worker' is none of", "no cpu is given", "0 machines of the role control_plane"):
        assert text in problems


def test_what_the_guests_are_told_is_checked_and_keys_are_never_shown():
    guest = Guest("192.0.3.1", ["dns"], [], "ops", ["-----BEGIN PRIVATE"], {})
    problems = " ".join(provision.guest_problems([SERVER], guest))
    assert "not in the network of control-plane-1" in problems and "'dns' is no address" in problems and "number 1 is no public key" in problems
    assert "BEGIN" not in problems
    nothing = ["the gateway 'x' is no address", "no SSH key is given, so nobody could log in"]
    assert provision.guest_problems([SERVER], Guest("x", [], [], "ops", [], {})) == nothing
    assert "is also the address of a machine" in provision.guest_problems([SERVER], Guest("192.0.2.11", [], [], "ops", [KEY], {}))[0]


def test_what_vcenter_does_not_have_is_named_with_what_resembles_it():
    problems = provision.site_problems([SERVER], site(), "debian-21", "shard", "Network")
    assert [problem.partition(" (")[0] for problem in problems] == [
        "there is no template 'debian-21'", "the hosts of the cluster reach no datastore 'shard'", "the hosts of the cluster reach no network 'Network'",
    ]  # fmt: skip
    assert "similar: debian-12" in problems[0]


def test_a_vm_elsewhere_and_an_address_in_use():
    other = vm("/dc/vm/other/control-plane-1", vsphere_ips=["192.0.2.11"])
    assert provision.site_problems([SERVER], site(other), "debian-12", "", "VM Network") == [
        "control-plane-1 exists as /dc/vm/other/control-plane-1, outside /dc/vm/k3s",
        "the address 192.0.2.11 of control-plane-1 is used by /dc/vm/other/control-plane-1",
    ]
    own = vm(f"{FOLDER}/control-plane-1", vsphere_ips=["192.0.2.11"])
    assert provision.site_problems([SERVER], site(own), "debian-12", "", "VM Network") == []


def test_templates_that_cannot_be_cloned():
    on = vm("/dc/vm/base", vsphere_power_state="on")
    assert "is a VM that is on" in provision.site_problems([SERVER], site(on), "base", "", "VM Network")[0]
    again = vm("/dc/vm/x/debian-12", vsphere_template=True)
    assert "give its path" in provision.site_problems([SERVER], site(again), "debian-12", "", "VM Network")[0]
    assert provision.site_problems([SERVER], site(again), "/dc/vm/debian-12", "", "VM Network") == []


def test_only_what_is_missing_or_begun_is_planned():
    more = Machine("agent-2", "agent", "192.0.2.22/24", 48, 196608, 50)
    begun = vm(f"{FOLDER}/being-made/agent-1", vsphere_moid="vm-9")
    result = provision.plan([SERVER, AGENT, more], GUEST, site(vm(f"{FOLDER}/control-plane-1"), begun), "rule")
    assert result["existing"] == ["control-plane-1"]
    assert [(item["name"], item["moid"], item["complete"]) for item in result["todo"]] == [("agent-1", "vm-9", False), ("agent-2", "", False)]
    assert result["sizes"] == [{"cpu": 48, "memory_mb": 196608, "disk_gb": 50, "vms": [f"{FOLDER}/being-made/agent-{n}" for n in (1, 2)]}]
    begun["vsphere_power_state"] = "on"
    result = provision.plan([AGENT], GUEST, site(begun), "")
    assert result["todo"][0]["complete"] and result["sizes"] == []


def test_the_rule_is_for_more_than_one_server():
    servers = [SERVER, Machine("control-plane-2", "control_plane", "192.0.2.12/24", 4, 8192, 50)]
    assert provision.plan([SERVER], GUEST, site(), "rule")["rule_missing"] is False
    assert provision.plan(servers, GUEST, site(), "rule")["rule_missing"] is True
    assert provision.plan(servers, GUEST, site(), "")["rule_missing"] is False
    assert provision.plan(servers, GUEST, site(rules={"rule": {"control-plane-1"}}), "rule")["rule_missing"] is True
    assert provision.plan(servers, GUEST, site(rules={"rule": {"control-plane-1", "control-plane-2"}}), "rule")["rule_missing"] is False


def told(machine, guest):
    """The settings as cloud-init reads them."""
    settings = {item["key"]: item["value"] for item in provision.guest_settings(machine, guest)}
    assert settings["disk.EnableUUID"] == "TRUE" and settings["guestinfo.metadata.encoding"] == settings["guestinfo.userdata.encoding"] == "base64"
    return [base64.b64decode(settings[f"guestinfo.{key}"]).decode() for key in ("metadata", "userdata")]


def test_what_cloud_init_reads():
    metadata, userdata = told(SERVER, GUEST)
    network = json.loads(metadata)["network"]["ethernets"]["primary"]
    assert network["addresses"] == ["192.0.2.11/24"] and network["routes"] == [{"to": "0.0.0.0/0", "via": "192.0.2.1"}]
    assert network["nameservers"] == {"addresses": ["192.0.2.2"], "search": ["example.org"]}
    assert userdata.partition("\n")[0] == "#cloud-config"
    config = yaml.safe_load(userdata)
    assert config["hostname"] == "control-plane-1" and config["users"][0]["ssh_authorized_keys"] == [KEY] and config["ssh_pwauth"] is False


def test_ipv6_and_more_for_cloud_init():
    machine = Machine("a", "agent", "2001:db8::21/64", 1, 1, 1)
    metadata, userdata = told(machine, Guest("2001:db8::1", [], [], "ops", [KEY], {"packages": ["open-vm-tools"]}))
    assert json.loads(metadata)["network"]["ethernets"]["primary"]["routes"][0]["to"] == "::/0"
    assert yaml.safe_load(userdata)["packages"] == ["open-vm-tools"]


def test_a_network_or_datastore_of_which_there_are_two_is_refused():
    twice = site(networks=["VM Network"] * 2, datastores=["shared"] * 2)
    found = provision.site_problems([SERVER], twice, "", "shared", "VM Network")
    assert found == [f"the hosts of the cluster reach 2 of the {thing}, so which is meant is not known; rename one" for thing in (
        "datastore 'shared'", "network 'VM Network'",
    )]
