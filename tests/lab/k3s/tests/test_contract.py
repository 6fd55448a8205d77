# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract, on real etcd and API server: one cluster that grows from one to three servers, in the order of the file."""
from __future__ import annotations

import json
import re
import subprocess
import time

import pytest
from cht_lab import tools

KUBERNETES = tools.TOOLS["kubernetes"].version
TOKEN = "a-long-secret-of-the-cluster"
BASE = f"""token: {TOKEN}
cluster-cidr: 198.19.0.0/17
service-cidr: 198.19.128.0/17
disable-agent: true
disable-scheduler: true
disable-controller-manager: true
disable: [traefik, coredns, local-storage]
etcd-disable-snapshots: true
"""
API = "https://127.0.0.1:6443"


def settings(host, *lines, base=BASE):
    host.config(base + "".join(f"{line}\n" for line in [f"node-ip: {host.ip}", *lines]))


@pytest.fixture(scope="module")
def one(make_host):
    host = make_host("one")
    settings(host, "cluster-init: true", "no-such-key: 1", "tls-san: [extra.example]")
    host.daemon = host.start("server")
    host.daemon.wait_ready()
    return host


@pytest.fixture(scope="module")
def two(make_host, one):
    return make_host("two")


@pytest.fixture(scope="module")
def three(make_host, one):
    return make_host("three")


def joiner(two, one, *lines, base=BASE):
    two.wipe()
    settings(two, f"server: https://{one.ip}:6443", *lines, base=base)


def token_file(host):
    return host.sh("cat /var/lib/rancher/k3s/server/token").strip()


# -- commands, flags, files

def test_version(one):
    first, second = one.k3s("--version").splitlines()
    assert re.match(rf"^{re.escape(one.binary.name)} version v1\.\d+\.\d+\+k3s\d+ \([0-9a-f]{{8}}\)$", first)
    assert second.startswith("go version go")


def test_version_names_the_file_that_was_called(one):
    one.sh(f"cp {one.binary} /run/.k3s-a1b2c3d4")
    assert one.sh("/run/.k3s-a1b2c3d4 --version").startswith(".k3s-a1b2c3d4 version v1.")


def test_unknown_flag_is_refused(make_host, one):
    code, text = one.code(str(one.binary), "server", "--no-such-flag")
    assert code == 1
    assert "flag provided but not defined: -no-such-flag" in text


def test_unknown_key_is_warned_about(one):
    assert 'level=warning msg="Unknown flag --no-such-key found in config.yaml, skipping\\n"' in one.daemon.log()


def test_an_agent_ends_with_a_key_that_it_does_not_know(one, two):
    """Only servers and etcd-snapshot sort unknown keys out."""
    two.wipe()
    two.config(f"server: https://{one.ip}:6443\ntoken: {TOKEN}\nnode-ip: {two.ip}\ncluster-cidr: 198.19.0.0/17\n")
    assert "flag provided but not defined: -cluster-cidr" in two.refused("agent")


def test_first_server_milestones(one):
    log = one.daemon.log()
    places = [log.index(text) for text in ("Managed etcd cluster initializing", "Connection to etcd is ready", "Kube API server is now running",
                                           "k3s is up and running")]
    assert places == sorted(places)
    assert re.search(r'^time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ" level=info msg="k3s is up and running"$', log, re.M)


def test_token_files(one):
    secure = token_file(one)
    assert re.match(r"^K10[0-9a-f]{64}::server:" + TOKEN + "$", secure)
    digest = one.sh("sha256sum < /var/lib/rancher/k3s/server/tls/server-ca.crt").split()[0]
    assert secure[3:67] == digest
    assert one.sh("stat -c %a /var/lib/rancher/k3s/server/token").strip() == "600"
    assert one.sh("readlink -f /var/lib/rancher/k3s/server/node-token").strip() == "/var/lib/rancher/k3s/server/token"


