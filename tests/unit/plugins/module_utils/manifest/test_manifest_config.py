"""What is written for CPI and CSI reads back as it was meant, whatever characters a password has."""
from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.module_utils.manifest import cpi, csi, logins, vcenters
from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError
from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError
from hypothesis import given
from hypothesis import strategies as st

BASE = {"hostname": "vcenter.example.org", "username": "k3s@vsphere.local", "password": "pw"}
NASTY = [
    '"', "\\", "#", ";", "$", "%", "@", ":", "'", " ", " lead", "trail ", "\t", "ü€漢", "{{ x }}",
    "!tag", "*a", "&b", "- x", "null", "0x1", "1e3", "yes", "\\n", '\\"', "[Global]", "a=b", "%(x)s",
]
TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n\r\0"), min_size=1, max_size=60)


def entries(**more: Any) -> list[dict[str, Any]]:
    return [{**BASE, **more}]


def secret(data: dict[str, str]) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}


def check_csi(value: str) -> None:
    found = vcenters.parse(entries(password=value, username=value, datacenters=["a"]), "csi_vcenters")
    data = csi.render_config(found, {"cluster_id": "c"})
    parsed = {(name, label): values for name, label, values in csi.parse_config(data[csi.CONFIG_KEY])}
    assert parsed[("VirtualCenter", BASE["hostname"])]["password"] == value
    assert parsed[("VirtualCenter", BASE["hostname"])]["user"] == value
    assert (BASE["hostname"], value, value) in logins.in_use(None, secret(data))


@pytest.mark.parametrize("value", NASTY)
def test_csi_nasty_values(value: str) -> None:
    check_csi(value)


@given(TEXT)
def test_csi_any_value(value: str) -> None:
    check_csi(value)


@given(TEXT.filter(lambda name: "," not in name))
def test_cpi_any_datacenter(value: str) -> None:
    found = vcenters.parse(entries(datacenters=[value]), "cpi_vcenters")
    document = yaml.safe_load(cpi.render_config(found, {})["vsphere.conf"])
    assert document["vcenter"][BASE["hostname"]]["datacenters"] == [value]


@given(TEXT, TEXT)
def test_cpi_any_credentials_are_recognised_again(user: str, password: str) -> None:
    found = vcenters.parse(entries(username=user, password=password), "cpi_vcenters")
    data = cpi.secret_data(found)
    assert logins.untested(entries(username=user, password=password), secret(data), None) == []
    assert logins.untested(entries(username=user, password=password + "x"), secret(data), None) == [0]


@pytest.mark.parametrize(("hostname", "keys"), [
    ("vcenter.example.org", {"vcenter.example.org.username", "vcenter.example.org.password"}),
    ("192.0.2.1", {"192.0.2.1.username", "192.0.2.1.password"}),
    ("fd00::1", {"server_1", "username_1", "password_1"}),
    ("[fd00::1]", {"server_1", "username_1", "password_1"}),
])
def test_cpi_keys_fit_the_kind_of_address(hostname: str, keys: set[str]) -> None:
    data = cpi.secret_data(vcenters.parse(entries(hostname=hostname), "cpi_vcenters"))
    assert set(data) == keys
    assert logins.untested(entries(hostname=hostname), secret(data), None) == []


class Tagged(str):
    """A string as Ansible hands it over: one that knows its origin."""


def test_cpi_config_of_what_ansible_hands_over() -> None:
    given = [{key: Tagged(value) for key, value in BASE.items()} | {"datacenters": [Tagged("A")], "thumbprint": Tagged(":".join(["AB"] * 20))}]
    data = cpi.render_config(vcenters.parse(given, "cpi_vcenters"), {
        "labels": {Tagged("zone"): Tagged("k8s-zone")}, "ip_family": [Tagged("ipv4")],
        "nodes": {Tagged("internal_network_subnet_cidr"): [Tagged("192.0.2.0/24")], Tagged("internal_vm_network_name"): Tagged("net")},
    })
    document = yaml.safe_load(data["vsphere.conf"])
    assert (document["labels"], document["global"]["ipFamily"]) == ({"zone": "k8s-zone"}, ["ipv4"])
    assert document["nodes"] == {"internalNetworkSubnetCidr": "192.0.2.0/24", "internalVmNetworkName": "net"}


