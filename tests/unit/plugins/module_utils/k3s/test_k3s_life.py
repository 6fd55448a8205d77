# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adopting, rotating, fencing, firewalls: the logic, on a node below a temporary directory."""
from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from k3s_fakes import FakeApi, FakeSystem, make_node

from ansible_collections.cht.k3s.plugins.filter.adoption_report import adoption_report
from ansible_collections.cht.k3s.plugins.filter.certificate_report import certificate_report
from ansible_collections.cht.k3s.plugins.filter.kubeconfig_for_people import kubeconfig_for_people
from ansible_collections.cht.k3s.plugins.filter.node_addresses import node_addresses
from ansible_collections.cht.k3s.plugins.module_utils.k3s import adopt, certificates, settings, state
from ansible_collections.cht.k3s.plugins.module_utils.k3s.adopt import Adopter, differences
from ansible_collections.cht.k3s.plugins.module_utils.k3s.values import config_values, environment_values, exec_flags
from ansible_collections.cht.k3s.plugins.module_utils.k3s.fence import TAINT, Fencer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.files import HEADER
from ansible_collections.cht.k3s.plugins.module_utils.k3s.firewall import Firewall
from ansible_collections.cht.k3s.plugins.module_utils.k3s.node import Preparer
from ansible_collections.cht.k3s.plugins.module_utils.k3s.ports import network, open_for
from ansible_collections.cht.k3s.plugins.module_utils.k3s.rotate import OLD_TOKEN, UNSURE, Rotator
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError, Result, UnitState
from ansible_collections.cht.k3s.plugins.module_utils.k3s.unit import render_unit

UNIT = "/etc/systemd/system/k3s.service"
AGENT_UNIT = "/etc/systemd/system/k3s-agent.service"
TOKEN = "/etc/rancher/k3s/token"
CONFIG = "/etc/rancher/k3s/config.yaml"
BY_HAND = """[Service]
ExecStart=/usr/local/bin/k3s \\
    server \\
\t'--cluster-init' \\
\t'--docker' \\
\t'-t' 'a secret' \\
\t'--disable=traefik,local-storage' '--disable' 'servicelb' \\
\t'--kubelet-arg=provider-id=vsphere://420E' --kubelet-arg 'max-pods=200' \\
\t'--write-kubeconfig-mode' '0644' '--etcd-s3=false' \\

"""


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    fake = FakeSystem(tmp_path)
    fake.version = "v1.34.4+k3s1"
    fake.put("/usr/local/bin/k3s")
    return fake


@pytest.fixture
def api(monkeypatch):
    fake = FakeApi()
    fake.get = lambda path: {}
    for name in ("server_api", "agent_api"):
        monkeypatch.setattr(state, name, lambda system, timeout=5.0: fake)
    return fake


# -- adopting

def test_flags_of_a_unit_as_the_installer_writes_them():
    assert exec_flags(BY_HAND, "server") == {
        "cluster-init": True, "docker": True, "token": "a secret", "disable": ["traefik", "local-storage", "servicelb"],
        "kubelet-arg": ["provider-id=vsphere://420E", "max-pods=200"], "write-kubeconfig-mode": "0644", "etcd-s3": False,
    }


@pytest.mark.parametrize("text, message", [("ExecStart=/usr/local/bin/k3s server stray", "belongs to no flag"),
                                           ("ExecStart=/usr/local/bin/k3s server --tls-san", "has no value")])
def test_flags_that_cannot_be_read_are_refused(text, message):
    with pytest.raises(NodeError, match=message):
        exec_flags(text, "server")


def test_our_own_unit_has_no_flags():
    assert exec_flags(render_unit("agent", "/usr/local/bin/k3s"), "agent") == {}


def test_values_of_an_environment_file():
    text = "K3S_TOKEN='a b'\n# x\nNO_PROXY=\".svc,10.0.0.0/8\"\nEMPTY=\n"
    assert environment_values(text) == {"K3S_TOKEN": "a b", "NO_PROXY": ".svc,10.0.0.0/8", "EMPTY": ""}


def test_values_of_a_configuration():
    assert config_values('# x\n---\ndocker: true\ntls-san:\n  - "a"\n- b\ndisable: [x, "y"]\nnode-ip: 1.2.3.4 # why\n') == {
        "docker": True, "tls-san": ["a", "b"], "disable": ["x", "y"], "node-ip": "1.2.3.4"}
    with pytest.raises(NodeError, match="Line 2"):
        config_values("a: b\n  nested: x\n")


def test_the_unit_beats_the_file_and_the_file_the_variables(system, api):
    system.put(UNIT, BY_HAND)
    system.put("/etc/systemd/system/k3s.service.env", "K3S_TOKEN=other\nK3S_NODE_NAME=one\n")
    system.put("/etc/rancher/k3s/config.yaml", "node-name: two\ndisable: [coredns]\n")
    found = Adopter(system, "server", "/usr/local/bin/k3s", 10).settings()
    assert found["token"] == "a secret" and found["node-name"] == "two" and found["disable"] == ["traefik", "local-storage", "servicelb"]


