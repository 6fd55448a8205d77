# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What k3s_join decides and does, on a node made of files and plain data."""
from __future__ import annotations

import os
import re

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.k3s import join as join_module
from ansible_collections.cht.k3s.plugins.module_utils.k3s import datastore, state
from ansible_collections.cht.k3s.plugins.module_utils.k3s.api import ApiError
from ansible_collections.cht.k3s.plugins.module_utils.k3s.join import Joiner, Wanted
from ansible_collections.cht.k3s.plugins.module_utils.k3s.settings import of_cluster
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import Entry, NodeError, Result, UnitState
from ansible_collections.cht.k3s.plugins.module_utils.k3s.values import config_values

from k3s_fakes import VERSION, make_node

WAL = datastore.ETCD_WAL + "/0.wal"
CONFIG = "/etc/rancher/k3s/config.yaml"
TOKEN = "/etc/rancher/k3s/token"
HASH = "ab" * 32


def wanted(role: str = "server", **options) -> Wanted:
    options.setdefault("cluster_init", role == "server")
    options.setdefault("release_url", "http://mirror/k3s")
    if role == "agent":
        options.setdefault("servers", ["https://198.18.0.11:6443"])
        options.setdefault("token", "secret-password")
    return Wanted(role=role, version=options.pop("version", VERSION), **options)


def join(system, want: Wanted, check_mode: bool = False) -> dict:
    return Joiner(system, want, check_mode).present()


@pytest.fixture
def member(system):
    """A first server that was joined by an earlier run."""
    join(system, wanted(config={"node-ip": "198.18.0.11"}, token="secret-password"))
    system.put(WAL)
    system.put(state.SERVER_TOKEN, f"K10{HASH}::server:secret-password\n")
    system.age()
    system.calls.clear()
    return system


# -- joining -----------------------------------------------------------------------------------------


def test_a_first_server_begins_the_cluster(system):
    result = join(system, wanted(config={"node-ip": "198.18.0.11", "disable": ["local-storage"]}))
    assert result["changed"]
    text = system.read(CONFIG)
    assert "cluster-init: true" in text and "server:" not in text
    # Made here where none is given: a server that has no way to its token begins a cluster of its own once it has lost its data.
    assert "token-file: /etc/rancher/k3s/token\n" in text and re.fullmatch(r"[0-9a-f]{64}\n", system.read(TOKEN)) and system.mode(TOKEN) == 0o600
    assert system.read(TOKEN).strip() not in str(result)
    assert 'node-ip: "198.18.0.11"' in text and "disable:\n  - local-storage\n" in text
    assert system.mode(CONFIG) == 0o600
    assert ("enable", "k3s.service") in system.calls and ("start", "--no-block", "k3s.service") in system.calls
    assert result["membership"] == {"role": "server", "node": "control-plane-1", "joining": "begin a new cluster"}


def test_an_agent_joins_with_the_token_in_its_own_file(system, api):
    system.on_start = lambda: api.objects.setdefault("control-plane-1", make_node("control-plane-1", voter=None))
    join(system, wanted("agent"))
    assert system.read(TOKEN) == "secret-password\n" and system.mode(TOKEN) == 0o600
    for path in (CONFIG, "/etc/systemd/system/k3s-agent.service", "/etc/systemd/system/k3s-agent.service.env"):
        assert "secret-password" not in (system.read(path) or "")
    assert "server: https://198.18.0.11:6443\ntoken-file: /etc/rancher/k3s/token\n" in system.read(CONFIG)
    assert not any("secret-password" in word for call in system.calls for word in call)


def test_check_mode_predicts_and_writes_nothing(system):
    want = wanted("agent", config={"node-ip": "198.18.0.21"})
    predicted = join(system, want, check_mode=True)
    assert not system.exists("/etc") and not system.commands()
    system.on_start = lambda: None
    system.units.clear()
    real = Joiner(system, Wanted(**dict(vars(want), wait="none"))).present()
    assert predicted["actions"] == real["actions"] and predicted["diff"] == real["diff"]


def test_check_mode_predicts_an_agent_before_there_is_a_token(system):
    predicted = join(system, wanted("agent", token=""), check_mode=True)
    assert "file /etc/rancher/k3s/token" in predicted["actions"]


def test_a_second_run_changes_nothing(member):
    result = join(member, wanted(config={"node-ip": "198.18.0.11"}))
    assert not result["changed"] and result["actions"] == [] and result["diff"] == []
    assert member.commands() == []


def test_secrets_are_masked_in_the_diff(system):
    result = join(system, wanted(
        token="a-very-secret", config={"etcd-s3": True, "etcd-s3-bucket": "backup"},
        secret_config={"etcd-s3-access-key": "me", "etcd-s3-secret-key": "also-secret"}))
    shown = str(result["diff"]) + str(result["actions"])
    assert "a-very-secret" not in shown and "also-secret" not in shown and "etcd-s3-secret-key: ********" in shown
    assert "etcd-s3-secret-key: also-secret" in system.read(CONFIG)


# -- restarts ----------------------------------------------------------------------------------------


def test_a_changed_configuration_restarts_and_shows_exactly_that(member):
    result = join(member, wanted(config={"node-ip": "198.18.0.11", "tls-san": ["k3s.example.org"]}))
    assert member.commands() == [("restart", "--no-block", "k3s.service")] and result["restarted"]
    assert [entry["after_header"] for entry in result["diff"]] == [CONFIG]
    assert result["actions"] == [f"file {CONFIG}", "restart k3s.service (config.yaml)"]


def test_an_interrupted_run_is_completed(member):
    """The file was written, and then the run ended before the restart: the contents are equal, the service is older."""
    os.utime(member.path(CONFIG), (member.clock + 30, member.clock + 30))
    result = join(member, wanted(config={"node-ip": "198.18.0.11"}))
    assert result["restarted"] and "config.yaml is newer than the running service" in result["actions"][0]


