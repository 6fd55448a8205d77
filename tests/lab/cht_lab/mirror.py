"""The mirror: release files over HTTP, laid out like the pages they come from, and a read-only registry of images."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from . import image, images, k3s, paths, tools
from .shell import run, say

HTTP_PORT = 8080
REGISTRY_PORT = 5000
WWW = paths.MIRROR / "www"
MANIFESTS = paths.CACHE / "manifests"

# Where the same file has two names: the short one, and the path that it has at its origin.
ALIASES = {
    "/k3s-io/k3s/releases/download/": "/k3s/",
    "/kubernetes/cloud-provider-vsphere/": "/cpi/",
    "/kubernetes-sigs/vsphere-csi-driver/": "/csi/",
    "/kubernetes-csi/external-snapshotter/": "/snapshotter/",
}
# A document of CHT's builds server (builds_url of a county: http://MIRROR:8080/builds).
BUILD = re.compile(r"^/builds/(?P<id>medic:medic:(?P<version>\d+\.\d+\.\d+))$")
MODULES = {
    "cpi": ("kubernetes", "k8s.io/cloud-provider-vsphere", "v1.36.0", "releases"),
    "csi": ("csi", "sigs.k8s.io/vsphere-csi-driver/v3", "v3.3.1", "manifests/vanilla"),
}
# Where the files of the snapshot-controller lie on the mirror; its CRDs come in the module of its client.
_SNAPSHOTTER = "github.com/kubernetes-csi/external-snapshotter"
SNAPSHOTTER = (
    (f"{_SNAPSHOTTER}/client/v8", "config/crd", "v{version}/client/config/crd"),
    (f"{_SNAPSHOTTER}/v8", "deploy/kubernetes/snapshot-controller", "v{version}/deploy/kubernetes/snapshot-controller"),
)


def module_files(name: str) -> Path:
    """The manifests that come inside a Go module, copied to the cache once."""
    source, module, version, folder = MODULES[name]
    target = MANIFESTS / name / version
    if target.is_dir():
        return target
    with image.locked(f"manifests-{name}"):
        if target.is_dir():
            return target
        place = tools.module(source, module)
        work = target.with_name(target.name + ".part")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(place / folder, work / folder)
        run(["chmod", "-R", "u+w", work])
        work.rename(target)
    return target


def _upstream(www: Path) -> None:
    """Manifests of other versions that lie beside the checkout, where somebody put them."""
    folder = paths.PROJECT.parent / "shared" / "upstream" / "csi"
    for file in sorted(folder.glob("v*-*.yaml")) if folder.is_dir() else []:
        version, name = file.name.split("-", 1)
        target = www / "csi" / version / "manifests/vanilla" / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _snapshotter(www: Path) -> None:
    """The manifests of the snapshot-controller."""
    for module, folder, place in SNAPSHOTTER:
        target = www / "snapshotter" / place.format(version=tools.TOOLS["snapshotter"].version)
        if not target.is_dir():
            shutil.copytree(tools.module("snapshotter", module) / folder, target)


def fetch(csi: bool = False) -> None:
    """Get what comes from the internet. Inside the lab's network there is none."""
    for name in MODULES:
        module_files(name)
    if csi:
        from . import csi_proto  # pylint: disable=import-outside-toplevel

        csi_proto.files()
        for module, _folder, _place in SNAPSHOTTER:
            tools.module("snapshotter", module)


def _release(www: Path, version: str, data: bytes) -> None:
    folder = www / "k3s" / version
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "k3s"
    if program.exists() and program.read_bytes() == data:
        return
    part = folder / "k3s.part"
    part.write_bytes(data)
    part.chmod(0o755)
    (folder / "sha256sum-amd64.txt").write_text(f"{hashlib.sha256(data).hexdigest()}  k3s\n", encoding="ascii")
    part.rename(program)


def prepare(csi: bool = False, stub_time: float = 1) -> None:
    """Lay out all files. Repeating it brings a changed stand-in into the mirror while it runs."""
    WWW.mkdir(parents=True, exist_ok=True)
    k3s.lay_out(partial(_release, WWW))
    for name in MODULES:
        target = WWW / name / MODULES[name][2]
        if not target.is_dir():
            work = target.with_name(target.name + ".part")
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(module_files(name), work)
            work.rename(target)
    _upstream(WWW)
    if csi:
        _snapshotter(WWW)
    started = time.monotonic()
    registry = {name: images.manifest(item).decode() for name, item in images.catalogue(csi).items()}
    (paths.MIRROR / "registry.json").write_text(json.dumps(registry), encoding="utf-8")
    (paths.MIRROR / "stubs.json").write_text(json.dumps({"time": stub_time}), encoding="utf-8")
    images.cht_layer()
    images.haproxy_layer()
    if time.monotonic() - started > 2:
        say(f"images: made in {time.monotonic() - started:.1f} s")


