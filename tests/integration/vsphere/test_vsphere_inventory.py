"""The inventory plugin against the real vcsim."""
from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml
from pyVmomi import vim
from support.layouts import export, install_collection
from vcenter import ROOT

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import properties
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import connection_options
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tags import TagClient
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.vms import Accept, Selection, VmReader

SERVERS = [f"control-plane-{n}" for n in (1, 2, 3)]
AGENTS = [f"agent-{n}" for n in range(1, 10)]
FOLDER = {"folders": ["/dc-moh/vm/k3s"]}


def test_the_cluster_is_found_and_grouped(inventory, vcenter):
    found = inventory(vcenter, **FOLDER)
    assert found.group("control_plane") == SERVERS
    assert found.group("agent") == AGENTS
    assert found.error == ""
    assert vcenter.counts == (1, 0, 0)


def test_the_roles_get_the_variables_they_need(inventory, vcenter):
    host = inventory(vcenter, **FOLDER, ansible_host_cidr=["198.18.0.0/24"]).host("agent-3")
    assert host["ansible_host"] == "198.18.0.23"
    assert host["vsphere_bios_uuid"] == "420e3f23-8a5c-4d13-9b77-c0de00000023"
    assert host["vsphere_instance_uuid"] == "500e7a23-1d2c-4b43-8e13-aa0000000023"
    assert host["vsphere_path"] == "/dc-moh/vm/k3s/agent-3"
    assert host["vsphere_vcenter"] == vcenter.options["hostname"]
    assert (host["vsphere_datacenter"], host["vsphere_cluster"]) == ("dc-moh", "cluster-cht")
    assert host["vsphere_hardware_version"] == 19
    assert host["vsphere_disk_enable_uuid"] is True and host["vsphere_pvscsi"] is True
    assert (host["vsphere_cpu_count"], host["vsphere_memory_mb"]) == (48, 196608)
    assert host["vsphere_tools_status"] == "running" and host["vsphere_power_state"] == "on"
    assert host["vsphere_disks"][0]["size_gb"] == 100
    assert "vsphere_tags" not in host


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [*AGENTS, *SERVERS, "dhis2-db"]),
        ({"with_templates": True}, [*AGENTS, *SERVERS, "debian-12-template", "dhis2-db"]),
        ({"names": ["agent-[1-3]"]}, AGENTS[:3]),
        ({"names": ["~agent-[12]$", "dhis2-db"]}, [*AGENTS[:2], "dhis2-db"]),
        ({"folders": ["k3s"]}, [*AGENTS, *SERVERS]),
        ({"datacenters": ["dc-moh"], "names": ["agent-1"]}, ["agent-1"]),
        ({"clusters": ["/dc-moh/host/cluster-cht"], "folders": ["other"]}, ["dhis2-db"]),
        ({"pools": ["cluster-cht/Resources"], "names": ["dhis2-db"]}, ["dhis2-db"]),
        ({"tags": ["server"]}, SERVERS),
        ({"tags": ["cht-role:worker"], "names": ["agent-9"]}, ["agent-9"]),
        ({"filters": ["vsphere_cpu_count >= 48"]}, AGENTS),
        ({"filters": ["vsphere_power_state == 'on'", "'dhis2' in vsphere_name"]}, ["dhis2-db"]),
        ({"filters": ["vsphere_tags['cht-role'][0] == 'server'"], "with_tags": True}, SERVERS),
    ],
)
def test_selections(inventory, vcenter, options, expected):
    assert inventory(vcenter, **options).hosts == sorted(expected)


def test_groups_by_tag(inventory, vcenter):
    found = inventory(vcenter, **FOLDER, control_plane={"tags": ["server"]}, agent={"tags": ["cht-role:worker"]})
    assert (found.group("control_plane"), found.group("agent")) == (SERVERS, AGENTS)
    assert found.host("agent-1")["vsphere_tags"] == {"cht-role": ["worker"]}
    assert vcenter.counts == (2, 0, 0)  # SOAP and REST