def test_only_a_mode_is_no_reason_to_restart(member):
    member.chmod(CONFIG, 0o644)
    result = join(member, wanted(config={"node-ip": "198.18.0.11"}))
    assert member.mode(CONFIG) == 0o600 and not result["restarted"] and result["actions"] == [f"file {CONFIG}"]


def test_an_agent_that_runs_without_having_joined_is_started_anew(system, api):
    """It was refused for its host name, and does not see that the machine was renamed since."""
    want = wanted("agent")
    system.on_start = lambda: None
    with pytest.raises(NodeError):
        join(system, want)
    system.age()
    unit = system.units["k3s-agent"]
    system.units["k3s-agent"] = type(unit)(**{**vars(unit), "started_at": system.clock})
    assert system.unit("k3s-agent").running and not state.has_joined_as_agent(system)
    system.on_start = lambda: api.objects.setdefault("control-plane-1", make_node("control-plane-1", voter=None))
    result = join(system, want)
    assert "restart k3s-agent.service (it runs and has not joined)" in result["actions"]


def test_a_restart_that_would_break_quorum_is_refused_before_anything_is_written(member, api):
    api.objects.update({"control-plane-2": make_node("control-plane-2", ready=False), "control-plane-3": make_node("control-plane-3")})
    before = member.read(CONFIG)
    with pytest.raises(NodeError, match="control-plane-2 is not a healthy etcd voter.*1 of 3 members, and 2 are needed"):
        join(member, wanted(config={"node-ip": "198.18.0.11", "debug": True}))
    assert member.read(CONFIG) == before and member.commands() == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_check_mode_sees_the_quorum_too(member, api, check_mode):
    api.objects.update({"control-plane-2": make_node("control-plane-2", ready=False), "control-plane-3": make_node("control-plane-3")})
    with pytest.raises(NodeError, match="and 2 are needed"):
        join(member, wanted(config={"node-ip": "198.18.0.11", "debug": True}), check_mode)


@pytest.mark.parametrize(("active", "cause", "refused"), [
    ("active", TimeoutError("timed out"), True), ("active", None, True), ("active", ConnectionRefusedError(), False),
    ("activating", TimeoutError("timed out"), False),
])
def test_a_server_whose_api_does_not_say_is_restarted_only_when_it_is_down(member, api, monkeypatch, active, cause, refused):
    """An API that is slow, or answers 401, may belong to the very vote that etcd can't spare."""
    def nodes():
        raise ApiError("https://127.0.0.1:6443/api/v1/nodes: timed out") from cause

    monkeypatch.setattr(api, "nodes", nodes)
    member.units["k3s"].active = active
    want = wanted(config={"node-ip": "198.18.0.11", "debug": True})
    if refused:
        with pytest.raises(NodeError, match="Not restarted, nothing was changed: k3s.service is active"):
            join(member, want)
        assert "debug" not in member.read(CONFIG) and not member.commands()
    else:
        assert join(member, want)["restarted"]


def test_a_restart_is_allowed_while_the_others_are_healthy(member, api):
    api.objects.update({"control-plane-2": make_node("control-plane-2"), "control-plane-3": make_node("control-plane-3")})
    assert join(member, wanted(config={"node-ip": "198.18.0.11", "debug": True}))["restarted"]


def test_a_bad_configuration_is_taken_back(member, api):
    """The service never becomes ready with the new file; with the old one it does."""
    def start():
        good = "debug" not in member.read(CONFIG)
        member.units["k3s"].active = "active" if good else "activating"
    member.on_start = start
    with pytest.raises(NodeError, match="The last good configuration was put back, and the node is up with it"):
        join(member, wanted(config={"node-ip": "198.18.0.11", "debug": True}, timeout=20))
    assert "debug" not in member.read(CONFIG) and member.units["k3s"].active == "active"


# -- what is refused ---------------------------------------------------------------------------------


def test_a_typo_is_refused_with_the_right_name(system):
    with pytest.raises(NodeError, match="'tls-sna' is no setting of k3s v1.34.4.k3s1; did you mean 'tls-san'"):
        join(system, wanted(config={"tls-sna": ["x"]}))
    assert not system.exists("/etc")


@pytest.mark.parametrize(("before", "after", "message"), [
    ({}, {"cluster-cidr": "10.44.0.0/16"}, r"cluster-cidr is 10.42.0.0/16 here, and 10.44.0.0/16 is wanted \(k3s_cluster_cidr\)"),
    ({"service-cidr": ["10.45.0.0/16"]}, {}, "service-cidr is 10.45.0.0/16 here.*cluster-dns is 10.45.0.10 here, and 10.43.0.10"),
    ({}, {"cluster-dns": "10.43.0.11"}, "cluster-dns is 10.43.0.10 here"),
    ({"cluster-domain": "moh"}, {"cluster-domain": "cht"}, "cluster-domain is moh here"),
])
def test_what_a_cluster_is_built_on_is_not_rolled_out(system, before, after, message):
    join(system, wanted(config=before))
    system.put(WAL)
    text = system.read(CONFIG)
    for check_mode in (True, False):
        with pytest.raises(NodeError, match=message + ".*Nothing was changed"):
            join(system, wanted(config=after), check_mode)
    assert system.read(CONFIG) == text


def test_the_same_said_otherwise_is_no_change(system):
    join(system, wanted(config={"cluster-cidr": ["10.42.0.0/16"], "service-cidr": "10.43.0.0/16,fd00:43::/112"}))
    system.put(WAL)
    join(system, wanted(config={"service-cidr": ["10.43.0.0/16", "fd00:43::/112"], "cluster-dns": ["10.43.0.10", "fd00:43::a"]}))
    join(system, wanted(config={"service-cidr": ["10.43.0.0/16", "fd00:43::/112"], "cluster-domain": "cluster.local"}))