def test_kubeconfig(one):
    assert one.sh("stat -c %a /etc/rancher/k3s/k3s.yaml").strip() == "600"
    text = one.sh("cat /etc/rancher/k3s/k3s.yaml")
    assert f"server: {API}" in text and "client-certificate-data:" in text
    assert one.k3s("kubectl", "get", "--raw", "/readyz") == "ok"


def test_version_of_the_server(one):
    assert json.loads(one.k3s("kubectl", "get", "--raw", "/version"))["gitVersion"] in one.k3s("--version")


def test_anonymous_gets_nothing(one):
    assert "401" in one.sh(f"curl -sk -o /dev/null -w '%{{http_code}}' {API}/readyz")


def test_serving_certificate_names(one):
    text = one.sh("openssl x509 -noout -ext subjectAltName -in /var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt")
    for name in ("extra.example", one.ip, "127.0.0.1", "kubernetes.default.svc.cluster.local", "198.19.128.1"):
        assert name in text


def test_crds_and_addons(one):
    deadline = time.monotonic() + 40
    while True:
        crds, addons = one.k3s("kubectl", "get", "crd", "-o", "name"), one.code(str(one.binary), "kubectl", "get", "addons", "-A", "-o", "name")[1]
        if "rolebindings" in addons or time.monotonic() > deadline:
            break
        time.sleep(1)
    for name in ("addons.k3s.cattle.io", "etcdsnapshotfiles.k3s.cattle.io", "helmcharts.helm.cattle.io", "helmchartconfigs.helm.cattle.io"):
        assert name in crds
    assert "addon.k3s.cattle.io/rolebindings" in addons
    assert "traefik" not in addons


def test_own_manifest_is_applied_again_after_change(one):
    place = "/var/lib/rancher/k3s/server/manifests/mine.yaml"
    for value in ("one", "two"):
        one.write(place, f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mine, namespace: default}}\ndata: {{key: {value}}}\n")
        for _attempt in range(40):
            code, text = one.code(str(one.binary), "kubectl", "get", "configmap", "mine", "-o", "jsonpath={.data.key}")
            if code == 0 and text == value:
                break
            time.sleep(1)
        else:
            raise AssertionError(text)


def test_members_on_loopback_need_no_credentials(one):
    members = json.loads(one.sh(f"curl -sk {API}/db/info"))["members"]
    assert [member.get("isLearner") for member in members] == [None]
    assert members[0]["name"].startswith("one-") and members[0]["peerURLs"] == [f"https://{one.ip}:2380"]


def test_the_supervisor_and_the_api_share_a_port(one):
    code = "curl -sk -o /dev/null -w '%{http_code}' "
    assert one.sh(f"{code} {API}/ping").endswith("200") and one.sh(f"{code} {API}/v1-k3s/config")[-3:] in ("401", "403")
    assert one.sh(f"{code} -u node:{TOKEN} {API}/v1-k3s/readyz").endswith("200") and one.sh(f"{code} -u node:wrong {API}/v1-k3s/readyz").endswith("401")


def test_a_second_server_process_shares_the_port_and_finds_the_data_locked(one):
    log = one.refused("server")
    assert log.index("k3s is up and running") < log.index("file already locked")
    assert one.k3s("kubectl", "get", "--raw", "/readyz") == "ok"


def test_another_program_on_the_port(two):
    two.wipe()
    settings(two, "cluster-init: true")
    holder = two.enter("python3", "-c", "import socket, time; s = socket.socket(); s.bind(('0.0.0.0', 6443)); s.listen(); time.sleep(120)")
    with subprocess.Popen(holder) as process:
        two.sh("for try in 1 2 3 4 5 6 7 8 9 10; do ss -ltn | grep -q :6443 && exit 0; sleep 0.3; done; exit 1")
        log = two.refused("server")
        two.clear()
        process.wait(10)
    assert "level=fatal" in log and "listen tcp :6443: bind: address already in use" in log


# -- what a joining server is refused for

def test_join_wrong_token(one, two):
    joiner(two, one, base=BASE.replace(TOKEN, "wrong"))
    log = two.refused("server")
    assert 'level=warning msg="Skipping cluster configuration validation: not authorized"' in log
    assert re.search(r"level=fatal .*failed to bootstrap cluster data: .*not authorized", log)
    assert "Failed to authenticate request from" in one.daemon.wait_line("invalid username/password combination")


