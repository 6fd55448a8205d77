# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption of Secrets: what a server has, what a snapshot has, and the way from one state to the next."""
from __future__ import annotations

import contextlib
import json
import os
import zipfile

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.k3s import datastore, encryption, encryption_plan, state
from ansible_collections.cht.k3s.plugins.module_utils.k3s.api import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.k3s.plan import decide
from ansible_collections.cht.k3s.plugins.module_utils.k3s.secrets_encryption import Encryptor
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, Result, UnitState

from k3s_fakes import VERSION, FakeApi, FakeSystem, make_node

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


# -- the way through the servers ---------------------------------------------------------------------


class Killed(Exception):
    """The run ends here."""


class World:
    """Three servers as k3s behaves: what each has loaded, what the bootstrap data has, and with which key each Secret was written."""

    def __init__(self, folder, monkeypatch, names=("a", "b", "c")) -> None:
        self.stored: str | None = None
        self.nodes: dict[str, dict] = {}
        self.secrets: dict[str, str] = {}
        self.made = self.keys = 0
        self.left = 10 ** 6
        self.servers = {name: Server(folder / name, self, name) for name in names}
        monkeypatch.setattr(state, "server_api", lambda system, timeout=5.0: WorldApi(system))
        monkeypatch.setattr(Encryptor, "_saved", lambda self: self.system.world.stored == self.system.read(encryption.CONFIGURATION) != None)  # noqa: E711
        for server in self.servers.values():
            self.nodes[server.name] = make_node(server.name)
            server.put(CONFIG, "node-ip: 198.18.0.11\n")
            server.put("/usr/local/bin/k3s", "binary", 0o755)
            server.put(datastore.ETCD_WAL + "/0.wal")
            server.units["k3s"] = UnitState(loaded=True, active="active", sub="running", enabled="enabled", pid=1, started_at=server.clock - 10)
            server.start()
        for name in self.servers:
            self.write(name)

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def write(self, through: str) -> None:
        self.made += 1
        self.secrets[f"s{self.made}"] = self.servers[through].loaded[0]

    def readable(self, through: str) -> bool:
        return set(self.secrets.values()) <= set(self.servers[through].loaded)

    def drive(self, rotate: bool = False, check_mode: bool = False) -> tuple[dict, int]:
        """What the tasks of the role do; gives the plan and how many changed."""
        changed = 0

        def on(name: str) -> Encryptor:
            return Encryptor(self.servers[name], "/usr/local/bin/k3s", 300, check_mode=check_mode)

        plan = encryption_plan.decide({name: on(name).read() for name in self.servers}, list(self.servers), rotate)
        if plan["problem"]:
            raise NodeError(plan["problem"])
        for operation in plan["operations"]:
            self.step()
            done = on(plan["leader"]).operate(operation)
            changed += done["changed"]
            others = [name for name in self.servers if name != plan["leader"]]
            for name in [plan["leader"], *others] if operation == "enable" else [*others, plan["leader"]]:
                self.step()
                changed += on(name).take(done["hash"], name == plan["leader"])["changed"]
        return plan, changed