def test_groups_by_attribute_and_by_expression(inventory, own):
    service = own.connect()
    field = service.content.customFieldsManager.AddFieldDefinition("k3s-role", vim.VirtualMachine)
    for name in SERVERS:
        own.vms(service)[name].setCustomValue("k3s-role", "server")
    assert field.name == "k3s-role"
    found = inventory(own, **FOLDER, control_plane={"attributes": {"k3s-role": "server"}}, agent={"expression": "vsphere_cpu_count == 48"})
    assert (found.group("control_plane"), found.group("agent")) == (SERVERS, AGENTS)
    assert found.host("control-plane-1")["vsphere_custom_attributes"] == {"k3s-role": "server"}
    assert inventory(own, attributes={"k3s-role": "ser*"}).hosts == SERVERS


def test_constructed_groups_variables_and_names(inventory, vcenter):
    found = inventory(
        vcenter,
        **FOLDER,
        hostnames=["'node-' ~ vsphere_name.split('-')[-1] if vsphere_name.startswith('agent') else ''", "vsphere_name"],
        agent={"names": ["agent-*"]},
        compose={"memory_gb": "vsphere_memory_mb // 1024"},
        groups={"large": "vsphere_cpu_count > 8"},
        keyed_groups=[{"key": "vsphere_cluster", "prefix": "cluster"}],
    )
    assert found.group("agent") == [f"node-{n}" for n in range(1, 10)]
    assert found.host("node-1")["memory_gb"] == 192
    assert found.group("large") == [f"node-{n}" for n in range(1, 10)]
    assert len(found.group("cluster_cluster_cht")) == 12


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({"folders": ["/dc-moh/vm/k3"]}, ["no folder '/dc-moh/vm/k3'", "/dc-moh/vm/k3s"]),
        ({"datacenters": ["dc-mho"]}, ["no datacenter 'dc-mho'", "dc-moh"]),
        ({"tags": ["servers"]}, ["no tag 'servers'", "cht-role:server"]),
        ({"names": ["nothing-*"]}, ["No VM", "matches the selection", "names"]),
        ({"filters": ["vsphere_name =="]}, ["vsphere_name ==", "filters"]),
        ({"filters": ["vsphere_name.nothing.more"], "strict": True}, ["vsphere_name.nothing.more", "failed for"]),
        ({"foldrs": ["k3s"]}, ["'foldrs' is unknown", "'folders'"]),
        ({"control_plane": {"name": ["x"]}}, ["control_plane", "unknown keys: name"]),
        ({"agent": {"names": ["*"]}}, ["both control_plane and agent", "control-plane-1"]),
        ({"ansible_host_cidr": ["198.18.0.0/33"]}, ["198.18.0.0/33", "ansible_host_cidr"]),
        ({"hostname": ""}, ["VMWARE_HOST"]),
        ({"hostnames": ["vsphere_name.x.y"]}, ["hostnames", "/dc-moh/vm"]),
    ],
)
def test_bad_input_is_explained_where_playbooks_see_it(inventory, vcenter, options, texts, monkeypatch):
    monkeypatch.delenv("VMWARE_HOST", raising=False)
    found = inventory(vcenter, **options)
    assert found.hosts == []
    for text in texts:
        assert text in found.error
    assert vcenter.counts[2] == 0


def test_a_wrong_password_is_tried_once_even_if_the_source_is_read_twice(inventory, vcenter):
    assert "refused the login" in inventory(vcenter, password="wrong").error
    assert "refused the login" in inventory(vcenter, password="wrong").error
    assert vcenter.counts == (0, 1, 0)


def test_duplicate_uuids_and_names_are_refused_by_name(inventory, faulty, vcenter):
    error = inventory(faulty, **FOLDER).error
    assert "420e3f25-8a5c-4d15-9b77-c0de00000025 belongs to /dc-moh/vm/k3s/agent-4 and /dc-moh/vm/k3s/agent-5" in error
    error = inventory(vcenter, **FOLDER, hostnames=["vsphere_cluster"]).error
    assert "the host name cluster-cht stands for" in error and "agent-1" in error


