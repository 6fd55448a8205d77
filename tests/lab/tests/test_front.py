"""The proxy before vcsim counts what clients do and hands accounts on."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cht_lab import certs, front, paths

USER, PASSWORD = "administrator@vsphere.local", "a<b&\"c'"
ENVELOPE = '<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="x"><soapenv:Body>{}</soapenv:Body></soapenv:Envelope>'


def login(user: str, password: str) -> str:
    from xml.sax.saxutils import escape

    return ENVELOPE.format(
        '<Login xmlns="urn:vim25"><_this type="SessionManager">SessionManager</_this>'
        f"<userName>{escape(user)}</userName><password>{escape(password)}</password></Login>"
    )


class Vcsim(BaseHTTPRequestHandler):
    """What the front needs of vcsim: one account, a cookie."""

    protocol_version = "HTTP/1.1"
    cookies: list[str] = []
    number = 0

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Vcsim.cookies.append(self.headers.get("Cookie", ""))
        good = b"<Login" not in body or (b"<userName>lab</userName>" in body and b"<password>s&amp;cret</password>" in body)
        self.send_response(200 if good else 500)
        if b"<Login" in body and good:
            Vcsim.number += 1
            self.send_header("Set-Cookie", f'vmware_soap_session="session-{Vcsim.number}"; Path=/')
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[front.Front, Path]]:
    monkeypatch.setattr(paths, "CA_CERT", tmp_path / "ca.pem")
    monkeypatch.setattr(certs, "CA_KEY", tmp_path / "ca.key")
    monkeypatch.setattr(certs, "SERVER_CERT", tmp_path / "server.pem")
    monkeypatch.setattr(certs, "SERVER_KEY", tmp_path / "server.key")
    certs.ensure("198.18.0.2", "vcenter.lab")
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Vcsim)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    upstream.socket = tls.wrap_socket(upstream.socket, server_side=True)
    ledger = front.Ledger(users={USER: PASSWORD}, upstream=("lab", "s&cret"))
    server = front.Front(("127.0.0.1", 0), upstream.server_address[:2], tmp_path / "server.pem", tmp_path / "server.key", ledger)
    control = front.ControlServer(str(tmp_path / "control.sock"), ledger)
    for item in (upstream, server, control):
        threading.Thread(target=item.serve_forever, daemon=True).start()
    yield server, tmp_path
    for item in (control, server, upstream):
        item.shutdown()
        item.server_close()


def post(server: front.Front, ca: Path, body: str, cookie: str = "", agent: str = "pyvmomi") -> http.client.HTTPResponse:
    context = ssl.create_default_context(cafile=str(ca))
    connection = http.client.HTTPSConnection("127.0.0.1", server.server_address[1], context=context, timeout=10)
    connection.request("POST", "/sdk", body.encode(), {"User-Agent": agent, **({"Cookie": cookie} if cookie else {})})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_logins_are_counted_per_client(served: tuple[front.Front, Path]) -> None:
    server, folder = served
    ca = folder / "ca.pem"
    good = post(server, ca, login(USER, PASSWORD))
    assert good.status == 200
    cookie = good.getheader("Set-Cookie", "").split(";")[0]
    assert post(server, ca, login(USER, "wrong"), agent="cpi").status == 500
    assert post(server, ca, login("lab", "s&cret"), agent="cpi").status == 500, "vcsim's own account is not one of the lab's"
    report = front.command(folder / "control.sock", do="report")
    assert (report["logins"], report["failed"], report["open"]) == (1, 2, 1)
    assert report["by_agent"]["cpi"] == {"logins": 0, "failed": 2, "logouts": 0}
    assert report["sessions"][0]["user"] == USER
    post(server, ca, ENVELOPE.format('<Logout xmlns="urn:vim25"/>'), cookie)
    report = front.command(folder / "control.sock", do="report")
    assert (report["logouts"], report["open"], report["most_open"]) == (1, 0, 1)


def test_a_new_password_is_the_only_one(served: tuple[front.Front, Path]) -> None:
    server, folder = served
    front.command(folder / "control.sock", do="password", user=USER, password="other")
    assert post(server, folder / "ca.pem", login(USER, PASSWORD)).status == 500
    assert post(server, folder / "ca.pem", login(USER.upper(), "other")).status == 200


def test_dropped_sessions_lose_their_cookie(served: tuple[front.Front, Path]) -> None:
    server, folder = served
    ca = folder / "ca.pem"
    cookie = post(server, ca, login(USER, PASSWORD)).getheader("Set-Cookie", "").split(";")[0]
    call = ENVELOPE.format('<CurrentTime xmlns="urn:vim25"/>')
    post(server, ca, call, cookie)
    assert Vcsim.cookies[-1] == cookie
    assert front.command(folder / "control.sock", do="drop")["dropped"] == 1
    post(server, ca, call, cookie)
    assert Vcsim.cookies[-1] == ""


def test_certificate_fits_address_and_name(served: tuple[front.Front, Path]) -> None:
    _server, folder = served
    from cryptography import x509

    names = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert "198.18.0.2" in [str(item) for item in names.value.get_values_for_type(x509.IPAddress)]
    assert "vcenter.lab" in names.value.get_values_for_type(x509.DNSName)


def test_counters_can_be_reset() -> None:
    ledger = front.Ledger(users={}, upstream=("a", "b"))
    ledger.login("x", "u", "soap", "1")
    ledger.login("x", "u", "soap", None)
    ledger.reset()
    report = ledger.report()
    assert (report["logins"], report["failed"], report["open"], report["most_open"]) == (0, 0, 1, 1)
    assert json.dumps(report)


def test_a_denied_privilege_is_missing_in_every_kind_of_answer() -> None:
    answer = (
        b"<returnval><entity>x</entity><privAvailability><privId>Cns.Searchable</privId><isGranted>true</isGranted></privAvailability>"
        b"<privAvailability><privId>System.Read</privId><isGranted>true</isGranted></privAvailability>"
        b"<privileges>Cns.Searchable</privileges><privileges>System.Read</privileges></returnval>"
    )
    denied = front.deny(answer, {"Cns.Searchable"})
    assert b"<privId>Cns.Searchable</privId><isGranted>false" in denied
    assert b"<privId>System.Read</privId><isGranted>true" in denied
    assert b"<privileges>Cns.Searchable" not in denied
    assert b"<privileges>System.Read" in denied
    assert front.deny(answer, set()) == answer


def test_privileges_are_denied_and_allowed_by_command(served: tuple[front.Front, Path]) -> None:
    server, folder = served
    front.command(folder / "control.sock", do="deny", privileges=["A", "B"])
    assert server.ledger.denied == {"A", "B"}
    front.command(folder / "control.sock", do="deny", privileges=[])
    assert server.ledger.denied == set()