def test_join_wrong_ca_hash(one, two):
    joiner(two, one, base=BASE.replace(TOKEN, f"K10{'0' * 64}::server:{TOKEN}"))
    log = two.refused("server")
    assert "failed to validate token: token CA hash does not match the Cluster CA certificate hash: " + "0" * 64 + " != " in log


@pytest.mark.parametrize(("token", "text"), [
    ("K10abc::server:x", "invalid token CA hash length"),
    ("K10" + "0" * 64, "invalid token format"),
])
def test_join_malformed_token(one, two, token, text):
    joiner(two, one, base=BASE.replace(TOKEN, token))
    assert text in two.refused("server")


def uid(host):
    return host.k3s("kubectl", "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")


def test_a_join_url_without_a_token_is_no_join(one, two):
    joiner(two, one, base=BASE.replace(f"token: {TOKEN}\n", ""))
    two.start("server").wait_ready()
    assert two.sh("ls /var/lib/rancher/k3s/server/db") == "state.db\nstate.db-shm\nstate.db-wal\n" and uid(two) != uid(one)
    # What it made for itself is there at the next start, and is no token to join with either.
    two.stop()
    two.sh("rm -rf /var/lib/rancher/k3s/server/db")
    two.start("server").wait_ready()
    assert two.sh("ls /var/lib/rancher/k3s/server/token /var/lib/rancher/k3s/server/db/state.db") and uid(two) != uid(one)


def test_join_unreachable_server(one, two):
    two.wipe()
    settings(two, f"server: https://{two.ip}:6443")
    log = two.refused("server")
    assert f'failed to get CA certs: Get \\"https://{two.ip}:6443/cacerts\\": dial tcp {two.ip}:6443: connect: connection refused' in log


def test_join_http_scheme(one, two):
    two.wipe()
    settings(two, f"server: http://{one.ip}:6443")
    assert "only https:// URLs are supported, invalid scheme: http://" in two.refused("server")


def test_join_critical_mismatch(one, two):
    joiner(two, one, "cluster-domain: other.local", "disable-network-policy: true")
    log = two.refused("server")
    for key in ("cluster-domain", "disable-network-policy"):
        assert f'level=warning msg="critical configuration mismatched: {key}"' in log
    assert "failed to validate server configuration: critical configuration value mismatch between servers" in log


def test_join_duplicate_name(one, two):
    joiner(two, one, "node-name: one")
    assert "etcd cluster join failed: duplicate node name found, please use a unique name for this node" in two.refused("server", code=0)


def test_a_first_server_takes_no_bootstrap_token(two):
    two.wipe()
    settings(two, "cluster-init: true", base=BASE.replace(TOKEN, "abcdef.0123456789abcdef"))
    log = two.refused("server", code=0)
    assert 'level=error msg="Shutdown request received: ' in log
    assert "failed to normalize server token; must be in format K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>" in log


def test_a_first_server_takes_the_secure_form_whatever_its_hash(two):
    two.wipe()
    settings(two, "cluster-init: true", base=BASE.replace(TOKEN, f"K10{'0' * 64}::server:{TOKEN}"))
    two.start("server").wait_ready()
    assert token_file(two).endswith(f"::server:{TOKEN}") and "0" * 64 not in token_file(two)
    two.stop()


def test_address_families_must_match(two):
    two.wipe()
    settings(two, "cluster-init: true", base=BASE.replace("198.19.0.0/17", "fd00::/48"))
    assert "must share the same IP version" in two.refused("server")


def test_a_server_that_names_no_datastore_has_sqlite_which_nobody_joins(two, three):
    two.wipe()
    settings(two)
    server = two.start("server")
    server.wait_ready()
    assert two.sh("head -c 15 /var/lib/rancher/k3s/server/db/state.db") == "SQLite format 3"
    assert "etcd datastore disabled" in two.code(str(two.binary), "etcd-snapshot", "save")[1]
    before = uid(two)
    joiner(three, two)
    assert "failed to bootstrap cluster data: etcd disabled" in three.refused("server")
    two.stop()
    two.start("server").wait_ready()
    assert uid(two) == before, "its data is on the disk"