def test_a_cache_without_tags_does_not_answer_for_rules_by_tags(inventory, vcenter, tmp_path):
    """The groups would be empty until the cache is too old."""
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache"), "cache_timeout": 600}
    by_name = inventory(vcenter, **FOLDER, control_plane={"names": ["control-plane-*"]}, **cache)
    assert len(by_name.group("control_plane")) == 3 and "vsphere_tags" not in by_name.host("agent-1")
    by_tag = inventory(vcenter, **FOLDER, control_plane={"tags": ["cht-role:server"]}, agent={"tags": ["cht-role:worker"]}, **cache)
    assert (len(by_tag.group("control_plane")), len(by_tag.group("agent"))) == (3, 9)
    assert inventory(vcenter, **FOLDER, with_templates=True, with_tags=True, **cache).host("agent-1")["vsphere_tags"]
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_cached_inventory_asks_vcenter_once_and_a_changed_selection_asks_again(inventory, vcenter, tmp_path):
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache"), "cache_timeout": 600}
    first = inventory(vcenter, **FOLDER, **cache)
    again = inventory(vcenter, **FOLDER, **cache)
    assert again.host("agent-1") == first.host("agent-1")
    assert vcenter.counts == (1, 0, 0)
    assert inventory(vcenter, names=["agent-1"], **cache).hosts == ["agent-1"]
    assert vcenter.counts == (2, 0, 0)
    assert all(vcenter.options["password"] not in path.read_text() for path in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize("name", ["with space", "with%2fslash", "100%25", "ümlaut-日本", "a#b;c"])
def test_unusual_names(inventory, own, module, name):
    own.change("agent-1", name=name)
    shown = name.replace("%2f", "/").replace("%25", "%")
    found = inventory(own, **FOLDER, agent={"names": [shown]})
    assert found.group("agent") == [shown]
    host = found.host(shown)
    assert host["vsphere_path"] == f"/dc-moh/vm/k3s/{name}"
    assert module("vsphere_vm_uuid", vms=[shown], **own.options)["vms"][0]["bios_uuid"] == host["vsphere_bios_uuid"]


def test_vms_that_are_off_or_report_nothing_are_still_hosts(inventory, faulty):
    found = inventory(faulty, names=["agent-7", "agent-8"])
    assert found.host("agent-7")["vsphere_power_state"] == "off"
    assert found.host("agent-8")["vsphere_tools_status"] in ("not_running", "not_installed")
    assert "ansible_host" not in found.host("agent-8")


def set_address(vcenter, name, address):
    vcenter.change(name, extraConfig=[vim.option.OptionValue(key="SET.guest.ipAddress", value=address)])


def test_ipv6_only(inventory, own):
    set_address(own, "agent-1", "2001:db8::21")
    assert inventory(own, names=["agent-1"], ansible_host_cidr=["2001:db8::/64"]).host("agent-1")["ansible_host"] == "2001:db8::21"
    assert inventory(own, names=["agent-1"]).host("agent-1")["ansible_host"] == "2001:db8::21"


def test_the_others_cost_at_most_their_names(inventory, vcenter):
    inventory(vcenter, names=["agent-1"])
    methods = vcenter.ledger.report()["methods"]
    assert methods["RetrievePropertiesEx"] == 3  # containers, names, the one VM
    assert methods["Login"] == methods["Logout"] == 1
    vcenter.ledger.reset()
    inventory(vcenter)
    assert vcenter.ledger.report()["methods"]["RetrievePropertiesEx"] == 1


def test_ansible_playbook_stops_before_any_task(vcenter, tmp_path):
    source = tmp_path / "lab.vsphere.yml"
    source.write_text(yaml.safe_dump({"plugin": "cht.k3s.vsphere", **vcenter.options, "password": "wrong"}))
    env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(tmp_path)}
    done = subprocess.run(
        ["ansible-playbook", "-i", str(source), str(ROOT / "playbooks" / "preflight.yml")],
        capture_output=True, text=True, env=env, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "refused the login of 'k3s@vsphere.local'" in done.stdout + done.stderr
    assert "Read the machines" not in done.stdout
    assert vcenter.counts == (0, 1, 0)


@pytest.fixture(scope="session")
def started_from(tmp_path_factory):
    """Where the plugin is started from: folder, and path of collections."""
    installed = tmp_path_factory.mktemp("installed")
    (installed / "work").mkdir()
    checkout = tmp_path_factory.mktemp("checkout") / "ansible_collections" / "cht"
    checkout.mkdir(parents=True)
    (checkout / "k3s").symlink_to(ROOT)
    return {
        "checkout": (ROOT, checkout.parents[1]),
        "installed": (installed / "work", install_collection(export(installed / "src"), installed / "collections")),
    }


@pytest.mark.parametrize("layout", ["checkout", "installed"])
def test_ansible_inventory_reads_it_with_and_without_a_cache(started_from, vcenter, tmp_path, layout):
    """As AWX updates an inventory source: a fresh home, credentials in the environment, --export."""
    folder, collections = started_from[layout]
    source = tmp_path / "cluster.vsphere.yml"
    source.write_text(yaml.safe_dump({"plugin": "cht.k3s.vsphere", **FOLDER, "keyed_groups": [{"key": "vsphere_cluster", "prefix": "in"}]}))
    names = {"HOST": "hostname", "PORT": "port", "USER": "username", "PASSWORD": "password", "CA_PATH": "ca_path"}
    base = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    env = {
        **base,
        **{f"VMWARE_{name}": str(vcenter.options[option]) for name, option in names.items()},
        "HOME": str(tmp_path), "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_COLLECTIONS_PATH": str(collections),
    }  # fmt: skip

    def read(**more):
        done = subprocess.run(
            ["ansible-inventory", "-i", str(source), "--list", "--export"],
            capture_output=True, text=True, env={**env, **more}, cwd=folder, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    plain = read()
    assert plain["control_plane"]["hosts"] == SERVERS and plain["in_cluster_cht"]["hosts"] == plain["control_plane"]["hosts"] + plain["agent"]["hosts"]
    read()
    assert vcenter.counts == (2, 0, 0)
    cache = {
        "ANSIBLE_INVENTORY_CACHE": "true", "ANSIBLE_INVENTORY_CACHE_PLUGIN": "jsonfile", "ANSIBLE_INVENTORY_CACHE_CONNECTION": str(tmp_path / "cache"),
    }  # fmt: skip
    assert read(**cache) == read(**cache) == plain
    assert vcenter.counts == (3, 0, 0)
    assert (tmp_path / "cache").is_dir() and not any(vcenter.options["password"] in path.read_text() for path in (tmp_path / "cache").iterdir())


def test_the_pages_of_ansible_doc(started_from, tmp_path):
    folder, collections = started_from["installed"]
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_HOME": str(tmp_path)}
    modules = ["vsphere_vm_uuid", "vsphere_disk_uuid", "vsphere_vm_hardware", "vsphere_vm_plan", "vsphere_preflight", "vsphere_permissions"]
    kinds = {"module": modules, "inventory": ["vsphere"], "role": ["preflight", "vm", "vm_prepare", "vcenter_roles"]}
    for kind, names in kinds.items():
        done = subprocess.run(
            ["ansible-doc", "-t", kind, "--json", *(f"cht.k3s.{name}" for name in names)],
            capture_output=True, text=True, env=env, cwd=folder, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        pages = json.loads(done.stdout)
        assert set(pages) == {f"cht.k3s.{name}" for name in names}
        for name, page in pages.items():
            if kind == "role":
                assert page["entry_points"]["main"]["options"], name
                continue
            assert "VMWARE_PASSWORD" in str(page["doc"]["options"]["password"]), name
            assert page["examples"].strip() and all(option["description"] for option in page["doc"]["options"].values()), name
            if kind == "module":
                assert all("sample" in value or "contains" in value for value in page["return"].values()), name


@pytest.mark.parametrize("given", [{"validate_certs": "False"}, {"validate_certs": "{{ false }}"}])
def test_a_thumbprint_is_compared_whatever_awx_says_of_validation(inventory, vcenter, given):
    found = inventory(vcenter, **FOLDER, **given, thumbprint="AB" * 20)
    assert "has the thumbprint" in found.error and vcenter.counts == (0, 0, 0)


def test_options_are_filled_in_before_they_are_read(inventory, vcenter):
    port = vcenter.options["port"]
    found = inventory(vcenter, **FOLDER, **{"port": "{{ %s }}" % port, "validate_certs": "{{ true }}", "timeout": "{{ 30 }}"})
    assert (found.error, found.group("control_plane")) == ("", SERVERS)
    assert "'enabled' is neither true nor false" in inventory(vcenter, **FOLDER, validate_certs="enabled").error


def test_a_text_is_a_list_of_one_and_a_wrong_expression_is_named(inventory, vcenter):
    found = inventory(vcenter, **FOLDER, control_plane={"names": "control-plane-*"}, agent={"names": "~agent-[12]$"})
    assert (found.error, found.group("control_plane"), found.group("agent")) == ("", SERVERS, AGENTS[:2])
    assert "'~(x' is no regular expression" in inventory(vcenter, names=["~(x"]).error


def test_a_number_is_the_value_of_an_attribute(inventory, own):
    service = own.connect()
    service.content.customFieldsManager.AddFieldDefinition("env", vim.VirtualMachine)
    own.vms(service)["agent-1"].setCustomValue("env", "5")
    assert inventory(own, attributes={"env": 5}).hosts == ["agent-1"]


def test_only_tags_that_are_attached_or_named_are_resolved(own, monkeypatch):
    own.tag("cht-role", {"server": SERVERS, "worker": AGENTS})
    own.tag("elsewhere", {f"tag-{number}": [] for number in range(60)})
    sent = []
    send = TagClient._send

    def count(self, method, path, body, headers):
        sent.append(path)
        return send(self, method, path, body, headers)

    monkeypatch.setattr(TagClient, "_send", count)
    options = connection_options(own.options)
    with VsphereSession(options) as session, TagClient(options) as tags:
        records = VmReader(session).read(Selection(tags=["cht-role:server"]), tags=tags).records
    assert sorted(record["vsphere_name"] for record in records) == SERVERS
    assert records[0]["vsphere_tags"] == {"cht-role": ["server"]}
    assert len(sent) < 12, sent


def test_what_is_deleted_while_it_is_read_is_left_out(own):
    options = connection_options(own.options)
    own.tag("cht-role", {"server": SERVERS})

    def accept(record):
        # The last moment between the names and the rest: somebody deletes one VM.
        if record["vsphere_name"] == "agent-9":
            vm = own.vms(own.connect())["agent-9"]
            vm.PowerOffVM_Task()
            vm.Destroy_Task()
        return record["vsphere_name"].startswith("agent-")

    with VsphereSession(options) as session:
        found = VmReader(session).read(Selection(folders=["k3s"]), accept=Accept(["vsphere_name"], accept))
        assert sorted(record["vsphere_name"] for record in found.records) == AGENTS[:8] and found.gone == ["agent-9"]
        with TagClient(options) as tags:
            tags._tags = {"urn:vmomi:InventoryServiceTag:gone": None}
            assert tags._tag("urn:vmomi:InventoryServiceTag:never-was:GLOBAL") is None


@pytest.mark.parametrize("state", ["disconnected", "inaccessible"])
def test_off_counts_only_where_vcenter_reaches_the_vm(module, own, monkeypatch, state):
    read = properties._retrieve

    def stale(session, spec):
        found = read(session, spec)
        for item in found:
            if "runtime.connectionState" in item.values:
                item.values["runtime.connectionState"] = state
        return found

    own.vms(own.connect())["agent-1"].PowerOffVM_Task()
    arguments = {**own.options, "vms": ["agent-1"], "state": "off"}
    assert module("vsphere_vm_power", **arguments)["changed"] is False
    monkeypatch.setattr(properties, "_retrieve", stale)
    for wanted in ("off", "powered_off"):
        refused = module("vsphere_vm_power", **{**arguments, "state": wanted})
        assert f"does not reach these VMs, so whether they run is not known: /dc-moh/vm/k3s/agent-1 ({state})" in refused["msg"]


def test_a_name_that_stands_for_several_is_refused(inventory, own):
    center = own.connect().content.rootFolder.childEntity[0]
    center.vmFolder.CreateFolder("test").CreateFolder("k3s")
    found = inventory(own, folders=["k3s"])
    assert "The folder 'k3s' stands for /dc-moh/vm/k3s (" in found.error and "/dc-moh/vm/test/k3s" in found.error
    moid = found.error.partition("/dc-moh/vm/k3s (")[2].partition(")")[0]
    for one in ("/dc-moh/vm/k3s", moid):
        assert inventory(own, folders=[one]).group("control_plane") == SERVERS
    own.tag("cht-role", {"k3s": SERVERS})
    own.tag("backup", {"k3s": AGENTS})
    assert "the tag 'k3s' stands for backup:k3s and cht-role:k3s" in inventory(own, tags=["k3s"]).error
    assert inventory(own, tags=["cht-role:k3s"]).hosts == SERVERS