@pytest.mark.parametrize("version", ["v1.34.4+k3s1", "v1.35.1+k3s1"])
@pytest.mark.parametrize(("before", "after", "said"), [
    ({"secrets-encryption": True}, {}, "without the setting k3s could not read them"),
    ({}, {"secrets-encryption": True}, "each server would make a key of its own.*secrets_encryption.yml"),
])
def test_encryption_stays_as_the_cluster_has_it(system, api, version, before, after, said):
    """Whatever the release: a default that is right for a new cluster makes every Secret of one that runs unreadable."""
    system.on_start = lambda: api.objects.update({"control-plane-1": make_node("control-plane-1", version=version)})
    join(system, wanted(config=before, version=version))
    system.put(WAL)
    system.age()
    system.calls.clear()
    for check_mode in (True, False):
        joiner = Joiner(system, wanted(config=after, version=version), check_mode)
        result = joiner.present()
        assert not result["changed"] and not system.commands()
        assert len(joiner.warnings) == 1 and re.search(said, joiner.warnings[0])
    assert ("secrets-encryption: true" in system.read(CONFIG)) == bool(before)
    assert Joiner(system, wanted(config=before, version=version)).warnings == []


@pytest.mark.parametrize(("has", "given", "written", "warns"), [
    ("plain", {"secrets-encryption": True}, False, True), ("plain", {}, False, False), ("encrypted", {}, True, True),
    ("encrypted", {"secrets-encryption": "true"}, True, False), ("", {"secrets-encryption": True}, True, False),
])
def test_a_new_server_takes_what_the_cluster_has(system, has, given, written, warns):
    joiner = Joiner(system, wanted(cluster_init=not has, servers=["https://198.18.0.12:6443"], token="x", config=given, encryption=has))
    joiner.present()
    assert bool(re.search('^secrets-encryption: "?true', system.read(CONFIG), re.MULTILINE)) == written and bool(joiner.warnings) == warns


def test_a_secret_in_the_visible_part_is_refused(system):
    with pytest.raises(NodeError, match="give it in secret_config"):
        join(system, wanted(config={"etcd-s3-secret-key": "x"}))


def test_a_server_does_not_become_an_agent(member):
    with pytest.raises(NodeError, match="has k3s.service, so it is a server; it cannot become an agent"):
        join(member, wanted("agent"))


def test_a_node_installed_by_hand_is_left_alone(system):
    system.put("/etc/systemd/system/k3s.service", "[Service]\nExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--cluster-init' \\\n")
    with pytest.raises(NodeError, match="installed on this machine by other means"):
        join(system, wanted())


def test_a_members_foreign_configuration_is_left_alone(member):
    member.put(CONFIG, "node-ip: 198.18.0.11\ndocker: true\n")
    with pytest.raises(NodeError, match="was not written by this collection.*adopt.yml"):
        join(member, wanted())
    assert "docker" in member.read(CONFIG) and member.commands() == []


def test_a_members_foreign_registries_are_left_alone(member):
    member.put("/etc/rancher/k3s/registries.yaml", "configs: {}\n")
    with pytest.raises(NodeError, match="mirrors or logins of its own, which belong into k3s_registries.*adopt.yml"):
        join(member, wanted(config={"node-ip": "198.18.0.11"}))
    assert member.read("/etc/rancher/k3s/registries.yaml") == "configs: {}\n"
    member.put("/etc/rancher/k3s/registries.yaml", "")
    join(member, wanted(config={"node-ip": "198.18.0.11"}))


def test_a_token_that_is_not_the_datastores_is_refused(member):
    with pytest.raises(NodeError, match="not the token of this server's datastore"):
        join(member, wanted(config={"node-ip": "198.18.0.11"}, token="another"))
    assert member.commands() == []


@pytest.mark.parametrize("token", ["secret-password", f"K10{HASH}::server:secret-password"])
def test_both_forms_of_the_token_are_the_same(member, token):
    member.put(TOKEN, "secret-password\n")
    member.put(CONFIG, member.read(CONFIG).replace("cluster-init: true\n", "cluster-init: true\ntoken-file: /etc/rancher/k3s/token\n"))
    assert not join(member, wanted(config={"node-ip": "198.18.0.11"}, token=token))["changed"]


def test_a_cluster_is_not_begun_with_a_token_for_joining(system):
    with pytest.raises(NodeError, match="no server can begin one with it"):
        join(system, wanted(token="abcdef.0123456789abcdef"))
    assert system.commands() == [] and system.read(CONFIG) is None


def test_joining_without_a_token_is_refused(system):
    with pytest.raises(NodeError, match="A token is needed to join"):
        join(system, wanted("agent", token=""))


def test_a_server_without_plan_does_not_begin_a_cluster(system):
    with pytest.raises(NodeError, match="may not begin a cluster"):
        join(system, wanted(cluster_init=False))


@pytest.mark.parametrize(
    ("version", "message"),
    [("v1.33.9+k3s1", "k3s cannot go back"), ("v1.36.1+k3s1", "would skip a minor release"), ("v1.35.1+k3s1", "playbooks/upgrade.yml")],
)
def test_another_release_is_refused(member, version, message):
    with pytest.raises(NodeError, match=message):
        join(member, wanted(config={"node-ip": "198.18.0.11"}, version=version))
    assert member.commands() == []


