"""A vCenter for these tests alone: the real vcsim behind the lab's front, on the loopback interface, with TLS."""
from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "lab"))

from cht_lab import description as lab_description  # noqa: E402
from cht_lab import front, tools  # noqa: E402
from cht_lab import vcenter as lab_vcenter  # noqa: E402

USER, PASSWORD = "k3s@vsphere.local", "Cp!&=%lab:{8}"
UPSTREAM = ("lab", "only-between-front-and-vcsim")


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def certificate(folder: Path, name: str, days: tuple[int, int] = (-1, 30), host: str = "127.0.0.1") -> tuple[Path, Path]:
    """A self-signed certificate for the address, valid from and until so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


class Vcenter:
    """vcsim, filled from a description of the lab, and the front before it."""

    def __init__(self, folder: Path, description: Path | None = None, arguments: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.description = lab_description.load(description) if description else None
        self.arguments = arguments
        self.cert, self.key = certificate(folder, "vcenter")
        self.upstream_port = free_port()
        self.ledger = front.Ledger(users={USER: PASSWORD}, upstream=UPSTREAM)
        self.process: subprocess.Popen[bytes] | None = None
        self.fronts: list[front.Front] = []
        self.port = 0

    def __enter__(self) -> Vcenter:
        inventory = ("-dc", "1", "-cluster", "1", "-host", "3", "-standalone-host", "0", "-vm", "0", "-ds", "0", "-pg", "0")
        command = [
            str(tools.program("vcsim")), "-l", f"127.0.0.1:{self.upstream_port}", "-tlscert", str(self.cert), "-tlskey",
            str(self.key), "-username", UPSTREAM[0], "-password", UPSTREAM[1], "-api-version", "7.0.3.0",
            *(inventory if self.description else self.arguments),
        ]  # fmt: skip
        with (self.folder / "vcsim.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        self._wait()
        if self.description:
            self._fill()
        self.port = self.open_front(self.cert, self.key)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in self.fronts:
            server.shutdown()
            server.server_close()
        assert self.process
        self.process.terminate()
        self.process.wait(10)

    def _wait(self) -> None:
        deadline = time.monotonic() + 600
        while True:
            assert self.process and self.process.poll() is None, (self.folder / "vcsim.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.upstream_port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "vcsim does not listen"
                time.sleep(0.1)

    def open_front(self, cert: Path, key: Path) -> int:
        """One more door to the same vcsim, with this certificate; returns its port."""
        server = front.Front(("127.0.0.1", 0), ("127.0.0.1", self.upstream_port), cert, key, self.ledger)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.fronts.append(server)
        return int(server.server_address[1])

    def connect(self) -> Any:
        """A session past the front, which is not counted."""
        return SmartConnect(
            host="127.0.0.1", port=self.upstream_port, user=UPSTREAM[0], pwd=UPSTREAM[1], disableSslCertValidation=True
        )

    def _fill(self) -> None:
        datastore = self.folder / "datastore"
        datastore.mkdir()
        lab_vcenter.DATASTORE = datastore
        service = self.connect()
        try:
            lab_vcenter.fill(service, self.description)
        finally:
            Disconnect(service)

    def vms(self, service: Any) -> dict[str, Any]:
        """All VMs by path-free name."""
        return lab_vcenter.machines(service)

    def change(self, vm: str, **spec: Any) -> None:
        """Reconfigure a VM as an administrator would."""
        service = self.connect()
        try:
            lab_vcenter._wait(self.vms(service)[vm].ReconfigVM_Task(vim.vm.ConfigSpec(**spec)))
        finally:
            Disconnect(service)

    def power_events(self) -> list[tuple[str, str]]:
        """VMs that went off or on since the beginning, in order; a plain query only has the last ten events of any kind."""
        service = self.connect()
        try:
            kinds = ["VmPoweredOffEvent", "VmPoweredOnEvent"]
            collector = service.content.eventManager.CreateCollectorForEvents(vim.event.EventFilterSpec(eventTypeId=kinds))
            collector.SetCollectorPageSize(1000)
            found = sorted(collector.latestPage, key=lambda event: event.key)
            return [(event.vm.name, "off" if isinstance(event, vim.event.VmPoweredOffEvent) else "on") for event in found]
        finally:
            Disconnect(service)

    def tag(self, category: str, tags: dict[str, list[str]]) -> None:
        """Make tags and put them on VMs."""
        base = f"https://127.0.0.1:{self.upstream_port}/rest/com/vmware/cis"
        context = front.ssl._create_unverified_context()

        def call(path: str, body: Any = None, **headers: str) -> Any:
            data = json.dumps(body).encode() if body is not None else b""
            request = urllib.request.Request(f"{base}/{path}", data=data, method="POST", headers=headers)
            with urllib.request.urlopen(request, context=context, timeout=20) as answer:
                text = answer.read()
            return json.loads(text).get("value") if text else None

        token = {"vmware-api-session-id": call("session", Authorization="Basic " + b64encode(":".join(UPSTREAM).encode()).decode())}
        spec = {"name": category, "description": "", "cardinality": "MULTIPLE", "associable_types": ["VirtualMachine"]}
        category_id = call("tagging/category", {"create_spec": spec}, **token)
        service = self.connect()
        try:
            ids = {name: machine._moId for name, machine in self.vms(service).items()}
        finally:
            Disconnect(service)
        for tag, names in tags.items():
            tag_id = call("tagging/tag", {"create_spec": {"name": tag, "description": "", "category_id": category_id}}, **token)
            for name in names:
                target = {"object_id": {"type": "VirtualMachine", "id": ids[name]}}
                call(f"tagging/tag-association/id:{tag_id}?~action=attach", target, **token)

    @property
    def options(self) -> dict[str, Any]:
        """Connection options of modules and plugin."""
        return {
            "hostname": "127.0.0.1",
            "port": self.port,
            "username": USER,
            "password": PASSWORD,
            "ca_path": str(self.cert),
            "timeout": 20,
        }

    @property
    def counts(self) -> tuple[int, int, int]:
        """Good logins, failed ones and sessions that are still open."""
        report = self.ledger.report()
        return report["logins"], report["failed"], report["open"]