def test_its_data_moves_to_etcd_with_cluster_init(two, three):
    before = uid(two)
    two.stop()
    settings(two, "cluster-init: true")
    server = two.start("server")
    server.wait_line("Migrating content from sqlite to etcd")
    server.wait_ready()
    assert uid(two) == before
    assert two.sh("cd /var/lib/rancher/k3s/server/db; ls -d etcd state.db*").split() == ["etcd", "state.db.migrated"]
    joiner(three, two)
    three.start("server").wait_ready()
    assert uid(three) == before
    two.stop()
    # The next to use it knows nothing of this cluster.
    three.stop()
    three.wipe()


# -- agents never give up

def test_agent_wrong_token(one, two):
    two.wipe()
    two.config(f"server: https://{one.ip}:6443\ntoken: wrong\nnode-ip: {two.ip}\n")
    daemon = two.start("agent")
    daemon.wait_line("Waiting to retrieve agent configuration; server is not ready: failed to retrieve configuration from server: not authorized")
    time.sleep(3)
    assert daemon.process.poll() is None
    two.stop()


def test_agent_unreachable_server(one, two):
    two.wipe()
    two.config(f"server: https://{two.ip}:6443\ntoken: {TOKEN}\nnode-ip: {two.ip}\n")
    daemon = two.start("agent")
    daemon.wait_line(f"level=error msg=\"Failed to validate connection to cluster at https://{two.ip}:6443: failed to get CA certs")
    assert daemon.process.poll() is None
    two.stop()


def test_agent_node_password(one, two):
    """The first machine of a name fixes its password; another one is refused, and goes on asking."""
    for number in (1, 2):
        two.wipe()
        two.config(f"server: https://{one.ip}:6443\ntoken: {TOKEN}\nnode-ip: {two.ip}\nnode-name: worker\n")
        two.write("/etc/rancher/node/password", f"password-{number}")
        daemon = two.start("agent")
        if number == 1:
            daemon.wait_line("Running load balancer k3s-agent-load-balancer")
        else:
            daemon.wait_line("Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match")
            assert daemon.process.poll() is None
        two.stop()
        two.kill()
    assert "worker.node-password.k3s" in one.k3s("kubectl", "-n", "kube-system", "get", "secrets", "-o", "name")


def test_token_file_is_waited_for(one, two):
    two.wipe()
    two.config(f"server: https://{one.ip}:6443\ntoken-file: /etc/rancher/k3s/secret\nnode-ip: {two.ip}\n")
    daemon = two.start("agent")
    # From 1.36 on: `Waiting for file "PATH" to be created`.
    assert "/etc/rancher/k3s/secret" in daemon.wait_line('level=info msg="Waiting for ')
    two.write("/etc/rancher/k3s/secret", "wrong\n")
    daemon.wait_line("not authorized")
    two.stop()


# -- growth to three servers, restarts

def test_three_servers(one, two, three):
    joiner(two, one, base=BASE.replace(TOKEN, token_file(one)))
    second = two.start("server")
    second.wait_ready()
    for text in ("Managed etcd cluster not yet initialized", "Adding member two-", "Starting etcd to join cluster with members ["):
        assert text in second.log()
    assert re.search(r"Promoted learner two-[0-9a-f]{8}", one.daemon.log())
    settings(three, f"server: https://{two.ip}:6443")
    three.start("server").wait_ready()
    members = json.loads(one.sh(f"curl -sk {API}/db/info"))["members"]
    assert sorted(member["name"].rpartition("-")[0] for member in members) == ["one", "three", "two"]
    assert not any(member.get("isLearner") for member in members)
    assert token_file(three) == token_file(one)


def test_children_die_with_the_launcher(two):
    two.kill("KILL")
    time.sleep(1)
    left = two.processes()
    assert "kube-apiserver" not in left and f"k8s/{KUBERNETES}/server" not in left