@pytest.mark.parametrize(("running", "refused"), [
    ("v1.33.2+k3s1", True), ("v1.33.7+k3s1", True), ("v1.33.7+k3s2", True), ("v1.33.7+k3s3", False), ("v1.33.8+k3s1", False), ("v1.34.1+k3s1", False),
])
def test_an_etcd_that_leaves_removed_members_behind_is_not_followed_by_etcd_3_6(member, api, running, refused):
    member.version = running
    member.on_start = lambda: api.objects.update({"control-plane-1": make_node("control-plane-1", version="v1.34.4+k3s1")})
    want = wanted(config={"node-ip": "198.18.0.11"}, version="v1.34.4+k3s1", upgrade=True)
    if refused:
        words = r"an etcd before 3\.5\.26.*Upgrade all servers to v1\.33\.7\+k3s3 or a newer 1\.33 first.*newest that is known here is v1\.33"
        for check_mode in (True, False):
            with pytest.raises(NodeError, match=words):
                join(member, want, check_mode=check_mode)
        assert member.commands() == []
    else:
        assert join(member, want)["actions"] == ["binary /usr/local/bin/k3s v1.34.4+k3s1", "restart k3s.service (binary)"]


@pytest.mark.parametrize(("servers", "upgrade", "message"), [
    ("v1.34.4+k3s1", True, "goes back only to the release of the servers, which is v1.34.4"), ("", True, "which is not known"),
    ("v1.34.2+k3s1", False, "no agent may be newer than they are. Run playbooks/upgrade.yml"), ("v1.34.2+k3s1", True, ""),
])
def test_an_agent_follows_servers_that_were_restored_to_an_older_release(system, api, servers, upgrade, message):
    system.on_start = lambda: api.objects.update({"control-plane-1": make_node("control-plane-1", voter=None, version=system.version)})
    join(system, wanted("agent"))
    system.put(state.KUBELET_CERTIFICATE)
    system.age()
    want = wanted("agent", version="v1.34.2+k3s1", cluster_version=servers, upgrade=upgrade)
    if message:
        with pytest.raises(NodeError, match=message):
            join(system, want)
    else:
        system.on_start = lambda: api.objects.update({"control-plane-1": make_node("control-plane-1", voter=None, version="v1.34.2+k3s1")})
        assert join(system, want)["actions"] == ["binary /usr/local/bin/k3s v1.34.2+k3s1", "restart k3s-agent.service (binary)"]


def test_an_upgrade_swaps_the_binary_and_restarts(member, api):
    member.on_start = lambda: api.objects.update({"control-plane-1": make_node("control-plane-1", version="v1.34.5+k3s1")})
    result = join(member, wanted(config={"node-ip": "198.18.0.11"}, version="v1.34.5+k3s1", upgrade=True))
    assert result["actions"] == ["binary /usr/local/bin/k3s v1.34.5+k3s1", "restart k3s.service (binary)"]


# -- a binary from the controller --------------------------------------------------------------------


STAGED = "/usr/local/bin/.k3s-from-controller"


@pytest.mark.parametrize(("staged_version", "checksum", "message"), [
    ("v1.34.2+k3s1", "", "is not k3s v1.34.4.*it is k3s v1.34.2"), ("", "", "does not run here"), (VERSION, "ab" * 32, "but k3s_binary_checksum is abab"),
])
def test_a_wrong_file_from_the_controller_never_takes_the_binarys_place(member, monkeypatch, staged_version, checksum, message):
    """Nor does a correct one afterwards meet anything else than the binary that runs."""
    member.put(STAGED, "wrong", 0o755)
    before = member.read("/usr/local/bin/k3s")
    plain = join_module.installed_version
    monkeypatch.setattr(join_module, "installed_version", lambda system, path: staged_version if path == STAGED else plain(system, path))
    want = wanted(config={"node-ip": "198.18.0.11"}, release_url="", staged=STAGED, checksum=checksum)
    for check_mode in (True, False):
        with pytest.raises(NodeError, match=message):
            join(member, want, check_mode)
    assert member.read("/usr/local/bin/k3s") == before and not member.commands()


def test_a_file_from_the_controller_takes_the_binarys_place_in_one_step(member):
    member.put(STAGED, "built again", 0o755)
    want = wanted(config={"node-ip": "198.18.0.11"}, release_url="", staged=STAGED)
    assert join(member, want, True)["actions"] == ["binary /usr/local/bin/k3s v1.34.4+k3s1", "restart k3s.service (binary)"]
    assert join(member, want)["restarted"] and member.read("/usr/local/bin/k3s") == "built again" and not member.exists(STAGED)
    member.age()
    assert not join(member, want)["changed"]


# -- history of a member -----------------------------------------------------------------------------


def test_a_member_keeps_how_it_joined(member):
    """Whatever the plan says now, the datastore decides, so nothing restarts."""
    member.put(CONFIG, member.read(CONFIG).replace("cluster-init: true", "server: https://198.18.0.13:6443"))
    assert not join(member, wanted(config={"node-ip": "198.18.0.11"}, cluster_init=False, servers=["https://198.18.0.12:6443"]))["changed"]


def test_a_server_that_began_the_cluster_names_a_peer_once_it_has_its_data(system, api):
    """With cluster-init it would begin a second cluster after it lost its data."""
    def start():
        assert "cluster-init: true" in system.read(CONFIG)
        system.put(WAL)
        system.put(CONFIG, system.read(CONFIG))
        api.objects.setdefault("control-plane-1", make_node("control-plane-1"))
    system.on_start = start
    want = wanted(config={"node-ip": "198.18.0.11"}, peers=["https://198.18.0.12:6443", "https://198.18.0.13:6443"])
    predicted = join(system, want, check_mode=True)
    assert not system.exists("/etc")
    began = system.clock
    real = join(system, want)
    assert predicted["actions"] == real["actions"] and predicted["diff"] == real["diff"]
    assert "server: https://198.18.0.12:6443" in system.read(CONFIG) and "cluster-init" not in system.read(CONFIG)
    assert os.stat(system.path(CONFIG)).st_mtime == began - 100, "k3s does not count as older than it"
    system.age()
    again = join(system, wanted(config={"node-ip": "198.18.0.11"}, cluster_init=False, servers=["https://198.18.0.12:6443"]))
    assert not again["changed"]


