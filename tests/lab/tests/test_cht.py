"""What plays CHT's services does what the real ones did: shared/facts/real.md, section 2, and the sources that the lab's README names.

Each process has an address of its own, so that all have CHT's ports; a cluster's nodes are named after theirs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tarfile
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from cht_lab import certs, images, paths, tools

USER, PASSWORD = "medic", "p:a#ss"
LOGIN = (USER, PASSWORD)
SYSTEM = ("_users", "_replicator", "_global_changes")
_HOSTS = itertools.count(1)


def address() -> str:
    """One that no other test run on this machine has."""
    return f"127.{64 + os.getpid() // 250 % 64}.{1 + os.getpid() % 250}.{next(_HOSTS)}"


def until(what: Callable[[], t.Any], seconds: float = 30) -> t.Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = what()
        except (requests.RequestException, OSError):
            found = None
        if found or time.monotonic() > deadline:
            assert found, "not within the time"
            return found
        time.sleep(0.05)


class Service:
    """One process of the program."""

    def __init__(self, program: Path, log: Path, name: str, host: str, **env: str) -> None:
        self.host, self.log = host, log
        variables = {"STUB": name, "STUB_TAG": "4.22.0", "STUB_TIME": "0.02", "STUB_ADDRESS": host, "COUCHDB_USER": USER, "COUCHDB_PASSWORD": PASSWORD}
        with open(log, "wb") as output:
            self.process = subprocess.Popen([program], env={**variables, **env}, stdout=output, stderr=subprocess.STDOUT)

    def end(self, number: int = signal.SIGKILL) -> str:
        """End it; return what it said."""
        self.process.send_signal(number)
        self.process.wait(10)
        return self.log.read_text(encoding="utf-8")


Start = Callable[..., Service]


@pytest.fixture(name="start")
def fixture_start(tmp_path: Path) -> Iterator[Start]:
    program = tools.program("cht")
    started: list[Service] = []

    def start(name: str, host: str = "", **env: str) -> Service:
        started.append(Service(program, tmp_path / f"log-{len(started)}", name, host or address(), **env))
        return started[-1]

    yield start
    for service in started:
        service.process.kill()
        service.process.wait()


class Nodes:
    """The nodes of one CouchDB, each with its volume."""

    def __init__(self, start: Start, folder: Path, count: int = 3) -> None:
        self.start, self.folder = start, folder
        self.hosts = [address() for dummy in range(count)]
        self.volumes = [folder / str(number) for number in range(count)]
        self.services: list[Service] = []

    def up(self, **env: str) -> Nodes:
        self.services = [self.node(number, **env) for number in range(len(self.hosts))]
        until(lambda: self.members() == [self.names, self.names])
        until(lambda: all(self.get(f"/{name}").status_code != 404 for name in SYSTEM))
        return self

    def node(self, number: int, **env: str) -> Service:
        role = {"COUCHDB_SYNC_ADMINS_NODE": self.hosts[0]} if number else {"CLUSTER_PEER_IPS": ",".join(self.hosts[1:])}
        role |= {"COUCHDB_SECRET": "secret", "COUCHDB_UUID": "uuid"} if len(self.hosts) > 1 or not number else {}
        if len(self.hosts) == 1:
            role = {"COUCHDB_SECRET": "secret", "COUCHDB_UUID": "uuid"}
        host = self.hosts[number]
        return self.start("cht-couchdb", host, SVC_NAME=host, STUB_ROOT=str(self.volumes[number]), **{**role, **env})

    def down(self) -> None:
        for service in self.services:
            service.end(signal.SIGTERM)

    @property
    def names(self) -> list[str]:
        return sorted(f"couchdb@{host}" for host in self.hosts) if len(self.hosts) > 1 else ["couchdb@127.0.0.1"]

    def get(self, path: str, number: int = 0, **options: t.Any) -> requests.Response:
        return self.ask("GET", path, number, **options)

    def ask(self, method: str, path: str, number: int = 0, **options: t.Any) -> requests.Response:
        return requests.request(method, f"http://{self.hosts[number]}:5984{path}", **{"auth": LOGIN, "timeout": 10, **options})

    def members(self, number: int = 0) -> list[list[str]]:
        answer = self.get("/_membership", number).json()
        return [answer["all_nodes"], answer["cluster_nodes"]]

    def fill(self, count: int = 120) -> None:
        assert self.ask("PUT", "/medic").status_code in (201, 412)
        until(lambda: all(self.get("/medic", number).status_code == 200 for number in range(len(self.hosts))))
        documents = {"docs": [{"_id": f"document-{number}", "number": number} for number in range(count)]}
        assert all(item["ok"] for item in self.ask("POST", "/medic/_bulk_docs", json=documents).json())

    def count(self, number: int = 0) -> int:
        return int(self.get("/medic", number).json()["doc_count"])


def test_a_cluster_spreads_its_shards_and_lacks_those_of_a_node_that_is_away(start: Start, tmp_path: Path) -> None:
    nodes = Nodes(start, tmp_path).up()
    nodes.fill()
    assert [nodes.count(number) for number in range(3)] == [120] * 3
    for host, volume in zip(nodes.hosts, nodes.volumes):
        files = list(volume.glob("data/shards/*/medic.*.couch"))
        assert len(files) == 4 and all(json.loads(file.read_text().splitlines()[0])["node"] == f"couchdb@{host}" for file in files)
    with requests.get(f"http://{nodes.hosts[0]}:5984/medic/_changes?feed=continuous", auth=LOGIN, stream=True, timeout=10) as feed:
        assert nodes.services[1].end(signal.SIGTERM) and nodes.services[1].process.returncode == 0
        with pytest.raises(requests.RequestException):
            for _chunk in feed.iter_content(1):
                pass
    assert until(lambda: len(nodes.members()[0]) == 2) and nodes.members()[1] == nodes.names
    lost = nodes.get("/medic")
    assert (lost.status_code, lost.json()["error"]) == (412, "nodedown")
    nodes.services[1] = nodes.node(1)
    assert until(lambda: nodes.get("/medic", 2).status_code == 200) and nodes.count() == 120
    assert "data has 2 starts" in nodes.services[1].end(signal.SIGTERM)


def test_volumes_in_another_order_look_well_and_lack_documents(start: Start, tmp_path: Path) -> None:
    nodes = Nodes(start, tmp_path).up()
    nodes.fill()
    nodes.down()
    nodes.volumes = [nodes.volumes[0], nodes.volumes[2], nodes.volumes[1]]
    nodes.up()
    assert nodes.get("/medic").status_code == 200 and 0 < nodes.count() < 120
    made = {json.loads(file.read_text().splitlines()[0])["node"] for file in nodes.volumes[1].glob("data/shards/*/medic.*.couch")}
    assert len(made) == 2, "empty shards beside those of the other node"
    nodes.down()
    nodes.volumes.sort()
    nodes.up()
    assert nodes.count() == 120


def test_volumes_of_another_county_bring_its_names_and_no_shard_opens(start: Start, tmp_path: Path) -> None:
    old = Nodes(start, tmp_path).up()
    old.fill()
    old.down()
    new = Nodes(start, tmp_path)
    new.services = [new.node(number) for number in range(3)]
    assert until(lambda: len(new.members()[1]) == 6 and len(new.members()[0]) == 3)
    answer = new.get("/medic")
    assert (answer.status_code, answer.json()["reason"]) == (500, "No DB shards could be opened.")


def test_a_password_is_told_to_the_first_node_and_taken_over_at_the_next_start(start: Start, tmp_path: Path) -> None:
    nodes = Nodes(start, tmp_path, 2).up()
    assert nodes.ask("PUT", f"/_node/_local/_config/admins/{USER}", json="new").status_code == 200
    assert nodes.get("/_session").status_code == 401 and nodes.get("/_session", auth=(USER, "new")).status_code == 200
    assert nodes.get("/_up", auth=None).status_code == 401 and nodes.get("/_up", 1).json()["status"] == "ok"
    nodes.services[1].end(signal.SIGTERM)
    nodes.services[1] = nodes.node(1, COUCHDB_PASSWORD="new")
    assert until(lambda: nodes.get("/_up", 1, auth=(USER, "new")).status_code == 200)
    kept = [nodes.get(f"/_node/_local/_config/admins/{USER}", number, auth=(USER, "new")).json() for number in range(2)]
    assert kept[0] == kept[1] and "new" not in kept[0]


class Api:
    """API over one node, and what it answers."""

    def __init__(self, start: Start, folder: Path) -> None:
        self.start = start
        self.nodes = Nodes(start, folder, 1).up()
        self.host = address()
        self.service = self.begin()

    def begin(self, tag: str = "4.22.0", **env: str) -> Service:
        self.service = self.start(
            "cht-api", self.host, STUB_TAG=tag, COUCH_URL=f"http://{USER}:p%3Aa%23ss@{self.nodes.hosts[0]}:5984/medic", **env
        )
        return self.service

    def get(self, path: str, **options: t.Any) -> requests.Response:
        return requests.get(f"http://{self.host}:5988{path}", allow_redirects=False, timeout=5, **options)

    def version(self) -> str:
        answer = self.get("/api/v2/monitoring")
        return str(answer.json()["version"]["app"]) if answer.status_code == 200 else ""


def test_api_shows_its_progress_then_answers_and_ends_with_its_feeds(start: Start, tmp_path: Path) -> None:
    api = Api(start, tmp_path)
    until(lambda: api.version() == "4.22.0")
    api.service.end()
    api.begin(STUB_TIME="0.4")
    until(lambda: api.get("/api/v1/startup-progress").status_code == 200)
    begun = api.get("/api/v1/startup-progress").json()
    assert begun["completed"] is False and begun["actions"]["checks"]["started"]
    assert api.get("/").status_code == 503 and "<html" in api.get("/medic/login").text
    assert api.get("/api/v2/monitoring", headers={"Accept": "application/json"}).json() == {"error": "Service unavailable"}
    until(lambda: api.version() == "4.22.0")
    assert api.get("/api/info").json() == {"version": "0.1.0"} and api.get("/setup/poll").json()["ready"] is True
    assert api.get("/api/deploy-info").status_code == 401 and api.get("/api/deploy-info", auth=LOGIN).json()["version"] == "4.22.0"
    login = requests.post(f"http://{api.host}:5988/medic/login", json={"user": USER, "password": PASSWORD}, timeout=10)
    assert login.status_code == 302 and "Secure" not in login.headers["Set-Cookie"]
    session = {"AuthSession": login.cookies["AuthSession"]}
    assert api.get("/api/deploy-info", cookies=session).status_code == 200 and api.get("/medic/_design/medic", cookies=session).status_code == 200
    assert api.get("/").headers["Location"].startswith("/medic/login")
    for _number in range(10):
        assert api.get("/api/deploy-info", auth=(USER, "wrong"), headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 401
    assert api.get("/api/deploy-info", auth=("other", "x"), headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 429
    assert api.get("/api/deploy-info", cookies=session).status_code == 200, "another address"
    api.service.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        api.service.process.wait(0.5)
    api.nodes.down()
    assert api.service.process.wait(10) == 1


class Builds(BaseHTTPRequestHandler):
    """The builds server, and the API server as far as the upgrade service asks it."""

    put: t.ClassVar[list[dict[str, t.Any]]] = []
    pods: t.ClassVar[list[dict[str, t.Any]]] = []

    def log_message(self, *dummy: t.Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        containers = [{"name": "cht-couchdb-2", "image": "old"}, {"name": "other", "image": "old"}]
        deployment = {"metadata": {"name": "cht-couchdb-2"}, "spec": {"template": {"spec": {"containers": containers}}}}
        answers = {
            "/builds/medic:medic:4.23.0": {"tags": [{"container_name": "cht-couchdb", "image": "registry/cht-couchdb:4.23.0"}]},
            "/api/v1/namespaces/space/pods": {"items": self.pods},
            "/apis/apps/v1/namespaces/space/deployments": {"items": [deployment]},
        }
        found = answers.get(self.path.partition("?")[0])
        self._send(200 if found else 404, found)

    def do_PUT(self) -> None:
        self.put.append({"path": self.path, "body": json.loads(self.rfile.read(int(self.headers["Content-Length"])))})
        self._send(200, {})

    def _send(self, status: int, body: t.Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture(name="builds")
def fixture_builds() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Builds)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_version_that_is_staged_is_taken_at_once_and_another_is_indexed(start: Start, tmp_path: Path, builds: ThreadingHTTPServer) -> None:
    api = Api(start, tmp_path)
    until(lambda: api.version() == "4.22.0")
    api.service.end()
    api.begin(BUILDS_URL=f"http://127.0.0.1:{builds.server_address[1]}/builds")
    until(lambda: api.version() == "4.22.0")

    def stage(version: str) -> int:
        body = {"build": {"namespace": "medic", "application": "medic", "version": version}}
        return requests.post(f"http://{api.host}:5988/api/v1/upgrade/stage", json=body, auth=LOGIN, timeout=10).status_code

    def state() -> tuple[str, bool]:
        answer = api.get("/api/v2/upgrade", auth=LOGIN).json()
        return (answer["upgradeDoc"] or {}).get("state", ""), bool(answer["indexers"])

    assert stage("4.99.0") == 200 and until(lambda: state()[0] == ""), "nobody has built that"
    assert stage("4.23.0") == 200 and until(lambda: state() == ("indexing", True)) and api.version() == "4.22.0"
    until(lambda: state()[0] == "indexed")
    document = api.get("/api/v2/upgrade", auth=LOGIN).json()["upgradeDoc"]
    assert (document["to"]["version"], document["action"]) == ("4.23.0", "stage")
    api.service.end()
    api.begin("4.23.0")
    until(lambda: api.version() == "4.23.0")
    assert "takes what is staged" in api.service.end()
    api.begin("4.24.0", STUB_TIME="0.1")
    steps = until(lambda: (found := api.get("/api/v1/startup-progress").json()["actions"])["index"].get("started") and found)
    assert not steps["index"].get("completed") and api.get("/").status_code == 503
    until(lambda: api.version() == "4.24.0")


def test_the_health_check_says_whether_the_cluster_is_whole(start: Start, tmp_path: Path) -> None:
    nodes = Nodes(start, tmp_path, 2).up()
    check = start("cht-haproxy-healthcheck", COUCHDB_SERVERS=",".join(nodes.hosts))

    def told() -> bytes:
        with socket.create_connection((check.host, 5555), 5) as connection:
            return connection.recv(100)

    assert until(lambda: told() == b"up\n")
    nodes.services[1].end()
    assert until(lambda: told() == b"down\n")


@pytest.fixture(name="haproxy")
def fixture_haproxy(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Debian's haproxy as its image starts it."""
    if os.geteuid() != 0:
        pytest.skip("a root folder of its own needs root")
    started: list[subprocess.Popen[bytes]] = []
    root = tmp_path / "haproxy"
    with tarfile.open(images.blob(images.haproxy_layer())) as archive:
        archive.extractall(root, filter="fully_trusted")
    (root / "dev").mkdir()
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))

    def start(**env: str) -> subprocess.Popen[bytes]:
        with open(tmp_path / "haproxy.log", "wb") as log:
            variables = {"PATH": "/bin", "COUCHDB_USER": USER, "COUCHDB_PASSWORD": PASSWORD, "HAPROXY_PORT": "5984", **env}
            command = [shutil.which("chroot") or "chroot", str(root), "/start"]
            started.append(subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_haproxy_sees_no_node_while_the_cluster_is_not_whole(
    start: Start, haproxy: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    nodes = Nodes(start, tmp_path, 2).up()
    check = start("cht-haproxy-healthcheck", COUCHDB_SERVERS=",".join(nodes.hosts))
    host = address()
    process = haproxy(HAPROXY_IP=host, HEALTHCHECK_ADDR=check.host, COUCHDB_SERVERS=",".join(nodes.hosts))

    def status() -> int:
        return requests.get(f"http://{host}:5984/_up", auth=LOGIN, timeout=10).status_code

    assert until(lambda: status() == 200)
    assert f"stats auth {USER}:{PASSWORD}" in (tmp_path / "haproxy.log").read_text(encoding="utf-8"), "as the real one's log"
    nodes.services[1].end()
    assert until(lambda: status() == 503)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 0, "nothing was open"


def test_the_upgrade_service_sets_images_unless_a_pod_does_not_run(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CA_CERT", tmp_path / "ca.crt")
    for name, file in (("CA_KEY", "ca.key"), ("SERVER_CERT", "server.pem"), ("SERVER_KEY", "server.key")):
        monkeypatch.setattr(certs, name, tmp_path / file)
    certs.ensure("127.0.0.1", "kubernetes")
    (tmp_path / "token").write_text("t", encoding="ascii")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Builds)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service = start(
        "upgrade-service", CHT_NAMESPACE="space", STUB_SERVICE_ACCOUNT=str(tmp_path), KUBERNETES_SERVICE_HOST="127.0.0.1",
        KUBERNETES_SERVICE_PORT=str(server.server_address[1]),
    )

    def upgrade() -> requests.Response:
        body = {"containers": [{"container_name": "cht-couchdb", "image_tag": "registry/cht-couchdb:4.23.0"}]}
        return requests.post(f"http://{service.host}:5008/upgrade", json=body, timeout=10)

    running = {"metadata": {"name": "a"}, "status": {"phase": "Running", "containerStatuses": [{"name": "a", "ready": True, "state": {"running": {}}}]}}
    Builds.pods[:] = [running, {"metadata": {"name": "evicted"}, "status": {"phase": "Failed"}}]
    refused = until(lambda: [upgrade()])[0]
    assert refused.status_code == 500 and "evicted" in refused.text and not Builds.put
    Builds.pods[:] = [running]
    assert upgrade().status_code == 200
    (change,) = Builds.put
    assert change["path"].endswith("/deployments/cht-couchdb-2")
    images = [item["image"] for item in change["body"]["spec"]["template"]["spec"]["containers"]]
    assert images == ["registry/cht-couchdb:4.23.0", "old"]
    server.shutdown()
    server.server_close()


def test_sentinel_waits_for_api_and_stays(start: Start, builds: ThreadingHTTPServer) -> None:
    service = start("cht-sentinel", API_HOST="127.0.0.1", API_PORT=str(builds.server_address[1]))
    assert until(lambda: "startup complete" in service.log.read_text(encoding="utf-8"))
    with pytest.raises(subprocess.TimeoutExpired):
        service.process.wait(0.5)


def test_a_port_that_service_links_hide_ends_it(start: Start) -> None:
    service = start("upgrade-service", UPGRADE_SERVICE_PORT="tcp://10.43.0.1:5008")
    assert service.process.wait(10) == 1 and "service links" in service.log.read_text(encoding="utf-8")
