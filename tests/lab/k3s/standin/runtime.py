# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containerd, runc and CNI plugins with k3s' paths; registries.yaml becomes certs.d/*/hosts.toml."""
from __future__ import annotations

import hashlib
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.parse
from typing import Any

from . import lab, log, miniyaml, pki, proc, stamp
from .log import Fatal

SOCKET = "/run/k3s/containerd/containerd.sock"
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap", "bandwidth")
DEFAULT_ENDPOINTS = {"docker.io": "registry-1.docker.io"}


def toml_text(value: Any) -> str:
    return json.dumps(value)


def unpack(data: pathlib.Path) -> pathlib.Path:
    """data/HASH/bin and data/cni, as k3s unpacks itself: links to the lab's programs. Returns the folder of the programs."""
    folder = data / "data" / hashlib.sha256(stamp.COMMIT.encode()).hexdigest() / "bin"
    cni = data / "data" / "cni"
    wanted = {folder / name: lab.part("containerd") / name for name in ("containerd", "containerd-shim-runc-v2", "ctr")}
    wanted[folder / "runc"] = lab.part("runc") / "runc"
    wanted |= {cni / name: lab.part("containerd") / name for name in CNI_PLUGINS}
    wanted[data / "data" / "current"] = folder.parent
    for link, target in wanted.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink() or os.readlink(link) != str(target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return folder


def containerd_config(agent_dir: pathlib.Path, pause: str, snapshotter: str) -> str:
    limits = lab.get("containerd")
    flags = "\n".join(f"  {key} = {toml_text(value)}" for key, value in limits.items())
    return f"""# Generated at every start of k3s
version = 3
root = "{agent_dir}/containerd"
state = "/run/k3s/containerd"
oom_score = 0

[grpc]
  address = "{SOCKET}"

[plugins.'io.containerd.internal.v1.opt']
  path = "{agent_dir}/containerd"

[plugins.'io.containerd.grpc.v1.cri']
  stream_server_address = "127.0.0.1"
  stream_server_port = "10010"

[plugins.'io.containerd.cri.v1.runtime']
  enable_selinux = false
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
{flags}

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "{snapshotter}"
  disable_snapshot_annotations = true
  use_local_image_pull = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["{agent_dir.parent}/data/cni"]
  conf_dir = "{agent_dir}/etc/cni/net.d"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "{agent_dir}/etc/containerd/certs.d"
"""


def registry_auth(config: dict) -> str:
    out = []
    for host, row in (config.get("configs") or {}).items():
        auth = (row or {}).get("auth") or {}
        pairs = {"username": "username", "password": "password", "auth": "auth", "identity_token": "identitytoken"}
        rows = [f"  {there} = {toml_text(str(auth[here]))}" for here, there in pairs.items() if auth.get(here)]
        if rows:
            out.append(f"[plugins.'io.containerd.cri.v1.images'.registry.configs.\"{host}\".auth]\n" + "\n".join(rows))
    return "\n\n".join(out)


def hosts_toml(registry: str, endpoints: list[str], rewrites: dict[str, str], config: dict) -> str:
    server = DEFAULT_ENDPOINTS.get(registry, registry)
    lines = [] if registry in ("*", "_default") else [f'server = "https://{server}/v2"', 'capabilities = ["pull", "resolve", "push"]', ""]
    for endpoint in endpoints:
        parts = urllib.parse.urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        path = parts.path.rstrip("/")
        lines.append(f'[host."{parts.scheme}://{parts.netloc}{path or "/v2"}"]')
        lines.append('  capabilities = ["pull", "resolve"]')
        lines.append("  override_path = true")
        tls = ((config.get("configs") or {}).get(parts.netloc) or {}).get("tls") or {}
        if tls.get("ca_file"):
            lines.append(f"  ca = {toml_text(tls['ca_file'])}")
        if tls.get("cert_file") and tls.get("key_file"):
            lines.append(f"  client = [[{toml_text(tls['cert_file'])}, {toml_text(tls['key_file'])}]]")
        if tls.get("insecure_skip_verify"):
            lines.append("  skip_verify = true")
        if rewrites:
            lines.append(f'[host."{parts.scheme}://{parts.netloc}{path or "/v2"}".rewrite]')
            lines += [f"  {toml_text(key)} = {toml_text(value)}" for key, value in rewrites.items()]
    return "\n".join(lines) + "\n"


def read_registries(place: pathlib.Path) -> dict:
    if not place.exists():
        return {}
    try:
        return miniyaml.load(place.read_text(encoding="utf-8")) or {}
    except miniyaml.YamlError as err:
        raise Fatal(f"Error: failed to parse {place}: yaml: {err}") from None


def write_hosts(agent_dir: pathlib.Path, config: dict) -> None:
    root = agent_dir / "etc" / "containerd" / "certs.d"
    wanted = {}
    for name, row in (config.get("mirrors") or {}).items():
        row = row or {}
        folder = "_default" if name == "*" else name
        wanted[folder] = hosts_toml(name, row.get("endpoint") or [], row.get("rewrite") or {}, config)
    for name in config.get("configs") or {}:
        if name not in wanted and "." in name:
            wanted[name] = hosts_toml(name, [f"https://{name}"], {}, config)
    root.mkdir(parents=True, exist_ok=True)
    for old in root.iterdir():
        if old.name not in wanted:
            (old / "hosts.toml").unlink(missing_ok=True)
            old.rmdir()
    for name, text in wanted.items():
        pki.write_private(root / name / "hosts.toml", text.encode())


def start(agent: Any) -> None:
    options = agent.options
    if options["container-runtime-endpoint"]:
        return
    if options["docker"]:
        log.warning("cri-dockerd is not part of the lab's k3s stand-in; containerd runs in its place")
    config = read_registries(pathlib.Path(options["private-registry"]))
    write_hosts(agent.dir, config)
    (agent.dir / "etc" / "cni" / "net.d").mkdir(parents=True, exist_ok=True)
    pause = options["pause-image"]
    registry = options["system-default-registry"] or agent.config.get("system-default-registry") or ""
    if registry:
        pause = f"{registry}/{pause}"
    elif "/" not in pause or "." not in pause.split("/")[0]:
        pause = f"docker.io/{pause}"
    place = agent.dir / "etc" / "containerd" / "config.toml"
    text = containerd_config(agent.dir, pause, options["snapshotter"])
    auth = registry_auth(config)
    pki.write_private(place, (text + ("\n" + auth + "\n" if auth else "")).encode())
    pathlib.Path("/run/k3s/containerd").mkdir(parents=True, exist_ok=True)
    log.info(f"Running containerd -c {place}")
    folder = unpack(agent.data)
    path = f"{folder}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
    proc.Child("containerd", [str(folder / "containerd"), "-c", str(place)], log_file=agent.dir / "containerd" / "containerd.log",
               env={"GOGC": "60", "PATH": path})
    wait_socket()
    import_images(agent.dir, folder)
    log.info("containerd is now running")


def wait_socket() -> None:
    for _attempt in range(600):
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(SOCKET)
                return
            except OSError:
                time.sleep(0.2)
    raise Fatal("containerd exited: failed to wait for containerd socket")


def import_images(agent_dir: pathlib.Path, programs: pathlib.Path) -> None:
    """Air gap: tar files in agent/images are imported at start."""
    folder = agent_dir / "images"
    for item in sorted(folder.glob("*.tar")) if folder.is_dir() else []:
        log.info(f"Importing images from {item}")
        command = [str(programs / "ctr"), "--address", SOCKET, "--namespace", "k8s.io", "images", "import", "--all-platforms", str(item)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            log.error(f"Error encountered while importing {item}: {done.stderr.strip()}")