def test_restart_needs_no_server_url(one, two):
    """Existing data makes cluster-init and server inert."""
    settings(two, "server: https://198.18.255.200:6443")
    daemon = two.start("server")
    daemon.wait_ready()
    assert "Managed etcd cluster bootstrap already complete and initialized" in daemon.log()


def test_changed_token_on_existing_data(one, two):
    two.stop()
    settings(two, f"server: https://{one.ip}:6443", base=BASE.replace(TOKEN, "another"))
    assert "bootstrap data already found and encrypted with different token" in two.refused("server")
    assert token_file(two).endswith(f"::server:{TOKEN}"), "a wrong token is not written down"
    settings(two, f"server: https://{one.ip}:6443")
    two.start("server").wait_ready()


@pytest.mark.standin("k3s goes on until a controller loses its lease")
def test_removed_member_rejoins_after_restart(one, two):
    members = json.loads(one.sh(f"curl -sk {API}/db/info"))["members"]
    name = next(member["name"] for member in members if member["name"].startswith("two-"))
    tls = "/var/lib/rancher/k3s/server/tls/etcd"
    root = json.loads(one.sh("cat /etc/lab-k3s/settings.json"))["bin_root"]
    etcdctl = f"{root}/{KUBERNETES}/etcdctl --endpoints=https://127.0.0.1:2379 --cacert={tls}/server-ca.crt --cert={tls}/client.crt --key={tls}/client.key"
    ident = next(line.split(",")[0] for line in one.sh(f"{etcdctl} member list").splitlines() if name in line)
    # etcd refuses a removal until every member has been connected for five seconds.
    one.sh(f"for try in 1 2 3 4 5 6; do {etcdctl} member remove {ident} && exit 0; sleep 3; done; exit 1")
    assert two.daemons[-1].wait_exit(60) == 1
    assert "has been removed from the cluster" in two.daemons[-1].log()
    assert "tombstone" in two.sh("ls /var/lib/rancher/k3s/server/db/etcd")
    daemon = two.start("server")
    daemon.wait_ready()
    assert "etcd-backup-" in two.sh("ls /var/lib/rancher/k3s/server/db")
    assert name not in one.sh(f"curl -sk {API}/db/info")


# -- snapshots, token rotation, reset

def test_snapshots(one):
    for _count in range(2):
        assert re.search(r"Snapshot on-demand-one-\d{10} saved\.", one.k3s("etcd-snapshot", "save"))
        time.sleep(1.1)
    listing = one.k3s("etcd-snapshot", "ls")
    assert listing.count("file:///var/lib/rancher/k3s/server/db/snapshots/on-demand-one-") == 2
    items = json.loads(one.sh(f"{one.binary} etcd-snapshot ls -o json 2>/dev/null"))["items"]
    assert [item["spec"]["nodeName"] for item in items] == ["one", "one"]
    assert all(re.match(r"^local-on-demand-one-\d{10}-[0-9a-f]{6}$", item["metadata"]["name"]) for item in items)
    # Their objects belong to the server's Node, and these servers have none.
    assert one.k3s("kubectl", "get", "etcdsnapshotfiles", "-o", "name") == ""
    one.k3s("etcd-snapshot", "prune", "--name", "on-demand", "--snapshot-retention", "1")
    items = json.loads(one.sh(f"{one.binary} etcd-snapshot ls -o json 2>/dev/null"))["items"]
    assert len(items) == 1
    name = items[0]["spec"]["snapshotName"]
    assert f"Snapshot {name} deleted." in one.k3s("etcd-snapshot", "delete", name)
    assert one.sh(f"{one.binary} etcd-snapshot ls 2>/dev/null").count("on-demand") == 0


def test_token_commands(one, two):
    made = one.k3s("token", "create").splitlines()[-1]
    assert re.match(r"^K10[0-9a-f]{64}::[a-z0-9]{6}\.[a-z0-9]{16}$", made)
    ident = made.split("::")[1][:6]
    assert ident in one.k3s("token", "list")
    one.k3s("token", "delete", ident)
    assert ident not in one.k3s("token", "list")


