# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's containerd with k3s' paths; registries.yaml becomes certs.d/*/hosts.toml."""
from __future__ import annotations

import json
import pathlib
import socket
import time
import urllib.parse
from typing import Any

from . import lab, log, miniyaml, pki, proc
from .log import Fatal

SOCKET = "/run/k3s/containerd/containerd.sock"
DEFAULT_ENDPOINTS = {"docker.io": "registry-1.docker.io"}


def toml_text(value: Any) -> str:
    return json.dumps(value)


def containerd_config(agent_dir: pathlib.Path, pause: str, snapshotter: str) -> str:
    limits = lab.get("containerd")
    flags = "\n".join(f"  {key} = {toml_text(value)}" for key, value in limits.items())
    return f"""# Generated at every start of k3s
version = 2
root = "{agent_dir}/containerd"
state = "/run/k3s/containerd"
oom_score = 0

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{agent_dir}/containerd"

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "10010"
  enable_selinux = false
  sandbox_image = "{pause}"
{flags}

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"
  disable_snapshot_annotations = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{lab.get('cni_bin_dir')}"
  conf_dir = "{agent_dir}/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{agent_dir}/etc/containerd/certs.d"
"""


def registry_auth(config: dict) -> str:
    out = []
    for host, row in (config.get("configs") or {}).items():
        auth = (row or {}).get("auth") or {}
        pairs = {"username": "username", "password": "password", "auth": "auth", "identity_token": "identitytoken"}
        rows = [f"  {there} = {toml_text(str(auth[here]))}" for here, there in pairs.items() if auth.get(here)]
        if rows:
            out.append(f'[plugins."io.containerd.grpc.v1.cri".registry.configs."{host}".auth]\n' + "\n".join(rows))
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
    proc.Child("containerd", [lab.get("containerd_bin"), "-c", str(place)], log_file=agent.dir / "containerd" / "containerd.log", env={"GOGC": "60"})
    wait_socket()
    import_images(agent.dir)
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


def import_images(agent_dir: pathlib.Path) -> None:
    """Air gap: tar files in agent/images are imported at start."""
    import subprocess
    folder = agent_dir / "images"
    for item in sorted(folder.glob("*.tar")) if folder.is_dir() else []:
        log.info(f"Importing images from {item}")
        command = ["ctr", "--address", SOCKET, "--namespace", "k8s.io", "images", "import", "--all-platforms", str(item)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            log.error(f"Error encountered while importing {item}: {done.stderr.strip()}")
