# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts below k3s_join: YAML, tokens, masks, units, journal, releases, the API's credentials."""
from __future__ import annotations

import base64
import io
import os
import platform
import re
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.filter.expected_nodes import expected_nodes
from ansible_collections.cht.k3s.plugins.module_utils.k3s import (
    datastore, encryption, files, flags, journal, node, release, settings, snapshots, state, unit, yamltext,
)
from ansible_collections.cht.k3s.plugins.module_utils.k3s import find as find_module
from ansible_collections.cht.k3s.plugins.module_utils.k3s.api import ApiError, condition, parse_kubeconfig
from ansible_collections.cht.k3s.plugins.module_utils.k3s.drain import Drainer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.find import find
from ansible_collections.cht.k3s.plugins.module_utils.k3s.forget import Forgetter, removal_problem
from ansible_collections.cht.k3s.plugins.module_utils.k3s.node import FSTAB_PATH, SYSCTL_PATH, Preparer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.restore import DB, KEPT, PASSWD, PENDING, RESET_CONFIG, RESET_TOKEN, Restorer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.state import SERVER_TOKEN, quorum_problem
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import (
    Entry, NodeError, Result, System, UnitState, parse_journal, parse_timestamp, parse_unit,
)
from ansible_collections.cht.k3s.plugins.module_utils.k3s.uninstall import Remover
from hypothesis import given
from hypothesis import strategies as st
from k3s_fakes import FakeApi, FakeSystem, make_node

VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z-]*", fullmatch=True), VALUES, max_size=4))
def test_yaml_is_read_back_by_a_real_parser(value):
    assert (yaml.safe_load(yamltext.dump(value)) or {}) == value


@pytest.mark.parametrize(
    "text", ["0600", "1e3", "yes", "12:30", "1.5", "0x1f", "a: b", "#x", "2026-01-01", "- a", "*", "null", "~", "=", "a #b", "1_000", ".inf"],
)
def test_strings_stay_strings(text):
    assert yaml.safe_load(yamltext.dump({"key": text})) == {"key": text}


def test_single_keys_are_read_back():
    text = yamltext.dump({"server": "https://198.18.0.11:6443", "cluster-init": True, "a": ["x"], "node-name": "it's \"x\""})
    assert yamltext.top_level(text) == {"server": "https://198.18.0.11:6443", "cluster-init": "true", "a": "", "node-name": "it's \"x\""}
    assert yamltext.top_level("node-name: 'a''b'  \nserver: x # why\n") == {"node-name": "a'b", "server": "x"}


def test_masks_hide_every_secret():
    text = files.render_config({}, {"node-ip": "198.18.0.11"}, {"token": "s3cr3t", "etcd-s3-secret-key": "s3cr3t"})
    shown = files.mask_config(text, text.replace("s3cr3t", "old"))
    assert "s3cr3t" not in shown and shown.count("******** (changed)") == 2 and "198.18.0.11" in shown
    login = {"username": "u", "password": "p4ss"}
    registries = files.render_registries({"mirrors": {"docker.io": {"endpoint": ["http://198.18.0.2"]}}}, {"r.example.org": login})
    assert yaml.safe_load(registries)["configs"]["r.example.org"]["auth"] == login
    assert "p4ss" not in files.mask_registries(registries) and "198.18.0.2" in files.mask_registries(registries)
    environment = unit.render_environment({"HTTPS_PROXY": "http://user:p4ss@198.18.0.9:3128", "CONTAINERD_TOKEN": "p4ss"})
    assert "p4ss" not in files.mask_environment(environment) and "198.18.0.9" in files.mask_environment(environment)


def test_tokens():
    secure = "K10" + "a" * 64 + "::server:word"
    assert files.split_token(secure) == ("a" * 64, "word") and files.split_token("word") == ("", "word")
    assert files.same_token(secure, "word") and not files.same_token(secure, "other") and not files.same_token(secure, secure.replace("a", "b", 1))
    assert files.check_token(secure) == "" and "64 hex" in files.check_token("K10abc::x") and "white space" in files.check_token("a b")


def test_keys_by_role_and_release():
    assert flags.check({"node-ip": "x", "embedded-registry": True}, "server", "v1.34.4+k3s1") == []
    assert "came with Kubernetes 1.28" in flags.check({"tls-san-security": True}, "server", "v1.25.16+k3s4")[0]
    assert "set by k3s_join itself" in flags.check({"cluster-init": True}, "server", "v1.34.4+k3s1")[0]
    assert "for servers" in flags.check({"tls-san": ["x"]}, "agent", "v1.34.4+k3s1")[0]
    assert "for agents" in flags.check({"disable-apiserver-lb": True}, "server", "v1.34.4+k3s1")[0]
    assert flags.check({"disable-apiserver-lb": True, "bind-address": "0.0.0.0", "enable-pprof": True}, "agent", "v1.34.4+k3s1") == []
    for key in ("flannel-ip-masq-disable-random-fully", "helm-controller-arg"):
        assert "is no setting of k3s" in flags.check({key: "x"}, "server", "v1.35.1+k3s1")[0]
    for key in ("kube-controller-arg", "kube-cloud-controller-arg"):
        assert flags.check({key: ["v=2"]}, "server", "v1.34.4+k3s1") == []
    assert flags.check({"apiserver-port": 6444}, "server", "v1.34.4+k3s1") == []
    assert "join on 6443" in flags.check({"supervisor-port": 9345}, "server", "v1.34.4+k3s1")[0]
    assert "without leading dashes" in flags.check({"kubelet-arg": ["--v=2"]}, "agent", "v1.34.4+k3s1")[0]