def test_a_report_masks_and_changes_nothing(system, api):
    system.put(UNIT, BY_HAND)
    wanted = {"docker": None, "disable": ["local-storage", "traefik", "servicelb"], "tls-san": ["x"]}
    report = Adopter(system, "server", "/usr/local/bin/k3s", 10, config=wanted).report()
    assert not report["adopted"] and report["places"] == [UNIT] and report["runtime"] == "docker" and "a secret" not in str(report)
    keys = [row["key"] for row in report["differences"]]
    assert "disable" not in keys and "tls-san" not in keys and "kubelet-arg" in keys and "cluster-init" not in keys and system.read(UNIT) == BY_HAND


def test_moving_keeps_every_setting_and_the_old_files(system, api):
    system.put(UNIT, BY_HAND)
    system.put("/etc/systemd/system/k3s.service.env", "K3S_URL=https://1.2.3.4:6443\nHTTP_PROXY=http://p\n")
    system.units["k3s"] = UnitState(loaded=True, active="active", pid=7, started_at=1.0)
    api.objects["control-plane-1"] = make_node("control-plane-1")
    adopter = Adopter(system, "server", "/usr/local/bin/k3s", 10)
    before = adopter.settings()
    assert adopter.move()["changed"]
    after = Adopter(system, "server", "/usr/local/bin/k3s", 10)
    assert after.foreign() == [] and after.move() == {"changed": False}
    moved = after.settings()
    assert moved.pop("token-file") == TOKEN and system.read(TOKEN) == "a secret\n" and before.pop("token")
    assert differences(before, moved) == [] and moved["server"] == "https://1.2.3.4:6443"
    assert system.read(UNIT + ".before-adoption") == BY_HAND and system.mode(TOKEN) == 0o600
    assert system.read("/etc/systemd/system/k3s.service.env") == 'HTTP_PROXY="http://p"\n'


def test_a_node_that_does_not_come_up_gets_its_old_files_back(system, api):
    system.put(UNIT, BY_HAND)
    system.units["k3s"] = UnitState(loaded=True, active="active", pid=7, started_at=1.0)
    with pytest.raises(NodeError):
        Adopter(system, "server", "/usr/local/bin/k3s", 10).move()
    assert system.read(UNIT) == BY_HAND and not system.exists("/etc/rancher/k3s/config.yaml")


def test_a_variable_that_cannot_be_moved_is_refused(system, api):
    """It would stay, so that the node were adopted, and restarted, by every run."""
    system.put(UNIT, BY_HAND)
    system.put("/etc/systemd/system/k3s.service.env", "K3S_VPN_AUTH=x\nHTTP_PROXY=http://p\n")
    with pytest.raises(NodeError, match="sets K3S_VPN_AUTH, which this module cannot move"):
        Adopter(system, "server", "/usr/local/bin/k3s", 10).move()
    assert system.read(UNIT) == BY_HAND and not system.exists("/etc/rancher/k3s/config.yaml")


def test_data_in_another_place_is_refused(system, api):
    system.put(UNIT, "ExecStart=/usr/local/bin/k3s server --data-dir /srv/k3s")
    with pytest.raises(NodeError, match="another place"):
        Adopter(system, "server", "/usr/local/bin/k3s", 10).move()


@pytest.mark.parametrize("flag", ["--datastore-endpoint=mysql://u:word@db/k3s", "--write-kubeconfig=/srv/k", "--https-listen-port 7443", "--with-node-id"])
def test_what_cannot_be_managed_is_not_adopted(system, api, flag):
    """site.yml would refuse the setting, and without it the node would lose its data or its name."""
    unit = f"ExecStart=/usr/local/bin/k3s server {flag}"
    system.put(UNIT, unit)
    with pytest.raises(NodeError, match="settings that this collection cannot manage: .*Nothing was changed") as failure:
        Adopter(system, "server", "/usr/local/bin/k3s", 10).move()
    assert system.read(UNIT) == unit and "word" not in str(failure.value)
    report = dict(Adopter(system, "server", "/usr/local/bin/k3s", 10).report(), cluster_ids=[])
    text = "\n".join(adoption_report({"a": report}))
    assert "so this node is not adopted with it" in text and "word" not in text


def test_values_as_they_are_anyway_are_adopted(system, api):
    system.put(UNIT, "ExecStart=/usr/local/bin/k3s server --data-dir=/var/lib/rancher/k3s --https-listen-port=6443 --agent-token=for-agents")
    system.units["k3s"] = UnitState(loaded=True, active="active", pid=7, started_at=1.0)
    api.objects["control-plane-1"] = make_node("control-plane-1")
    assert Adopter(system, "server", "/usr/local/bin/k3s", 10).move()["changed"]


