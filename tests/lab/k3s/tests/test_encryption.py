# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption of Secrets on two servers that were begun without it, on real etcd and API servers, in the order of the file."""
from __future__ import annotations

import json
import re
import time

import pytest
from test_contract import BASE, TOKEN, settings, token_file

CONFIGURATION = "/var/lib/rancher/k3s/server/cred/encryption-config.json"
FLAG = "secrets-encryption: true"


def begin(one, two) -> None:
    """Two servers without encryption, with the Nodes that agents would make: k3s tells the others by an annotation there."""
    for host in (one, two):
        host.stop()
        host.wipe()
    settings(one, "cluster-init: true")
    one.start("server").wait_ready()
    settings(two, f"server: https://{one.ip}:6443", base=BASE.replace(TOKEN, token_file(one)))
    two.start("server").wait_ready()
    for host in (one, two):
        one.write("/etc/node.json", json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": host.name, "labels": {"node-role.kubernetes.io/control-plane": "true"}}}))
        one.k3s("kubectl", "create", "-f", "/etc/node.json")
    one.k3s("kubectl", "create", "secret", "generic", "first", "--from-literal=key=value")


def restart(host, peer, *lines: str) -> None:
    host.stop()
    settings(host, f"server: https://{peer.ip}:6443", *lines, base=BASE.replace(TOKEN, token_file(host)))
    host.start("server").wait_ready()


def status(host) -> dict:
    return json.loads(host.k3s("secrets-encrypt", "status", "-o", "json"))


def until_status(host, **wanted) -> dict:
    """The annotation is written after the server is ready."""
    end = time.monotonic() + 60
    while True:
        code, text = host.code(str(host.binary), "secrets-encrypt", "status", "-o", "json")
        found = json.loads(text) if code == 0 else {}
        if found and all(found.get(key, False) == value for key, value in wanted.items()):
            return found
        assert time.monotonic() < end, (wanted, text)
        time.sleep(1)


def readable(host, *names: str) -> bool:
    return all(host.code(str(host.binary), "kubectl", "get", "secret", name)[0] == 0 for name in names)


@pytest.fixture(scope="module")
def pair(make_host):
    return make_host("five"), make_host("six")


def test_with_the_flag_alone_each_server_makes_a_key_of_its_own(pair):
    five, six = pair
    begin(five, six)
    assert five.k3s("secrets-encrypt", "status").strip() == "Encryption Status: Disabled, no configuration file found"
    restart(five, six, FLAG)
    restart(six, five, FLAG)
    assert five.sh(f"cat {CONFIGURATION}") != six.sh(f"cat {CONFIGURATION}")
    found = until_status(six, enable=True, hashmatch=False)
    assert re.match("hash does not match between (five and six|six and five)", found["hasherror"]) and found["stage"] == "start"
    six.k3s("kubectl", "create", "secret", "generic", "second", "--from-literal=key=value")
    code, text = five.code(str(five.binary), "kubectl", "get", "secret", "second")
    assert code == 1 and "invalid padding on input" in text


def test_enable_prepares_the_bootstrap_data(pair):
    five, six = pair
    begin(five, six)
    assert five.k3s("secrets-encrypt", "enable").strip() == "secrets-encryption enabled"
    log = "Enabling secrets encryption with identity provider, restart with secrets-encryption"
    assert log in five.daemons[-1].log() and json.loads(five.sh(f"cat {CONFIGURATION}"))["resources"][0]["providers"] == [{"identity": {}}]
    code, text = five.code(str(five.binary), "secrets-encrypt", "status")
    assert code == 1 and re.search(r"see server log for details: .*secret-encrypt error ID \d{5}", text)
    assert re.search(r"secret-encrypt error ID \d{5}: missing annotation on node five", five.daemons[-1].log())
    code, text = five.code(str(five.binary), "secrets-encrypt", "enable")
    assert code == 1 and "EOF" in text
    restart(five, six, FLAG)
    restart(six, five, FLAG)
    assert five.sh(f"cat {CONFIGURATION}") == six.sh(f"cat {CONFIGURATION}")
    for host in pair:
        found = until_status(host, enable=False, hashmatch=True)
        assert found["stage"] == "start" and found["activekey"] == ""
    assert "Encryption Status: Disabled\nCurrent Rotation Stage: start\nServer Encryption Hashes: All hashes match\n" in six.k3s("secrets-encrypt", "status")
    assert readable(five, "first") and readable(six, "first")


def test_until_the_others_restart_they_read_no_secret(pair):
    five, six = pair
    assert five.k3s("secrets-encrypt", "rotate-keys").strip() == "keys rotated, reencryption finished"
    found = status(five)
    assert found["enable"] and found["stage"] == "reencrypt_finished" and found["activekey"].startswith("AES-CBC aescbckey-2") and "hasherror" in found
    code, text = six.code(str(six.binary), "kubectl", "get", "secret", "first")
    assert code == 1 and "no matching prefix found" in text
    assert not six.code(str(six.binary), "secrets-encrypt", "rotate-keys")[0] == 0
    assert re.search(r"error ID \d+: hash does not match between", six.daemons[-1].log())
    restart(six, five, FLAG)
    for host in pair:
        assert until_status(host, hashmatch=True)["stage"] == "reencrypt_finished" and readable(host, "first")


def test_the_key_is_rotated_in_three_steps_in_which_all_can_read(pair):
    five, six = pair
    former = status(five)["activekey"]
    for command, said, stage, active, inactive in (
            ("prepare", "prepare completed successfully", "prepare", True, 1), ("rotate", "rotate completed successfully", "rotate", False, 1),
            ("reencrypt", "reencryption started", "reencrypt_finished", False, 0)):
        assert five.k3s("secrets-encrypt", command).strip() == said
        found = until_status(five, stage=stage)
        assert (found["activekey"] == former, len(found.get("inactivekeys", []))) == (active, inactive) and not found.get("hashmatch")
        assert readable(five, "first") and readable(six, "first")
        six.k3s("kubectl", "create", "secret", "generic", f"while-{command}", "--from-literal=key=value")
        # Also the one that was asked: until its API server has read the file again, within a minute or at a restart, `reencrypt` would write
        # with the old key and then drop it.
        for host, peer in ((six, five), (five, six)):
            restart(host, peer, FLAG)
            until_status(host, hashmatch=True, stage=stage)
    for host in pair:
        assert readable(host, "first", "while-prepare", "while-rotate", "while-reencrypt")


def test_a_newer_file_than_the_datastore_has_is_fatal(pair):
    five, six = pair
    six.stop()
    six.sh(f"cp {CONFIGURATION} /etc/kept && echo >> {CONFIGURATION}")
    assert re.search(r"encryption-config\.json newer than datastore and could cause a cluster outage\. Remove the file\(s\)", six.refused("server"))
    six.sh(f"rm {CONFIGURATION}")
    six.start("server").wait_ready()
    assert six.sh(f"cat {CONFIGURATION}") == five.sh(f"cat {CONFIGURATION}") and readable(six, "first")
