"""Each way in which a vCenter cannot be used: one clear message, one login at most, nothing left open."""
from __future__ import annotations

import hashlib
import socket
import ssl
from pathlib import Path

import pytest
from pyVmomi import vim
from vcenter import certificate, free_port

NAME = "vsphere_vm_uuid"


def fail(module, vcenter, **more):
    result = module(NAME, vms=["agent-1"], **{**vcenter.options, **more})
    assert result.get("failed"), result
    return result


def test_a_good_run_is_one_session_that_is_closed(module, vcenter):
    assert module(NAME, vms=["agent-1"], **vcenter.options)["vms"][0]["name"] == "agent-1"
    assert vcenter.counts == (1, 0, 0)


def test_a_wrong_password_is_tried_once(module, vcenter):
    result = fail(module, vcenter, password="wrong")
    assert result["kind"] == "login"
    assert "k3s@vsphere.local" in result["msg"] and f"127.0.0.1:{vcenter.port}" in result["msg"] and "VMWARE_PASSWORD" in result["msg"]
    assert "wrong" not in result["msg"].replace("wrong user name or password", "")
    assert vcenter.counts == (0, 1, 0)


def test_an_unreachable_vcenter(module, vcenter):
    port = free_port()
    result = fail(module, vcenter, port=port)
    assert result["kind"] == "unreachable" and f"127.0.0.1:{port}" in result["msg"] and "VMWARE_HOST" in result["msg"]


def test_a_name_that_does_not_exist(module, vcenter):
    assert fail(module, vcenter, hostname="vcenter.invalid")["kind"] == "unreachable"


def test_something_that_does_not_speak_tls(module, vcenter):
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def answer():
            connection, _address = server.accept()
            connection.recv(1024)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        result = fail(module, vcenter, port=server.getsockname()[1])
    assert result["kind"] in ("tls", "unreachable"), result


def test_a_vcenter_that_does_not_answer(module, vcenter):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = fail(module, vcenter, port=silent.getsockname()[1], timeout=1)
    assert result["kind"] == "timeout" and "within 1 s" in result["msg"] and "VMWARE_TIMEOUT" in result["msg"]


def test_a_slow_vcenter_is_waited_for_up_to_the_time_out(module, vcenter):
    vcenter.ledger.delay_ms = 1500
    try:
        assert fail(module, vcenter, timeout=1)["kind"] == "timeout"
        vcenter.ledger.delay_ms = 300
        assert not module(NAME, vms=["agent-1"], **vcenter.options).get("failed")
    finally:
        vcenter.ledger.delay_ms = 0


def test_an_untrusted_certificate(module, vcenter):
    result = fail(module, vcenter, ca_path=None)
    assert result["kind"] == "certificate-untrusted"
    assert "VMWARE_CA_PATH" in result["msg"] and "VMWARE_THUMBPRINT" in result["msg"]
    assert vcenter.counts == (0, 0, 0)


def test_an_expired_certificate(module, vcenter, tmp_path):
    cert, key = certificate(tmp_path, "expired", days=(-30, -1))
    result = fail(module, vcenter, port=vcenter.open_front(cert, key), ca_path=str(cert))
    assert result["kind"] == "certificate-expired" and "Renew" in result["msg"]


def test_a_certificate_that_is_not_valid_yet(module, vcenter, tmp_path):
    cert, key = certificate(tmp_path, "early", days=(2, 30))
    result = fail(module, vcenter, port=vcenter.open_front(cert, key), ca_path=str(cert))
    assert result["kind"] == "certificate-not-yet-valid" and "clock" in result["msg"]


def test_a_certificate_for_another_address(module, vcenter, tmp_path):
    cert, key = certificate(tmp_path, "other", host="198.51.100.1")
    result = fail(module, vcenter, port=vcenter.open_front(cert, key), ca_path=str(cert))
    assert result["kind"] == "certificate-name" and "another name" in result["msg"]


def thumbprint(path: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(path.read_text())).hexdigest()