REGISTRIES = "/etc/rancher/k3s/registries.yaml"
LOGIN = "configs:\n  r.example.org:\n    auth: {username: u, password: hidden}\n"


def test_logins_proxy_and_drop_ins_are_reported_before_they_get_lost(system, api):
    system.put(AGENT_UNIT, "ExecStart=/usr/local/bin/k3s agent --docker")
    system.put("/etc/systemd/system/k3s-agent.service.env", "K3S_TOKEN=x\nHTTP_PROXY=http://u:hidden@p:3128\nNO_PROXY=.svc\n")
    system.put(REGISTRIES, LOGIN)
    system.put("/etc/rancher/k3s/config.yaml.d/10-more.yaml", "debug: true\n")
    report = Adopter(system, "agent", "/usr/local/bin/k3s", 10, config={"docker": True}).report({"NO_PROXY": ".svc"}, {})
    text = "\n".join(adoption_report({"a": report}))
    assert REGISTRIES in report["places"] and f"{REGISTRIES}: has mirrors or logins of its own; site.yml would set nothing (a)" in text
    assert "environment HTTP_PROXY: has http://u:********@p:3128; site.yml would set nothing (a)" in text and "NO_PROXY" not in text
    assert "config.yaml.d: has 10-more.yaml; k3s goes on reading it" in text and "hidden" not in text


def test_registries_alone_are_adopted_without_a_restart(system, api):
    system.put(AGENT_UNIT, render_unit("agent", "/usr/local/bin/k3s"))
    system.put(CONFIG, HEADER)
    system.put(REGISTRIES, LOGIN)
    adopter = Adopter(system, "agent", "/usr/local/bin/k3s", 10)
    assert adopter.move()["changed"] and not system.commands() and not adopter.move()["changed"]
    assert system.read(REGISTRIES + ".before-adoption") == LOGIN and system.read(REGISTRIES).endswith(LOGIN)
    assert yaml.safe_load(system.read(REGISTRIES)) == yaml.safe_load(LOGIN) and system.mtime(REGISTRIES) == system.clock - 100


def test_the_report_says_what_must_stay():
    result = {"adopted": False, "places": [UNIT], "runtime": "docker", "provider_id": "vsphere://1", "cluster_ids": ["moh"],
              "differences": [{"key": "tls-san", "found": None, "wanted": ["x"]}]}
    lines = adoption_report({"a": result, "b": result}, {host: {"provider_id": "vsphere://2", "runtime": "containerd", "cluster_id": "lab"} for host in "ab"})
    text = "\n".join(lines)
    assert "Set k3s_provider_id" in text and "Set k3s_container_runtime to docker" in text and "Set csi_cluster_id to moh" in text
    assert "tls-san: has nothing; site.yml would set x (a, b)" in lines


def test_a_foreign_machine_is_refused_before_it_is_prepared(system):
    system.put(AGENT_UNIT, "ExecStart=/usr/local/bin/k3s agent --docker")
    with pytest.raises(NodeError, match="adopt.yml"):
        Preparer(system).run(["overlay"], {}, True, "1G")
    assert not system.exists("/etc/modules-load.d/cht-k3s.conf")


def test_cluster_ids_of_the_storage_driver():
    class Api:
        def get(self, path):
            import base64
            return {"items": [{"data": {"csi-vsphere.conf": base64.b64encode(b'[Global]\ncluster-id = "moh-prod"\n').decode()}}, {"data": None}]}
    assert adopt._cluster_ids(Api()) == ["moh-prod"]


# -- certificates and token

@pytest.fixture
def certificate(tmp_path) -> str:
    done = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x", "-days", "100",
                           "-keyout", str(tmp_path / "key"), "-out", "/dev/stdout"], capture_output=True, text=True, check=True)
    return done.stdout


def test_dates_of_a_certificate(certificate, tmp_path):
    begins, ends = certificates.validity(certificate)
    assert ends - begins == 100 * 86400
    command = ["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601"]
    shown = subprocess.run(command, input=certificate, capture_output=True, text=True, check=False).stdout
    assert not shown or certificates._shown(ends).replace("T", " ") in shown
    for broken in ("", "nothing", certificate[:120] + "\n-----END CERTIFICATE-----"):
        with pytest.raises(ValueError):
            certificates.validity(broken)