def test_cluster_reset_and_restore(one, two, three):
    one.k3s("kubectl", "create", "configmap", "kept")
    saved = re.search(r"on-demand-one-\d+", one.k3s("etcd-snapshot", "save")).group(0)
    one.k3s("kubectl", "create", "configmap", "lost")
    three.stop()
    two.stop()
    one.stop()
    settings(one, f"server: https://{two.ip}:6443")
    text = "cannot perform cluster-reset while server URL is set - remove server from configuration before resetting"
    assert text in one.refused("server", "--cluster-reset")
    settings(one)
    restore = f"--cluster-reset-restore-path=/var/lib/rancher/k3s/server/db/snapshots/{saved}"
    daemon = one.start("server", "--cluster-reset", restore)
    assert daemon.wait_exit(60) == 0, daemon.log()
    done = "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now."
    assert f'level=error msg="Shutdown request received: {done}' in daemon.log()
    assert "etcd-old-" in one.sh("ls /var/lib/rancher/k3s/server/db")
    assert re.search(r"^tls-\d+$", one.sh("ls /var/lib/rancher/k3s/server"), re.M)
    assert "https://127.0.0.1:6444" in one.sh("cat /etc/rancher/k3s/k3s.yaml")
    assert "previously reset" in one.refused("server", "--cluster-reset")
    # The flag does not stand in the way of another snapshot.
    again = one.start("server", "--cluster-reset", restore)
    assert again.wait_exit(60) == 0, again.log()
    one.start("server").wait_ready()
    assert API in one.sh("cat /etc/rancher/k3s/k3s.yaml")
    names = one.k3s("kubectl", "get", "configmap", "-o", "name")
    assert "configmap/kept" in names and "configmap/lost" not in names
    assert "reset-flag" not in one.sh("ls /var/lib/rancher/k3s/server/db")
    members = json.loads(one.sh(f"curl -sk {API}/db/info"))["members"]
    assert [member["name"].rpartition("-")[0] for member in members] == ["one"]


def test_a_reset_with_a_wrong_token_breaks_an_intact_server(one):
    """It writes the token and the passwords before it has opened the snapshot; they are newer than the datastore then."""
    one.stop()
    server = "/var/lib/rancher/k3s/server"
    saved = one.sh(f"ls {server}/db/snapshots").split()[0]
    one.sh(f"cp -a {server} /var/lib/intact")
    settings(one, base=BASE.replace(TOKEN, "wrong"))
    log = one.refused("server", "--cluster-reset", f"--cluster-reset-restore-path={server}/db/snapshots/{saved}")
    assert "bootstrap data already found and encrypted with different token" in log
    assert token_file(one).endswith("::server:wrong") and "wrong,server" in one.sh(f"cat {server}/cred/passwd")
    one.sh(f"rm -rf {server}/db && cp -a /var/lib/intact/db {server}/db")
    settings(one)
    assert f"{server}/cred/passwd newer than datastore and could cause a cluster outage. Remove the file(s) from disk" in one.refused("server")
    one.sh(f"rm -rf {server} && mv /var/lib/intact {server}")
    one.start("server").wait_ready()


def test_peer_rejoins_after_restore(one, two):
    two.sh("mv /var/lib/rancher/k3s/server/db /var/lib/rancher/k3s/server/db.old")
    settings(two, f"server: https://{one.ip}:6443")
    two.start("server").wait_ready()
    assert "configmap/kept" in two.k3s("kubectl", "get", "configmap", "-o", "name")


