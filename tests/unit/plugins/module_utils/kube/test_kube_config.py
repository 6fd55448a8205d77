"""Kubeconfigs of all kinds, and what is said about broken ones."""
from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.cht.k3s.plugins.module_utils.kube import config
from ansible_collections.cht.k3s.plugins.module_utils.kube.config import KubeConfigError


def kubeconfig(user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://[fd00::1]:6443/prefix/", "insecure-skip-tls-verify": True, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}], **more,
    }


def load(tmp_path: Path, document: Any, context: str | None = None) -> config.Access:
    path = tmp_path / "kubeconfig"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return config.load(str(path), context)


def test_address_and_token(tmp_path: Path) -> None:
    access = load(tmp_path, kubeconfig({"token": "t"}))
    assert access.url == "https://[fd00::1]:6443/prefix"
    assert access.headers == {"Authorization": "Bearer t"}


def test_token_file_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    assert load(tmp_path, kubeconfig({"tokenFile": "token"})).headers == {"Authorization": "Bearer from-file"}


def test_basic_authentication(tmp_path: Path) -> None:
    headers = load(tmp_path, kubeconfig({"username": "a", "password": "b"})).headers
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"a:b").decode()


def test_credential_plugin(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text('#!/bin/sh\n[ "$WORD" = w ] && echo \'{"status": {"token": "from-plugin"}}\'\n')
    plugin.chmod(stat.S_IRWXU)
    spec = {"command": str(plugin), "apiVersion": "client.authentication.k8s.io/v1", "env": [{"name": "WORD", "value": "w"}]}
    assert load(tmp_path, kubeconfig({"exec": spec})).headers == {"Authorization": "Bearer from-plugin"}
    with pytest.raises(KubeConfigError, match="gave no credential"):
        load(tmp_path, kubeconfig({"exec": {"command": "/nonexistent"}}))


def test_another_context(tmp_path: Path) -> None:
    document = kubeconfig({"token": "t"})
    document["contexts"].append({"name": "d", "context": {"cluster": "k", "user": "missing"}})
    with pytest.raises(KubeConfigError, match="no entry 'missing' in users; it has: u"):
        load(tmp_path, document, "d")
    with pytest.raises(KubeConfigError, match="no entry 'e' in contexts; it has: c, d"):
        load(tmp_path, document, "e")


@pytest.mark.parametrize(("document", "words"), [
    ("a: [", "is not YAML"), ("text", "is not a kubeconfig"), ({"clusters": []}, "names no current-context"),
    (kubeconfig(cluster={"server": "198.18.0.11"}), "expected https://ADDRESS:PORT"),
    (kubeconfig({"auth-provider": {"name": "oidc"}}), "auth-provider"),
    (kubeconfig(cluster={"insecure-skip-tls-verify": False, "certificate-authority-data": "!!"}), "is not the base64"),
    (kubeconfig(cluster={"insecure-skip-tls-verify": False, "certificate-authority-data": base64.b64encode(b"no").decode()}), "not a PEM certificate"),
    (kubeconfig(cluster={"insecure-skip-tls-verify": False, "certificate-authority": "missing.pem"}), "can't be read"),
    (kubeconfig({"client-certificate-data": base64.b64encode(b"x").decode(), "client-key-data": base64.b64encode(b"y").decode()}), "don't fit or are not PEM"),
    (kubeconfig({"tokenFile": "missing"}), "token file .* can't be read"),
])
def test_broken_files_are_explained(tmp_path: Path, document: Any, words: str) -> None:
    with pytest.raises(KubeConfigError, match=words):
        load(tmp_path, document)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(KubeConfigError, match="can't be read: No such file"):
        config.load(str(tmp_path / "none"))