def test_a_unit_of_ours_is_not_foreign():
    assert unit.foreign_arguments(unit.render_unit("agent", "/usr/local/bin/k3s"), "agent") == ""
    assert unit.foreign_arguments("ExecStart=/usr/local/bin/k3s server --docker", "server") == "--docker"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("https://198.18.0.11:6443/v1-k3s/server-bootstrap: 401 Unauthorized", "wrong-token"),
        ('msg="Waiting to retrieve agent configuration; server is not ready: failed to retrieve configuration: not authorized"', "wrong-token"),
        ("failed to validate token: token CA hash does not match the Cluster CA certificate hash: A != B", "ca-hash"),
        ("token must not be empty", "token-malformed"),
        ('{"level":"panic","ts":"2026-01-01T00:00:00Z","caller":"raft/log.go:322","msg":"tocommit(216) is out of range [lastIndex(114)]. Was the raft log'
         ' corrupted, truncated, or lost?"}', "raft-log-lost"),
        ("panic: tocommit(587192) is out of range [lastIndex(587189)]. Was the raft log corrupted, truncated, or lost?", "raft-log-lost"),
        ("etcdserver: mvcc: database space exceeded", "etcd-no-space"),
        ('level=info msg="Failed to test etcd connection: etcd cluster errors: memberID:10501334649042878790 alarm:NOSPACE "', "etcd-no-space"),
        ('level=warning msg="Errors present on etcd cluster: memberID:10501334649042878790 alarm:NOSPACE "', "etcd-no-space"),
        ('level=info msg="Failed to test etcd connection: failed to disarm etcd alarms: NOSPACE disarm failed: context deadline exceeded"', "etcd-no-space"),
        ('{"level":"error","ts":"2026-01-01T00:00:00Z","caller":"embed/etcd.go:276","msg":"checkInitialHashKV failed","error":"3d4e found data'
         ' inconsistency with peers"}', "etcd-corrupt"),
        ('level=info msg="Failed to test etcd connection: failed to disarm etcd alarms: CORRUPT alarm must be disarmed manually"', "etcd-corrupt"),
        ('level=info msg="Failed to test etcd connection: etcdserver: no leader"', "no-quorum"),
        ('level=fatal msg="Error: start managed database: Managed etcd cluster membership was previously reset, please remove the cluster-reset flag and start'
         ' k3s normally."', "reset-done"),
        ('level=fatal msg="Error: start managed database: failed to migrate content from sqlite to etcd: context deadline exceeded"', "migration"),
        ('level=fatal msg="exec /var/lib/rancher/k3s/data/3a5a046ca7504505/bin/k3s-server failed: permission denied"', "noexec"),
        ('level=fatal msg="permission denied"', "noexec"),
        ('msg="Failed to start containerd: fork/exec /var/lib/rancher/k3s/data/current/bin/containerd: permission denied"', "noexec"),
        ('level=fatal msg="starting kubernetes: preparing server: joining etcd cluster: etcdserver: Peer URLs already exists"', "peer-exists"),
        (r'level=fatal msg="no default routes found in \"/proc/net/route\" or \"/proc/net/ipv6_route\""', "no-default-route"),
        ('level=fatal msg="unable to select an IP from default routes."', "no-default-route"),
        ('E0101 00:00:00.1 1 kubelet_node_status.go:106] "Unable to register node with API server" err="nodes \\"a\\" is forbidden: node \\"b\\" is not'
         ' allowed to modify node \\"a\\"" node="a"', "register-forbidden"),
        ('E0101 kubelet_node_status.go:106] "Unable to register node with API server" err="Node \\"a\\" is invalid: spec.taints"', "register-invalid"),
        ('E0101 kubelet_node_status.go:106] "Unable to register node with API server" err="etcdserver: request timed out" node="a"', "register"),
        ("etcdserver: too many learner member in cluster", "learner"), ("etcdserver: too many learner members in cluster", "learner"),
        ("K3S_TOKEN is required to join a cluster", "token-malformed"),
        ('failed to get CA certs: Get "https://h:6443/cacerts": dial tcp 198.18.0.11:6443: connect: connection refused', "unreachable"),
        ("only https:// URLs are supported, invalid scheme: http://x", "server-url"),
        ("Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match", "node-password"),
        ("etcd cluster join failed: duplicate node name found, please use a unique name for this node", "duplicate-member"),
        ("CA cert validation failed: ... x509: certificate has expired or is not yet valid: current time T is before T2", "clock"),
        ('level=error msg="Failed to validate connection to cluster at https://h:6443: CA cert validation failed: Get \\"https://127.0.0.1:6444/cacerts\\":'
         ' tls: failed to verify certificate: x509: certificate signed by unknown authority"', "ca-cert"),
        ('level=fatal msg="Error: --server is required"', "server-url"),
        ("/x/server/cred/encryption-config.json, /x/y newer than datastore and could cause a cluster outage.", "encryption-newer"),
        ("/var/lib/x newer than datastore and could cause a cluster outage.", "files-newer"),
        ("Error: --token is required", "token-malformed"),
        ("failed to normalize server token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>", "token-malformed"),
        ("failed to normalize token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>", "token-malformed"),
        ("etcd: tombstone file has been detected but --server is empty", "removed-alone"),
        ('{"level":"fatal","ts":"2026-11-22T21:10:44Z","msg":"failed to open database","error":"file already locked"}', "second-process"),
        ("network policy controller failed to wait for node.cloudprovider.kubernetes.io/uninitialized taint to be removed from Node x", "cpi-taint-timeout"),
        ("timed out waiting for node.cloudprovider.kubernetes.io/uninitialized taint to be removed", "cpi-taint-timeout"),
        ('level=error msg="Shutdown request received: failed to wait for cloud-controller-manager RBAC"', "ccm-rbac"),
        ('level=error msg="Shutdown request received: server panicked: runtime error"', "panic"),
        ('level=fatal msg="kubelet panic: runtime error: invalid memory address" stack="goroutine 1"', "panic"),
        ('level=warning msg="Unable to reconcile with remote datastore: https://198.18.0.11:6443/v1-k3s/server-bootstrap: not authorized"', "peer-refuses"),
        ("critical configuration mismatched: cluster-cidr", "configuration-mismatch"),
        ("failed to validate server configuration: critical configuration value mismatch between servers", "configuration-mismatch"),
        ("Waiting for other members to finish joining etcd cluster: etcdserver: too many learner members in cluster", "learner"),
        ("Failed to test etcd connection: this server is a not a member of the etcd cluster. Found [x], expect: y", "not-a-member"),
        ("bootstrap data already found and encrypted with different token", "token-changed"),
        ("no bootstrap data found in datastore - check server token value and verify datastore integrity", "no-bootstrap-data"),
        ("listen tcp :6443: bind: address already in use", "port-in-use"),
        ("failed to find memory cgroup (v2)", "memory-cgroup"),
        ("failed to find cpuset cgroup (v2)", "cgroup-controller"),
        ('level=error msg="Shutdown request received: failed to start kubelet: pids cgroup controller not found"', "cgroup-controller"),
        ("write /var/lib/rancher/k3s/x: no space left on device", "disk-full"),
        ("Network policy controller waiting for removal of node.cloudprovider.kubernetes.io/uninitialized taint", "cpi-taint"),
        ("cluster-cidr: [x] and node-ip: [y], must share the same IP version", "address-family"),
        ("Waiting for /etc/rancher/k3s/token to be available\\n", "token-file"),
        ('msg="Waiting for file \\"/etc/rancher/k3s/token\\" to be created\\n"', "token-file"),
        ('level=fatal msg="Error: Timeout while trying to read the file"', "token-file"),
        ("apiserver exited: unknown flag: --no-such-flag", "unknown-flag"),
        ("failed to mark cidr[10.42.0.0/24] at idx [0] as occupied for node: control-plane-1: cidr 10.42.0.0/24 is out the range of cluster cidr"
         " 10.50.0.0/16", "cluster-cidr"),
        ('"command failed" err="failed to run Kubelet: kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported"',
         "cgroup-v1"),
    ],
)
def test_the_journal_tells_the_cause(line, cause):
    found = journal.find_cause(["noise", line, "more noise"])
    assert found is not None and found.id == cause and found.remedy


@pytest.mark.parametrize("line", [
    'level=warning msg="Failed to find cpuset cgroup, you may need to add \\"cgroup_enable=cpuset\\" to your linux cmdline"',
    'level=warning msg="Errors present on etcd cluster: memberID:10501334649042878790 alarm:CORRUPT "',
])
def test_what_a_healthy_server_says_too_is_no_cause(line):
    """A warning on cgroup v1; another member's alarm."""
    assert journal.find_cause([line]) is None


def test_an_etcd_without_a_leader_explains_only_what_nothing_else_does():
    lines = ['level=info msg="Failed to test etcd connection: etcdserver: no leader"', "write /var/lib/rancher/k3s/x: no space left on device"]
    assert journal.find_cause(lines).id == "disk-full" and journal.find_cause(lines[:1]).id == "no-quorum"


def test_somebody_elses_token_blames_no_healthy_server():
    """An agent with a wrong token asks every few seconds, and this is the journal of the server that it asks."""
    line = 'level=error msg="Failed to authenticate request from 198.18.0.21:40112: invalid username/password combination"'
    assert journal.find_cause([line]) is None


def test_a_peer_that_refuses_is_not_the_end():
    """A restarted server asks the one of its `server:` once, and goes on without."""
    line = 'level=warning msg="Unable to reconcile with remote datastore: not authorized"'
    found = journal.find_cause([line])
    assert found is not None and not found.final


def test_etcds_own_lines_count_as_loud():
    """They are objects in JSON."""
    etcd = '{"level":"fatal","ts":"2026-11-22T21:10:44Z","caller":"embed/etcd.go","msg":"failed to open database","error":"file already locked"}'
    assert journal.tail(["noise", etcd, 'level=info msg="quiet"']) == ["failed to open database: file already locked"]
    assert journal.message_of('level=info msg="Waiting for /x to be available\\n"') == "Waiting for /x to be available"


def test_a_final_cause_goes_before_its_consequences():
    lines = ["bootstrap data already found and encrypted with different token", 'Get "https://x": EOF']
    assert journal.find_cause(lines).id == "token-changed"
    assert journal.find_cause(["nothing", "known"]) is None
    own = "Failed to test etcd connection: dial tcp 127.0.0.1:2379: connect: connection refused"
    assert journal.find_cause([own]) is None, "the node's own etcd is starting; no other server is to blame"


FATAL = 'time="2026-11-26T05:00:07Z" level=fatal msg="Error: kubelet exited: kubelet is configured to not run on a host using cgroup v1"'


def test_the_line_with_which_k3s_ended_goes_before_what_others_said():
    lines = ['E1126 05:00:06 reflector.go:200] "Failed to watch" err="the server said 401 Unauthorized"', FATAL, "W1126 05:00:08 clientconn.go: EOF"]
    assert journal.find_cause(lines).id == "cgroup-v1"
    shut = 'level=error msg="Shutdown request received: failed to join: duplicate node name found, please use a unique name for this node"'
    assert journal.find_cause([*lines[:1], shut]).id == "duplicate-member"


def test_the_last_lines_hold_the_end_and_what_etcd_says():
    etcd = '{"level":"warn","ts":"2026-11-26T05:00:06Z","caller":"x.go:1","msg":"prober detected unhealthy status","error":"connection refused"}'
    assert journal.tail(["I1126 fine", etcd]) == ["prober detected unhealthy status: connection refused"]
    assert journal.tail([etcd.replace("warn", "info")]) == ["prober detected unhealthy status: connection refused"], "nothing is loud: the last lines"
    noise = [f"W1126 05:00:{second:02} reflector.go:200] again {second}" for second in range(40)]
    last = journal.tail([FATAL, *noise])
    assert len(last) == 5 and last[0].startswith("Error: kubelet exited") and last[-1].endswith("again 39")
    assert journal.tail(["{broken", "W1 same", "W1 same"]) == ["{broken", "W1 same"]


def entries(start: str, begin: float, *texts: str, every: float = 0.03) -> list[Entry]:
    return [Entry(start, begin + number * every, text) for number, text in enumerate(texts)]


def test_two_starts_that_end_alike_tell_the_cause_whatever_they_say_besides(system):
    """30 lines a second, each start for 6 s, another one every 11 s, as seen on a real k3s."""
    noise = [f"I1126 05:00:00.{number} controller.go:1] noise {number}" for number in range(180)]
    began = system.clock
    for number in range(9):
        system.entries += entries(f"start-{number}", began + 11 * number, *noise, FATAL)
    told = journal.Journal(system, "k3s", began)
    while system.clock < began + 60:
        told.read()
        cause = told.final_cause(system.clock, False)
        if cause:
            break
        system.clock += 3
    assert cause and cause.id == "cgroup-v1" and system.clock - began <= 30, "not only after the whole timeout"
    assert sum(len(start) for start in told.starts.values()) <= 3 * 181, "each line is read once"


def test_a_final_cause_that_is_said_once_proves_nothing(system):
    """A restarted member asks its peer, which may refuse it for a moment, says so once and goes on."""
    began = system.clock
    system.entries = entries("one", began + 2, 'level=warning msg="Unable to validate: not authorized"', "I1126 fine", "I1126 fine", every=15)
    told = journal.Journal(system, "k3s", began)
    for dummy in range(20):
        told.read()
        assert told.final_cause(system.clock, False) is None
        system.clock += 3


