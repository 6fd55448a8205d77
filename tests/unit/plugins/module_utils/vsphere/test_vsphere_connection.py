from __future__ import annotations

import errno
import hashlib
import socket
import ssl
import threading
from http.client import BadStatusLine

import pytest
from pyVmomi import vim

from ansible_collections.cht.k3s.plugins.module_utils.vsphere import connection
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession, https_connection, tls_context
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import connection_options

PARAMS = {"hostname": "vc.example.org", "username": "svc@vsphere.local", "password": "s3cret"}


def options(**more):
    return connection_options({**PARAMS, **more})


def test_all_missing_options_are_named_with_their_environment_variables():
    with pytest.raises(VsphereError) as caught:
        connection_options({})
    for text in ("hostname", "VMWARE_HOST", "username", "VMWARE_USER", "password", "VMWARE_PASSWORD"):
        assert text in str(caught.value)


def test_a_url_is_not_a_host_name():
    with pytest.raises(VsphereError, match="looks like a URL"):
        options(hostname="https://vc.example.org/sdk")


@pytest.mark.parametrize(("given", "verified"), [
    ({}, True), ({"validate_certs": ""}, True), ({"validate_certs": None}, True), ({"validate_certs": "False"}, False), ({"validate_certs": "no"}, False),
    ({"validate_certs": "False", "ca_path": "/ca.pem"}, True), ({"validate_certs": False, "thumbprint": "AB" * 20}, True),
])
def test_who_gives_an_authority_or_a_thumbprint_has_it_compared(given, verified):
    assert options(**given).validate_certs is verified


def test_numbers_and_truths_come_as_text_too():
    assert (options(port="8443").port, options(port="").port, options(timeout=" 5 ").timeout) == (8443, 443, 5)
    for wrong in ({"validate_certs": "enabled"}, {"validate_certs": "None"}):
        with pytest.raises(VsphereError, match=r"validate_certs \(environment variable VMWARE_VALIDATE_CERTS\) '.*' is neither true nor false"):
            options(**wrong)
    for wrong in ({"port": "https"}, {"port": "0"}, {"port": 70000}, {"port": True}, {"timeout": "-1"}):
        with pytest.raises(VsphereError, match="is not a number from 1 to"):
            options(**wrong)


def test_a_proxy_is_given_whole_or_not_at_all():
    given = options(proxy_host="proxy.example.org", proxy_port="3128")
    assert (given.proxy_host, given.proxy_port, options(proxy_host="", proxy_port=0).proxy_host) == ("proxy.example.org", 3128, None)
    for wrong in ({"proxy_host": "proxy.example.org"}, {"proxy_port": 3128}, {"proxy_host": "http://proxy.example.org", "proxy_port": 3128}):
        with pytest.raises(VsphereError, match="VMWARE_PROXY_HOST.*VMWARE_PROXY_PORT"):
            options(**wrong)