def test_restore_on_an_empty_host(one, two):
    """The CAs come back with the snapshot; `one` waits for its turn."""
    tls = "/var/lib/rancher/k3s/server/tls/server-ca.crt"
    authority = one.sh(f"cat {tls}")
    one.k3s("kubectl", "create", "configmap", "before-loss")
    saved = re.search(r"on-demand-one-\d+", one.k3s("etcd-snapshot", "save")).group(0)
    snapshots = "/var/lib/rancher/k3s/server/db/snapshots"
    two.stop()
    one.stop()
    one.sh(f"cp {snapshots}/{saved} /etc/kept-snapshot && rm -rf /var/lib/rancher/k3s")
    settings(one)
    # One byte is another: its sum is not that at the end of the file any more.
    one.sh("cp /etc/kept-snapshot /etc/bad-snapshot && printf x | dd of=/etc/bad-snapshot bs=1 seek=20000 conv=notrunc status=none")
    log = one.refused("server", "--cluster-reset", "--cluster-reset-restore-path=/etc/bad-snapshot")
    assert re.search(r"expected sha256 \[[0-9 ]+\], got \[[0-9 ]+\]", log)
    one.sh("rm -rf /var/lib/rancher/k3s")
    # A token-file is read, but not looked at here, as the token of a server that has one already is not.
    settings(one, "token-file: /etc/kept-token", base=BASE.replace(f"token: {TOKEN}\n", ""))
    one.write("/etc/kept-token", TOKEN)
    log = one.refused("server", "--cluster-reset", "--cluster-reset-restore-path=/etc/kept-snapshot")
    assert "/var/lib/rancher/k3s/server/token does not exist, please pass --token to complete the restoration" in log
    settings(one)
    daemon = one.start("server", "--cluster-reset", "--cluster-reset-restore-path=/etc/kept-snapshot")
    assert daemon.wait_exit(60) == 0, daemon.log()
    one.start("server").wait_ready()
    assert one.sh(f"cat {tls}") == authority
    assert "configmap/before-loss" in one.k3s("kubectl", "get", "configmap", "-o", "name")
    two.sh("rm -rf /var/lib/rancher/k3s/server/db")
    settings(two, f"server: https://{one.ip}:6443")
    two.start("server").wait_ready()


def accepts(host, password, user="node", path="/v1-k3s/readyz"):
    return host.sh(f"curl -sk -o /dev/null -w '%{{http_code}}' -u {user}:{password} {API}{path}")[-3:]


def test_token_rotate(one, two):
    """No server takes the new token before it is restarted, the one that was asked included; the old one it takes until then."""
    new = "the-new-token"
    assert accepts(one, TOKEN, "server", "/v1-k3s/token") == "405", "only PUT changes it"
    one.k3s("token", "rotate", "--token", TOKEN, "--new-token", new)
    assert token_file(one).endswith(f"::server:{new}") and f"{new},server" in one.sh("cat /var/lib/rancher/k3s/server/cred/passwd")
    assert [accepts(one, TOKEN), accepts(one, new), accepts(two, TOKEN), accepts(two, new)] == ["200", "401", "200", "401"]
    code, text = one.code(str(one.binary), "etcd-snapshot", "save", "--etcd-token", new)
    assert code == 1 and "not authorized" in text
    # Once more, as after an answer that got lost: nothing changes.
    one.k3s("token", "rotate", "--token", TOKEN, "--new-token", new)
    two.stop()
    settings(two)
    assert "bootstrap data already found and encrypted with different token" in two.refused("server")
    # Its peer is asked at the start and does not know the new token; that is passed over.
    settings(two, f"server: https://{one.ip}:6443", base=BASE.replace(TOKEN, new))
    daemon = two.start("server")
    daemon.wait_ready()
    assert daemon.log().count('level=warning msg="Unable to reconcile with remote datastore: not authorized"') == 1
    assert [accepts(two, TOKEN), accepts(two, new)] == ["401", "200"]
    one.stop()
    settings(one, f"server: https://{two.ip}:6443", base=BASE.replace(TOKEN, new))
    daemon = one.start("server")
    daemon.wait_ready()
    assert "Successfully reconciled with remote datastore" in daemon.log()
    assert [accepts(one, TOKEN), accepts(one, new)] == ["401", "200"]


# -- a cluster of its own, with encrypted secrets

@pytest.fixture(scope="module")
def four(make_host):
    host = make_host("four")
    settings(host, "cluster-init: true", "secrets-encryption: true", 'write-kubeconfig-mode: "0640"', "agent-token: for-agents-only")
    host.daemon = host.start("server")
    host.daemon.wait_ready()
    return host