def test_a_thumbprint_stands_for_an_authority(module, vcenter):
    result = module(NAME, vms=["agent-1"], **{**vcenter.options, "ca_path": None, "thumbprint": thumbprint(vcenter.cert)})
    assert not result.get("failed"), result
    result = fail(module, vcenter, thumbprint="ab" * 32)
    assert result["kind"] == "certificate-thumbprint" and thumbprint(vcenter.cert) in result["msg"]


def test_switching_validation_off_is_possible(module, vcenter):
    assert not module(NAME, vms=["agent-1"], **{**vcenter.options, "ca_path": None, "validate_certs": False}).get("failed")


@pytest.mark.parametrize("missing", ["hostname", "username", "password"])
def test_missing_credentials_are_named(module, vcenter, missing, monkeypatch):
    for name in ("VMWARE_HOST", "VMWARE_USER", "VMWARE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    options = {key: value for key, value in vcenter.options.items() if key != missing}
    assert missing in module(NAME, vms=["agent-1"], **options)["msg"]


def test_credentials_come_from_the_environment(module, vcenter, monkeypatch):
    names = {"hostname": "HOST", "port": "PORT", "username": "USER", "password": "PASSWORD", "ca_path": "CA_PATH"}
    for option, name in names.items():
        monkeypatch.setenv(f"VMWARE_{name}", str(vcenter.options[option]))
    assert module(NAME, vms=["agent-1"])["vms"][0]["name"] == "agent-1"


class Dropper:
    """Ends all sessions once, right after the n-th request that follows the login."""

    def __init__(self, ledger, monkeypatch, moment):
        self.left = moment
        self.ledger = ledger
        self.seen = []
        count = ledger.count
        monkeypatch.setattr(ledger, "count", lambda method: (count(method), self.step(method)))

    def step(self, method):
        """One more request."""
        self.seen.append(method)
        if "Login" in self.seen and method not in ("Login", "RetrieveServiceContent"):
            self.left -= 1
            if self.left == 0:
                self.ledger.drop()


def test_a_session_that_ends_at_any_moment_costs_one_more_login(module, own, monkeypatch):
    """Whatever request comes next: everything is done once, nothing twice."""
    work = {"vms": ["agent-1"], "power_cycle": "hard", "power_timeout": 20, **own.options}
    moment = 0
    while True:
        moment += 1
        own.change("agent-1", extraConfig=[vim.option.OptionValue(key="disk.EnableUUID", value="FALSE")])
        own.ledger.reset()
        with monkeypatch.context() as patch:
            dropper = Dropper(own.ledger, patch, moment)
            result = module("vsphere_disk_uuid", **work)
        assert not result.get("failed"), (moment, dropper.seen, result)
        assert result["vms"][0]["power_cycled"] and result["restart_required"] is False
        methods = own.ledger.report()["methods"]
        if dropper.left > 0:
            break
        assert own.counts[1] == 0 and methods["Login"] == (1 if dropper.seen[-1] == "Logout" and dropper.seen.count("Login") == 1 else 2)
        assert len([name for name in dropper.seen if name == "PowerOnVM_Task"]) <= 2
    assert moment > 10 and methods["Login"] == 1
    machine = own.vms(own.connect())["agent-1"]
    assert machine.runtime.powerState == "poweredOn"


def test_a_session_for_tags_that_ends_is_opened_once_more(vcenter):
    from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import connection_options
    from ansible_collections.cht.k3s.plugins.module_utils.vsphere.tags import TagClient

    with TagClient(connection_options(vcenter.options)) as tags:
        vcenter.ledger.drop()
        assert len(tags.vms_with(["cht-role:server"])) == 3
    assert vcenter.counts == (2, 0, 0)


def test_a_session_that_vcenter_drops_in_mid_run_is_opened_once_more(vcenter):
    from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession
    from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import connection_options
    from ansible_collections.cht.k3s.plugins.module_utils.vsphere.vms import VmReader

    with VsphereSession(connection_options(vcenter.options)) as session:
        vcenter.ledger.drop()
        assert len(session.run(lambda: VmReader(session).read()).records) == 14
    assert vcenter.counts == (2, 0, 0)