def test_one_start_that_says_it_again_and_again_tells_the_cause(system):
    began = system.clock
    system.entries = entries("one", began, *['level=info msg="Waiting to retrieve agent configuration; server is not ready: not authorized"'] * 9, every=5)
    told = journal.Journal(system, "k3s-agent", began)
    system.clock += 10
    told.read()
    assert told.final_cause(system.clock, False) is None
    system.clock += 6
    told.read()
    assert told.final_cause(system.clock, False).id == "wrong-token"
    system.clock += 60
    assert told.final_cause(system.clock, False) is None, "it is no longer said"


def test_the_journal_is_read_by_starts_and_from_where_it_ended():
    lines = [
        '{"__CURSOR":"c1","__REALTIME_TIMESTAMP":"1795669092000001","_SYSTEMD_INVOCATION_ID":"a1","MESSAGE":"one"}',
        '{"__CURSOR":"c2","__REALTIME_TIMESTAMP":"1795669093000000","INVOCATION_ID":"a2","MESSAGE":"k3s.service: Scheduled restart job"}',
        '{"__CURSOR":"c3","__REALTIME_TIMESTAMP":"1795669094000000","_SYSTEMD_INVOCATION_ID":"a2","MESSAGE":[116,119,111,195,182]}',
        '{"__CURSOR":"c4","_SYSTEMD_INVOCATION_ID":"a2","MESSAGE":null}', "-- No entries --",
    ]
    found = parse_journal("\n".join(lines))
    assert [(entry.start, entry.text, entry.cursor) for entry in found] == [
        ("a1", "one", "c1"), ("a2", "k3s.service: Scheduled restart job", "c2"), ("a2", "two\u00f6", "c3")]
    assert found[0].time == pytest.approx(1795669092.000001)


def test_the_real_journal_is_asked_for_everything_since_and_then_for_what_is_new(system, monkeypatch):
    asked = []
    monkeypatch.setattr(system, "run", lambda argv, timeout=60: asked.append(argv) or Result(0, "", ""))
    System.journal(system, "k3s", 1795669092.7)
    System.journal(system, "k3s", 1795669092.7, "c3")
    assert asked[0][:5] == ["journalctl", "--unit", "k3s", "--since", "@1795669092"] and asked[1][3:5] == ["--after-cursor", "c3"]
    assert not any("lines" in word for argv in asked for word in argv)


def test_one_moment_of_ready_is_not_up():
    up = UnitState(loaded=True, active="active", active_for=5.0)
    assert up.lasting and not UnitState(active="activating", active_for=9.0).lasting and not UnitState(active="active", active_for=4.9).lasting
    assert not UnitState(active="active", active_for=9.0, restarts=1).lasting, "it was ready before it was restarted as well"
    assert UnitState(active="active", active_for=30.0, restarts=900).lasting
    shown = parse_unit(
        "ActiveState=active\nInvocationID=a1\nActiveEnterTimestampMonotonic=95000000\nExecMainStartTimestampMonotonic=90000000\nNRestarts=0\n", 100.0)
    assert (shown.invocation, shown.active_for, shown.running_for, shown.lasting) == ("a1", 5.0, 10.0, True)
    assert parse_unit("ActiveState=inactive\nActiveEnterTimestampMonotonic=0\n", 100.0).active_for == 0.0


