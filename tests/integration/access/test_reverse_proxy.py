# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real nginx, configured by the role, in front of two stand-ins for Traefik; asked by host names as users do."""

from __future__ import annotations

import contextlib
import getpass
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

COLLECTIONS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cht-k3s" / "collections"
COUNTIES = [{"name": "nairobi", "host": "nairobi.health.example"}, {"name": "kisumu", "host": "kisumu.health.example"}]


def nginx_program(folder: Path) -> str:
    """The one that is installed, or Debian's, unpacked and not installed."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found:
        return found
    subprocess.run(["apt-get", "download", "nginx"], cwd=folder, check=True, capture_output=True, timeout=120)
    subprocess.run(["dpkg", "-x", next(folder.glob("nginx_*.deb")), folder / "nginx"], check=True)
    return str(folder / "nginx/usr/sbin/nginx")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Upstream:
    """Answers on one of two addresses and the same port, as Traefik does on each server, with what it was asked."""

    def __init__(self, address: str, port: int) -> None:
        kept = self.kept = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                kept.append(self.connection)

            def log_message(self, *dummy: t.Any) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                body = json.dumps({"server": address, "path": self.path, **{key.lower(): value for key, value in self.headers.items()}}).encode()
                self.send_response(int(self.headers.get("X-Answer") or 200))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

        self.web = ThreadingHTTPServer((address, port), Handler)
        self.web.daemon_threads = True
        threading.Thread(target=self.web.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End, with the connections that nginx keeps."""
        self.web.shutdown()
        self.web.server_close()
        for connection in self.kept:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Proxy:
    """An nginx of our own below one folder."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.program = folder, program
        self.http, self.https, self.upstream = free_port(), free_port(), free_port()
        self.config = folder / "nginx.conf"
        self.certificate("wild", "*.health.example")
        paths = "".join(f"{what}_temp_path {folder}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        web = f"http {{ access_log off; {paths} server {{ listen {self.http}; }} }}"
        self.config.write_text(f"pid {folder}/pid; error_log {folder}/error.log; events {{}} {web}\n")
        subprocess.run([program, "-c", self.config], check=True)

    def certificate(self, name: str, host: str) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        files = ["-keyout", str(self.folder / f"{name}.key"), "-out", str(self.folder / f"{name}.crt")]
        subprocess.run([*command, "-addext", f"subjectAltName=DNS:{host}", *files], check=True, capture_output=True)

    @staticmethod
    def until(condition: t.Callable[[], bool], seconds: float = 15) -> None:
        """Wait for workers that begin after a reload."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def signal(self, name: str) -> None:
        subprocess.run([self.program, "-c", self.config, "-s", name], check=True)

    def play(self, expect: int = 0, **variables: t.Any) -> str:
        hosts = {"proxy": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
        (self.folder / "inventory.yml").write_text(yaml.safe_dump({"reverse_proxy": {"hosts": hosts}}))
        playbook = self.folder / "play.yml"
        playbook.write_text(yaml.safe_dump([{"hosts": "reverse_proxy", "gather_facts": False, "roles": ["cht.k3s.reverse_proxy"]}]))
        values = {
            "reverse_proxy_user": getpass.getuser(), "cht_projects": COUNTIES, "reverse_proxy_install": False, "reverse_proxy_service": "",
            "reverse_proxy_nginx": self.program,
            "reverse_proxy_config": str(self.config), "reverse_proxy_pid_file": str(self.folder / "pid"), "reverse_proxy_log_dir": str(self.folder),
            "reverse_proxy_state_dir": str(self.folder),
            "reverse_proxy_http_port": self.http, "reverse_proxy_https_port": self.https, "reverse_proxy_upstream_port": self.upstream,
            "reverse_proxy_upstreams": ["127.0.0.1", "127.0.0.2"], "reverse_proxy_certificate": str(self.folder / "wild.crt"),
            "reverse_proxy_private_key": str(self.folder / "wild.key"), "reverse_proxy_address": "192.0.2.10",
            "reverse_proxy_output_dir": str(self.folder / "lists"), **variables,
        }
        (self.folder / "variables.json").write_text(json.dumps(values))
        program = str(Path(sys.executable).parent / "ansible-playbook")
        command = [program, "-i", self.folder / "inventory.yml", "-e", f"@{self.folder}/variables.json", "--diff", playbook]
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(self.folder / "home")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, host: str, method: str = "GET", body: bytes | None = None, address: str = "127.0.0.1", **headers: str) -> dict[str, t.Any]:
        """Ask over HTTPS as a browser would, the certificate checked."""
        context = ssl.create_default_context(cafile=str(self.folder / "wild.crt"))
        connection = http.client.HTTPSConnection(address, self.https, context=context, timeout=20)
        raw = socket.create_connection((address, self.https), timeout=20)
        connection.sock = context.wrap_socket(raw, server_hostname=host)
        try:
            connection.request(method, "/api/info?x=1", body, {"Host": host, **headers})
            answer = connection.getresponse()
            return {"status": answer.status, **(json.loads(answer.read()) if answer.status == 200 else {})}
        finally:
            connection.close()


