# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a kubeconfig with nothing but PyYAML.

The kubernetes package costs every task more time to be imported than this collection's modules need for their work (docs/architecture.md
has the figures), so the few lines that are needed of it are here. Only where it alone knows how, with the tokens of an OIDC provider, is
it asked.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment]


class KubeConfigError(Exception):
    """A kubeconfig that can't be used, with what to do about it."""


@dataclass
class Access:
    """What is needed to talk to one API server."""

    scheme: str
    host: str
    port: int
    path: str
    context: ssl.SSLContext | None
    headers: dict[str, str]
    proxy: str | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def load(path: str, context: str | None = None) -> Access:
    """Read the kubeconfig at C(path) and return how to reach its API server."""
    if yaml is None:
        raise KubeConfigError("The Python package PyYAML is needed on the host that runs this module; install it.")
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as stream:
            document = yaml.safe_load(stream)
    except OSError as error:
        raise KubeConfigError(f"The kubeconfig {path} can't be read: {error.strerror}. Give the path of a kubeconfig.") from error
    except yaml.YAMLError as error:
        raise KubeConfigError(f"The kubeconfig {path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise KubeConfigError(f"The file {path} is not a kubeconfig: it holds no clusters, users and contexts.")
    return parse(document, path, context)


def parse(document: dict[str, Any], path: str, context: str | None = None) -> Access:
    """Turn the content of a kubeconfig into an Access."""
    wanted = context or document.get("current-context") or ""
    if not wanted:
        raise KubeConfigError(f"The kubeconfig {path} names no current-context; set it with 'kubectl config use-context NAME'.")
    chosen = _named(document, "contexts", "context", wanted, path)
    cluster = _named(document, "clusters", "cluster", str(chosen.get("cluster", "")), path)
    user = _named(document, "users", "user", str(chosen.get("user", "")), path)
    base = os.path.dirname(os.path.abspath(os.path.expanduser(path)))

    server = str(cluster.get("server") or "")
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise KubeConfigError(f"The kubeconfig {path} has the server {server!r}; expected https://ADDRESS:PORT.")
    if user.get("exec"):
        user = {**user, **_run_exec(user["exec"], path)}
    if user.get("auth-provider"):
        user = {**user, **_provider_token(user["auth-provider"], document, base, path)}
    headers = _authorization(user, base, path)
    tls = _tls(cluster, user, base, path) if parts.scheme == "https" else None
    return Access(
        scheme=parts.scheme,
        host=parts.hostname,
        port=parts.port or (443 if parts.scheme == "https" else 80),
        path=parts.path.rstrip("/"),
        context=tls,
        headers=headers,
        proxy=cluster.get("proxy-url") or None,
    )


def _named(document: dict[str, Any], section: str, key: str, name: str, path: str) -> dict[str, Any]:
    for entry in document.get(section) or []:
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry.get(key) or {}
    names = ", ".join(str(entry.get("name")) for entry in document.get(section) or [] if isinstance(entry, dict)) or "none"
    raise KubeConfigError(f"The kubeconfig {path} has no entry {name!r} in {section}; it has: {names}.")


def _authorization(user: dict[str, Any], base: str, path: str) -> dict[str, str]:
    token = user.get("token")
    if not token and user.get("tokenFile"):
        file = os.path.join(base, user["tokenFile"])
        try:
            with open(file, encoding="utf-8") as stream:
                token = stream.read().strip()
        except OSError as error:
            raise KubeConfigError(f"The token file {file} named in {path} can't be read: {error.strerror}.") from error
    if token:
        return {"Authorization": f"Bearer {token}"}
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    return {}


def _material(section: dict[str, Any], key: str, base: str, path: str) -> str | None:
    """The PEM text of KEY-data (base64 in the file) or of the file that KEY names."""
    data = section.get(f"{key}-data")
    if data:
        try:
            return base64.b64decode(data, validate=True).decode("ascii")
        except ValueError as error:
            raise KubeConfigError(f"{key}-data in {path} is not the base64 of a PEM file.") from error
    if section.get(key):
        file = os.path.join(base, section[key])
        try:
            with open(file, encoding="ascii") as stream:
                return stream.read()
        except (OSError, UnicodeDecodeError) as error:
            raise KubeConfigError(f"{key} {file} named in {path} can't be read: {error}.") from error
    return None


def _tls(cluster: dict[str, Any], user: dict[str, Any], base: str, path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        authority = _material(cluster, "certificate-authority", base, path)
        try:
            if authority:
                context.load_verify_locations(cadata=authority)
            else:
                context.load_default_certs()
        except ssl.SSLError as error:
            raise KubeConfigError(f"The certificate-authority of {path} is not a PEM certificate: {error}") from error
    certificate = _material(user, "client-certificate", base, path)
    key = _material(user, "client-key", base, path)
    if certificate and key:
        _load_pair(context, certificate, key, path)
    return context


def _load_pair(context: ssl.SSLContext, certificate: str, key: str, path: str) -> None:
    """OpenSSL takes a key from files only: use one that lives in memory, or a private one removed at once."""
    text = f"{certificate.rstrip()}\n{key.rstrip()}\n".encode("ascii")
    try:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("client", 0)
            try:
                os.write(descriptor, text)
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
            finally:
                os.close(descriptor)
            return
        with tempfile.NamedTemporaryFile() as stream:
            stream.write(text)
            stream.flush()
            context.load_cert_chain(stream.name)
    except (ssl.SSLError, OSError) as error:
        raise KubeConfigError(f"The client certificate and key of {path} don't fit or are not PEM: {error}") from error


def _run_exec(spec: dict[str, Any], path: str) -> dict[str, Any]:
    """Run a credential plugin and return what it gives as entries of a kubeconfig's user."""
    command = [str(spec.get("command", ""))] + [str(argument) for argument in spec.get("args") or []]
    version = spec.get("apiVersion", "client.authentication.k8s.io/v1")
    environment = {**os.environ, **{entry["name"]: entry["value"] for entry in spec.get("env") or []}}
    request = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(request)
    try:
        answer = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60, stdin=subprocess.DEVNULL)
        status = json.loads(answer.stdout)["status"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise KubeConfigError(f"The credential plugin {command[0]!r} of {path} gave no credential: {error}") from error
    result: dict[str, Any] = {}
    if status.get("token"):
        result["token"] = status["token"]
    for ours, theirs in (("client-certificate-data", "clientCertificateData"), ("client-key-data", "clientKeyData")):
        if status.get(theirs):
            result[ours] = base64.b64encode(status[theirs].encode()).decode()
    return result


def _provider_token(provider: dict[str, Any], document: dict[str, Any], base: str, path: str) -> dict[str, Any]:
    """The token of an OIDC provider as an entry of a kubeconfig's user; one that has ended is renewed there and kept, as kubectl does it."""
    name, settings = provider.get("name"), provider.get("config") or {}
    if name != "oidc":
        raise KubeConfigError(
            f"The kubeconfig {path} uses the auth-provider {name}, which Kubernetes removed in 1.26; use client certificates, a token, exec or oidc."
        )
    if not settings.get("id-token"):
        raise KubeConfigError(f"The kubeconfig {path} has no id-token for its auth-provider; log in with the tool that wrote it.")
    try:
        from kubernetes.config import new_client_from_config_dict
    except ImportError as error:
        raise KubeConfigError(
            f"The kubeconfig {path} uses the auth-provider oidc, which needs the Python package kubernetes on the host that runs this module; install it."
        ) from error
    before = dict(settings)
    asked = {**settings, "client-secret": settings.get("client-secret", "")}
    if not settings.get("idp-certificate-authority-data"):
        # Without an authority the package would send secret and token to whoever answers.
        known = ssl.get_default_verify_paths()
        asked["idp-certificate-authority"] = os.path.join(base, settings.get("idp-certificate-authority") or known.cafile or known.openssl_cafile)
    alone = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://unused"}}],
        "users": [{"name": "u", "user": {"auth-provider": {"name": "oidc", "config": asked}}}],
    }
    try:
        found = new_client_from_config_dict(alone, context="c", persist_config=False).configuration.api_key
    except Exception as error:  # pylint: disable=broad-except
        # What the libraries below it raise is theirs; a request may be quoted in it, so only its kind is shown.
        raise KubeConfigError(
            f"The token in {path} has ended, and its provider {settings.get('idp-issuer-url')} gave no new one ({type(error).__name__}); log in anew."
        ) from error
    if not found or _ended(asked["id-token"]):
        raise KubeConfigError(
            f"The token in {path} has ended or is none, and its provider {settings.get('idp-issuer-url')} gave no new one; log in anew."
        )
    for key in ("id-token", "refresh-token"):
        if key in asked:
            settings[key] = asked[key]
    if settings != before:
        _keep(document, path)
    return {"token": settings["id-token"]}


def _ended(token: str) -> bool:
    """Whether the time of a JWT is over."""
    try:
        part = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"]) <= time.time()
    except (IndexError, ValueError, KeyError, TypeError):
        return False


def _keep(document: dict[str, Any], path: str) -> None:
    """Write a kubeconfig back whose tokens were renewed: the provider may take the old ones no more."""
    target = os.path.realpath(os.path.expanduser(path))
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".kubeconfig-")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            yaml.safe_dump(document, stream, sort_keys=False)
        os.replace(temporary, target)
    except OSError as error:
        raise KubeConfigError(
            f"The renewed token can't be written to {path}: {error.strerror}. Make its folder writable, or log in anew before each run."
        ) from error