# -- releases ----------------------------------------------------------------------------------------


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A release page; the binary is a script that prints its name and version, as k3s does."""
    binary = b"#!/bin/sh\necho \"$(basename $0) version v1.34.4+k3s1 (c6017918)\"\necho 'go version go1.24.12'\n"
    import hashlib

    pages = {
        "http://m/k3s/v1.34.4%2Bk3s1/k3s": binary,
        "http://m/k3s/v1.34.4%2Bk3s1/sha256sum-amd64.txt": f"{hashlib.sha256(binary).hexdigest()}  k3s\n".encode(),
    }

    class Opener:
        def open(self, url, timeout):
            if url not in pages:
                raise urllib.request.HTTPError(url, 404, "Not Found", {}, None)
            return io.BytesIO(pages[url])

    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(release, "_opener", lambda environment: Opener())
    return pages


def real_system(tmp_path):
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import System

    return System(str(tmp_path))


def test_a_download_is_verified_and_put_in_place(mirror, tmp_path):
    system = real_system(tmp_path)
    release.download(system, "http://m/k3s/", "v1.34.4+k3s1", "", {}, "/usr/local/bin/k3s")
    assert release.installed_version(system, "/usr/local/bin/k3s") == "v1.34.4+k3s1" and system.mode("/usr/local/bin/k3s") == 0o755


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("http://m/k3s/v1.34.4%2Bk3s1/k3s", b"damaged"), "but it must be"),
        (("http://m/k3s/v1.34.4%2Bk3s1/sha256sum-amd64.txt", b"0  other\n"), "has no checksum for k3s"),
        (("http://m/k3s/v1.34.4%2Bk3s1/sha256sum-amd64.txt", None), "Cannot read .*404"),
    ],
)
def test_a_bad_download_installs_nothing(mirror, tmp_path, change, message):
    url, content = change
    if content is None:
        del mirror[url]
    else:
        mirror[url] = content
    with pytest.raises(NodeError, match=message):
        release.download(real_system(tmp_path), "http://m/k3s", "v1.34.4+k3s1", "", {}, "/usr/local/bin/k3s")
    assert not os.path.exists(tmp_path / "usr/local/bin/k3s") and not list(tmp_path.rglob(".k3s-*"))


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ("k3s version v1.34.4+k3s1 (c6017918)\ngo version go1.24.12\n", "v1.34.4+k3s1"),
        (".k3s-1wtujy0q version v1.34.4+k3s10 (c6017918)\ngo version go1.24.12\n", "v1.34.4+k3s10"),
        ("k3s version v1.35.1-rc2+k3s1 (0123abcd)\n", "v1.35.1-rc2+k3s1"),
        ("my k3s version 2 version v1.35.1+k3s1 (0123abcd)\n", "v1.35.1+k3s1"),
        ("go version go1.24.12\n", ""),
        ("k3s: error while loading shared libraries\n", ""),
    ],
)
def test_the_release_is_read_whatever_the_file_is_called(shown, version):
    assert release.parse_version(shown) == version


def test_versions_compare_by_number():
    assert release.version_key("v1.9.10+k3s2") < release.version_key("v1.34.4+k3s1") < release.version_key("v1.34.4+k3s2")
    assert release.version_key("latest") == ()


# -- systemd and API ---------------------------------------------------------------------------------


def test_unit_states_are_read():
    shown = parse_unit(
        "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nMainPID=0\nNRestarts=4\n"
        "ExecMainStartTimestamp=Sun 2026-11-22 21:10:44 UTC\nNeedDaemonReload=no\n"
    )
    assert shown.running and shown.restarts == 4 and time.gmtime(shown.started_at)[:6] == (2026, 11, 22, 21, 10, 44)
    assert parse_timestamp("") == 0.0 and parse_timestamp("n/a") == 0.0


class Booting(System):
    """A machine whose manager answers at the third question, or never."""

    def __init__(self, root, error, answers_at=3):
        super().__init__(str(root))
        self.error, self.answers_at, self.asked, self.slept = error, answers_at, 0, 0.0

    def systemctl(self, *argv, timeout=120.0):
        self.asked += 1
        return Result(0, "ActiveState=active\n", "") if self.asked >= self.answers_at else Result(1, "", self.error)

    def sleep(self, seconds):
        self.slept += seconds


def test_a_manager_that_is_busy_with_the_start_of_the_machine_is_asked_again(tmp_path):
    busy = "Failed to get properties: Transport endpoint is not connected"
    booting = Booting(tmp_path, busy)
    assert booting.unit("chronyd").active == "active" and booting.asked == 3
    with pytest.raises(NodeError, match="Transport endpoint"):
        Booting(tmp_path, busy, answers_at=99).unit("chronyd")
    without = Booting(tmp_path, "System has not been booted with systemd as init system (PID 1). Can't operate.")
    with pytest.raises(NodeError, match="must run systemd"):
        without.unit("chronyd")
    assert without.asked == 1


def test_kubeconfigs_of_both_kinds_are_read():
    data = base64.b64encode(b"PEM").decode()
    inline = parse_kubeconfig(
        f"- cluster:\n    certificate-authority-data: {data}\n    server: https://127.0.0.1:6443\n"
        f"- user:\n    client-certificate-data: {data}\n    client-key-data: {data}\n"
    )
    assert inline["client-key"] == b"PEM" and inline["server"] == "https://127.0.0.1:6443"
    paths = parse_kubeconfig("    server: https://127.0.0.1:6444\n    certificate-authority: /a\n    client-certificate: /b\n    client-key: /c\n")
    assert paths["client-key"] == "/c"
    with pytest.raises(ApiError, match="no certificate-authority, client-certificate, client-key"):
        parse_kubeconfig("server: https://x\n")


def test_quorum():
    def members(*states):
        return [{"name": f"cp-{index}", "voter": good, "ready": good} for index, good in enumerate(states, 1)]

    assert quorum_problem(members(True, True, True), "cp-1") == ""
    assert "cp-3 is not a healthy" in quorum_problem(members(True, True, False), "cp-1")
    assert quorum_problem(members(True, True, False), "cp-3") == "", "the sick one itself may be restarted"
    assert quorum_problem(members(True), "cp-1") == ""
    assert quorum_problem(members(True, True), "cp-1") == "", "two servers: a restart is a pause, nothing more can be had"
    assert quorum_problem(members(True, True, True, True, False), "cp-1") == "", "three of five remain"


# -- other modules -----------------------------------------------------------------------------------


def test_a_dead_node_is_forgotten(system, api):
    api.objects.update({"old": make_node("old", ready=False), "control-plane-2": make_node("control-plane-2"), "control-plane-3": make_node("control-plane-3")})
    api.delete = lambda path: api.objects.pop(path.rsplit("/", 1)[1], None) is not None

    def get(path):
        raise ApiError("not found", 404)

    api.get = get
    assert Forgetter(system).forget("old", False, 10) == {"changed": True, "removed": "node"} and "old" not in api.objects
    assert Forgetter(system).forget("old", False, 10) == {"changed": False, "removed": ""}


def test_a_live_node_is_not_forgotten(system, api):
    api.objects["twin"] = make_node("twin")
    with pytest.raises(NodeError, match="Two machines have one host name"):
        Forgetter(system).forget("twin", False, 10)
    assert condition(api.objects["twin"], "Ready")["status"] == "True"


def test_absent_removes_everything_but_the_node_password(system):
    ours = ["/etc/systemd/system/k3s.service", "/etc/rancher/k3s/config.yaml", "/var/lib/rancher/k3s/server/token", "/usr/local/bin/k3s"]
    for path in [*ours, "/etc/rancher/node/password"]:
        system.put(path)
    os.symlink("k3s", system.path("/usr/local/bin/kubectl"))
    predicted = Remover(system, "/usr/local/bin/k3s", check_mode=True).absent()
    assert system.exists("/usr/local/bin/k3s")
    assert Remover(system, "/usr/local/bin/k3s").absent()["actions"] == predicted["actions"]
    assert system.exists("/etc/rancher/node/password") and not system.exists("/var/lib/rancher/k3s") and not system.islink("/usr/local/bin/kubectl")
    assert ("disable", "--now", "k3s.service") in system.calls
    assert not Remover(system, "/usr/local/bin/k3s").absent()["changed"]


def test_absent_never_empties_a_volume_that_is_still_mounted(system):
    volume = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/pvc-1/mount"
    for path in ("/etc/systemd/system/k3s.service", volume + "/data"):
        system.put(path)
    system.put("/proc/self/mounts", f"/dev/sdb {volume} ext4 rw 0 0\n")
    with pytest.raises(NodeError, match="Still mounted after k3s was stopped: .*pvc-1/mount. Its files are not removed"):
        Remover(system, "/usr/local/bin/k3s").absent()
    assert system.exists(volume + "/data") and system.exists("/etc/systemd/system/k3s.service")


def test_a_machine_is_prepared_once(system):
    system.put("/proc/sys/net/ipv4/ip_forward", "0\n")
    system.put("/proc/swaps", "Filename Type Size\n")
    system.put(FSTAB_PATH, "UUID=1 / ext4 defaults 0 1\n/swap none swap sw 0 0\n")
    prepare = ([], {"net.ipv4.ip_forward": 1, "no.such": 2}, False, "1G")
    predicted = Preparer(system, check_mode=True).run(*prepare)
    preparer = Preparer(system)
    assert preparer.run(*prepare)["actions"] == predicted["actions"] and "sysctl net.ipv4.ip_forward=1" in predicted["actions"]
    assert preparer.warnings == ["The kernel parameter no.such does not exist here"]
    assert system.read("/proc/sys/net/ipv4/ip_forward") == "1\n" and "no.such = 2" in system.read(SYSCTL_PATH)
    assert "# swap is off for k3s: /swap none swap" in system.read(FSTAB_PATH)
    assert not Preparer(system).run(*prepare)["changed"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # A blank line before it, a comment, tabs, an option after it, a swap file without the rest, and no swap at all.
        ("UUID=1 / ext4 defaults 0 1\n\n/swap none swap sw 0 0\n", "UUID=1 / ext4 defaults 0 1\n\n# swap is off for k3s: /swap none swap sw 0 0\n"),
        ("\n\n\t/swap\tnone\tswap\n\n", "\n\n# swap is off for k3s: \t/swap\tnone\tswap\n\n"),
        ("# /swap none swap sw 0 0\n  #x none swap sw\n", None), ("/dev/swap\nnone swap sw 0 0\n", None), ("swap / ext4 defaults 0 1\n", None),
    ],
)
def test_swap_is_taken_out_of_fstab_line_by_line(system, before, after):
    system.put(FSTAB_PATH, before)
    assert Preparer(system).run([], {}, False, "")["changed"] and system.read(FSTAB_PATH) == (after or before)
    assert not Preparer(system).run([], {}, False, "")["changed"] and system.read(FSTAB_PATH) == (after or before)


def test_no_expression_for_lines_reaches_over_their_end():
    """In a multi-line expression \\s also takes the line feeds, so what is meant for one line begins in another."""
    sources = Path(node.__file__).parents[2].rglob("*.py")
    bad = [f"{path.name}: {line.strip()}" for path in sources for line in path.read_text(encoding="utf-8").splitlines()
           if "MULTILINE" in line and "\\s" in re.sub(r"\[[^\]]*\]", "", line)]
    assert bad == []


@pytest.mark.parametrize(
    ("name", "ours", "there", "value"),
    [
        ("fs.inotify.max_user_watches", 524288, "1048576", "1048576"), ("fs.inotify.max_user_watches", 524288, "8192", "524288"),
        ("vm.max_map_count", "262144", "1048576", "1048576"),
        # No limits: a larger number says something else.
        ("vm.overcommit_memory", 1, "2", "1"), ("user.max_user_namespaces", 0, "60000", "0"),
        # YAML's words for a switch are none to the kernel.
        ("net.ipv4.ip_forward", True, "0", "1"), ("net.ipv4.conf.all.accept_redirects", False, "1", "0"),
    ],
)
def test_a_limit_that_is_higher_already_is_not_lowered(system, name, ours, there, value):
    path = "/proc/sys/" + name.replace(".", "/")
    system.put(path, there + "\n")
    Preparer(system).run([], {name: ours, "no.value": None}, True, "")
    assert system.read(path) == value + "\n" and f"\n{name} = {value}\n" in system.read(SYSCTL_PATH) and "no.value" not in system.read(SYSCTL_PATH)
    assert not Preparer(system).run([], {name: ours}, True, "")["changed"]


class Carded(FakeSystem):
    """A machine with ethtool and one of flannel's devices."""

    def __init__(self, root, broken=""):
        super().__init__(root)
        self.put("/usr/sbin/ethtool")
        self.put("/sys/class/net/flannel.1")
        self.offload, self.broken = "on", broken

    def run(self, argv, timeout=60, env=None):
        self.calls.append(tuple(argv))
        if argv[:2] == ["/usr/sbin/ethtool", "-k"]:
            return Result(0, f"Features for {argv[2]}:\nrx-checksumming: on\n\ttx-checksum-ipv4: off [fixed]\n\ttx-checksum-ip-generic: {self.offload}\n", "")
        if argv[:2] == ["/usr/sbin/ethtool", "-K"]:
            assert argv[2:4] == ["flannel.1", "tx-checksum-ip-generic"]
            self.offload = self.offload if self.broken else argv[4]
            return Result(1 if self.broken else 0, "", self.broken)
        return Result(0, "", "")


def test_checksum_offload_is_off_on_flannels_device_now_and_whenever_it_is_made(tmp_path):
    system = Carded(tmp_path)
    options = {"modules": [], "sysctls": {}, "swap": True, "journal_size": ""}
    assert not [action for action in Preparer(system).run(**options)["actions"] if "flannel" in action], "left alone unless somebody wants it"
    predicted = Preparer(system, check_mode=True).run(**options, flannel_tx_checksum=False)
    assert system.offload == "on" and system.read(node.OFFLOAD_PATH) is None
    done = Preparer(system).run(**options, flannel_tx_checksum=False)
    assert done["actions"] == predicted["actions"] == [f"file {node.OFFLOAD_PATH}", "tx-checksum-ip-generic off on flannel.1"]
    rule = 'ACTION=="add", SUBSYSTEM=="net", KERNEL=="flannel.1|flannel-v6.1", RUN+="/usr/sbin/ethtool -K $name tx-checksum-ip-generic off"'
    assert system.offload == "off" and rule in system.read(node.OFFLOAD_PATH).splitlines() and ("udevadm", "control", "--reload") in system.calls
    assert not Preparer(system).run(**options, flannel_tx_checksum=False)["changed"]
    # k3s made the device anew while the rule was not read: set again.
    system.offload = "on"
    assert Preparer(system).run(**options, flannel_tx_checksum=False)["actions"] == ["tx-checksum-ip-generic off on flannel.1"]
    back = Preparer(system).run(**options)
    assert system.offload == "on" and system.read(node.OFFLOAD_PATH) is None and back["actions"][0] == f"remove {node.OFFLOAD_PATH}"
    assert not Preparer(system).run(**options)["changed"]


def test_without_ethtool_nothing_is_changed(system):
    with pytest.raises(NodeError, match="Install the system's package ethtool.*Nothing was changed"):
        Preparer(system).run(["overlay"], {"a.b": 1}, False, "1G", flannel_tx_checksum=False)
    assert system.read(SYSCTL_PATH) is None


def test_a_device_that_refuses_is_told(tmp_path):
    with pytest.raises(NodeError, match="Could not change any device features"):
        Preparer(Carded(tmp_path, "Could not change any device features")).run([], {}, True, "", flannel_tx_checksum=False)