def test_every_folder_of_certificates_is_looked_at(system, certificate):
    """As k3s 1.34 has them: two components have a folder of their own, and an authority without its chain is one too."""
    system.clock = certificates.validity(certificate)[0] + 10
    for name in ("kube-controller-manager/kube-controller-manager.crt", "kube-scheduler/kube-scheduler.crt", "client-ca.nochain.crt"):
        system.put("/var/lib/rancher/k3s/server/tls/" + name, certificate)
    found = certificates.certificates(system)
    assert sorted(entry["path"].rpartition("/")[2] for entry in found if not entry["authority"]) == ["kube-controller-manager.crt", "kube-scheduler.crt"]
    assert [entry["path"].rpartition("/")[2] for entry in found if entry["authority"]] == ["client-ca.nochain.crt"]


def test_what_is_due(system, certificate):
    system.clock = certificates.validity(certificate)[0] + 10
    for name in ("server/tls/server-ca.crt", "server/tls/client-admin.crt", "agent/client-kubelet.crt"):
        system.put("/var/lib/rancher/k3s/" + name, certificate)
    system.put("/var/lib/rancher/k3s/server/tls/empty.crt", "")
    found = certificates.certificates(system)
    assert len(found) == 3 and {entry["days"] for entry in found} == {99}
    assert len(certificates.due(found, 100)) == 2 and certificates.due(found, 99) == []
    table = certificate_report({"one": {"certificates": found}, "two": {"certificates": []}})
    assert table[0].startswith("NODE") and table[1].startswith("one     99") and "no certificate found" in table[2]


@pytest.fixture
def server(system, api) -> FakeSystem:
    system.put(UNIT, render_unit("server", "/usr/local/bin/k3s"))
    system.put(state.SERVER_TOKEN, "K10" + "a" * 64 + "::server:old\n")
    system.put("/etc/rancher/k3s/config.yaml", "token-file: /etc/rancher/k3s/token\n")
    system.put(TOKEN, "old\n")
    system.units["k3s"] = UnitState(loaded=True, active="active", pid=7, started_at=system.clock)
    api.objects["control-plane-1"] = make_node("control-plane-1")
    return system


class Supervisor:
    """k3s' part that knows passwords: it reads them when the unit starts, and writes the new one at once where it is asked to change it."""

    def __init__(self, system: FakeSystem, monkeypatch) -> None:
        self.system = system
        self.password = "old"
        self.datastore = "old"
        self.put_status = 200
        self.asked: list[tuple[str, str, str]] = []
        before = system.on_start

        def on_start():
            before()
            self.password = system.read(state.SERVER_TOKEN).strip().rpartition(":")[2]

        system.on_start = on_start
        monkeypatch.setattr(Rotator, "_ask", self.answer)

    def answer(self, verb, path, user, password, port, body=None, sent=None):
        self.asked.append((verb, path, user))
        if sent is not None:
            sent.append(True)
        if password != self.password:
            return 401, "not authorized"
        if verb == "PUT":
            new = json.loads(body)["newToken"]
            self.system.write(state.SERVER_TOKEN, "K10" + "a" * 64 + f"::server:{new}\n", 0o600)
            if self.put_status == 200:
                self.datastore = new
            return self.put_status, "etcd is gone"
        return (405, "method not allowed") if path == "/v1-k3s/token" else (200, "ok")


@pytest.fixture
def supervisor(server, monkeypatch) -> Supervisor:
    return Supervisor(server, monkeypatch)


def rotator(server) -> Rotator:
    return Rotator(server, "/usr/local/bin/k3s", 10)


def test_a_node_of_other_means_is_refused_before_the_token_changes(server):
    server.put("/etc/rancher/k3s/config.yaml", HEADER + "cluster-init: true\n")
    assert rotator(server).ours() == {"changed": False}
    server.put("/etc/systemd/system/k3s.service", "[Service]\nExecStart=/usr/local/bin/k3s server '--token=word'\n")
    with pytest.raises(NodeError, match="installed on this machine by other means.*Nothing was changed"):
        rotator(server).ours()


def test_a_server_takes_the_token_once(server, supervisor):
    assert not rotator(server).knows("new") and rotator(server).take_token("new", 6443)["changed"]
    assert server.read(TOKEN) == "new\n" and server.read(state.SERVER_TOKEN) == "K10" + "a" * 64 + "::server:new\n"
    assert len(server.commands("restart")) == 1
    # No time of a file tells: the file may be written without a restart.
    server.clock += 500
    server.write(TOKEN, "new\n", 0o600)
    assert rotator(server).knows("new") and rotator(server).take_token("new", 6443) == {"changed": False}
    assert len(server.commands("restart")) == 1


