# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in's parts that need neither root nor programs."""
from __future__ import annotations

import hashlib
import json
import re
import time

import pytest
from standin import agent, config, control, faults, flags, loadbalancer, log, miniyaml, network, nodepassword, runtime, snapshot, stamp, token
from standin.log import Fatal


# -- configuration

def test_yaml_as_the_product_writes_it():
    text = """---
# managed
cluster-init: true
write-kubeconfig-mode: "0600"
bare: 0600
token: 'it''s'
tls-san:
  - a.b
  - "c: d"
kubelet-arg:
- cloud-provider=external
- "node-labels=a=b,c=d"
disable: [local-storage, "x"]
empty: []
nested:
  docker.io:
    endpoint:
      - "http://198.18.0.2:5000"
  "*": {endpoint: [https://x:1]}
text: |
  a
   b
url: https://1.2.3.4:6443   # comment
"""
    assert miniyaml.load(text) == {
        "cluster-init": True, "write-kubeconfig-mode": "0600", "bare": 384, "token": "it's", "tls-san": ["a.b", "c: d"],
        "kubelet-arg": ["cloud-provider=external", "node-labels=a=b,c=d"], "disable": ["local-storage", "x"], "empty": [],
        "nested": {"docker.io": {"endpoint": ["http://198.18.0.2:5000"]}, "*": {"endpoint": ["https://x:1"]}}, "text": "a\n b\n",
        "url": "https://1.2.3.4:6443"}


@pytest.mark.parametrize("text", ["a: [b", "a: 'b", "a: b\na: c", "a: b: c", "\tx: y", "a: b\n  c: d"])
def test_broken_yaml_is_refused(text):
    with pytest.raises(miniyaml.YamlError):
        miniyaml.load(text)


def options(tmp_path, arguments=(), kind="server", **files):
    for name, text in files.items():
        place = tmp_path / ("config.yaml" if name == "main" else f"config.yaml.d/{name}.yaml")
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return config.load(flags.SERVER if kind == "server" else flags.AGENT, [f"--config={tmp_path}/config.yaml", *arguments])


def test_no_file_is_no_error(tmp_path):
    assert options(tmp_path)["https-listen-port"] == 6443


def test_drop_ins_in_name_order_last_wins_and_plus_appends(tmp_path):
    found = options(tmp_path, main="tls-san: [a]\nnode-name: x\nlog: y\n", **{"10-b": "tls-san+: [b]\nnode-name: z\n", "20-c": "tls-san+: [c]\n"})
    assert found["tls-san"] == ["a", "b", "c"]
    assert found["node-name"] == "z"


def test_later_file_without_plus_replaces(tmp_path):
    assert options(tmp_path, main="tls-san: [a]\n", **{"10-b": "tls-san: [b]\n"})["tls-san"] == ["b"]


def test_command_line_beats_file_beats_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("K3S_TOKEN", "env")
    monkeypatch.setenv("K3S_NODE_NAME", "env")
    monkeypatch.setenv("K3S_URL", "https://env:6443")
    found = options(tmp_path, ["--node-name", "line"], main="token: file\nnode-name: file\n")
    assert (found["node-name"], found["token"], found["server"]) == ("line", "file", "https://env:6443")


def test_unknown_key_is_warned_about(tmp_path, capsys):
    options(tmp_path, main="tls-sans: [a]\n")
    assert 'level=warning msg="Unknown flag --tls-sans found in config.yaml, skipping\\n"' in capsys.readouterr().err


def test_a_key_of_servers_ends_an_agent(tmp_path):
    """Only servers and etcd-snapshot sort unknown keys out before the arguments are read."""
    with pytest.raises(Fatal, match="flag provided but not defined: -cluster-init"):
        options(tmp_path, kind="agent", main="cluster-init: true\n")


@pytest.mark.parametrize(("arguments", "text"), [
    (["--nope"], "flag provided but not defined: -nope"), (["--node-name"], "flag needs an argument: -node-name"),
    (["--debug=maybe"], "invalid boolean value"), (["--https-listen-port=x"], "invalid value"),
])
def test_bad_arguments(tmp_path, arguments, text):
    with pytest.raises(Fatal, match=text):
        options(tmp_path, arguments)


def test_every_flag_of_the_facts_is_known():
    names = """config debug v vmodule log alsologtostderr data-dir bind-address https-listen-port advertise-address advertise-port tls-san cluster-cidr
        service-cidr service-node-port-range cluster-dns cluster-domain flannel-backend flannel-ipv6-masq flannel-external-ip egress-selector-mode
        servicelb-namespace write-kubeconfig write-kubeconfig-mode token token-file agent-token agent-token-file server cluster-init cluster-reset
        cluster-reset-restore-path kube-apiserver-arg etcd-arg kube-controller-manager-arg kube-scheduler-arg kube-cloud-controller-manager-arg
        datastore-endpoint etcd-expose-metrics etcd-disable-snapshots etcd-snapshot-name etcd-snapshot-schedule-cron etcd-snapshot-retention
        etcd-snapshot-dir etcd-snapshot-compress etcd-s3 etcd-s3-endpoint etcd-s3-bucket disable disable-scheduler disable-cloud-controller
        disable-kube-proxy disable-network-policy disable-helm-controller secrets-encryption system-default-registry node-name with-node-id node-label
        node-taint selinux lb-server-port protect-kernel-defaults pause-image snapshotter private-registry node-ip node-external-ip resolv-conf
        flannel-iface kubelet-arg kube-proxy-arg docker prefer-bundled-bin embedded-registry supervisor-metrics tls-san-security""".split()
    assert [name for name in names if name not in flags.SERVER] == []


