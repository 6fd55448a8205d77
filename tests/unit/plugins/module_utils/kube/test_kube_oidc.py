"""A kubeconfig whose token comes from an OIDC provider: taken while it lasts, renewed at a provider that is really the one, and kept."""
from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.module_utils.kube import config
from ansible_collections.cht.k3s.plugins.module_utils.kube.config import KubeConfigError


def token(seconds: int) -> str:
    """A JWT that ends in so many seconds."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, {"exp": int(time.time()) + seconds})]
    return ".".join([*parts, "c2ln"])


class Provider(BaseHTTPRequestHandler):
    """Gives a new pair of tokens for a refresh token, once."""

    valid = "first"
    asked: list[dict[str, list[str]]] = []

    def do_GET(self) -> None:
        self._answer(200, {"token_endpoint": f"https://127.0.0.1:{self.server.server_address[1]}/token"})  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        Provider.asked.append(form)
        if form["refresh_token"] != [Provider.valid]:
            self._answer(400, {"error": "invalid_grant"})
            return
        Provider.valid = "second"
        self._answer(200, {"id_token": token(600), "refresh_token": "second", "access_token": "a", "token_type": "bearer"})

    def _answer(self, status: int, document: dict[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # pylint: disable=redefined-builtin
        """Say nothing."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("provider")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=provider",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")], check=True, capture_output=True,
    )
    return folder / "cert.pem"


@pytest.fixture
def issuer(certificate: Path) -> Iterator[str]:
    Provider.valid, Provider.asked = "first", []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def kubeconfig(tmp_path: Path, issuer: str, certificate: Path | None, id_token: str, **more: Any) -> Path:
    settings = {"client-id": "k3s", "id-token": id_token, "refresh-token": "first", "idp-issuer-url": issuer, **more}
    if certificate:
        settings["idp-certificate-authority"] = str(certificate)
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://198.18.0.11:6443"}}],
        "users": [{"name": "u", "user": {"auth-provider": {"name": "oidc", "config": settings}}}],
    }))
    return path


def test_a_token_that_lasts_is_taken_and_nobody_is_asked(tmp_path: Path, issuer: str, certificate: Path) -> None:
    lasting = token(600)
    path = kubeconfig(tmp_path, issuer, certificate, lasting)
    before = path.read_text()
    assert config.load(str(path)).headers == {"Authorization": f"Bearer {lasting}"}
    assert (path.read_text(), Provider.asked) == (before, [])


def test_a_token_that_has_ended_is_renewed_once_and_kept(tmp_path: Path, issuer: str, certificate: Path) -> None:
    path = kubeconfig(tmp_path, issuer, certificate, token(-60))
    renewed = config.load(str(path)).headers
    kept = yaml.safe_load(path.read_text())["users"][0]["user"]["auth-provider"]["config"]
    assert renewed == {"Authorization": f"Bearer {kept['id-token']}"} and kept["refresh-token"] == "second"
    assert "client-secret" not in kept and kept["idp-certificate-authority"] == str(certificate)
    assert path.stat().st_mode & 0o777 == 0o600 and [entry.name for entry in tmp_path.iterdir()] == ["kubeconfig"]
    assert config.load(str(path)).headers == renewed and len(Provider.asked) == 1


def test_a_provider_that_says_no_is_named_without_the_secret(tmp_path: Path, issuer: str, certificate: Path) -> None:
    path = kubeconfig(tmp_path, issuer, certificate, token(-60), **{"refresh-token": "stale-secret"})
    with pytest.raises(KubeConfigError, match="has ended.*gave no new one.*log in anew") as caught:
        config.load(str(path))
    assert issuer in str(caught.value) and "stale-secret" not in str(caught.value)


def test_whoever_else_answers_is_told_nothing(tmp_path: Path, issuer: str) -> None:
    """Without an authority in the file that of the system counts; the package alone would trust anybody."""
    path = kubeconfig(tmp_path, issuer, None, token(-60))
    with pytest.raises(KubeConfigError, match="gave no new one"):
        config.load(str(path))
    assert Provider.asked == []


@pytest.mark.parametrize("provider", [{"name": "gcp", "config": {}}, {"name": "azure"}])
def test_a_provider_that_kubernetes_has_removed_is_refused(tmp_path: Path, provider: dict[str, Any]) -> None:
    path = kubeconfig(tmp_path, "https://unused", None, "x")
    document = yaml.safe_load(path.read_text())
    document["users"][0]["user"] = {"auth-provider": provider}
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(KubeConfigError, match=f"auth-provider {provider['name']}, which Kubernetes removed in 1.26"):
        config.load(str(path))


def test_what_is_no_token_is_not_sent(tmp_path: Path, issuer: str, certificate: Path) -> None:
    with pytest.raises(KubeConfigError, match="or is none"):
        config.load(str(kubeconfig(tmp_path, issuer, certificate, "no-token")))


def test_nobody_else_waits_for_the_package() -> None:
    """A second for each task: that is why the client is written by hand."""
    name = "ansible_collections.cht.k3s.plugins.module_utils.kube"
    code = f"import conftest, sys; from {name} import apply, client, config; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[5] / "tests", check=False).returncode == 0