def test_cpi_config_of_several_vcenters() -> None:
    found = vcenters.parse([
        {**BASE, "ca": "-----BEGIN CERTIFICATE-----\nx", "datacenters": ["A", "B"]},
        {**BASE, "hostname": "192.0.2.7", "port": 8443, "validate_certs": False},
        {**BASE, "hostname": "c.example.org", "thumbprint": ":".join(["AB"] * 20)},
    ], "cpi_vcenters")
    data = cpi.render_config(found, {
        "labels": {"region": "r", "zone": "z"}, "ip_family": ["ipv4"],
        "nodes": {"internal_network_subnet_cidr": ["192.0.2.0/24", "198.51.100.0/24"], "external_vm_network_name": "net", "internal_vm_network_name": ""},
    })
    document = yaml.safe_load(data["vsphere.conf"])
    assert set(document) == {"global", "vcenter", "labels", "nodes"}
    assert "insecureFlag" not in document["global"], "a global true could not be taken back for one vCenter"
    one, two, three = (document["vcenter"][name] for name in (BASE["hostname"], "192.0.2.7", "c.example.org"))
    assert one == {"server": BASE["hostname"], "port": 443, "insecureFlag": False, "datacenters": ["A", "B"], "caFile": "/etc/cloud/vcenter-1-ca.pem"}
    assert two == {"server": "192.0.2.7", "port": 8443, "insecureFlag": True}
    assert three["thumbprint"].startswith("AB:")
    assert document["nodes"] == {"internalNetworkSubnetCidr": "192.0.2.0/24,198.51.100.0/24", "externalVmNetworkName": "net"}
    assert data["vcenter-1-ca.pem"].startswith("-----BEGIN")
    assert BASE["password"] not in data["vsphere.conf"].split() and "user" not in data["vsphere.conf"]


def test_a_password_may_come_as_an_object_that_is_no_text() -> None:
    class Encrypted:
        """What `!vault` gives on core 2.18."""

        def __str__(self) -> str:
            return "s3cret"

    assert vcenters.parse([{**BASE, "password": Encrypted()}], "vcenters")[0].password == "s3cret"


@pytest.mark.parametrize(("changes", "verified"), [
    ({"validate_certs": "False"}, False), ({"validate_certs": ""}, True), ({}, True),
    # What AWX's credential sets, unless a setting of its server differs, does not switch off a check that was given its authority.
    ({"validate_certs": "False", "ca": "-----BEGIN CERTIFICATE-----"}, True), ({"validate_certs": False, "thumbprint": ":".join(["AB"] * 20)}, True),
])
def test_an_authority_or_a_thumbprint_is_always_compared(changes: dict[str, Any], verified: bool) -> None:
    assert vcenters.parse([{**BASE, **changes}], "vcenters")[0].validate_certs is verified


@pytest.mark.parametrize(("changes", "words"), [
    ({"hostname": ""}, r"vcenters\[0\].hostname is empty.*VMWARE_HOST"),
    ({"password": ""}, r"vcenters\[0\].password is empty.*VMWARE_PASSWORD"),
    ({"username": None}, r"vcenters\[0\].username is empty"),
    ({"hostname": "https://vc.example.org/sdk"}, "neither a host name nor an address"),
    ({"password": "a\nb"}, "line break"),
    ({"port": "x"}, "is not a number"),
    ({"port": 70000}, "not between 1 and 65535"),
    ({"thumbprint": "AB"}, "hexadecimal pairs"),
    # Neither SHA-1 nor SHA-256: no certificate can have it.
    ({"thumbprint": ":".join(["AB"] * 25)}, "hexadecimal pairs"),
    ({"validate_certs": "flase"}, r"vcenters\[0\].validate_certs 'flase' is neither true nor false"),
    ({"validate_certs": None}, "neither true nor false"),
    ({"validate_certs": "enabled"}, "neither true nor false"),
    ({"ca": "not a certificate"}, "PEM certificate"),
    ({"datacenters": "DC"}, "list of names"),
    # CPI and CSI join the names with commas.
    ({"datacenters": ["a,b"]}, "'a,b' with a comma"),
    ({"datacentre": ["DC"]}, "unknown key datacentre"),
])
def test_bad_vcenters_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        vcenters.parse(entries(**changes), "vcenters")
    assert "a\nb" not in str(caught.value), "a password is never in a message"


@pytest.mark.parametrize("pairs", [20, 32])
def test_a_thumbprint_reaches_cpi_and_csi_in_upper_case(pairs: int) -> None:
    """They compare it letter by letter with one in upper case."""
    wanted = ":".join(["AB"] * pairs)
    found = vcenters.parse(entries(thumbprint=wanted.lower()), "vcenters")
    assert yaml.safe_load(cpi.render_config(found, {})["vsphere.conf"])["vcenter"][BASE["hostname"]]["thumbprint"] == wanted
    assert dict(csi.parse_config(csi.render_config(found, {})[csi.CONFIG_KEY])[0][2])["thumbprint"] == wanted