def test_a_member_with_cluster_init_gets_a_peer_without_a_restart(member):
    peer = ["https://198.18.0.12:6443"]
    started = os.stat(member.path(CONFIG)).st_mtime
    predicted = Joiner(member, wanted(config={"node-ip": "198.18.0.11"}, cluster_init=False, servers=peer), True).present()
    result = join(member, wanted(config={"node-ip": "198.18.0.11"}, cluster_init=False, servers=peer))
    assert result["actions"] == predicted["actions"] == [f"file {CONFIG}"] and not member.commands()
    assert "server: https://198.18.0.12:6443" in member.read(CONFIG) and "cluster-init" not in member.read(CONFIG)
    assert os.stat(member.path(CONFIG)).st_mtime == started, "k3s does not count as older than it"
    assert not join(member, wanted(config={"node-ip": "198.18.0.11"}, cluster_init=False, servers=peer))["changed"]


def test_a_server_that_lost_its_data_is_told_why_it_cannot_join(member, api):
    """The role forgets the old member then. The old configuration would not help: it is not put back."""
    member.remove("/var/lib/rancher/k3s/server/db")
    member.on_start = lambda: setattr(member.units["k3s"], "active", "activating")
    member.lines = ['level=fatal msg="etcd cluster join failed: duplicate node name found, please use a unique name for this node"']
    want = wanted(config={"node-ip": "198.18.0.11"}, cluster_init=False, servers=["https://198.18.0.12:6443"], token="secret-password", timeout=30)
    with pytest.raises(NodeError, match="duplicate") as failure:
        join(member, want)
    assert failure.value.cause == "duplicate-member" and "put back" not in str(failure.value) and "server: https" in member.read(CONFIG)


def test_with_another_setting_the_same_file_is_a_reason_to_restart(member):
    want = wanted(config={"node-ip": "198.18.0.11", "debug": True}, cluster_init=False, servers=["https://198.18.0.12:6443"])
    assert join(member, want)["actions"] == [f"file {CONFIG}", "restart k3s.service (config.yaml)"]


def test_a_server_with_sqlite_gets_no_peer(member):
    """It would leave its data and join."""
    member.remove(WAL)
    member.put(datastore.SQLITE)
    want = wanted(config={"node-ip": "198.18.0.11"}, cluster_init=False, servers=["https://198.18.0.12:6443"])
    assert not join(member, want)["changed"]
    member.put(CONFIG, member.read(CONFIG).replace("cluster-init: true\n", ""))
    assert not join(member, want)["changed"]


def test_a_rebuilt_first_server_joins_the_others(system):
    result = join(system, wanted(cluster_init=False, servers=["https://198.18.0.12:6443"], token=f"K10{HASH}::server:x"))
    assert "server: https://198.18.0.12:6443" in system.read(CONFIG) and "cluster-init" not in system.read(CONFIG)
    assert result["membership"]["joining"] == "join https://198.18.0.12:6443 as server"


def test_a_joined_agent_stays_with_its_server(system, api):
    system.on_start = lambda: api.objects.setdefault("control-plane-1", make_node("control-plane-1", voter=None))
    join(system, wanted("agent"))
    system.put(state.KUBELET_CERTIFICATE)
    system.age()
    servers = ["https://198.18.0.12:6443", "https://198.18.0.11:6443"]
    assert not join(system, wanted("agent", servers=servers))["changed"]
    assert join(system, wanted("agent", servers=servers[:1]))["changed"]


# -- waiting -----------------------------------------------------------------------------------------


def test_a_final_cause_ends_the_wait_early(system, api):
    system.on_start = lambda: None
    system.lines = ['time="2026-11-22T21:46:37Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: not authorized"']
    started = system.clock
    with pytest.raises(NodeError, match=r"step 'node' since .* Cause \(wrong-token\).* Remedy: correct k3s_token") as failure:
        join(system, wanted("agent", timeout=300))
    assert failure.value.cause == "wrong-token" and 12 <= system.clock - started < 40


def test_a_service_that_ends_and_starts_again_is_not_up_because_it_was_ready(system, api):
    """Ready after each start, gone some seconds later: the real one did so when cluster-cidr was another one than the cluster's."""
    began = system.clock

    def look(name: str) -> UnitState:
        unit = system.units.setdefault(name, UnitState())
        if unit.started_at:
            count, at = divmod(system.clock - began, 12)
            unit.active, unit.sub, unit.pid = ("active", "running", 200 + int(count)) if 3 <= at < 7 else ("activating", "auto-restart", 0)
            unit.active_for = unit.running_for = at - 3
            unit.restarts = int(count)
        return unit

    system.unit = look
    with pytest.raises(NodeError, match=r"The node did not come up.*restarted \d times"):
        join(system, wanted(timeout=60))


def test_up_costs_a_few_seconds_after_a_start_and_nothing_on_a_second_run(system):
    began = system.clock
    join(system, wanted())
    assert 5 <= system.clock - began < 9
    system.put(WAL)
    system.age()
    began = system.clock
    join(system, wanted(cluster_init=True))
    assert system.clock - began < 1


def late_agent(system, api, taints=()):
    """Ready, but its start does not end before it is started anew, as when the kubelet reported just before the network policy controller began."""
    node = make_node("control-plane-1", voter=None)
    node["spec"]["taints"] = [{"key": key} for key in taints]

    def start():
        api.objects["control-plane-1"] = node
        if not system.commands("restart"):
            system.units["k3s-agent"].active, system.units["k3s-agent"].sub = "activating", "start"

    system.on_start = start
    return Joiner(system, wanted("agent", timeout=120))


def test_an_agent_that_is_ready_and_does_not_finish_its_start_is_started_anew_once(system, api):
    began, joiner = system.clock, late_agent(system, api)
    result = joiner.present()
    assert system.commands("restart") == [("restart", "--no-block", "k3s-agent.service")] and 30 <= system.clock - began < 50
    assert result["restarted"] and result["actions"][-1] == "restart k3s-agent.service (the node is Ready, but the start does not end)"
    assert len(joiner.warnings) == 1 and "was started anew" in joiner.warnings[0]