def test_settings_of_servers_and_agents():
    node = {"ip": "198.18.0.11", "provider_id": "vsphere://420e", "cloud_provider": "external", "kubelet_args": ["v=2"], "labels": {"b": 1, "a": "x"}}
    server = settings.server_config({"tls-san": ["k"], "debug": True}, node, {"disable": ["local-storage"], "tls_san": ["198.18.0.11"], "taint": True})
    assert server == {
        "node-ip": "198.18.0.11", "kubelet-arg": ["cloud-provider=external", "provider-id=vsphere://420e", "v=2"], "node-label": ["a=x", "b=1"],
        "node-taint": ["node-role.kubernetes.io/control-plane=true:NoSchedule"], "tls-san": ["198.18.0.11", "k"], "disable": ["local-storage"],
        "disable-cloud-controller": True, "debug": True,
    }
    with pytest.raises(ValueError, match="k3s_provider_id is empty"):
        settings.agent_config({}, {"cloud_provider": "external"})
    assert settings.agent_config({}, {"cloud_provider": "none", "runtime": "docker"}) == {"docker": True}
    assert settings.address_or_empty("198.18.0.11") == "198.18.0.11" and settings.address_or_empty("host.example.org") == ""


def test_registries_are_split():
    configs = {"r": {"auth": {"password": "p"}, "tls": {"ca_file": "/x"}}, "q": {"auth": {"auth": "z"}}}
    public, auth = settings.split_registries({"mirrors": {"a": 1}, "configs": configs})
    assert public == {"mirrors": {"a": 1}, "configs": {"r": {"tls": {"ca_file": "/x"}}}} and auth == {"r": {"password": "p"}, "q": {"auth": "z"}}


# -- removing and draining ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "name", "refused"),
    [
        ((True, True, True), "cp-1", ""), ((False, True, True), "cp-1", ""), ((True, False, True), "cp-1", "cp-2 is not healthy"),
        ((True,), "cp-1", "the last server"), ((True, True), "cp-1", ""), ((False, True), "cp-1", "quorum"), ((True, False), "cp-1", "cp-2 is not"),
    ],
)
def test_a_removal_that_costs_the_quorum_is_refused(states, name, refused):
    members = [{"name": f"cp-{index}", "voter": good, "ready": good} for index, good in enumerate(states, 1)]
    problem = removal_problem(members, name)
    assert (refused in problem) if refused else problem == ""


class DrainApi(FakeApi):
    """Pods that go when they are evicted; a budget may hold one back for some time."""

    def __init__(self, pods: dict[str, dict], held: int = 0) -> None:
        super().__init__()
        self.objects = {"n": make_node("n", voter=None)}
        self.pods, self.held, self.patches = pods, held, []

    def get(self, path):
        if "volumeattachments" in path:
            return {"items": []}
        return {"items": [
            {"metadata": dict({"name": name, "namespace": "x", "uid": name}, **pod), "status": {}} for name, pod in self.pods.items()
        ]}

    def request(self, method, path, body=None, content_type=""):
        if method == "PATCH":
            self.patches.append(body)
            self.objects["n"]["spec"]["unschedulable"] = body["spec"]["unschedulable"]
            self.objects["n"]["metadata"].setdefault("annotations", {}).update(body["metadata"]["annotations"])
        elif self.held:
            self.held -= 1
            raise ApiError("Too Many Requests", 429)
        else:
            del self.pods[body["metadata"]["name"]]


def drain(system, monkeypatch, api, wanted="drained", timeout=60):
    monkeypatch.setattr(state, "server_api", lambda system, timeout=5.0: api)
    return Drainer(system).run("n", wanted, timeout, -1, "upgrade")


def test_a_node_is_drained_around_daemons_and_static_pods(system, monkeypatch):
    api = DrainApi({
        "app": {}, "daemon": {"ownerReferences": [{"kind": "DaemonSet", "controller": True}]}, "static": {"annotations": {"kubernetes.io/config.mirror": "x"}},
    }, held=3)
    assert drain(system, monkeypatch, api) == {"changed": True, "evicted": ["x/app"]}
    assert sorted(api.pods) == ["daemon", "static"] and len(api.patches) == 1
    assert drain(system, monkeypatch, api)["changed"] is False
    assert drain(system, monkeypatch, api, "uncordoned")["changed"] and not api.objects["n"]["spec"]["unschedulable"]


def test_a_budget_that_never_gives_way_is_named(system, monkeypatch):
    with pytest.raises(NodeError, match=r"not empty after 60 s: x/app \(a disruption budget allows no eviction now\)"):
        drain(system, monkeypatch, DrainApi({"app": {}}, held=10**6))


def test_a_silent_node_is_not_waited_for(system, monkeypatch):
    """Its pods end only with the machine, and the work on that is what cures it: an upgrade that failed there, a VM to correct, a removal."""
    class Silent(DrainApi):
        def request(self, method, path, body=None, content_type=""):
            if method == "POST":
                self.pods[body["metadata"]["name"]]["deletionTimestamp"] = "2026-11-26T05:00:00Z"
            else:
                super().request(method, path, body, content_type)

    api = Silent({"app": {}})
    with pytest.raises(NodeError, match="not empty after 300 s"):
        drain(system, monkeypatch, api, timeout=300)
    api.objects["n"] = make_node("n", ready=False, voter=None)
    began = system.clock
    assert drain(system, monkeypatch, api, timeout=300) == {"changed": True, "evicted": ["x/app"], "left": ["x/app"]}
    assert 60 <= system.clock - began < 70, "one moment of not being Ready is no silence"


def test_a_node_that_people_cordoned_stays_cordoned(system, monkeypatch):
    api = DrainApi({})
    api.objects["n"]["spec"]["unschedulable"] = True
    assert not drain(system, monkeypatch, api)["changed"] and not drain(system, monkeypatch, api, "uncordoned")["changed"]
    assert api.objects["n"]["spec"]["unschedulable"] is True and api.patches == []


def test_arguments_that_a_release_dropped_are_found_before():
    config = {"kubelet-arg": ["cloud-config=/x"], "kube-apiserver-arg": ["enable-admission-plugins=PodSecurityPolicy"]}
    assert flags.check({"kubelet-arg": ["cloud-config=/x"]}, "server", "v1.33.1+k3s1") == []
    assert len(flags.check(config, "server", "v1.34.4+k3s1")) == 2


# -- snapshots and restoring -------------------------------------------------------------------------


SNAPSHOT = "/var/lib/rancher/k3s-restore/on-demand-cp-1-1763846400"


def test_settings_of_s3_are_whole():
    good = {"etcd-s3": True, "etcd-s3-bucket": "b", "etcd-s3-endpoint": "s3.example.org", "etcd-s3-access-key": "a", "etcd-s3-secret-key": "s"}
    assert flags.check_s3({}) == flags.check_s3(good) == flags.check_s3({"etcd-s3": True, "etcd-s3-config-secret": "s3"}) == []
    assert "etcd-s3-bucket" in flags.check_s3({"etcd-s3": True})[0]
    assert "do nothing without" in flags.check_s3(dict(good, **{"etcd-s3": False}))[0]
    assert "belong together" in flags.check_s3({"etcd-s3": True, "etcd-s3-bucket": "b", "etcd-s3-access-key": "a"})[0]
    assert "without https://" in flags.check_s3(dict(good, **{"etcd-s3-endpoint": "https://s3.example.org"}))[0]


@pytest.fixture
def stopped_server(system, monkeypatch):
    """A server whose k3s says what a reset says, and keeps what it was given."""
    system.put(SNAPSHOT)
    system.put("/etc/rancher/k3s/config.yaml", "server: https://198.18.0.12:6443\ntoken-file: /x\nnode-ip: 198.18.0.11\netcd-s3: true\n")
    system.put(DB + "/reset-flag")
    given = {}

    def run(argv, timeout=60, env=None):
        given.update(argv=argv, config=system.read(RESET_CONFIG), mode=system.mode(RESET_CONFIG), flag=system.exists(DB + "/reset-flag"))
        return Result(given.get("rc", 0), "", 'level=info msg="Managed etcd cluster membership has been reset, restart without --cluster-reset flag now."')

    monkeypatch.setattr(system, "run", run)
    system.given = given
    return system


@pytest.mark.parametrize(("value", "before", "after"), [
    (b"x", "secrets-encryption: true\n", False), (b"k8s:enc:aescbc:v1:key:x", "", True), (b"k8s:enc:aescbc:v1:key:x", "secrets-encryption: true\n", True),
])
def test_secrets_are_restored_as_the_snapshot_has_them(stopped_server, value, before, after):
    """Encryption may have been switched on after it; and the variable of an empty machine knows nothing of it."""
    with open(stopped_server.path(SNAPSHOT), "wb") as stream:
        stream.write(value)
    settings = "/etc/rancher/k3s/config.yaml"
    stopped_server.put(settings, stopped_server.read(settings) + before)
    Restorer(stopped_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "word", {}, 10)
    for text in (stopped_server.given["config"], stopped_server.read(settings)):
        assert ("secrets-encryption: true" in text) == after
    assert "server: https://198.18.0.12:6443" in stopped_server.read(settings)
    stopped_server.remove(settings)
    Restorer(stopped_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "word", {"secrets-encryption": not after}, 10)
    # Written, so that the data is known as this collection's until k3s_join has written it whole.
    for text in (stopped_server.given["config"], stopped_server.read(settings)):
        assert ("secrets-encryption: true" in text) == after
    stopped_server.put(DB + "/etcd/member/wal/0.wal")
    assert state.foreign(stopped_server) == {}