def test_cpi_is_not_given_a_thumbprint_for_an_ipv6_address() -> None:
    found = vcenters.parse(entries(hostname="fd00::1", thumbprint=":".join(["AB"] * 20)), "cpi_vcenters")
    with pytest.raises(SettingsError, match="fd00::1 has an IPv6 address and a thumbprint.*host name"):
        cpi.render_config(found, {})


@pytest.mark.parametrize(("given", "wanted"), [
    (False, False), ("false", False), ("no", False), ("0", False), (0, False), ("True", True), ("yes", True), (True, True),
])
def test_validate_certs_as_text_means_what_modules_read(given: Any, wanted: bool) -> None:
    """From -e, an INI inventory or a survey it comes as text."""
    found = vcenters.parse(entries(validate_certs=given), "vcenters")
    assert found[0].validate_certs is wanted
    assert yaml.safe_load(cpi.render_config(found, {})["vsphere.conf"])["vcenter"][BASE["hostname"]]["insecureFlag"] is not wanted
    assert csi.parse_config(csi.render_config(found, {})[csi.CONFIG_KEY])[1][2]["insecure-flag"] == str(not wanted).lower()


def test_no_or_double_vcenters() -> None:
    for value in ([], None, "x"):
        with pytest.raises(SettingsError, match="at least one vCenter"):
            vcenters.parse(value, "cpi_vcenters")
    with pytest.raises(SettingsError, match="twice"):
        vcenters.parse(entries() + entries(hostname="VCENTER.example.org"), "cpi_vcenters")


@pytest.mark.parametrize(("settings", "words"), [
    ({"labels": {"regoin": "x"}}, "unknown key regoin"),
    ({"nodes": {"cidr": "x"}}, "unknown key cidr"),
    *(({"nodes": {"internal_network_subnet_cidr": text}}, "is not a network") for text in (
        "10.0.0", "192.0.2.1", "192.0.2.0/255.255.255.0", "192.0.2.0/33", ["192.0.2.0/24", "fd00::1"])),
    ({"nodes": {"internal_vm_network_name": ["VM Network"]}}, "has to be one name"),
    ({"nodes": {"external_vm_network_name": 5}}, "has to be one name"),
    ({"ip_family": ["ipv5"]}, "ipv4 and ipv6 only"),
])
def test_bad_cpi_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        cpi.render_config(vcenters.parse(entries(), "cpi_vcenters"), settings)