def builds(version: str) -> list[dict[str, str]]:
    """The containers of a version of CHT, as its builds server names them."""
    names = ("cht-api", "cht-sentinel", "cht-haproxy", "cht-haproxy-healthcheck", "cht-couchdb")
    return [{"container_name": name, "image": f"public.ecr.aws/medic/{name}:{version}"} for name in names]


class Files(SimpleHTTPRequestHandler):
    """The release pages."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer for CHT's builds server, too: every version is built, and a version's images have its number."""
        build = BUILD.match(unquote(urlsplit(self.path).path))
        if build is None:
            super().do_GET()
            return
        data = json.dumps({"_id": build["id"], "version": build["version"], "tags": builds(build["version"])}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def translate_path(self, path: str) -> str:
        """Both names of a file lead to it."""
        for long, short in ALIASES.items():
            if path.startswith(long):
                path = short + path.removeprefix(long)
        return super().translate_path(path)


class Registry(SimpleHTTPRequestHandler):
    """The pull side of the OCI distribution API."""

    protocol_version = "HTTP/1.1"
    ROUTE = re.compile(r"^/v2/(?P<name>[a-z0-9._/-]+)/(?P<kind>manifests|blobs)/(?P<reference>[A-Za-z0-9_.:-]+)$")
    DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")

    def do_GET(self) -> None:
        """Answer a pull."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without the content."""
        self._answer(body=False)

    def _send(self, status: int, kind: str, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        if path in {"/v2", "/v2/"}:
            self._send(200, "application/json", b"{}", {"Docker-Distribution-Api-Version": "registry/2.0"}, body)
            return
        match = self.ROUTE.match(path)
        if match and match["kind"] == "manifests":
            data = find_manifest(match["name"], match["reference"])
            if data is not None:
                digest = "sha256:" + hashlib.sha256(data).hexdigest()
                self._send(200, images.MANIFEST_TYPE, data, {"Docker-Content-Digest": digest}, body)
                return
        elif match and self.DIGEST.match(match["reference"]) and images.blob(match["reference"]).exists():
            self._blob(images.blob(match["reference"]), match["reference"], body)
            return
        code = "BLOB_UNKNOWN" if match and match["kind"] == "blobs" else "MANIFEST_UNKNOWN"
        error = json.dumps({"errors": [{"code": code, "message": f"the lab has no {path}"}]}).encode()
        self._send(404, "application/json", error, {}, body)

    def _blob(self, file: Path, digest: str, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(file.stat().st_size))
        self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if body:
            with open(file, "rb") as stream:
                shutil.copyfileobj(stream, self.wfile, 1 << 20)


def packed_by_k3s(repository: str, registry: dict[str, str]) -> str:
    """The lab's own tag of an image that k3s brings along."""
    known = [name for name in registry if name.startswith(f"{repository}:")] if repository.endswith(("pause", "coredns", "traefik")) else []
    return known[0] if known else ""


def find_manifest(name: str, reference: str) -> bytes | None:
    """A manifest by tag or digest; real images first, then stubs."""
    if reference.startswith("sha256:"):
        file = images.blob(reference)
        return file.read_bytes() if Registry.DIGEST.match(reference) and file.exists() else None
    registry = json.loads((paths.MIRROR / "registry.json").read_text(encoding="utf-8"))
    # A k3s that was given names tags of its own for what it packs; the program is the lab's all the same.
    real = registry.get(f"{name}:{reference}") or (registry.get(packed_by_k3s(name, registry)) if name.startswith("rancher/mirrored-") else None)
    if real is not None:
        return real.encode()
    item = images.stub(name, reference, **json.loads((paths.MIRROR / "stubs.json").read_text(encoding="utf-8")))
    return images.manifest(item) if item else None


class Server(ThreadingHTTPServer):
    """Many nodes pull at once."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to report."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            print(f"{client_address}: {error!r}", flush=True)


def main(address: str) -> None:
    """Serve until ended."""
    files = Server((address, HTTP_PORT), partial(Files, directory=str(WWW)))
    registry = Server((address, REGISTRY_PORT), Registry)
    threading.Thread(target=registry.serve_forever, daemon=True).start()
    print("mirror: ready", flush=True)
    files.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
