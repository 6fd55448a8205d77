"""A real etcd and kube-apiserver of our own on 127.0.0.1, for tests that need the API but no cluster."""
from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

from cht_lab import tools  # noqa: E402


def tool(name: str) -> Path:
    """A program of the release that the lab runs, which may be one of several builds in the cache."""
    return tools.program(name)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class ApiServer:
    """Starts in about three seconds; everything it writes is below one temporary folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="cht-k3s-api-")
        self.folder = folder or Path(self._temporary.name)  # type: ignore[union-attr]
        self.port = free_port()
        self.token = secrets.token_hex(16)
        self.kubeconfig = self.folder / "kubeconfig"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, name: str, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start a program that is stopped with this server; its output goes to NAME.log."""
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **environment}, start_new_session=True
            )
        self._processes[name] = process
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start(self) -> ApiServer:
        self._keys()
        self.etcd_port, peer = free_port(), free_port()
        self.start_etcd(peer)
        self.start_api()
        return self

    def start_etcd(self, peer: int) -> None:
        url = f"http://127.0.0.1:{self.etcd_port}"
        self.run("etcd", [
            str(tool("server")), "--data-dir", str(self.folder / "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url,
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--unsafe-no-fsync", "--log-level", "error",
        ])

    def start_api(self, wait: float = 60) -> None:
        self.run("kube-apiserver", [
            str(tool("kube-apiserver")), f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", f"--secure-port={self.port}",
            "--bind-address=127.0.0.1", f"--cert-dir={self.folder / 'api'}", f"--tls-cert-file={self.folder / 'api.crt'}",
            f"--tls-private-key-file={self.folder / 'api.key'}", f"--token-auth-file={self.folder / 'tokens'}",
            f"--service-account-key-file={self.folder / 'sa.key'}", f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc", f"--client-ca-file={self.folder / 'api.crt'}",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=198.19.128.0/17", "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none", "--allow-privileged=true", "--v=0",
            # From 1.35 on not without a name, as the authority is also that of clients.
            f"--requestheader-client-ca-file={self.folder / 'api.crt'}", "--requestheader-allowed-names=front-proxy",
        ])
        self._wait(wait)

    def stop_api(self) -> None:
        self._stop("kube-apiserver")

    def stop(self) -> None:
        for name in reversed(list(self._processes)):
            self._stop(name)
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self) -> ApiServer:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [str(tool("kubectl")), "--kubeconfig", str(self.kubeconfig), *arguments], input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _keys(self) -> None:
        def openssl(*arguments: str) -> None:
            subprocess.run(["openssl", *arguments], check=True, capture_output=True)

        openssl("genrsa", "-out", str(self.folder / "sa.key"), "2048")
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test-api", "-addext", "subjectAltName=IP:127.0.0.1",
            "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", str(self.folder / "api.key"), "-out", str(self.folder / "api.crt"),
        )
        (self.folder / "tokens").write_text(f'{self.token},admin,admin,"system:masters"\n')
        authority = base64.b64encode((self.folder / "api.crt").read_bytes()).decode()
        self.kubeconfig.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
            f"clusters:\n- name: test\n  cluster:\n    server: https://127.0.0.1:{self.port}\n    certificate-authority-data: {authority}\n"
            "contexts:\n- name: test\n  context: {cluster: test, user: admin}\n"
            f"users:\n- name: admin\n  user:\n    token: {self.token}\n"
        )
        self.kubeconfig.chmod(0o600)

    def _wait(self, seconds: float) -> None:
        context = ssl.create_default_context(cafile=str(self.folder / "api.crt"))
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}/readyz", headers={"Authorization": f"Bearer {self.token}"})
        deadline = time.monotonic() + seconds
        while True:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log(name)[-2000:]}")
            try:
                with urllib.request.urlopen(request, context=context, timeout=5):
                    return
            except (OSError, urllib.error.URLError) as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"kube-apiserver is not ready after {seconds} s: {error}\n{self.log('kube-apiserver')[-2000:]}") from error
                time.sleep(0.1)