@pytest.fixture(scope="module", name="proxy")
def fixture_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    folder.chmod(0o755)
    found = Proxy(folder, nginx_program(folder))
    try:
        refused = found.play(expect=2)
        assert "serves sites that are not of this role" in refused and str(found.config) in refused and "changed=0" in refused
        found.play(reverse_proxy_replace=True)
        yield found
    finally:
        found.signal("stop")


@pytest.fixture(name="upstreams")
def fixture_upstreams(proxy: Proxy) -> Iterator[list[Upstream]]:
    found = [Upstream(address, proxy.upstream) for address in ("127.0.0.1", "127.0.0.2")]
    yield found
    for upstream in found:
        upstream.stop()


def test_each_county_is_reached_by_its_name(proxy: Proxy, upstreams: list[Upstream]) -> None:
    for county in COUNTIES:
        answer = proxy.ask(county["host"], **{"X-Forwarded-For": "203.0.113.66", "X-Forwarded-Proto": "http"})
        assert answer["host"] == answer["x-forwarded-host"] == county["host"]
        assert answer["path"] == "/api/info?x=1"
        seen = [answer[key] for key in ("x-forwarded-for", "x-real-ip", "x-forwarded-proto")]
        assert seen == ["127.0.0.1", "127.0.0.1", "https"], "what a client claims is dropped"
    assert {proxy.ask("kisumu.health.example")["server"] for dummy in range(6)} == {"127.0.0.1", "127.0.0.2"}


def test_it_listens_on_both_families_where_the_host_has_them(proxy: Proxy, upstreams: list[Upstream]) -> None:
    if Path("/proc/net/if_inet6").exists():
        assert proxy.ask("kisumu.health.example", address="::1")["x-forwarded-for"] == "::1"
        with socket.create_connection(("::1", proxy.http), timeout=5):
            pass
    else:
        assert "[::]" not in proxy.config.read_text()


def test_bodies_as_large_as_chts_limit(proxy: Proxy, upstreams: list[Upstream]) -> None:
    assert proxy.ask("nairobi.health.example", "POST", b"x" * (31 << 20))["status"] == 200
    assert proxy.ask("nairobi.health.example", "POST", b"x" * 10, **{"Content-Length": str(33 << 20)})["status"] == 413