def test_an_agent_that_waits_for_the_cloud_provider_is_not_started_anew(system, api):
    joiner = late_agent(system, api, ["node.cloudprovider.kubernetes.io/uninitialized"])
    with pytest.raises(NodeError, match="step 'cloud provider'.*stays so until the cloud provider has seen it"):
        joiner.present()
    assert not system.commands("restart")


def test_an_agent_is_started_anew_only_once(system, api):
    joiner = late_agent(system, api)
    system.on_start = lambda: (api.objects.update({"control-plane-1": make_node("control-plane-1", voter=None)}),
                               setattr(system.units["k3s-agent"], "active", "activating"))
    with pytest.raises(NodeError, match="step 'unit'.*although Node control-plane-1 is Ready"):
        joiner.present()
    assert len(system.commands("restart")) == 1


def test_a_restart_loop_is_told_soon_and_with_its_cause(system, api):
    fatal = 'time="x" level=fatal msg="Error: kubelet exited: kubelet is configured to not run on a host using cgroup v1"'
    began = system.clock
    system.on_start = lambda: setattr(system.units["k3s"], "active", "activating")
    for number in range(20):
        system.entries += [Entry(f"s{number}", began + 11 * number + second / 30, f"I1126 noise {second}") for second in range(180)]
        system.entries.append(Entry(f"s{number}", began + 11 * number + 6, fatal))
    with pytest.raises(NodeError, match=r"Cause \(cgroup-v1\).*fail-cgroupv1=false") as failure:
        join(system, wanted(timeout=300))
    assert failure.value.cause == "cgroup-v1" and system.clock - began < 40


def test_a_prediction_does_not_refuse_for_what_the_run_itself_brings_in_order(member, api):
    """A rerun after the first server failed was refused at the second, and never got to the first."""
    api.objects.update({"control-plane-2": make_node("control-plane-2", ready=False), "control-plane-3": make_node("control-plane-3")})
    want = wanted(config={"node-ip": "198.18.0.11", "debug": True}, repaired=["control-plane-2"])
    assert "restart k3s.service (config.yaml)" in join(member, want, True)["actions"]
    with pytest.raises(NodeError, match="and 2 are needed"):
        join(member, want)
    api.objects["control-plane-3"] = make_node("control-plane-3", ready=False)
    with pytest.raises(NodeError, match="control-plane-3 is not a healthy etcd voter, so.* 1 of 3 members|1 of 3|2 are needed"):
        join(member, wanted(config={"node-ip": "198.18.0.11", "debug": True}, repaired=["control-plane-4"]), True)
    api.objects = None
    assert join(member, want, True)["actions"], "without a quorum no API can say who is healthy"
    with pytest.raises(NodeError, match="is active, but its API could not say"):
        join(member, want)


def test_a_server_that_is_brought_in_order_keeps_its_release(member):
    """Before a snapshot is made nothing moves to another release, also where the file of the new one lies there already."""
    member.put(STAGED, "the new release", 0o755)
    want = wanted(config={"node-ip": "198.18.0.11", "debug": True}, version="v1.35.1+k3s1", keep_release=True, release_url="", staged=STAGED, checksum="0" * 64)
    result = join(member, want)
    assert result["version"] == {"before": VERSION, "after": VERSION} and result["actions"] == [f"file {CONFIG}", "restart k3s.service (config.yaml)"]
    assert member.exists(STAGED)


CGROUP_V1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"