class Server(FakeSystem):
    """Its k3s."""

    def __init__(self, root, world: World, name: str) -> None:
        super().__init__(root)
        self.world, self.name, self.version, self.loaded = world, name, VERSION, ["identity"]
        self.on_start = self.start

    def hostname(self) -> str:
        return self.name

    def providers(self) -> list:
        text = self.read(encryption.CONFIGURATION)
        return json.loads(text)["resources"][0]["providers"] if text else []

    def keys(self) -> list:
        return [key for row in self.providers() for key in row.get("aescbc", {}).get("keys", [])]

    def save(self, keys: list, stage: str, stored: bool = True) -> None:
        self.write(encryption.CONFIGURATION, configuration({"aescbc": {"keys": keys}}, IDENTITY), 0o600)
        os.utime(self.path(encryption.CONFIGURATION), (self.clock, self.clock))
        self.tell(stage)
        if stored:
            self.world.stored = self.read(encryption.CONFIGURATION)

    def tell(self, stage: str) -> None:
        self.stage = stage
        told = f"{stage}-{encryption.configuration(self)['hash']}"
        self.world.nodes[self.name]["metadata"].setdefault("annotations", {})["k3s.io/encryption-config-hash"] = told

    def load(self) -> None:
        self.loaded = [key["name"] + key["secret"] for key in self.keys()] if self.providers() else []
        self.loaded = self.loaded + ["identity"] if self.providers()[:1] != [IDENTITY] else ["identity", *self.loaded]

    def start(self) -> None:
        self.clock += 100
        if "secrets-encryption: true" not in (self.read(CONFIG) or ""):
            self.loaded = ["identity"]
            return
        if self.world.stored:
            self.put(encryption.CONFIGURATION, self.world.stored)
        elif not self.providers():
            self.save([{"name": "aescbckey", "secret": self.name}], "start", stored=False)
        self.load()
        self.tell(self.world.stage if hasattr(self.world, "stage") else "start")

    def run(self, argv: list, timeout: float = 60, env: dict | None = None) -> Result:
        if argv[1] != "secrets-encrypt":
            return super().run(argv, timeout, env)
        world, keys, operation = self.world, self.keys(), argv[2]
        self.clock += 5
        world.keys += 1
        new = {"name": f"aescbckey-2026-01-01T00:00:{world.keys:02d}Z", "secret": f"new{world.keys}"}
        if operation == "enable":
            assert not self.providers()
            self.write(encryption.CONFIGURATION, configuration(IDENTITY), 0o600)
            world.stored = self.read(encryption.CONFIGURATION)
        elif operation == "rotate-keys":
            assert not keys, "a Secret that is written through another server with the old key would be lost"
            self.save([new], "reencrypt_finished")
            self.load()
            world.secrets = dict.fromkeys(world.secrets, self.loaded[0])
        elif operation == "prepare":
            self.save([*keys, new], "prepare")
        elif operation == "rotate":
            self.save([keys[-1], *keys[:-1]], "rotate")
        elif operation == "reencrypt":
            world.secrets = dict.fromkeys(world.secrets, self.loaded[0])
            self.save(keys[:-1], "reencrypt_finished")
        world.stage = getattr(self, "stage", "start")
        return Result(0, "", "")


class WorldApi(FakeApi):
    def __init__(self, system) -> None:
        super().__init__()
        self.system, self.objects = system, system.world.nodes

    def get(self, path: str) -> dict:
        if not self.system.world.readable(self.system.name):
            raise ApiError("no matching prefix found", 500)
        return {"items": [{"metadata": {"namespace": "x", "name": name}} for name in self.system.world.secrets]}


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def all_read(world: World) -> bool:
    return all(world.readable(name) for name in world.servers)


def test_a_cluster_without_is_encrypted_and_a_second_run_changes_nothing(world):
    plan, changed = world.drive()
    assert plan["operations"] == ["enable", "rotate-keys"] and plan["before"] == "plain" and changed == 2 + 3 + 3
    assert all_read(world) and "identity" not in world.secrets.values()
    assert {encryption.setting(server) for server in world.servers.values()} == {"encrypted"}
    plan, changed = world.drive()
    assert plan["operations"] == [] and plan["before"] == "encrypted" and changed == 0


def test_another_key_and_all_can_read_at_each_step(world, monkeypatch):
    world.drive()
    before = set(world.secrets.values())
    take = Encryptor.take

    def taking(self, *given):
        assert all_read(world)
        world.write(self.system.name)
        return take(self, *given)

    monkeypatch.setattr(Encryptor, "take", taking)
    plan, changed = world.drive(rotate=True)
    assert plan["operations"] == ["prepare", "rotate", "reencrypt"] and changed == 12
    assert all_read(world) and not before & set(world.secrets.values()) and len(world.servers["a"].keys()) == 1
    assert world.drive()[1] == 0