def test_the_server_that_was_asked_is_restarted_as_it_takes_the_old_token_until_then(server, supervisor):
    assert rotator(server).change_token("new", 6443) == {"changed": True}
    assert server.read(TOKEN) == "new\n" and server.read(OLD_TOKEN).strip().endswith(":old") and server.mode(OLD_TOKEN) == 0o600
    server.age()
    with pytest.raises(NodeError, match="refuses the new token: machines that join"):
        rotator(server).prove_token("new", 6443)
    assert rotator(server).knows("new") and rotator(server).take_token("new", 6443)["changed"] and len(server.commands("restart")) == 1
    assert rotator(server).prove_token("new", 6443) == {"changed": True} and not server.exists(OLD_TOKEN) and not server.exists(UNSURE)
    for part in (rotator(server).change_token, rotator(server).take_token, rotator(server).prove_token):
        assert part("new", 6443) == {"changed": False}
    assert len(server.commands("restart")) == 1 and {verb for verb, _path, _user in supervisor.asked} == {"GET", "PUT"}


def test_a_server_that_takes_both_tokens_is_not_proven(server, supervisor, monkeypatch):
    rotator(server).change_token("new", 6443)
    monkeypatch.setattr(Rotator, "_ask", lambda *dummy, **more: (200, "ok"))
    with pytest.raises(NodeError, match="still takes the token of before"):
        rotator(server).prove_token("new", 6443)
    assert server.exists(OLD_TOKEN)


def test_a_server_whose_datastore_may_not_have_the_token_is_not_restarted(server, supervisor):
    """k3s writes its files before the datastore, and with the old token in there it would not start with the new one."""
    supervisor.put_status = 500
    with pytest.raises(NodeError, match="Whether the datastore has the new token is not known"):
        rotator(server).change_token("new", 6443)
    with pytest.raises(NodeError, match="Whether the datastore has the new token is not known"):
        rotator(server).take_token("new", 6443)
    assert not server.commands("restart") and server.exists(UNSURE)
    supervisor.put_status = 200
    assert rotator(server).take_token("new", 6443)["changed"] and supervisor.datastore == "new" and not server.exists(UNSURE)
    assert [verb for verb, _path, _user in supervisor.asked].count("PUT") == 3


def test_where_agents_have_a_token_of_their_own_the_servers_is_asked_for(server, supervisor):
    server.put("/etc/rancher/k3s/config.yaml", "agent-token: for-agents\n")
    rotator(server).take_token("new", 6443)
    rotator(server).prove_token("new", 6443)
    assert set(supervisor.asked) == {("GET", "/v1-k3s/token", "server")}


def test_a_server_that_is_starting_is_waited_for(server, monkeypatch):
    answers = [ConnectionRefusedError("refused"), (503, "apiserver not ready"), (200, "ok")]

    def answer(*dummy, **more):
        given = answers.pop(0)
        if isinstance(given, OSError):
            raise given
        return given

    monkeypatch.setattr(Rotator, "_ask", answer)
    assert rotator(server).prove_token("new", 6443) == {"changed": False} and not answers
    monkeypatch.setattr(Rotator, "_ask", lambda *dummy, **more: (503, "apiserver not ready"))
    with pytest.raises(NodeError, match="could not be asked whether it takes the token: 503 apiserver not ready"):
        rotator(server).prove_token("new", 6443)


def test_check_mode_of_a_rotation_restarts_nothing(server, supervisor):
    checking = Rotator(server, "/usr/local/bin/k3s", 10, check_mode=True)
    assert checking.change_token("new", 6443)["changed"] and checking.take_token("new", 6443)["changed"]
    assert not server.commands("restart") and server.read(TOKEN) == "old\n" and not server.exists(OLD_TOKEN)


@pytest.fixture
def agent(system, api) -> FakeSystem:
    system.put(AGENT_UNIT, render_unit("agent", "/usr/local/bin/k3s"))
    system.put("/etc/rancher/k3s/config.yaml", "token-file: /etc/rancher/k3s/token\n")
    system.put(TOKEN, "old\n")
    system.units["k3s-agent"] = UnitState(loaded=True, active="active", pid=7, started_at=system.clock, active_for=3600)
    api.objects["control-plane-1"] = make_node("control-plane-1", voter=None)
    return system


def test_an_interrupted_run_restarts_the_agent_it_left(agent):
    agent.clock += 500
    agent.write(TOKEN, "new\n", 0o600)
    assert rotator(agent).take_token("new", 6443)["changed"] and len(agent.commands("restart")) == 1
    agent.age()
    assert rotator(agent).take_token("new", 6443) == {"changed": False}


def test_the_token_is_changed_through_the_supervisor_and_not_by_a_command(server, supervisor):
    assert rotator(server).change_token("new", 6443) == {"changed": True}
    assert supervisor.asked == [("PUT", "/v1-k3s/token", "server")] and not [call for call in server.calls if "new" in call]
    assert rotator(server).change_token("new", 6443) == {"changed": False}