def test_plain_http_is_sent_to_https(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.http, timeout=10)
    connection.request("GET", "/login", headers={"Host": "nairobi.health.example"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Location")) == (301, f"https://nairobi.health.example:{proxy.https}/login")


def test_a_host_that_no_county_has_gets_no_answer(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.http, timeout=10)
    connection.request("GET", "/", headers={"Host": "other.health.example"})
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()


def test_a_lost_server_is_not_noticed(proxy: Proxy, upstreams: list[Upstream]) -> None:
    upstreams[0].stop()
    assert [proxy.ask("nairobi.health.example")["server"] for dummy in range(8)] == ["127.0.0.2"] * 8


def test_a_county_that_is_starting_takes_no_server_from_the_others(proxy: Proxy, upstreams: list[Upstream]) -> None:
    assert {proxy.ask("kisumu.health.example", **{"X-Answer": "502"})["status"] for dummy in range(12)} == {502}
    assert {proxy.ask("nairobi.health.example")["status"] for dummy in range(8)} == {200}


def test_a_second_run_changes_nothing_and_the_lists_are_there(proxy: Proxy) -> None:
    assert "changed=0" in proxy.play()
    assert (proxy.folder / "lists/hosts").read_text() == "192.0.2.10 nairobi.health.example\n192.0.2.10 kisumu.health.example\n"
    targets = yaml.safe_load((proxy.folder / "lists/cht-instances.yml").read_text())
    assert targets == [{"targets": ["https://nairobi.health.example", "https://kisumu.health.example"]}]


def test_sites_that_somebody_set_up_are_not_switched_off(proxy: Proxy) -> None:
    """As Debian's package leaves it, with one site that was added by hand."""
    ours, sites = proxy.config.read_text(), proxy.folder / "sites-enabled"
    sites.mkdir()
    (sites / "default").symlink_to("/dev/null")
    stock = "events {}\nhttp {\n  include sites-enabled/*;\n}\n#mail {\n#\tserver {\n#\t}\n#}\n"
    try:
        (sites / "clinic").symlink_to("/dev/null")
        proxy.config.write_text(stock)
        assert f"{sites}/clinic" in proxy.play(expect=2) and proxy.config.read_text() == stock
        (sites / "clinic").unlink()
        proxy.play()
        assert proxy.config.read_text() == ours
    finally:
        proxy.config.write_text(ours)


def test_a_wrong_certificate_changes_nothing(proxy: Proxy, upstreams: list[Upstream]) -> None:
    before = proxy.config.read_text()
    own = {"kisumu": {"certificate": f"{proxy.folder}/nowhere.crt", "private_key": f"{proxy.folder}/wild.key"}}
    text = proxy.play(expect=2, reverse_proxy_certificates=own)
    assert "nowhere.crt" in text and "No such file" in text
    assert proxy.config.read_text() == before
    assert proxy.ask("kisumu.health.example")["status"] == 200


def acme(proxy: Proxy, host: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.http, timeout=10)
    connection.request("GET", "/.well-known/acme-challenge/token", headers={"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_new_county_without_its_first_certificate_can_get_one(proxy: Proxy, upstreams: list[Upstream]) -> None:
    challenge = proxy.folder / "web/.well-known/acme-challenge/token"
    challenge.parent.mkdir(parents=True)
    challenge.write_text("answer")
    own = {"eldoret": {"certificate": f"{proxy.folder}/eldoret.crt", "private_key": f"{proxy.folder}/eldoret.key"}}
    options: dict[str, t.Any] = {
        "cht_projects": [{"name": "eldoret", "host": "eldoret.health.example"}, *COUNTIES], "reverse_proxy_certificates": own,
        "reverse_proxy_webroot": str(proxy.folder / "web"),
    }
    assert "no certificate yet for eldoret" in proxy.play(**options)
    proxy.until(lambda: acme(proxy, "eldoret.health.example") == acme(proxy, "not-listed.health.example") == (200, b"answer"))
    assert {proxy.ask(county["host"])["status"] for county in COUNTIES} == {200}
    proxy.certificate("eldoret", "eldoret.health.example")
    assert "no certificate yet for" not in proxy.play(**options)
    assert "server_name eldoret.health.example;\n        ssl_certificate" in proxy.config.read_text()
    assert "changed=0" in proxy.play(**options)


def test_a_county_s_own_certificate_and_a_new_county(proxy: Proxy, upstreams: list[Upstream]) -> None:
    proxy.certificate("own", "mombasa.health.example")
    own = {"mombasa": {"certificate": f"{proxy.folder}/own.crt", "private_key": f"{proxy.folder}/own.key"}}
    proxy.play(cht_projects=[*COUNTIES, {"name": "mombasa", "host": "mombasa.health.example"}], reverse_proxy_certificates=own)
    deadline = time.monotonic() + 10
    while True:
        shown = ssl.get_server_certificate(("127.0.0.1", proxy.https))
        context = ssl.create_default_context(cafile=str(proxy.folder / "own.crt"))
        try:
            with context.wrap_socket(socket.create_connection(("127.0.0.1", proxy.https)), server_hostname="mombasa.health.example"):
                break
        except ssl.SSLError:
            assert time.monotonic() < deadline, shown
            time.sleep(0.2)
    assert proxy.ask("nairobi.health.example")["status"] == 200
