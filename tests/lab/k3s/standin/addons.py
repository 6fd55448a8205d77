# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deploy controller: packaged add-ons, own manifests in server/manifests, Addon objects, CRDs."""
from __future__ import annotations

import hashlib
import importlib.resources
import ipaddress
import json
import pathlib
import subprocess
import threading
import time
from typing import Any

from . import lab, log, pki
from .kube import ApiError

# packaged add-on: its file below server/manifests
PACKAGED = {"ccm": "ccm.yaml", "coredns": "coredns.yaml", "local-storage": "local-storage.yaml", "rolebindings": "rolebindings.yaml",
            "traefik": "traefik.yaml", "runtimes": "runtimes.yaml"}
POLL_SECONDS = 15


def template(name: str) -> str:
    """Templates, with several documents and %{NAME}% to fill in: not YAML files as linters know them, hence the suffix."""
    return importlib.resources.files(__package__).joinpath("manifests", f"{name}.tmpl").read_text(encoding="utf-8")


def render(server: Any, name: str) -> str:
    text = template(name)
    images = lab.get("images")
    registry = server.options["system-default-registry"] or ""

    def image(key: str) -> str:
        return f"{registry}/{images[key]}" if registry else images[key]
    values = {
        "CLUSTER_DNS": server.dns, "CLUSTER_DOMAIN": server.domain, "COREDNS_IMAGE": image("coredns"), "TRAEFIK_IMAGE": image("traefik"),
        "SERVICE_CIDR": str(ipaddress.ip_network(server.service_cidr)),
    }
    for key, value in values.items():
        text = text.replace(f"%{{{key}}}%", value)
    return text


def kubectl(server: Any, *arguments: str, data: str | None = None) -> subprocess.CompletedProcess:
    command = [lab.program("kubectl"), f"--kubeconfig={server.cred}/admin.kubeconfig", *arguments]
    return subprocess.run(command, input=data, capture_output=True, text=True, check=False, timeout=120)


def start(server: Any) -> None:
    threading.Thread(target=_run, args=(server,), name="deploy", daemon=True).start()


def _run(server: Any) -> None:
    for attempt in range(20):
        done = kubectl(server, "apply", "--server-side", "--force-conflicts", "--field-manager=k3s", "-f", "-", data=template("crds.yaml"))
        if done.returncode == 0:
            break
        log.debug(f"crds, attempt {attempt}: {done.stderr.strip()}")
        time.sleep(3)
    write_packaged(server)
    state: dict[str, tuple] = {}
    while True:
        try:
            scan(server, state)
        except (ApiError, OSError, subprocess.SubprocessError) as err:
            log.error(f"Failed to process config: {err}")
        time.sleep(POLL_SECONDS if state else 3)


def write_packaged(server: Any) -> None:
    folder = server.dir / "manifests"
    for name, file in PACKAGED.items():
        place = folder / file
        if name in server.disabled:
            remove(server, name, place)
            continue
        data = render(server, file).encode()
        if not place.exists() or place.read_bytes() != data:
            pki.write_private(place, data)
            log.info(f"Writing manifest: {place}")


def remove(server: Any, name: str, place: pathlib.Path) -> None:
    """`disable` uninstalls what an earlier start deployed."""
    path = f"/apis/k3s.cattle.io/v1/namespaces/kube-system/addons/{name}"
    try:
        known = server.client.find(path)
    except ApiError:
        known = None
    if known is not None:
        kubectl(server, "delete", "--ignore-not-found", "--wait=false", "-f", "-", data=render(server, PACKAGED[name]))
        server.client.delete(path)
    place.unlink(missing_ok=True)


def scan(server: Any, state: dict[str, tuple]) -> None:
    folder = server.dir / "manifests"
    for place in sorted(item for item in folder.rglob("*") if item.suffix in (".yaml", ".yml", ".json") and item.is_file()):
        if place.with_name(place.name + ".skip").exists():
            continue
        info = place.stat()
        mark = (info.st_mtime_ns, info.st_size)
        if state.get(str(place)) == mark:
            continue
        if deploy(server, place):
            state[str(place)] = mark


def addon_name(place: pathlib.Path) -> str:
    return place.name.rsplit(".", 1)[0].lower()


def deploy(server: Any, place: pathlib.Path) -> bool:
    data = place.read_bytes()
    checksum = hashlib.sha256(data).hexdigest()
    name = addon_name(place)
    path = f"/apis/k3s.cattle.io/v1/namespaces/kube-system/addons/{name}"
    known = server.client.find(path)
    if known is not None and known.get("spec", {}).get("checksum") == checksum and known.get("status", {}).get("gvks"):
        return True
    done = kubectl(server, "apply", "--server-side", "--force-conflicts", f"--field-manager=deploy@{server.name}", "-o", "json", "-f", str(place))
    if done.returncode:
        log.error(f"Failed to process config: failed to process {place}: {done.stderr.strip()[-500:]}")
        event(server, name, "Warning", "ApplyManifestFailed", f'Applying manifest at "{place}" failed: {done.stderr.strip()[-300:]}')
        return False
    body = {"apiVersion": "k3s.cattle.io/v1", "kind": "Addon", "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"checksum": checksum, "source": str(place)}, "status": {"gvks": kinds(done.stdout)}}
    server.client.apply(path, body, "k3s")
    log.info(f"Applied manifest at {place}")
    return True


def kinds(text: str) -> list[dict[str, str]]:
    out, rest, decoder = [], text.strip(), json.JSONDecoder()
    while rest:
        item, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()
        for row in item.get("items", [item]):
            group, _sep, version = row["apiVersion"].rpartition("/")
            gvk = {"group": group, "version": version, "kind": row["kind"]}
            if gvk not in out:
                out.append(gvk)
    return out


def event(server: Any, name: str, kind: str, reason: str, message: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = {"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": f"{name}.", "namespace": "kube-system"}, "type": kind, "reason": reason,
            "message": message, "firstTimestamp": now, "lastTimestamp": now, "count": 1, "source": {"component": "deploy"},
            "involvedObject": {"apiVersion": "k3s.cattle.io/v1", "kind": "Addon", "name": name, "namespace": "kube-system"}}
    try:
        server.client.call("POST", "/api/v1/namespaces/kube-system/events", body)
    except ApiError as err:
        log.debug(f"event: {err}")