@pytest.mark.parametrize("role", ["server", "agent"])
def test_a_machine_with_cgroup_v1_is_refused_before_anything_changes(system, role):
    system.put("/proc/self/mounts", CGROUP_V1)
    for check_mode in (True, False):
        with pytest.raises(NodeError, match=r"version 1 of control groups.*k3s v1.35.4\+k3s1.*fail-cgroupv1=false.*Nothing was changed") as refused:
            join(system, wanted(role, version="v1.35.4+k3s1"), check_mode)
        assert refused.value.cause == "cgroup-v1" and not system.exists("/etc")
    assert join(system, wanted(role, version="v1.35.4+k3s1", config={"kubelet-arg": ["fail-cgroupv1=false"]}), True)["actions"]
    assert join(system, wanted(role), True)["actions"], "1.34 starts with it"
    system.put("/proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    assert join(system, wanted(role, version="v1.35.4+k3s1"), True)["actions"]


def test_an_upgrade_is_refused_where_a_member_has_cgroup_v1(member):
    member.put("/proc/self/mounts", CGROUP_V1)
    want = wanted(config={"node-ip": "198.18.0.11"}, version="v1.35.4+k3s1", upgrade=True)
    with pytest.raises(NodeError, match="version 1 of control groups"):
        join(member, want, True)
    member.version = "v1.35.4+k3s1"
    member.clock += 60
    assert not join(member, want, True)["restarted"], "one that runs shows that it does start"


def test_a_passing_cause_waits_until_the_time_is_up(system, api):
    api.objects = None
    system.lines = ["failed to get CA certs: Get \"https://198.18.0.11:6443/cacerts\": dial tcp: connect: connection refused"]
    started = system.clock
    with pytest.raises(NodeError, match=r"Cause \(unreachable\)"):
        join(system, wanted("agent", timeout=60))
    assert system.clock - started >= 60


def test_an_unknown_failure_shows_the_journal(system, api):
    system.on_start = lambda: None
    system.lines = ['time="x" level=fatal msg="the moon is full"', "noise"]
    with pytest.raises(NodeError, match="its last lines: the moon is full"):
        join(system, wanted(timeout=10))


def test_a_learner_is_no_member_yet(system, api):
    def start():
        system.put(WAL)
        api.objects["control-plane-1"] = make_node("control-plane-1", voter=False)

    system.on_start = start
    with pytest.raises(NodeError, match="step 'etcd'.*MemberIsLearner"):
        join(system, wanted(timeout=10))


def test_a_foreign_provider_id_is_named_with_its_remedy(system, api):
    system.on_start = lambda: api.objects.update({"control-plane-1": make_node("control-plane-1", provider="k3s://control-plane-1")})
    with pytest.raises(NodeError, match="has the providerID k3s://control-plane-1.*kubectl delete node control-plane-1"):
        join(system, wanted(provider_id="vsphere://420e"))


def test_an_old_heartbeat_is_not_taken_for_a_running_node(system, api):
    system.on_start = lambda: api.objects.update({"control-plane-1": make_node("control-plane-1", beat="1970-01-02T00:00:00Z")})
    with pytest.raises(NodeError, match="has not reported since the service started"):
        join(system, wanted(timeout=10))


def test_stopped_leaves_the_service_enabled(member):
    assert Joiner(member, Wanted(role="server", version="")).stopped()["actions"] == ["stop k3s.service"]
    assert member.commands() == [("stop", "k3s")] and member.unit("k3s").enabled == "enabled"


def test_a_server_in_the_middle_of_a_restore_is_not_started(member):
    member.put("/etc/rancher/k3s/restore-pending", "snapshot-1\n")
    with pytest.raises(NodeError, match=r"restore of this cluster was begun and not finished \(snapshot-1\).*restore.yml again"):
        join(member, wanted(config={"node-ip": "198.18.0.11"}))
    assert not member.commands()


def test_only_a_member_that_is_down_is_started(member, tmp_path):
    def start():
        return Joiner(member, wanted()).started()

    assert not start()["changed"]
    member.units["k3s"].active, member.units["k3s"].pid = "inactive", 0
    assert Joiner(member, wanted(), True).started()["changed"] and not member.commands()
    assert start()["changed"] and member.commands() == [("start", "--no-block", "k3s.service")]
    member.units["k3s"].active = "inactive"
    member.put("/etc/rancher/k3s/restore-pending")
    assert not start()["changed"], "a server in the middle of a restore stays down"
    member.remove("/etc/rancher/k3s/restore-pending")
    member.remove("/var/lib/rancher/k3s/server/db")
    assert not start()["changed"], "a server without data begins nothing"


# -- the way to the token ----------------------------------------------------------------------------


def without_token_file(member) -> None:
    """As a server was left that began its cluster without a token in its settings: server/token alone."""
    member.put(CONFIG, re.sub(r"token-file:.*\n", "", member.read(CONFIG)))
    os.unlink(member.path(TOKEN))
    member.age()


def test_a_member_gets_a_way_to_its_token_without_a_restart(member):
    without_token_file(member)
    want = wanted(config={"node-ip": "198.18.0.11"}, cluster_init=False)
    predicted = join(member, want, check_mode=True)
    result = join(member, want)
    assert predicted["actions"] == result["actions"] == [f"file {TOKEN}", f"file {CONFIG}"] and member.commands() == []
    assert member.read(TOKEN) == f"K10{HASH}::server:secret-password\n" and member.mode(TOKEN) == 0o600
    assert "token-file: /etc/rancher/k3s/token\n" in member.read(CONFIG) and "secret-password" not in str(result)
    member.clock += 1000
    assert not join(member, want)["changed"] and member.commands() == []


def test_a_server_that_lost_its_data_joins_with_the_token_it_has(member):
    """k3s looks at neither server/token nor anything else but its settings: this file is what keeps it from beginning a cluster of its own."""
    join(member, wanted(config={"node-ip": "198.18.0.11"}, peers=["https://198.18.0.12:6443"], servers=["https://198.18.0.12:6443"]))
    text = member.read(CONFIG)
    assert "server: https://198.18.0.12:6443\n" in text and "token-file: /etc/rancher/k3s/token\n" in text and "cluster-init" not in text


def test_a_lone_server_with_sqlite_keeps_its_way_to_start(member):
    os.unlink(member.path(WAL))
    member.put(datastore.SQLITE)
    without_token_file(member)
    member.put(CONFIG, re.sub(r"cluster-init:.*\n", "server: https://198.18.0.12:6443\n", member.read(CONFIG)))
    join(member, wanted(config={"node-ip": "198.18.0.11"}, cluster_init=False))
    # With a token as well it would leave its data and join.
    assert "token-file" not in member.read(CONFIG) and member.commands() == []


def test_a_node_of_another_cloud_provider_is_refused_before_its_restart(member, api):
    """As the default k3s_cloud_provider: external meets a cluster that was begun with k3s' own."""
    api.objects["control-plane-1"] = make_node("control-plane-1", provider="k3s://control-plane-1")
    want = wanted(config={"node-ip": "198.18.0.11", "disable-cloud-controller": True}, provider_id="vsphere://420e3f11")
    before = member.read(CONFIG)
    for check_mode in (True, False):
        with pytest.raises(NodeError, match="has the providerID k3s://control-plane-1.*Set k3s_cloud_provider: none.*Nothing was changed"):
            join(member, want, check_mode)
    assert member.read(CONFIG) == before and member.commands() == []
    api.objects["control-plane-1"] = make_node("control-plane-1", provider="vsphere://420e3f11")
    assert join(member, want)["restarted"]


BEGUN = {"disable": ["local-storage"], "etcd-snapshot-schedule-cron": "0 */12 * * *", "etcd-snapshot-retention": 5}


@pytest.mark.parametrize(("has", "open_now"), [
    ({"etcd-snapshot-retention": 20}, BEGUN), ({}, BEGUN), ({"disable": "traefik,servicelb"}, BEGUN), (BEGUN, BEGUN),
    ({"disable": ["traefik"], "etcd-snapshot-retention": 20}, {"disable": ["local-storage"]}),
])
def test_what_the_variables_leave_open_stays_as_the_cluster_has_it(system, has, open_now):
    """A default that is right for a new cluster takes the storage class of an old one's volumes away, and its older snapshots."""
    join(system, wanted(config=has))
    system.put(WAL)
    system.age()
    system.calls.clear()
    before = system.read(CONFIG)
    said = {key: value for key, value in has.items() if key not in open_now}
    result = Joiner(system, wanted(config=said, undecided=open_now)).present()
    assert not result["changed"] and not system.commands() and system.read(CONFIG) == before
    assert state.inspect_server(system, "/usr/local/bin/k3s")["settings"] == has


def test_what_the_variables_say_is_done_on_an_old_cluster_too(system):
    join(system, wanted(config={"etcd-snapshot-retention": 20}))
    system.put(WAL)
    system.age()
    Joiner(system, wanted(config={"disable": ["local-storage"]}, undecided={"etcd-snapshot-retention": 5})).present()
    assert config_values(system.read(CONFIG)) == {"disable": ["local-storage"], "etcd-snapshot-retention": "20", "cluster-init": True} | {
        key: value for key, value in config_values(system.read(CONFIG)).items() if key == "token-file"}


@pytest.mark.parametrize(("settings", "written"), [(None, BEGUN), ({}, {}), ({"etcd-snapshot-retention": 20}, {"etcd-snapshot-retention": 20})])
def test_a_new_server_takes_what_the_variables_leave_open_from_the_cluster(system, settings, written):
    join(system, wanted(cluster_init=settings is None, servers=["https://198.18.0.12:6443"], token="x", undecided=BEGUN, settings=settings))
    assert of_cluster(system.read(CONFIG)) == written


@pytest.mark.parametrize(("pods", "cordoned", "changed"), [(["cht/couchdb-1"], True, False), ([], False, False), ([], True, True)])
def test_the_runtime_is_changed_on_an_empty_node_only(system, api, monkeypatch, pods, cordoned, changed):
    """The default of k3s_container_runtime would take an adopted node from Docker to containerd, and its pods with it."""
    join(system, wanted(config={"docker": True}))
    system.put(WAL)
    system.age()
    system.calls.clear()
    monkeypatch.setattr(join_module, "busy_pods", lambda client, name: pods)
    api.objects["control-plane-1"]["spec"]["unschedulable"] = cordoned
    if changed:
        assert join(system, wanted())["changed"] and "docker" not in system.read(CONFIG)
        return
    with pytest.raises(NodeError, match="changed only on an empty node.*Nothing was changed"):
        join(system, wanted())
    assert not system.commands() and "docker" in system.read(CONFIG)


TWO_CARDS = (
    "2: ens192    inet 198.18.0.11/24 brd 198.18.0.255 scope global ens192\\       valid_lft forever\n"
    "3: ens224    inet 192.0.2.11/24 brd 192.0.2.255 scope global ens224\\       valid_lft forever\n"
    "4: docker0    inet 172.17.0.1/16 scope global docker0\\       valid_lft forever\n"
)


def with_cards(system, monkeypatch, addresses: str, default: str = "ens192") -> None:
    answers = {"address": addresses, "route": f"default via 198.18.0.1 dev {default} proto static\n"}
    usual = system.run
    monkeypatch.setattr(system, "run", lambda argv, **more: Result(0, answers[argv[2]], "") if argv[0] == "ip" else usual(argv, **more))


@pytest.mark.parametrize(("addresses", "config", "card"), [
    (TWO_CARDS, {"node-ip": "192.0.2.11"}, "ens224"),
    (TWO_CARDS, {"node-ip": "192.0.2.11", "flannel-iface": "ens192"}, "ens192"),
    # One card, with a second address and what k3s and docker make: its config.yaml stays as it was before there was this rule.
    ("2: ens192    inet 192.0.2.11/24 scope global ens192\n2: ens192    inet 192.0.2.10/32 scope global ens192\n"
     "9: cni0    inet 10.42.0.1/24 scope global cni0\n8: flannel.1    inet 10.42.0.0/32 scope global flannel.1\n", {"node-ip": "192.0.2.11"}, ""),
    (TWO_CARDS, {"node-ip": "192.0.2.99"}, ""), (TWO_CARDS, {}, ""), ("", {"node-ip": "192.0.2.11"}, ""),
])
def test_flannel_takes_the_card_of_node_ip(system, monkeypatch, addresses, config, card):
    with_cards(system, monkeypatch, addresses)
    join(system, wanted(config=config, token="secret-password"))
    assert config_values(system.read(CONFIG)).get("flannel-iface", "") == card
    system.put(WAL)
    system.put(state.SERVER_TOKEN, f"K10{HASH}::server:secret-password\n")
    system.age()
    again = Joiner(system, wanted(config=config, token="secret-password"))
    assert not again.present()["changed"] and not again.warnings


@pytest.mark.parametrize(("default", "warned"), [("ens192", False), ("ens224", True)])
def test_a_member_of_several_cards_is_not_restarted_but_told(member, monkeypatch, default, warned):
    with_cards(member, monkeypatch, TWO_CARDS, default)
    joiner = Joiner(member, wanted(config={"node-ip": "198.18.0.11"}, token="secret-password"))
    assert not joiner.present()["changed"] and bool(joiner.warnings) is warned
    assert not warned or "Set flannel-iface: ens192 in control_plane_config" in joiner.warnings[0]


def test_a_members_address_is_refused_before_anything_is_written(member):
    before = member.read(CONFIG)
    with pytest.raises(NodeError, match=r"node-ip is 198\.18\.0\.11 here, and 198\.18\.0\.10 is wanted.*Nothing was changed"):
        join(member, wanted(config={"node-ip": "198.18.0.10"}, token="secret-password"))
    assert member.read(CONFIG) == before