@pytest.mark.parametrize(("settings", "changes", "words"), [
    ({"topology_categories": ["a,b"]}, {}, "'a,b' with a comma"),
    ({"topology_categories": list("abcdef")}, {}, "more than 5"),
])
def test_bad_csi_settings_are_named(settings: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        csi.render_config(vcenters.parse(entries(**changes), "csi_vcenters"), settings)


def test_networks_between_commas_are_given_without_blanks() -> None:
    data = cpi.render_config(vcenters.parse(entries(), "cpi_vcenters"), {"nodes": {"internal_network_subnet_cidr": "192.0.2.0/24, fd00::/64"}})
    assert yaml.safe_load(data["vsphere.conf"])["nodes"] == {"internalNetworkSubnetCidr": "192.0.2.0/24,fd00::/64"}


@pytest.mark.parametrize(("program", "version", "refused"), [
    ("CPI", "1.29.2", True), ("CPI", "1.25.3", True), ("CPI", "1.30.2", False), ("CSI", "3.0.2", True), ("CSI", "2.7.2", True), ("CSI", "3.1.0", False),
])
def test_a_sha256_thumbprint_is_refused_for_a_release_that_compares_sha1_only(program: str, version: str, refused: bool) -> None:
    for pairs in (20, 32):
        given = {"version": version, "vcenters": entries(thumbprint=":".join(["AB"] * pairs))}
        # Without documents the manifest is the next thing that is refused.
        with pytest.raises((SettingsError, ManifestError)) as raised:
            {"CPI": cpi, "CSI": csi}[program].objects([], given)
        assert ("compares SHA-1" in str(raised.value)) is (refused and pairs == 32)


def test_several_vcenters_need_topology() -> None:
    found = vcenters.parse(entries() + entries(hostname="b.example.org"), "csi_vcenters")
    with pytest.raises(SettingsError, match="csi_topology_categories"):
        csi.render_config(found, {})
    text = csi.render_config(found, {"topology_categories": ["k8s-zone"]})[csi.CONFIG_KEY]
    assert '[VirtualCenter "b.example.org"]' in text and 'topology-categories = "k8s-zone"' in text


@pytest.mark.parametrize("line", ['user = "a\\q"', 'user = "open', "user = a\\", "[Broken", "user = x"])
def test_a_broken_file_is_no_file(line: str) -> None:
    text = line if line.startswith("[") or line == "user = x" else f"[Global]\n{line}\n"
    with pytest.raises(SettingsError):
        csi.parse_config(text)
    assert csi.live_config(secret({csi.CONFIG_KEY: text})) == {}


def test_reading_what_others_wrote() -> None:
    """The guide's own file: no quotes, comments, blanks."""
    text = '# comment\n[Global]\ncluster-id = domain-c123   ; the moid\n\n[VirtualCenter "10.1.1.1"]\n  user="a@b"\n  password = p"w#"x\ninsecure-flag\n'
    parsed = {(name, label): values for name, label, values in csi.parse_config(text)}
    assert parsed[("Global", "")] == {"cluster-id": "domain-c123"}
    assert parsed[("VirtualCenter", "10.1.1.1")] == {"user": "a@b", "password": "pw#x", "insecure-flag": "true"}


def live_secret(identity: str) -> dict[str, Any]:
    return secret({csi.CONFIG_KEY: csi.render_config(vcenters.parse(entries(), "x"), {"cluster_id": identity})[csi.CONFIG_KEY]})


def test_cluster_id_is_unique_kept_and_never_changed() -> None:
    assert csi.cluster_id("", None, None, "uid-1") == "uid-1"
    assert csi.cluster_id("mine", None, None, "uid-1") == "mine"
    assert csi.cluster_id("", live_secret("old"), None, "uid-1") == "old"
    assert csi.cluster_id("old", live_secret("old"), None, "uid-1") == "old"
    with pytest.raises(SettingsError, match="filed under 'old'"):
        csi.cluster_id("new", live_secret("old"), None, "uid-1")
    with pytest.raises(SettingsError, match="at most 64"):
        csi.cluster_id("x" * 65, None, None, "uid-1")


def test_an_id_that_was_written_by_hand_is_found_in_any_case_and_never_guessed() -> None:
    assert csi.cluster_id("", secret({csi.CONFIG_KEY: '[global]\nCluster-ID = "by-hand"\n'}), None, "uid-1") == "by-hand"
    broken = secret({csi.CONFIG_KEY: '[Global]\ncluster-id = "open\n'})
    with pytest.raises(SettingsError, match="can't be read.*set csi_cluster_id"):
        csi.cluster_id("", broken, None, "uid-1")
    assert csi.cluster_id("by-hand", broken, None, "uid-1") == "by-hand"


def test_an_id_of_the_drivers_own_making_is_left_alone() -> None:
    generated = {"metadata": {"name": csi.GENERATED_ID}}
    assert csi.cluster_id("", None, generated, "uid-1") == ""
    with pytest.raises(SettingsError, match="leave csi_cluster_id empty"):
        csi.cluster_id("mine", None, generated, "uid-1")
    assert "cluster-id" not in csi.render_config(vcenters.parse(entries(), "x"), {"cluster_id": ""})[csi.CONFIG_KEY]


@pytest.mark.parametrize(("user", "version", "accepted"), [
    ("k3s@vsphere.local", "3.3.1", True), ("DOMAIN\\k3s", "3.3.1", True), ("k3s", "3.3.1", False), ("a b@c.d", "3.3.1", False),
    ("k3s", "2.7.2", True), ("ü@c.d", "3.6.2", False),
])
def test_users_as_the_driver_takes_them(user: str, version: str, accepted: bool) -> None:
    from pathlib import Path

    from ansible_collections.cht.k3s.plugins.module_utils import versions
    from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import documents

    path = Path(__file__).parents[3] / "data" / "manifests" / f"csi-v{version}.manifest"
    settings = {"vcenters": entries(username=user), "version": version, "images": versions.csi_images(version)}
    if accepted:
        assert csi.objects(documents(path.read_bytes(), path.name), settings)
    else:
        with pytest.raises(SettingsError, match="does not accept the user"):
            csi.objects(documents(path.read_bytes(), path.name), settings)