@pytest.mark.parametrize(("failure", "message"), [
    ("connect", "could not be asked for the new token: refused. Nothing was changed"),
    ("getresponse", "did not answer when it got the new token: refused. Whether the datastore has the new token is not known"),
    (500, "failed while it changed the token: 500 etcd is gone. Whether the datastore has the new token is not known"),
    (400, "refused the new token: 400 etcd is gone. Nothing was changed"),
])
def test_what_is_known_after_a_failure_is_said(server, monkeypatch, failure, message):
    """After the request was sent nobody knows whether the datastore took it."""

    class Connection:
        def __init__(self, *dummy, **more):
            pass

        def _do(self, what):
            if failure == what:
                raise ConnectionError("refused")

        def connect(self):
            self._do("connect")

        def request(self, *dummy, **more):
            self._do("request")

        def getresponse(self):
            self._do("getresponse")
            return type("Answer", (), {"status": failure, "read": lambda dummy: b"etcd is gone"})()

        def close(self):
            pass

    monkeypatch.setattr("ssl.create_default_context", lambda cafile: None)
    monkeypatch.setattr("http.client.HTTPSConnection", Connection)
    with pytest.raises(NodeError, match=message):
        Rotator(server, "/usr/local/bin/k3s", 10).change_token("new", 6443)


@pytest.mark.parametrize("token", ["", "two words", "K10" + "b" * 64 + "::server:x"])
def test_a_token_that_cannot_be_right(server, token):
    with pytest.raises(NodeError, match="Nothing was changed"):
        Rotator(server, "/usr/local/bin/k3s", 10).take_token(token, 6443)


def test_k3s_runs_again_when_the_rotation_failed(server, certificate):
    server.clock = certificates.validity(certificate)[0] + 10
    server.put("/var/lib/rancher/k3s/server/tls/client-admin.crt", certificate)
    with pytest.raises(NodeError, match="k3s runs again, with the certificates it had"):
        Rotator(server, "/usr/local/bin/k3s", 10).certificates(364)
    assert [call[0] for call in server.commands("stop", "start")] == ["stop", "start"]
    assert Rotator(server, "/usr/local/bin/k3s", 10).certificates(30)["changed"] is False


# -- a lost machine

class Lost(FakeApi):
    """A node with a pod and a volume, which go when it is tainted."""

    def __init__(self, ready: bool) -> None:
        super().__init__()
        self.objects["agent-3"] = make_node("agent-3", ready=ready, voter=None)
        self.sent: list = []

    def get(self, path):
        if self.sent:
            return {"items": []}
        if "volumeattachments" in path:
            return {"items": [{"metadata": {"name": "x"}, "spec": {"nodeName": "agent-3", "source": {"persistentVolumeName": "pvc-1"}}}]}
        return {"items": [{"metadata": {"namespace": "moh", "name": "couchdb"}, "spec": {"volumes": [{"persistentVolumeClaim": {}}]}}]}

    def request(self, method, path, body=None, content_type=""):
        self.sent.append(body)
        self.objects["agent-3"]["spec"]["taints"] = body["spec"]["taints"]


@pytest.mark.parametrize("state_wanted", ["silent", "fenced"])
def test_a_node_that_reports_is_never_fenced(system, monkeypatch, state_wanted):
    lost = Lost(ready=True)
    monkeypatch.setattr(state, "server_api", lambda system, timeout=5.0: lost)
    with pytest.raises(NodeError, match="is Ready"):
        Fencer(system).run("agent-3", state_wanted, 10)
    assert lost.sent == []


def test_a_silent_node_is_fenced_once_and_released(system, monkeypatch):
    lost = Lost(ready=False)
    monkeypatch.setattr(state, "server_api", lambda system, timeout=5.0: lost)
    assert Fencer(system, check_mode=True).run("agent-3", "fenced", 10)["changed"] and lost.sent == []
    done = Fencer(system).run("agent-3", "fenced", 10)
    assert done == {"changed": True, "attached": ["pvc-1"], "pods": ["moh/couchdb"]} and lost.objects["agent-3"]["spec"]["taints"] == [TAINT]
    assert Fencer(system).run("agent-3", "fenced", 10)["changed"] is False
    with pytest.raises(NodeError, match="keeps the taint"):
        Fencer(system).run("agent-3", "released", 10)
    lost.objects["agent-3"]["status"]["conditions"][0]["status"] = "True"
    assert Fencer(system).run("agent-3", "released", 10)["changed"] and lost.objects["agent-3"]["spec"]["taints"] == []


# -- firewall and time

def test_the_ports_of_a_group():
    rules = open_for("agent", {"control_plane": ["10.0.0.1"], "agent": ["10.0.0.2"]})
    assert rules == [("10.0.0.1", 8472, "udp"), ("10.0.0.1", 10250, "tcp"), ("10.0.0.2", 8472, "udp"), ("10.0.0.2", 10250, "tcp")]
    assert ("10.0.0.2", 2379, "tcp") not in open_for("control_plane", {"control_plane": ["10.0.0.1"], "agent": ["10.0.0.2"]})