def test_keys_that_are_newer_than_the_snapshot_do_not_stop_the_other_servers(stopped_server):
    stopped_server.put(encryption.CONFIGURATION, "{}")
    Restorer(stopped_server, "/usr/local/bin/k3s").clear()
    assert not stopped_server.exists(encryption.CONFIGURATION) and stopped_server.read(encryption.CONFIGURATION + ".before-restore") == "{}"


def test_a_reset_runs_without_joining_and_without_a_token_on_the_command_line(stopped_server):
    result = Restorer(stopped_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "K10" + "a" * 64 + "::server:word", {}, 10)
    given = stopped_server.given
    assert result["changed"] and "server:" not in given["config"] and "etcd-s3" not in given["config"] and "node-ip: 198.18.0.11" in given["config"]
    # k3s looks at no token-file there, and an empty server has no server/token.
    assert yaml.safe_load(given["config"])["token"] == "word" and "token-file" not in given["config"] and given["mode"] == 0o600
    assert "word" not in " ".join(given["argv"]) and not given["flag"]
    assert stopped_server.listdir("/etc/rancher/k3s") == ["config.yaml"] and not stopped_server.exists(KEPT)


@pytest.mark.parametrize("state_wanted", ["begin", "reset", "clear", "give_up"])
def test_a_token_that_a_killed_run_left_is_removed_by_the_next_one(stopped_server, state_wanted):
    stopped_server.put(PENDING, "snapshot-1\n")
    for name in (RESET_CONFIG, RESET_TOKEN, "/etc/rancher/k3s/.cht-k3s-half"):
        stopped_server.put(name, "token: word\n")
    restorer = Restorer(stopped_server, "/usr/local/bin/k3s")
    {"begin": lambda: restorer.begin("snapshot-1"), "reset": lambda: restorer.reset(SNAPSHOT, "word", {}, 10)}.get(
        state_wanted, getattr(restorer, state_wanted))()
    assert set(stopped_server.listdir("/etc/rancher/k3s")) <= {"config.yaml", "restore-pending"}


def _wrong_token(system, killed=False):
    """A reset with another token than the snapshot's, as k3s does it: it writes the token, and says no only then."""
    def run(argv, timeout=60, env=None):
        system.rename(DB + "/etcd", f"{DB}/etcd-old-{int(system.clock)}")
        system.write(DB + "/etcd/member/wal/0", "of the snapshot", 0o600)
        system.write(SERVER_TOKEN, "wrong\n", 0o600)
        system.write(PASSWD, "wrong,server,server,k3s:server\n", 0o600)
        system.write("/var/lib/rancher/k3s/server/tls-1763846400/server-ca.crt", "x", 0o600)
        system.write(DB + "/reset-flag", "", 0o600)
        if killed:
            raise KeyboardInterrupt
        return Result(1, "", 'level=fatal msg="bootstrap data already found and encrypted with different token"')
    return run


@pytest.fixture
def intact_server(stopped_server):
    stopped_server.put(DB + "/etcd/member/wal/0", "former")
    stopped_server.put(SERVER_TOKEN, "right\n")
    stopped_server.put(PASSWD, "right,server,server,k3s:server\n")
    stopped_server.put("/var/lib/rancher/k3s/server/tls/server-ca.crt", "authority")
    stopped_server.remove(DB + "/reset-flag")
    return stopped_server


def _is_intact(system):
    times = [system.mtime(path) for path in (SERVER_TOKEN, PASSWD)]
    assert (system.read(SERVER_TOKEN), system.read(PASSWD)) == ("right\n", "right,server,server,k3s:server\n")
    assert times == [system.clock - 100] * 2, "newer ones than the datastore's are fatal at the next start"
    assert system.read(DB + "/etcd/member/wal/0") == "former" and system.listdir(DB) == ["etcd"]
    assert system.listdir("/var/lib/rancher/k3s/server") == ["cred", "db", "tls", "token"]


def test_a_failed_reset_leaves_token_and_passwords_as_they_were(intact_server, monkeypatch):
    monkeypatch.setattr(intact_server, "run", _wrong_token(intact_server))
    with pytest.raises(NodeError, match="encrypted with different token.*This server's data is as it was"):
        Restorer(intact_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "wrong", {}, 10)
    _is_intact(intact_server)


def test_a_reset_that_was_killed_is_undone_by_whatever_comes_next(intact_server, monkeypatch):
    restorer = Restorer(intact_server, "/usr/local/bin/k3s")
    restorer.begin("snapshot-1")
    good = intact_server.run
    for number, finish in enumerate((restorer.give_up, lambda: restorer.reset(SNAPSHOT, "wrong", {}, 10))):
        intact_server.put(PENDING, "snapshot-1\n")
        monkeypatch.setattr(intact_server, "run", _wrong_token(intact_server, killed=True))
        with pytest.raises(KeyboardInterrupt):
            restorer.reset(SNAPSHOT, "wrong", {}, 10)
        assert intact_server.exists(KEPT) and not intact_server.exists(RESET_CONFIG)
        monkeypatch.setattr(intact_server, "run", _wrong_token(intact_server))
        if number:
            with pytest.raises(NodeError):
                finish()
        else:
            finish()
        _is_intact(intact_server)
    monkeypatch.setattr(intact_server, "run", good)
    assert restorer.reset(SNAPSHOT, "word", {}, 10)["changed"] and not intact_server.exists(KEPT)


def test_passwords_that_are_newer_than_the_snapshot_do_not_stop_the_other_servers(stopped_server):
    """The token may have been changed after it was saved."""
    stopped_server.put(PASSWD, "newer,server,server,k3s:server\n")
    Restorer(stopped_server, "/usr/local/bin/k3s").clear()
    assert not stopped_server.exists(PASSWD) and stopped_server.read(PASSWD + ".before-restore")


def test_a_token_that_was_changed_after_the_snapshot_is_put_back_with_it(stopped_server):
    stopped_server.put(SERVER_TOKEN, "K10" + "a" * 64 + "::server:newer\n")
    Restorer(stopped_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "word", {}, 10)
    assert stopped_server.read(SERVER_TOKEN) == "word\n"


def test_check_mode_of_a_reset_needs_no_copy_and_writes_nothing(stopped_server):
    before = stopped_server.read("/etc/rancher/k3s/config.yaml")
    assert Restorer(stopped_server, "/usr/local/bin/k3s", check_mode=True).reset("/not/copied", "word", {}, 10) == {"changed": True}
    assert stopped_server.read("/etc/rancher/k3s/config.yaml") == before and stopped_server.exists(DB + "/reset-flag") and not stopped_server.given


def test_a_failed_reset_says_why(stopped_server):
    stopped_server.given["rc"] = 1
    with pytest.raises(NodeError, match="The snapshot was not put back"):
        Restorer(stopped_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "word", {}, 10)


def test_a_failed_reset_leaves_the_data_as_it_was(stopped_server, monkeypatch):
    stopped_server.put(DB + "/etcd/member/wal/0", "former")
    stopped_server.put(DB + "/etcd-old-100/kept")

    def run(argv, timeout=60, env=None):
        stopped_server.rename(DB + "/etcd", DB + "/etcd-old-200")
        stopped_server.put(DB + "/etcd/member/wal/0", "half")
        stopped_server.put(DB + "/reset-flag")
        return Result(1, "", 'level=fatal msg="Error: bad snapshot"')

    monkeypatch.setattr(stopped_server, "run", run)
    with pytest.raises(NodeError, match="bad snapshot. This server's data is as it was"):
        Restorer(stopped_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "word", {}, 10)
    assert stopped_server.read(DB + "/etcd/member/wal/0") == "former" and stopped_server.listdir(DB) == ["etcd", "etcd-old-100"]


def test_a_failed_reset_on_an_empty_server_leaves_nothing(stopped_server, monkeypatch):
    def run(argv, timeout=60, env=None):
        stopped_server.put(DB + "/etcd/member/wal/0", "half")
        stopped_server.put("/var/lib/rancher/k3s/server/tls/server-ca.crt", "of nobody")
        return Result(1, "", 'level=fatal msg="Error: bad snapshot"')

    monkeypatch.setattr(stopped_server, "run", run)
    with pytest.raises(NodeError, match="bad snapshot"):
        Restorer(stopped_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "word", {}, 10)
    assert stopped_server.listdir("/var/lib/rancher/k3s/server") == ["db"] and stopped_server.listdir(DB) == []


def test_a_server_is_marked_until_it_has_the_new_data(stopped_server):
    restorer = Restorer(stopped_server, "/usr/local/bin/k3s")
    assert restorer.begin("snapshot-1")["changed"] and not restorer.begin("snapshot-1")["changed"]
    restorer.reset(SNAPSHOT, "word", {}, 10)
    assert not stopped_server.exists(PENDING)
    restorer.begin("snapshot-1")
    restorer.clear()
    assert not stopped_server.exists(PENDING)
    restorer.begin("snapshot-1")
    assert restorer.give_up()["changed"] and not restorer.give_up()["changed"]


def test_a_machine_is_found_whatever_it_is_called():
    nodes = [make_node("srv-a"), make_node("srv-b")]
    nodes[0]["spec"]["providerID"] = "vsphere://420E"
    nodes[1].setdefault("status", {})["addresses"] = [{"type": "InternalIP", "address": "198.18.0.12"}]
    assert find(nodes, "vsphere://420e", "198.18.0.12", "agent-1") == ("srv-a", True)
    assert find(nodes, "vsphere://other", "198.18.0.12", "agent-1") == ("srv-b", True)
    assert find(nodes, "", "198.18.0.99", "SRV-B") == ("srv-b", True)
    assert find(nodes, "", "", "agent-1") == ("agent-1", False)