@pytest.mark.parametrize("rotate", [False, True])
def test_a_run_that_is_killed_anywhere_is_finished_by_the_next(tmp_path, monkeypatch, rotate):
    """Also one that is killed twice; without the variable a change of the key that was begun is finished, and with it no second one begins."""
    for first in range(14):
        for second in (first % 5,):
            world = World(tmp_path / f"{first}-{second}", monkeypatch)
            if rotate:
                world.drive()
            for left in (first, second):
                world.left = left
                with contextlib.suppress(Killed):
                    world.drive(rotate)
            world.left = 10 ** 6
            world.drive()
            assert all_read(world) and "identity" not in world.secrets.values(), (first, second)
            assert len({server.read(encryption.CONFIGURATION) for server in world.servers.values()}) == 1
            assert world.drive()[1] == 0


def test_check_mode_predicts_and_changes_nothing(world):
    plan, changed = world.drive(check_mode=True)
    assert plan["operations"] == ["enable", "rotate-keys"] and changed == 8
    assert world.stored is None and world.drive()[1] == 8
    assert world.drive(check_mode=True)[1] == 0 and world.drive(rotate=True, check_mode=True)[1] == 12


def test_keys_that_each_server_made_for_itself_are_not_spread(world):
    """The flag alone on all: each may hold the only key of something."""
    for server in world.servers.values():
        server.put(CONFIG, "secrets-encryption: true\n")
        server.start()
    with pytest.raises(NodeError, match="do not follow from one another.*Nothing was changed"):
        world.drive()


def test_a_key_that_the_bootstrap_data_lacks_is_not_asked_of_others(world):
    """The flag alone on one."""
    world.servers["b"].put(CONFIG, "secrets-encryption: true\n")
    world.servers["b"].start()
    with pytest.raises(NodeError, match="is not in the cluster's bootstrap data.*No other server was changed"):
        world.drive()
    assert encryption.setting(world.servers["a"]) == "plain"


def test_a_server_that_makes_another_key_is_put_back(world, monkeypatch):
    """Whatever a release does: the proof is what lies on the disk after the restart."""
    encryptor = Encryptor(world.servers["a"], "/usr/local/bin/k3s", 300)
    digest = encryptor.operate("enable")["hash"]
    encryptor.take(digest, True)
    world.stored = None
    with pytest.raises(NodeError, match="another encryption configuration .encrypted.*put back, and the node is up"):
        Encryptor(world.servers["b"], "/usr/local/bin/k3s", 300).take(digest)
    assert encryption.setting(world.servers["b"]) == "plain"


def test_a_release_that_cannot_says_so(world, monkeypatch):
    server = world.servers["a"]
    refused = Result(1, "", 'level=fatal msg="Error: see server log for details: secret-encrypt error ID 94814"')
    monkeypatch.setattr(server, "run", lambda argv, **given: refused)
    server.lines = ['time="x" level=error msg="secret-encrypt error ID 94814: open : no such file or directory"']
    with pytest.raises(NodeError, match="open : no such file or directory. k3s .* can't do this on a cluster that runs. Upgrade first"):
        Encryptor(server, "/usr/local/bin/k3s", 300).operate("enable")


@pytest.mark.parametrize(("change", "text"), [
    ({"problem": "its API does not answer"}, "b: its API does not answer"), ({"kind": "damaged"}, "can't be read"),
    ({"flag": True, "kind": "disabled"}, "secrets-encrypt disable"), ({"version": "v1.35.1+k3s1"}, "several releases"), (None, "b could not be asked"),
])
def test_what_speaks_against_it_is_said_before_anything_changes(change, text):
    facts = {"problem": "", "kind": "none", "flag": False, "version": VERSION, "hash": "", "stage": "", "keys": [], "provider": ""}
    answers = {"a": facts, "b": None if change is None else {**facts, **change}}
    plan = encryption_plan.decide(answers, ["a", "b"])
    assert text in plan["problem"] and plan["operations"] == [] and "Nothing was changed" in plan["problem"]


def test_a_secretbox_key_is_not_rotated(world):
    facts = {"problem": "", "kind": "encrypted", "flag": True, "version": VERSION, "hash": "x", "stage": "start", "keys": ["k"], "provider": "secretbox"}
    assert "secretbox" in encryption_plan.decide({"a": facts}, ["a"], True)["problem"] and encryption_plan.decide({"a": facts}, ["a"])["problem"] == ""