NODES = {"control_plane": ["10.0.0.1"], "agent": ["10.0.0.2"]}


def opened(config, group, **more):
    return {(port, protocol) for _source, port, protocol in open_for(group, NODES, network(config), **more)}


@pytest.mark.parametrize(("backend", "udp"), [
    (None, {8472}), ("vxlan", {8472}), ("wireguard-native", {51820, 51821}), ("host-gw", set()), ("none", set()),
    ("wireguard-native=Mode=auto", {51820, 51821}),
])
def test_ports_follow_flannels_backend(backend, udp):
    for group in ("control_plane", "agent"):
        assert {port for port, protocol in opened({"flannel-backend": backend} if backend else {}, group) if protocol == "udp"} == udp


def test_nodes_that_give_images_to_each_other_need_two_ports_more():
    for value in (True, "true"):
        assert opened({"embedded-registry": value}, "agent") - opened({}, "agent") == {(5001, "tcp"), (6443, "tcp")}
        assert ("10.0.0.2", 5001, "tcp") in open_for("control_plane", NODES, network({"embedded-registry": value}))
    assert opened({"embedded-registry": False}, "agent") == opened({}, "agent")


def test_the_controller_reaches_the_api_of_servers_only():
    more = set(open_for("control_plane", NODES, api=["192.0.2.9", "198.51.100.0/24"])) - set(open_for("control_plane", NODES))
    assert more == {("192.0.2.9", 6443, "tcp"), ("198.51.100.0/24", 6443, "tcp")}
    assert open_for("agent", NODES, api=["192.0.2.9"]) == open_for("agent", NODES)


@pytest.mark.parametrize(("environment", "address"), [
    ("A=1\0SSH_CONNECTION=192.0.2.9 50000 198.18.0.11 22\0", "192.0.2.9"), ("SSH_CLIENT=fe80::1%eth0 50000 22\0", "fe80::1"),
    ("SSH_CONNECTION=::ffff:192.0.2.9 50000 ::ffff:198.18.0.11 22\0", "192.0.2.9"), ("A=1\0", ""),
])
def test_who_is_connected_is_read_from_the_parents_of_sudo(system, environment, address):
    me = os.getpid()
    system.put(f"/proc/{me}/environ", "HOME=/root\0")
    system.put(f"/proc/{me}/status", "Name:\tpython3\nPPid:\t77\n")
    system.put("/proc/77/environ", environment)
    system.put("/proc/77/status", "Name:\tsh\nPPid:\t1\n")
    assert system.caller() == address


class Walled(FakeSystem):
    """A machine with ufw or firewalld that remembers its rules."""

    asked = False

    def __init__(self, root, kind: str) -> None:
        super().__init__(root)
        self.kind, self.rules = kind, []
        self.write("/etc/ufw/ufw.conf", f"# Set to yes to start on boot.\nENABLED={'yes' if kind == 'ufw' else 'no'}\n", 0o644)

    def run(self, argv, timeout=60, env=None):
        words = list(argv)
        if words[0] == "ufw":
            self.asked = True
        if words[0] != {"ufw": "ufw", "firewalld": "firewall-cmd"}.get(self.kind):
            return Result(127, "", "")
        if words[1:] == ["status"]:
            return Result(0, "Status: active\n", "")
        if words[1:] == ["show", "added"]:
            return Result(0, "\n".join(f"{rule} comment 'mine'" if rule.endswith("80/tcp") else rule for rule in self.rules), "")
        if words[1:] == ["--state"]:
            return Result(0, "running\n", "")
        text = " ".join(words)
        if "--query-" in text:
            return Result(0 if text.replace("--query-", "--add-") in self.rules else 1, "", "")
        self.rules.append(text)
        return Result(0, "", "")


@pytest.mark.parametrize("kind, rule", [
    ("ufw", "ufw allow from 10.0.0.1 to any port 10250 proto tcp"),
    ("firewalld", 'firewall-cmd --permanent --add-rich-rule=rule family="ipv4" source address="10.0.0.1" port port="10250" protocol="tcp" accept'),
])
def test_ports_are_opened_once(tmp_path, kind, rule):
    system = Walled(tmp_path, kind)
    wall = Firewall(system, [("10.0.0.1", 10250, "tcp")], ["10.42.0.0/16"], [80])
    assert Preparer(system, check_mode=True).run([], {}, True, "", firewall=wall)["changed"] and system.rules == []
    first = Preparer(system).run([], {}, True, "", firewall=wall)
    assert first["changed"] and first["firewall"] == kind and rule in system.rules
    assert not Preparer(system).run([], {}, True, "", firewall=wall)["changed"]