def test_nothing_is_restored_under_a_running_server(stopped_server):
    stopped_server.units["k3s"] = UnitState(active="active", pid=5)
    with pytest.raises(NodeError, match="is running on this server"):
        Restorer(stopped_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "word", {}, 10)
    with pytest.raises(NodeError, match="is running on this server"):
        Restorer(stopped_server, "/usr/local/bin/k3s").clear()


def test_cleared_data_is_kept_beside(stopped_server):
    moved = Restorer(stopped_server, "/usr/local/bin/k3s").clear()["moved_to"]
    assert stopped_server.exists(moved + "/reset-flag") and not stopped_server.exists(DB)
    assert Restorer(stopped_server, "/usr/local/bin/k3s").clear() == {"changed": False}


def test_a_server_that_is_busy_for_a_moment_is_asked_for_its_snapshot_again(system, monkeypatch):
    """Seen on the lab: of a server that is well, while another member of etcd starts and ends again and again."""
    asked = []

    def busy(argv, timeout=60, env=None):
        asked.append(system.clock)
        if len(asked) > 2:
            system.put("/var/lib/rancher/k3s/server/db/snapshots/on-demand-cp-1-1763846500")
            return Result(0, "", "")
        return Result(1, "", 'level=fatal msg="Error: see server log for details: storage is (re)initializing"')

    monkeypatch.setattr(system, "run", busy)
    assert snapshots.save(system, "/usr/local/bin/k3s", "on-demand", 10)["name"] == "on-demand-cp-1-1763846500" and len(asked) == 3
    always = Result(1, "", 'level=fatal msg="storage is (re)initializing"')
    monkeypatch.setattr(system, "run", lambda argv, timeout=60, env=None: always)
    began = system.clock
    with pytest.raises(NodeError, match="storage is .re.initializing"):
        snapshots.save(system, "/usr/local/bin/k3s", "on-demand", 10)
    assert 60 <= system.clock - began < 70


def test_a_snapshot_counts_only_when_its_file_is_there(system, monkeypatch):
    folder = "/var/lib/rancher/k3s/server/db/snapshots/"
    system.put(folder + "on-demand-cp-1-1763846400")
    monkeypatch.setattr(system, "run", lambda argv, timeout=60, env=None: Result(0, "", ""))
    with pytest.raises(NodeError, match="No snapshot was made"):
        snapshots.save(system, "/usr/local/bin/k3s", "on-demand", 10)

    def save(argv, timeout=60, env=None):
        system.put(folder + "on-demand-cp-1-1763846500.zip")
        return Result(0, "", "")

    def refused(argv, timeout=60, env=None):
        return Result(1, "", 'level=fatal msg="Error: see server log for details: not authorized"')

    # After a change of the token, until the server is restarted.
    monkeypatch.setattr(system, "run", refused)
    with pytest.raises(NodeError, match="does not take its own token.*rotate.yml --tags token again"):
        snapshots.save(system, "/usr/local/bin/k3s", "on-demand", 10)
    monkeypatch.setattr(system, "run", save)
    assert snapshots.save(system, "/usr/local/bin/k3s", "on-demand", 10)["name"] == "on-demand-cp-1-1763846500.zip"
    assert [row["time"] for row in snapshots.listed(system)] == [1763846400, 1763846500]


@pytest.mark.parametrize(("version", "named"), [
    ("v1.29.3+k3s1", False), ("v1.29.4+k3s1", True), ("v1.30.2+k3s2", True), ("v1.30.3+k3s1", False), ("v1.34.4+k3s1", False), ("", False),
])
def test_a_snapshot_is_made_here_and_not_where_the_server_once_joined(version, named):
    given = ["--server", "https://127.0.0.1:7443"] if named else []
    assert snapshots.here(version, {"server": "https://198.18.0.12:6443", "https-listen-port": 7443}) == given


def test_a_password_alone_is_forgotten(system, api):
    api.objects["control-plane-1"] = make_node("control-plane-1")
    deleted = []
    api.get = lambda path: {}
    api.delete = deleted.append
    assert Forgetter(system).forget("control-plane-1", False, 10, password_only=True)["removed"] == "password"
    assert deleted == ["/api/v1/namespaces/kube-system/secrets/control-plane-1.node-password.k3s"] and "control-plane-1" in api.objects


def test_a_reboot_in_the_middle_of_a_restore_starts_nothing(stopped_server):
    stopped_server.units["k3s"] = UnitState(loaded=True, enabled="enabled")
    restorer = Restorer(stopped_server, "/usr/local/bin/k3s")
    assert Restorer(stopped_server, "/usr/local/bin/k3s", check_mode=True).begin("snapshot-1")["changed"] and not stopped_server.calls
    assert restorer.begin("snapshot-1") == {"changed": True, "marked_before": False}
    assert stopped_server.unit("k3s").enabled == "disabled"
    assert restorer.begin("snapshot-1") == {"changed": False, "marked_before": True}
    assert restorer.begin("snapshot-2")["marked_before"], "of an earlier restore with another backup"
    restorer.clear()
    assert stopped_server.unit("k3s").enabled == "disabled", "without data it could begin a cluster of its own"
    restorer.begin("snapshot-1")
    assert restorer.give_up()["changed"] and stopped_server.unit("k3s").enabled == "enabled"


def test_a_restore_that_fails_after_an_unfinished_one_starts_nothing():
    """Its servers may hold different data, so the rescue stops before it takes the marks away."""
    plays = yaml.safe_load((Path(__file__).parents[5] / "playbooks/restore.yml").read_text(encoding="utf-8"))
    rescue = next(task["rescue"] for play in plays for task in play.get("tasks", []) if "rescue" in task)
    names = [next(key for key in task if "." in key) for task in rescue]
    first = names.index("ansible.builtin.fail")
    assert "marked_before" in rescue[first]["when"] and first < names.index("cht.k3s.k3s_restore") < names.index("cht.k3s.k3s_join")


def test_a_server_knows_the_name_it_joined_under(system):
    """Its host name, its address and the inventory may all say something else by now."""
    assert state.registered_name(system) == "control-plane-1"
    system.put(state.ETCD_NAME, "srv-a-0a1b2c3d\n")
    info = state.inspect_server(system, "/usr/local/bin/k3s")
    assert (info["registered_name"], info["node_name"], info["removed"]) == ("srv-a", "control-plane-1", False)
    system.put(state.TOMBSTONE)
    assert state.inspect_server(system, "/usr/local/bin/k3s")["removed"]


@pytest.mark.parametrize(("restarts", "since", "ready", "voter", "why"), [
    (0, 60, True, True, ""), (0, 2, True, True, "is active for 2 s only"), (16, 12, True, True, "restarted 16 times"), (16, 40, True, True, ""),
    (0, 60, False, True, "its Node is not Ready"), (0, 60, True, False, "no voter of etcd"), (0, 60, None, True, "its Node is not there"),
])
def test_an_api_that_answers_is_not_a_server_that_is_well(system, api, restarts, since, ready, voter, why):
    """One that ends and starts again every few seconds answers in between."""
    system.put(datastore.ETCD_WAL + "/0.wal")
    system.units["k3s"] = UnitState(loaded=True, active="active", sub="running", pid=7, started_at=system.clock - since, restarts=restarts)
    api.objects = {} if ready is None else {"control-plane-1": make_node("control-plane-1", ready=ready, voter=voter)}
    info = state.inspect_server(system, "/usr/local/bin/k3s")
    assert info["healthy"] and info["well"] == (not why) and why in info["reason"]
    api.objects = None
    info = state.inspect_server(system, "/usr/local/bin/k3s")
    assert not info["healthy"] and not info["well"] and "does not answer" in info["reason"]


