# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption of Secrets: what a server has, what a snapshot has, and the way from one state to the next."""
from __future__ import annotations

import json
import zipfile

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.k3s import datastore, encryption, state
from ansible_collections.cht.k3s.plugins.module_utils.k3s.plan import decide

CONFIG = "/etc/rancher/k3s/config.yaml"
UNIT = "/etc/systemd/system/k3s.service"
IDENTITY: dict = {"identity": {}}


def configuration(*providers: dict) -> str:
    return json.dumps({"kind": "EncryptionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1",
                       "resources": [{"resources": ["secrets"], "providers": list(providers)}]})


def aescbc(*names: str, secret: str = "c2VjcmV0") -> dict:
    return {"aescbc": {"keys": [{"name": name, "secret": secret} for name in names]}}


# -- what a server has -------------------------------------------------------------------------------


@pytest.mark.parametrize(("providers", "kind", "keys"), [
    ((IDENTITY,), "identity", []), ((aescbc("a"), IDENTITY), "encrypted", ["a"]), ((IDENTITY, aescbc("a")), "disabled", ["a"]),
    ((aescbc("b", "a"), IDENTITY), "encrypted", ["b", "a"]),
])
def test_the_configuration_is_told_without_its_keys(system, providers, kind, keys):
    system.put(encryption.CONFIGURATION, configuration(*providers))
    found = encryption.configuration(system)
    assert (found["kind"], found["keys"]) == (kind, keys) and len(found["hash"]) == 64
    assert "c2VjcmV0" not in json.dumps(found)


def test_no_configuration_and_a_damaged_one(system):
    assert encryption.configuration(system)["kind"] == "none"
    system.put(encryption.CONFIGURATION, '{"resources": []}')
    assert encryption.configuration(system)["kind"] == "damaged"


@pytest.mark.parametrize(("config", "arguments", "keys", "setting"), [
    ("secrets-encryption: true\n", "", (), "encrypted"), ("secrets-encryption: True\n", "", (), "encrypted"), ("node-ip: x\n", "", (), "plain"),
    ("node-ip: x\n", " --secrets-encryption", (), "encrypted"), ("secrets-encryption: true\n", " --secrets-encryption=false", (), "plain"),
    # Lost with the machine's /etc: what k3s itself keeps beside the data tells.
    (None, "", ("a",), "encrypted"), (None, "", (), "plain"),
])
def test_what_a_server_is_started_with(system, config, arguments, keys, setting):
    if config is not None:
        system.put(CONFIG, config)
    system.put(UNIT, f"[Service]\nExecStart=/usr/local/bin/k3s server{arguments}\n")
    if keys:
        system.put(encryption.CONFIGURATION, configuration(aescbc(*keys), IDENTITY))
    assert encryption.setting(system) == setting
    system.put(datastore.ETCD_WAL + "/0.wal")
    assert state.inspect_server(system, "/usr/local/bin/k3s")["encryption"] == setting


def test_the_plan_says_what_the_cluster_has():
    urls = {"a": "https://a:6443", "b": "https://b:6443"}
    answers = {"a": {"datastore": True, "healthy": True, "members": [], "token": "x", "encryption": "plain"}, "b": {"datastore": False, "healthy": False}}
    assert decide(answers, urls, "b", True, True, "a")["encryption"] == "plain"
    assert decide({"a": answers["b"], "b": answers["b"]}, urls, "b", True, True, "a")["encryption"] == ""


# -- what a snapshot has -----------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("value", "found"), [
    (b"k8s:enc:aescbc:v1:aescbckey:" + b"\x07" * 40, "encrypted"), (b"k8s:enc:secretbox:v1:key:x", "encrypted"), (b"text about k8s:enc: only", "plain"),
])
def test_a_snapshot_tells_whether_it_is_encrypted(system, compressed, value, found):
    """The mark may lie across two blocks of the reading."""
    content = b"\0" * ((1 << 20) - 6) + value + b"\0" * 100
    path = system.root + "/snapshot"
    if compressed:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("snapshot", content)
    else:
        with open(path, "wb") as stream:
            stream.write(content)
    assert encryption.of_snapshot(system, "/snapshot") == found


def test_the_setting_in_a_file_is_replaced():
    text = "a: 1\nsecrets-encryption: true\nb: 2\n"
    assert encryption.with_setting(text, "plain") == "a: 1\nb: 2\n"
    assert encryption.with_setting("a: 1\nb: 2\n", "encrypted") == "a: 1\nb: 2\nsecrets-encryption: true\n"
    assert encryption.with_setting(text, "encrypted").count("secrets-encryption") == 1