def test_vcenter_is_reached_through_the_proxy():
    """Both ways to it, SOAP and REST, begin with CONNECT; a proxy that refuses is told with its words."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        def serve():
            while True:
                try:
                    connection, _address = proxy.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(4096).decode().splitlines()[0])
                    connection.sendall(b"HTTP/1.1 403 Not here\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        given = options(hostname="vc.example.org", validate_certs=False, proxy_host="127.0.0.1", proxy_port=proxy.getsockname()[1])
        with pytest.raises(VsphereError, match="403"):
            VsphereSession(given).open()
        with pytest.raises(OSError, match="403"):
            https_connection(given, tls_context(given))
    assert {line.rpartition(" ")[0] for line in asked} == {"CONNECT vc.example.org:443"}


def test_the_password_does_not_show():
    assert "s3cret" not in repr(options())


def test_ipv6_addresses_are_bracketed():
    assert options(hostname="2001:db8::1").address == "[2001:db8::1]:443"


def certificate_error(code, message="m"):
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_code = code
    error.verify_message = message
    return error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (certificate_error(10), "certificate-expired", "has expired"),
        (certificate_error(9), "certificate-not-yet-valid", "clocks"),
        (certificate_error(62, "Hostname mismatch"), "certificate-name", "another name"),
        (certificate_error(18, "self-signed"), "certificate-untrusted", "VMWARE_CA_PATH"),
        (certificate_error(20, "local issuer"), "certificate-untrusted", "VMWARE_THUMBPRINT"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "tls", "VMWARE_PORT"),
        (socket.gaierror(-2, "Name or service not known"), "unreachable", "DNS"),
        (socket.timeout("timed out"), "timeout", "VMWARE_TIMEOUT"),
        (TimeoutError("timed out"), "timeout", "within 60 s"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "unreachable", "Connection refused"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "unreachable", "No route"),
        (BadStatusLine("x"), "not-vcenter", "proxy"),
        (vim.fault.InvalidLogin(), "login", "Only this one attempt"),
        (vim.fault.NotAuthenticated(), "session", "ended the session"),
        (vim.fault.InvalidPowerState(msg="wrong state"), "fault", "wrong state"),
    ],
)
def test_every_failure_says_what_where_and_what_to_do(error, kind, text):
    explained = connection.explain(options(), error)
    assert explained.kind == kind
    assert "vc.example.org:443" in explained.what
    assert text in str(explained)
    assert explained.remedy


def test_a_missing_privilege_is_named_with_its_object():
    fault = vim.fault.NoPermission(privilegeId="VirtualMachine.Config.AddExistingDisk")
    fault.object = vim.VirtualMachine("vm-7")
    text = str(connection.explain(options(), fault))
    assert "VirtualMachine.Config.AddExistingDisk" in text and "vm-7" in text


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_a_thumbprint_of_any_length_is_compared_without_colons_and_case(digest):
    certificate = b"certificate"
    thumbprint = hashlib.new(digest, certificate).hexdigest().upper()
    connection.check_thumbprint(options(thumbprint=":".join(thumbprint[i : i + 2] for i in range(0, len(thumbprint), 2))), certificate)
    with pytest.raises(VsphereError) as caught:
        connection.check_thumbprint(options(thumbprint=thumbprint), b"another")
    assert caught.value.kind == "certificate-thumbprint"


def test_a_thumbprint_of_another_length_is_refused():
    with pytest.raises(VsphereError, match="neither SHA-1"):
        connection.check_thumbprint(options(thumbprint="abcd"), b"x")


def test_a_missing_ca_file_is_named():
    with pytest.raises(VsphereError, match="/nowhere/ca.pem"):
        connection.tls_context(options(ca_path="/nowhere/ca.pem"))


def test_a_ca_file_without_certificates_is_refused(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(VsphereError, match="no readable certificate authority"):
        connection.tls_context(options(ca_path=str(path)))


def test_certificates_are_verified_unless_switched_off():
    assert connection.tls_context(options()).verify_mode == ssl.CERT_REQUIRED
    assert connection.tls_context(options(validate_certs=False)).verify_mode == ssl.CERT_NONE


class FakeManager:
    def __init__(self):
        self.logins = 0
        self.logouts = 0

    def Login(self, _user, _password, _locale):
        self.logins += 1

    def Logout(self):
        self.logouts += 1


class FakeStub:
    def DropConnections(self):
        pass


@pytest.fixture
def session():
    result = connection.VsphereSession(options())
    result._stub = FakeStub()
    result._content = type("Content", (), {"sessionManager": FakeManager()})()
    result._login()
    return result


def test_a_session_dropped_by_vcenter_is_opened_again_once(session):
    calls = []

    def work():
        calls.append(1)
        if len(calls) == 1:
            raise vim.fault.NotAuthenticated()
        return "done"

    assert session.run(work) == "done"
    assert session.content.sessionManager.logins == 2


def test_a_session_dropped_again_is_an_error(session):
    def work():
        raise vim.fault.NotAuthenticated()

    with pytest.raises(VsphereError, match="ended the session"):
        session.run(work)
    assert session.content.sessionManager.logins == 2


def test_closing_logs_out_once(session):
    session.close()
    session.close()
    assert session.content.sessionManager.logouts == 1