def _tasks(path):
    return yaml.safe_load((Path(__file__).parents[5] / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("playbook", ["site", "upgrade"])
def test_servers_that_are_not_up_are_brought_in_order_before_the_others(playbook):
    """A rerun was refused for the server that the run before had left, and never got to it."""
    names = [play["name"] for play in _tasks(f"playbooks/{playbook}.yml")]
    order = ["See how the servers are", "Bring the servers in order that are not up, one at a time"]
    order += ["Save the cluster's data", "Upgrade the servers, one at a time"] if playbook == "upgrade" else ["Join the servers, one at a time"]
    assert [name for name in names if name in order] == order
    attempt = _tasks("roles/control_plane/tasks/attempt.yml")[0]["cht.k3s.k3s_join"]
    assert "__k3s_repaired" in attempt["repaired"] and "__control_plane_keep_release" in attempt["keep_release"]


def test_a_snapshot_is_made_where_the_server_is_well():
    tasks = {task["name"]: task for task in _tasks("roles/k3s/tasks/snapshot.yml")}
    assert "well" in tasks["Ask the servers for one that is well"]["loop_control"]["break_when"][0]
    assert "__k3s_well" in tasks["Save etcd"]["delegate_to"] and "healthy" not in str(tasks)


def test_nothing_is_removed_or_upgraded_whose_node_is_not_found():
    names = [task["name"] for task in _tasks("roles/k3s/tasks/remove.yml")]
    assert names.index("Refuse to wipe a server whose Node is not found") < names.index("Empty the node and wait until its volumes are elsewhere")
    for role in ("control_plane", "agent"):
        tasks = {task["name"]: task for task in _tasks(f"roles/{role}/tasks/upgrade.yml")}
        refused, drained = tasks["Refuse a machine whose Node is not found"], tasks["Empty the node"]
        assert "not __k3s_node.found" in refused["when"] and set(refused["when"][1:]) <= set(drained["when"])
        assert list(tasks).index(refused["name"]) < list(tasks).index(drained["name"])


# -- data of k3s on a disk of its own ---------------------------------------------------------------


@pytest.mark.parametrize(("mount", "fstab"), [
    ("/dev/sdb /var/lib/rancher/k3s xfs", ""), ("/dev/sdb /var/lib/rancher/k3s/server/db ext4", ""), ("pool/db /var/lib/rancher/k3s/server/db/etcd zfs", ""),
    ("tmpfs /var/lib/rancher/k3s/server/db tmpfs", "tmpfs /var/lib/rancher/k3s/server/db tmpfs size=1g 0 0"),
    ("/dev/sdb /var/lib/kubelet xfs", ""),
])
def test_a_disk_for_k3s_is_emptied_and_stays_mounted(system, mount, fstab):
    path = mount.split()[1]
    system.put("/etc/fstab", f"# comment\n{fstab}\n")
    system.put("/proc/self/mounts", f"/dev/sda1 / ext4 rw 0 0\n{mount} rw 0 0\noverlay /run/k3s/x/rootfs overlay rw 0 0\n")
    for name in ("/etc/systemd/system/k3s.service", path + "/deep/data", "/var/lib/rancher/k3s/server/token", "/var/lib/rancher/k3s/server/db/etcd/name"):
        system.put(name)
    unmounted = []
    plain = system.run

    def run(argv, timeout=60, env=None):
        if argv[0] == "umount":
            unmounted.append(argv[-1])
            system.put("/proc/self/mounts", "".join(line + "\n" for line in system.read("/proc/self/mounts").splitlines() if argv[-1] not in line))
            return Result(0, "", "")
        return plain(argv, timeout, env)

    system.run = run
    assert Remover(system, "/usr/local/bin/k3s").absent()["changed"]
    assert unmounted == ["/run/k3s/x/rootfs"] and system.exists(path) and system.listdir(path) == []
    assert [name for tree in ("/var/lib/rancher/k3s", "/var/lib/kubelet") for dummy, more, names in os.walk(system.path(tree)) for name in names] == []
    assert not Remover(system, "/usr/local/bin/k3s").absent()["changed"]


@pytest.mark.parametrize("disk", [DB, DB + "/etcd"])
def test_data_on_a_disk_of_its_own_is_moved_aside_on_it(stopped_server, disk):
    stopped_server.put("/proc/self/mounts", f"/dev/sdb {disk} ext4 rw 0 0\n")
    stopped_server.put(DB + "/etcd/member/wal/0.wal", "former")
    stopped_server.put(DB + "/etcd/name", "cp-1")
    stopped_server.put(disk + "/lost+found/x")
    moved = Restorer(stopped_server, "/usr/local/bin/k3s").clear()["moved_to"]
    assert moved.startswith(DB + "/db-old-") and not state.has_datastore(stopped_server) and not stopped_server.exists(state.ETCD_NAME)
    aside = os.path.basename(moved)
    kept = f"{DB}/{aside}/etcd/member" if disk == DB else f"{DB}/etcd/{aside}/member"
    assert stopped_server.read(kept + "/wal/0.wal") == "former" and stopped_server.exists(disk + "/lost+found/x")
    if disk != DB:
        with pytest.raises(NodeError, match="is a mount point.*Mount the disk at"):
            Restorer(stopped_server, "/usr/local/bin/k3s").reset(SNAPSHOT, "word", {}, 10)
        assert not stopped_server.given


@pytest.mark.parametrize(("key", "value"), [
    ("data-dir", "/srv/k3s"), ("datastore-endpoint", "mysql://db"), ("write-kubeconfig", "/srv/k"), ("https-listen-port", 7443), ("with-node-id", True),
    ("agent-token", "x"), ("agent-token-file", "/x"),
])
def test_settings_that_make_the_guards_blind_are_refused(key, value):
    assert f"'{key}' cannot be set here" in flags.check({key: value}, "server", "v1.34.4+k3s1")[0]


def test_their_usual_values_are_not():
    usual = {"data-dir": "/var/lib/rancher/k3s", "write-kubeconfig": "/etc/rancher/k3s/k3s.yaml", "https-listen-port": 6443, "with-node-id": False}
    assert flags.check(usual, "server", "v1.34.4+k3s1") == []


def test_a_restore_from_a_relative_place_is_refused_first():
    """Servers were stopped before its copy failed: Ansible looks for a relative one below the role."""
    tasks = next(play["tasks"] for play in _tasks("playbooks/restore.yml") if "tasks" in play)
    assert "k3s_restore_from | default('/') is abs" in [task.get("ansible.builtin.assert", {}).get("that") for task in tasks[:2]]


@pytest.mark.parametrize(("url", "names", "found"), [
    ("https://198.18.0.11:6443", ["198.18.0.11", "k"], ["198.18.0.11", "k"]), ("https://[2001:DB8::1]:6443", ["2001:db8::1"], ["2001:db8::1"]),
    ("https://cp-1.example.org:6443", ["k"], ["k", "cp-1.example.org"]), ("https://cp-1.example.org:6443", ["cp-1.example.org"], ["cp-1.example.org"]),
    ("https://cp-1:6443", ["k"], ["k"]), ("", ["k"], ["k"]),
])
def test_a_server_is_certified_for_the_name_that_others_reach_it_by(url, names, found):
    """An address that is there already changes nothing: a server would be restarted for it."""
    assert settings.server_config({}, {}, {"tls_san": names, "url": url})["tls-san"] == found


def test_old_snapshots_of_a_name_go_and_others_stay(system, monkeypatch):
    folder = "/var/lib/rancher/k3s/server/db/snapshots/"
    old = [f"on-demand-cp-1-176384640{number}" for number in range(5)]
    others = ["before-upgrade-cp-1-1763846400", "etcd-snapshot-cp-1-1763846400", "on-demandish-cp-1-1763846400"]
    for name in old + others:
        system.put(folder + name)
    assert snapshots.prune(system, "/usr/local/bin/k3s", "on-demand", 3, 10, check_mode=True) == old[:2]
    monkeypatch.setattr(system, "run", lambda argv, timeout=60, env=None: Result(1, "", "no such command"))
    with pytest.raises(NodeError, match="Old snapshots were not deleted.*no such command.*on-demand-cp-1-1763846400"):
        snapshots.prune(system, "/usr/local/bin/k3s", "on-demand", 3, 10)

    def run(argv, timeout=60, env=None):
        for name in argv[3:] if argv[1:3] == ["etcd-snapshot", "delete"] else []:
            system.remove(folder + name)
        return Result(0, "", "")

    monkeypatch.setattr(system, "run", run)
    assert snapshots.prune(system, "/usr/local/bin/k3s", "on-demand", 3, 10) == old[:2]
    assert system.listdir(folder) == sorted(old[2:] + others)
    assert snapshots.prune(system, "/usr/local/bin/k3s", "on-demand", 3, 10) == []
    assert snapshots.prune(system, "/usr/local/bin/k3s", "before-upgrade", 0, 10) == [], "the newest always stays"


def test_a_nodes_name_is_that_which_k3s_registers(monkeypatch):
    """k3s writes names in lower case, and a join that waited for another one never ended."""
    assert [settings.node_name(name) for name in ("AGENT-1", "Agent-1.Example.org.", " a ", "", None)] == ["agent-1", "agent-1.example.org", "a", "", ""]
    assert settings.common_config({"name": "AGENT-1"})["node-name"] == "agent-1"

    class Machine:
        """One whose host name and settings are in capitals."""

        text = ""

        def read(self, dummy):
            return self.text

        def hostname(self):
            return "HOST-1"

    machine = Machine()
    assert (state.node_name(machine), state.node_name(machine, "AGENT-1")) == ("host-1", "agent-1")
    machine.text = "node-name: AGENT-1\n"
    assert state.node_name(machine) == "agent-1"

    nodes = [{"metadata": {"name": "agent-1"}}]
    monkeypatch.setattr(find_module.state, "server_api", lambda *dummy, **more: FakeNodes(nodes))
    assert find_module.find_node(machine, "AGENT-1", "", "", "x")["found"] and find(nodes, "", "", "AGENT-1.") == ("agent-1", True)
    assert expected_nodes(["a"], {"a": {"k3s_node_name": "AGENT-1"}})[0]["name"] == "agent-1"


class FakeNodes:
    """An API with these nodes."""

    def __init__(self, nodes):
        self.nodes = lambda: nodes

    def close(self):
        pass


@pytest.mark.parametrize(("text", "wanted", "moved"), [
    ("node-ip: 192.0.2.11\n", "192.0.2.11", False), ("node-ip: 192.0.2.11\n", ["192.0.2.11"], False),
    ("node-ip: 192.0.2.11\n", "192.0.2.10", True), ("node-ip: 192.0.2.11\n", None, True),
    ("node-ip: 192.0.2.11,fd00::11\n", "192.0.2.11", True), ("node-ip:\n- 192.0.2.11\n", "192.0.2.11", False),
    # One that was begun without, as by hand: what it has is not known here.
    ("disable: traefik\n", "192.0.2.11", False), (None, "192.0.2.11", False),
])
def test_a_members_address_is_not_changed(text, wanted, moved):
    problem = flags.address_problem(text, {"node-ip": wanted})
    assert bool(problem) is moved and (not moved or "node-ip is 192.0.2.11" in problem)