# -- tokens

PEM = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_token_forms():
    digest = hashlib.sha256(PEM).hexdigest()
    assert token.secure(PEM, "server", "pw") == f"K10{digest}::server:pw"
    assert token.parse(f"K10{digest}::server:pw", "node") == token.Token("server", "pw", digest)
    assert token.parse("pw", "node") == token.Token("node", "pw")
    # Only K10 begins a secure one; its hash may be left out, and the colons with it.
    assert token.parse("K1pw", "node") == token.Token("node", "K1pw")
    assert token.parse("K10::server:pw", "node") == token.parse("K10server:pw", "node") == token.Token("server", "pw")
    assert token.parse("abcdef.0123456789abcdef", "node").user == "bootstrap"
    token.check_hash(token.parse(f"K10{digest}::server:pw", "node"), PEM)


@pytest.mark.parametrize(("text", "message"), [
    ("", "token must not be empty"), ("K10abc::server:x", "invalid token CA hash length"), ("K10" + "a" * 64, "invalid token format"),
    ("K10" + "a" * 64 + "::nothing", "invalid token format"),
])
def test_bad_tokens(text, message):
    with pytest.raises(token.TokenError, match=message):
        token.parse(text, "server")


def test_a_token_file_goes_before_a_token_and_is_awaited_for_four_minutes(tmp_path, monkeypatch, capfd):
    """pkg/cli/server/server.go, run; pkg/util/file.go, ReadFile."""
    clock = [0.0]
    monkeypatch.setattr(agent.time, "monotonic", lambda: clock[0])
    place, late = tmp_path / "token", []

    def sleep(seconds):
        clock[0] += seconds
        if late and clock[0] >= 60:
            place.write_text("from-the-file\n", encoding="utf-8")

    monkeypatch.setattr(agent.time, "sleep", sleep)
    for release, waiting, why in (
        ("v1.35.1+k3s1", f"Waiting for {place} to be available\\n", "Timeout while trying to read the file"),
        ("v1.36.0+k3s1", f'Waiting for file \\"{place}\\" to be created\\n', "context deadline exceeded"),
    ):
        monkeypatch.setattr(stamp, "VERSION", release)
        clock[0] = 0.0
        with pytest.raises(Fatal, match=why):
            agent.wait_token_file(options(tmp_path, [f"--token-file={place}", "--token=beside"]))
        assert 240 <= clock[0] < 244 and waiting in capfd.readouterr().err
    late.append(True)
    clock[0] = 0.0
    assert agent.wait_token_file(options(tmp_path, [f"--agent-token-file={place}", "--token=other"]), "agent-token") == "from-the-file"
    assert agent.wait_token_file(options(tmp_path, ["--token= beside "])) == "beside" and agent.wait_token_file(options(tmp_path)) == ""


def test_an_agent_goes_on_with_a_token_or_a_url_that_cannot_be_right(tmp_path, monkeypatch, capfd):
    """pkg/agent/run.go, createProxyAndValidateToken: nothing there ends it."""
    tries = []

    def sleep(seconds):
        tries.append(seconds)
        if len(tries) == 3:
            raise StopIteration

    monkeypatch.setattr(agent.time, "sleep", sleep)
    for url, given, why in (("https://h:6443", "K10abc::x", "invalid token CA hash length"), ("http://h:6443", "x", "invalid scheme: http://h:6443")):
        tries.clear()
        with pytest.raises(StopIteration):
            agent.Agent(options(tmp_path, [f"--server={url}", f"--token={given}", f"--data-dir={tmp_path}", "--node-ip=198.18.0.11"], "agent")).connect()
        said = capfd.readouterr().err
        assert said.count(f"level=error msg=\"Failed to validate connection to cluster at {url}: ") == 3 and why in said


@pytest.mark.parametrize(("cluster", "service", "ip", "why"), [
    ("fd00::/48", "10.43.0.0/16", "198.18.0.11", r"cluster-cidr: \[fd00::/48\] and service-cidr: \[10.43.0.0/16\], must share the same IP version"),
    ("10.42.0.0/16", "10.43.0.0/16", "fd00::1", r"cluster-cidr: \[10.42.0.0/16\] and node-ip: \[fd00::1\], must share the same IP version"),
    ("x", "10.43.0.0/16", "198.18.0.11", "invalid cluster-cidr x"),
])
def test_address_families_of_ranges_and_address(cluster, service, ip, why):
    network.check_families("10.42.0.0/16", "10.43.0.0/16", "198.18.0.11")
    with pytest.raises(Fatal, match=why):
        network.check_families(cluster, service, ip)