def test_the_task_that_opens_ports_keeps_all_that_the_one_before_it_made():
    tasks = yaml.safe_load((Path(__file__).parents[5] / "roles/node/tasks/main.yml").read_text(encoding="utf-8"))
    system, firewall = [task["cht.k3s.k3s_node"] for task in tasks if "cht.k3s.k3s_node" in task]
    assert {**system, "firewall": firewall["firewall"]} == firewall


def test_no_firewall_is_switched_on(tmp_path):
    system = Walled(tmp_path, "")
    done = Preparer(system).run([], {}, True, "", firewall=Firewall(system, [("10.0.0.1", 10250, "tcp")], [], [80]))
    assert not system.asked, "a no-change run has no time for that"
    assert done["firewall"] == "" and system.rules == [] and not [action for action in done["actions"] if "allow" in action]


def test_one_time_service_runs(system):
    preparer = Preparer(system)
    preparer.run([], {}, True, "", time_sync=True)
    assert "No time service is installed" in preparer.warnings[0]
    system.units["systemd-timesyncd"] = UnitState(loaded=True, enabled="disabled")
    assert "enable and start systemd-timesyncd" in Preparer(system).run([], {}, True, "", time_sync=True)["actions"]
    assert ("enable", "--now", "systemd-timesyncd.service") in system.calls
    system.units["chrony"] = UnitState(loaded=True, active="active")
    assert not [action for action in Preparer(system).run([], {}, True, "", time_sync=True)["actions"] if action.startswith("enable")]


def test_addresses_of_all_nodes():
    variables = {"a": {"ansible_host": "10.0.0.1"}, "b": {"k3s_node_ip": "10.0.0.2,fd00::2"}}
    found = node_addresses({"control_plane": ["a"], "agent": ["b"]}, variables)
    assert found == {"control_plane": ["10.0.0.1"], "agent": ["10.0.0.2", "fd00::2"]}


def test_a_name_for_an_address_is_resolved_or_refused_and_never_dropped(monkeypatch):
    def lookup(name, *_more, **_options):
        known = {"agent-1.example.org": ["127.0.1.1", "10.0.0.3"], "agent-2": ["127.0.1.1"]}
        if name not in known:
            raise OSError("not known")
        return [(2, 1, 6, "", (address, 0)) for address in known[name]]

    monkeypatch.setattr("socket.getaddrinfo", lookup)
    assert node_addresses({"agent": ["a"]}, {"a": {"ansible_host": "agent-1.example.org"}})["agent"] == ["10.0.0.3"]
    for variables in ({"ansible_host": "agent-9.example.org"}, {"inventory_hostname": "agent-2"}, {}):
        with pytest.raises(AnsibleFilterError, match="agent-2: its address .* can't resolve.*k3s_node_ip"):
            node_addresses({"agent": ["agent-2"]}, {"agent-2": variables})


# -- options

def test_audit_and_eviction_are_arguments_of_the_servers():
    audit = {"enabled": True, "policy": {}, "days": 30, "files": 10, "size_mb": 100}
    config = settings.server_config({}, {}, {"audit": audit, "eviction_seconds": 60, "node_grace_seconds": 40, "apiserver_args": ["v=2"]})
    assert config["kube-apiserver-arg"][:2] == [f"audit-log-path={settings.AUDIT_LOG}", f"audit-policy-file={settings.AUDIT_POLICY}"]
    assert "default-unreachable-toleration-seconds=60" in config["kube-apiserver-arg"] and config["kube-apiserver-arg"][-1] == "v=2"
    assert config["kube-controller-manager-arg"] == ["node-monitor-grace-period=40s"]
    assert "level: Metadata" in settings.server_files(audit)[settings.AUDIT_POLICY] and settings.server_files({"enabled": False}) == {}
    assert "kube-apiserver-arg" not in settings.server_config({}, {}, {"audit": {"enabled": False}})


def test_a_kubeconfig_for_people_has_their_address_and_name():
    text = ("clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n"
            "  name: default\ncurrent-context: default\nusers:\n- name: default\n")
    shown = kubeconfig_for_people(text, "https://k3s.example.org:6443", "moh")
    assert "default" not in shown and "127.0.0.1" not in shown and shown.count("moh") == 6


@pytest.mark.parametrize("text, wanted", [("false", False), ("no", False), ("true", True), (True, True), (None, False)])
def test_options_given_as_text_mean_what_they_say(text, wanted):
    """`-e control_plane_secrets_encryption=false` is text, and would switch it on."""
    server = {"secrets_encryption": text, "taint": text, "audit": {"enabled": text, "days": 1, "files": 1, "size_mb": 1}, "eviction_seconds": "0"}
    config = settings.server_config({}, {"protect_kernel_defaults": text}, server)
    found = [key in config for key in ("secrets-encryption", "protect-kernel-defaults", "kube-apiserver-arg", "node-taint")]
    assert found == [wanted] * 4 and bool(settings.server_files({"enabled": text})) == wanted