def test_secrets_are_encrypted(four):
    four.k3s("kubectl", "create", "secret", "generic", "hidden", "--from-literal=key=plainly-visible")
    tls = "/var/lib/rancher/k3s/server/tls/etcd"
    root = json.loads(four.sh("cat /etc/lab-k3s/settings.json"))["bin_root"]
    etcdctl = f"{root}/{KUBERNETES}/etcdctl --endpoints=https://127.0.0.1:2379 --cacert={tls}/server-ca.crt --cert={tls}/client.crt --key={tls}/client.key"
    stored = four.sh(f"{etcdctl} get /registry/secrets/default/hidden | tr -c '[:print:]' '.'")
    assert "k8s:enc:aescbc" in stored and "plainly-visible" not in stored


def test_kubeconfig_mode_and_agent_token(four):
    assert four.sh("stat -c %a /etc/rancher/k3s/k3s.yaml").strip() == "640"
    assert four.sh("cat /var/lib/rancher/k3s/server/agent-token").strip().endswith("::node:for-agents-only")
    assert token_file(four).endswith("::server:" + TOKEN)


def test_certificates(four):
    shown = four.k3s("certificate", "check", "--output", "table")
    assert "serving-kube-apiserver.crt" in shown and "server-ca.crt" in shown
    # Also under a running server, which goes on with those that it has read.
    four.k3s("certificate", "rotate")
    assert "serving-kube-apiserver.crt" not in four.sh("ls /var/lib/rancher/k3s/server/tls").split()
    assert four.k3s("kubectl", "get", "--raw", "/readyz") == "ok"


@pytest.mark.standin("its components are processes of their own")
def test_a_component_that_ends_ends_k3s(four):
    four.sh("pkill -KILL kube-apiserver")
    assert four.daemon.wait_exit(30) == 0
    assert re.search(r'level=error msg="Shutdown request received: apiserver exited: .*"', four.daemon.log())


def test_rotated_certificates(four):
    """A running k3s is no obstacle: the leaves go, and the next start makes them."""
    show = "openssl x509 -noout -serial -in /var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt"
    four.start("server").wait_ready()
    before, ca = four.sh(show), token_file(four)[3:67]
    four.stop()
    four.k3s("certificate", "rotate")
    four.start("server").wait_ready()
    assert four.sh(show) != before
    assert token_file(four)[3:67] == ca


# -- starts that end, as the product has to see them

def last_words(host, **ends):
    host.write("/etc/lab-k3s/faults.json", json.dumps({"ends": ends}))
    daemon = host.start("server")
    return daemon


def test_a_server_may_end_after_it_was_ready(four):
    """With a cluster-cidr that is not the cluster's the real one is ready at each start, ends some seconds later, and no line is fatal."""
    four.stop()
    says = ('E1126 05:00:00.000000       1 controllermanager.go:1] "Error starting controller" err="failed to mark cidr[10.42.0.0/24] at idx [0] as occupied'
            ' for node: four: cidr 10.42.0.0/24 is out the range of cluster cidr 198.19.0.0/17" controller="node-ipam-controller"')
    daemon = last_words(four, after=2, says=says, noise=30)
    daemon.wait_ready()
    assert daemon.wait_exit(30) == 1
    assert daemon.lines[-1] == says or says in daemon.lines[-3:]
    assert "level=fatal" not in daemon.log()
    assert sum("Waiting for caches to sync" in line for line in daemon.lines) > 60


def test_a_server_may_end_before_it_is_ready(four):
    daemon = last_words(four, before=2, says="Error: kubelet exited: kubelet is configured to not run on a host using cgroup v1")
    assert daemon.wait_exit(30) == 1 and not daemon.ready.is_set()
    assert 'level=fatal msg="Error: kubelet exited: kubelet is configured to not run' in daemon.log()
    four.sh("rm /etc/lab-k3s/faults.json")
    four.start("server").wait_ready()
