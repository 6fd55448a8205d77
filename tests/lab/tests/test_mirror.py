"""The registry answers as the distribution API says; the mirror has both names of a file."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cht_lab import images, k3s, mirror, paths
from cht_lab.shell import LabError


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.client.HTTPConnection]:
    monkeypatch.setattr(images, "BLOBS", tmp_path / "blobs")
    monkeypatch.setattr(paths, "MIRROR", tmp_path)
    stub = images.layer("stub-test", {"stub": b"#!/bin/sh\n", "bin/sh": "busybox"})
    for name in ("stub_layer", "cht_layer", "haproxy_layer"):
        monkeypatch.setattr(images, name, lambda: stub)
    real = images.manifest(images.Image(images.layer("real", {"bin/program": b"x" * 1000}), ("/bin/program",)))
    (tmp_path / "registry.json").write_text(json.dumps({"real/program:v1": real.decode()}), encoding="utf-8")
    (tmp_path / "stubs.json").write_text(json.dumps({"time": 0.5}), encoding="utf-8")
    server = mirror.Server(("127.0.0.1", 0), mirror.Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    yield connection
    connection.close()
    server.shutdown()
    server.server_close()


def get(connection: http.client.HTTPConnection, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    connection.request(method, path)
    answer = connection.getresponse()
    return answer, answer.read()


def test_a_pull_from_manifest_to_layer(registry: http.client.HTTPConnection) -> None:
    assert get(registry, "/v2/")[0].status == 200
    answer, data = get(registry, "/v2/real/program/manifests/v1?ns=registry.k8s.io")
    assert answer.status == 200
    assert answer.getheader("Content-Type") == images.MANIFEST_TYPE
    digest = answer.getheader("Docker-Content-Digest")
    assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert get(registry, f"/v2/real/program/manifests/{digest}")[1] == data
    head, nothing = get(registry, "/v2/real/program/manifests/v1", "HEAD")
    assert (head.getheader("Docker-Content-Digest"), nothing) == (digest, b"")
    manifest = json.loads(data)
    for part in [manifest["config"], *manifest["layers"]]:
        _answer, blob = get(registry, f"/v2/real/program/blobs/{part['digest']}")
        assert len(blob) == part["size"]
        assert part["digest"] == "sha256:" + hashlib.sha256(blob).hexdigest()
    config = json.loads(get(registry, f"/v2/real/program/blobs/{manifest['config']['digest']}")[1])
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]


@pytest.mark.parametrize(("name", "entrypoint", "stop"), [("cht-api", "/cht", ""), ("cht-haproxy", "/start", "SIGUSR1"), ("csi-resizer", "/stub", "")])
def test_stubs_exist_under_any_tag_and_say_who_they_are(registry: http.client.HTTPConnection, name: str, entrypoint: str, stop: str) -> None:
    data = get(registry, f"/v2/medic/{name}/manifests/5.1.0")[1]
    digest = json.loads(data)["config"]["digest"]
    config = json.loads(get(registry, f"/v2/medic/{name}/blobs/{digest}")[1])["config"]
    assert {f"STUB={name}", "STUB_TAG=5.1.0", "STUB_TIME=0.5"} <= set(config["Env"])
    assert (config["Entrypoint"], config.get("StopSignal", "")) == ([entrypoint], stop)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/no/such/manifests/1",
        "/v2/real/program/manifests/v2",
        "/v2/real/program/blobs/sha256:" + "0" * 64,
        "/v2/real/program/blobs/sha256:..%2f..%2fregistry.json",
        "/v2/real/program/manifests/sha256:../../etc/passwd",
    ],
)
def test_what_is_not_there_is_not_found(registry: http.client.HTTPConnection, path: str) -> None:
    answer, data = get(registry, path)
    assert answer.status == 404
    assert json.loads(data)["errors"][0]["code"].endswith("_UNKNOWN")


def test_layers_are_the_same_bytes_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BLOBS", tmp_path / "blobs")
    files: dict[str, Path | bytes | str] = {"a/b/c": b"text", "link": "a/b/c"}
    first = images.layer("one", files)
    assert images.layer("two", files) == first
    with tarfile.open(fileobj=io.BytesIO(images.blob(first).read_bytes())) as archive:
        names = {item.name: item for item in archive}
    assert names["a/b/c"].mode == 0o755 and names["link"].linkname == "a/b/c" and names["tmp"].mode == 0o1777
    assert all(item.mtime == 0 and item.uid == 0 for item in names.values())


@pytest.mark.parametrize("name", ["k3s", "a-k3s-of-mine"])
def test_a_given_k3s_is_laid_out_under_the_release_that_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    given = tmp_path / name
    given.write_text("#!/bin/sh\necho \"$(basename $0) version v1.35.1+k3s1 (0123abcd)\"\necho 'go version go1.25.1'\n", encoding="ascii")
    given.chmod(0o755)
    monkeypatch.setenv("LAB_K3S", str(given))
    old = tmp_path / f"{name}-old"
    old.write_text(given.read_text(encoding="ascii").replace("v1.35.1", "v1.34.4"), encoding="ascii")
    old.chmod(0o755)
    monkeypatch.setenv("LAB_K3S_OLD", str(old))
    monkeypatch.setattr(paths, "MIRROR", tmp_path)
    k3s.lay_out(partial(mirror._release, tmp_path / "www"))
    assert (tmp_path / "www/k3s/v1.35.1+k3s1/k3s").read_bytes() == given.read_bytes()
    assert (tmp_path / "www/k3s/v1.34.4+k3s1/k3s").read_bytes() == old.read_bytes()
    listing = (tmp_path / "www/k3s/v1.35.1+k3s1/sha256sum-amd64.txt").read_text(encoding="ascii")
    assert listing == f"{hashlib.sha256(given.read_bytes()).hexdigest()}  k3s\n"
    assert k3s.releases() == k3s.Releases("v1.35.1+k3s1", "v1.34.4+k3s1")
    monkeypatch.delenv("LAB_K3S")
    with pytest.raises(LabError, match="LAB_K3S must name"):
        k3s.given()
    monkeypatch.delenv("LAB_K3S_OLD")
    assert k3s.releases() == k3s.Releases("v1.35.1+k3s1", "v1.34.4+k3s1"), "the lab that is up has them still"


def test_what_a_given_k3s_packs_has_the_labs_programs(registry: http.client.HTTPConnection, tmp_path: Path) -> None:
    note = tmp_path / "registry.json"
    held = json.loads(note.read_text(encoding="utf-8"))
    note.write_text(json.dumps({**held, "rancher/mirrored-coredns-coredns:1.14.3": held["real/program:v1"]}), encoding="utf-8")
    assert get(registry, "/v2/rancher/mirrored-coredns-coredns/manifests/1.13.1")[0].status == 200
    assert get(registry, "/v2/real/program/manifests/v2")[0].status == 404


def test_release_files_have_their_checksum_and_both_names(tmp_path: Path) -> None:
    mirror._release(tmp_path, "v1.34.4+k3s1", b"program")
    server = mirror.Server(("127.0.0.1", 0), partial(mirror.Files, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    for base in ("/k3s/v1.34.4%2Bk3s1", "/k3s-io/k3s/releases/download/v1.34.4%2Bk3s1"):
        assert get(connection, f"{base}/k3s")[1] == b"program"
        assert get(connection, f"{base}/sha256sum-amd64.txt")[1].decode() == hashlib.sha256(b"program").hexdigest() + "  k3s\n"
    assert get(connection, "/k3s/v1.34.3%2Bk3s1/k3s")[0].status == 404
    build = json.loads(get(connection, "/builds/medic:medic:4.23.0?attachments=true")[1])
    assert build["version"] == "4.23.0" and {"container_name": "cht-api", "image": "public.ecr.aws/medic/cht-api:4.23.0"} in build["tags"]
    assert get(connection, "/builds/medic:medic:master")[0].status == 404
    connection.close()
    server.shutdown()
    server.server_close()