def test_hash_mismatch():
    with pytest.raises(token.TokenError, match="token CA hash does not match the Cluster CA certificate hash: a{64} != "):
        token.check_hash(token.Token("server", "x", "a" * 64), PEM)


def test_node_password_hash():
    stored = nodepassword.make_hash("secret")
    assert nodepassword.matches("secret", stored)
    assert not nodepassword.matches("other", stored)
    assert not nodepassword.matches("secret", "nonsense")


# -- component arguments, log lines

def test_component_arguments():
    merged = control.merge({"a": "1", "b": "x"}, ["a=2", "b+=y", "b-=w", "c=3", "c=4", "--d=5"])
    assert sorted(merged) == ["--a=2", "--b=w,x,y", "--c=3", "--c=4", "--d=5"]


def test_log_line_form():
    assert log.line("info", "k3s is up", 0) == 'time="1970-01-01T00:00:00Z" level=info msg="k3s is up"'
    assert log.line("fatal", 'Get "x"\n', 0).endswith('msg="Get \\"x\\"\\n"')
    assert log.line("info", "word", 0).endswith("msg=word")


# -- registries, snapshots, balancer

def test_hosts_toml():
    config_data = {"configs": {"r.example:5000": {"tls": {"ca_file": "/ca.pem", "insecure_skip_verify": True}}}}
    text = runtime.hosts_toml("docker.io", ["https://r.example:5000", "http://m.example/v2/proxy"], {"^rancher/(.*)": "x/$1"}, config_data)
    assert text.startswith('server = "https://registry-1.docker.io/v2"\n')
    assert '[host."https://r.example:5000/v2"]' in text and '[host."http://m.example/v2/proxy"]' in text
    assert 'ca = "/ca.pem"' in text and "skip_verify = true" in text and '"^rancher/(.*)" = "x/$1"' in text


def test_registries_of_an_earlier_start_go(tmp_path):
    runtime.write_hosts(tmp_path, {"mirrors": {"docker.io": {"endpoint": ["http://a"]}, "*": {"endpoint": ["http://b"]}}})
    root = tmp_path / "etc/containerd/certs.d"
    assert sorted(item.name for item in root.iterdir()) == ["_default", "docker.io"]
    runtime.write_hosts(tmp_path, {"mirrors": {"docker.io": {"endpoint": ["http://a"]}}})
    assert [item.name for item in root.iterdir()] == ["docker.io"]


@pytest.mark.parametrize(("cron", "when", "due"), [
    ("0 */12 * * *", "2026-11-22 12:00", True), ("0 */12 * * *", "2026-11-22 13:00", False), ("*/5 * * * *", "2026-11-22 13:10", True),
    ("30 2 * * 0", "2026-11-22 02:30", True), ("30 2 * * 1-5", "2026-11-22 02:30", False), ("nonsense", "2026-11-22 02:30", False),
])
def test_cron(cron, when, due):
    assert snapshot.cron_due(cron, time.strptime(when, "%Y-%m-%d %H:%M")) is due


def test_balancer_reads_endpoints():
    endpoints = [{"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 6443}]}]}]
    assert loadbalancer.addresses(endpoints) == ["1.1.1.1:6443", "1.1.1.2:6443"]


# -- faults that are made on purpose

def test_only_the_next_start_of_an_agent_is_late(tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(faults, "FILE", tmp_path / "faults.json")
    monkeypatch.setattr(faults.time, "sleep", slept.append)
    faults.late()
    faults.FILE.write_text('{"late": 240}', encoding="utf-8")
    faults.late()
    faults.late()
    assert slept == [240.0]


def test_a_line_of_a_component():
    assert re.match(r"^E\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ x$", faults.klog("x", "E"))


# -- the pod network

def test_what_flannel_gives_goes_to_the_bridge_plugin(tmp_path):
    given = network.subnet_env("FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
    network.write_cni(tmp_path, "10.42.0.0/16", "10.42.3.0/24", given)
    place = tmp_path / "etc/cni/net.d/10-flannel.conflist"
    bridge = json.loads(place.read_text(encoding="utf-8"))["plugins"][0]
    # flannel masquerades itself, and the frame of VXLAN has to fit beside the packet.
    assert (bridge["type"], bridge["bridge"], bridge["mtu"], bridge["ipMasq"]) == ("bridge", "cni0", 1450, False)
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.42.3.0/24"}]] and bridge["ipam"]["routes"] == [{"dst": "10.42.0.0/16"}]
    place.touch()
    before = place.stat().st_mtime_ns
    network.write_cni(tmp_path, "10.42.0.0/16", "10.42.3.0/24", given)
    assert place.stat().st_mtime_ns == before, "what is there already is not written again"


def test_a_backend_that_the_lab_lacks_is_refused():
    class Agent:
        config = {"flannel-backend": "wireguard-native"}
    with pytest.raises(Fatal, match="has no backend wireguard-native"):
        network.start_flannel(Agent(), "10.42.0.0/24")
