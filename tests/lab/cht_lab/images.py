"""Container images without docker: layers are plain tar files of programs, manifests a few lines of JSON.

Real programs get an image of their own. What can't be had runs the stub, a shell script on busybox that answers on the ports of what it stands for;
the same layer serves all of them, and the image's environment says which one it is.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import image, paths, tools
from .shell import LabError, run, say

BLOBS = paths.CACHE / "blobs"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"

STUB_SCRIPT = r"""#!/bin/sh
# Stands for an image that the lab can't have. STUB: its name, STUB_TAG: its tag.
case "$*" in *--mode=kubelet-registration-probe*) exit 0 ;; esac
say() { echo "stub of $STUB:$STUB_TAG: $*"; }
trap 'say "ends"; exit 0' TERM INT
www=/tmp/www
mkdir -p $www/api/v1 $www/api/v2 $www/setup 2>/dev/null || www=/www
port=
case "$STUB" in
cht-api) port=${API_PORT:-5988} ;;
cht-haproxy) port=${HAPROXY_PORT:-5984} ;;
cht-haproxy-healthcheck) port=5555 ;;
cht-couchdb) port=5984 ;;
cht-couchdb-nouveau) port=5987 ;;
upgrade-service) port=${UPGRADE_SERVICE_PORT:-5008} ;;
livenessprobe) port=9808 ;;
web) port=8080 ;;
esac
# A Service of the same name makes kubelet set API_PORT=tcp://...: what the manifest should have kept out.
case "$port" in tcp://*) say "port is $port: service links hide the value of the manifest"; exit 1 ;; esac
if [ "$STUB" = livenessprobe ]; then
    for arg in "$@"; do case "$arg" in --health-port=*) port=${arg#*=} ;; --http-endpoint=*) port=${arg##*:} ;; esac; done
fi
if [ "$www" != /www ]; then
    echo "$STUB $STUB_TAG on $(hostname)" > $www/index.html
    echo '{"version": "0.1.0"}' > $www/api/info
    echo '{"completed": true, "progress": []}' > $www/api/v1/startup-progress
    echo "{\"version\": {\"app\": \"$STUB_TAG\"}}" > $www/api/v2/monitoring
    echo '{"ready": true}' > $www/setup/poll
    echo '{"status": "ok"}' > $www/_up
    nodes= n=1
    while [ "$n" -le "${NODE_COUNT:-1}" ]; do nodes="$nodes${nodes:+, }\"couchdb@couchdb-$n.${SVC_NAME#*.}\""; n=$((n + 1)); done
    echo "{\"all_nodes\": [$nodes], \"cluster_nodes\": [$nodes]}" > $www/_membership
    echo ok > $www/healthz
fi
# A database's volume keeps a line for each start: tests see that data survives, and whose it is.
if [ "$STUB" = cht-couchdb ] && [ -d /opt/couchdb/data ]; then
    echo "$(date -u +%FT%TZ) $(hostname) $STUB_TAG" >> /opt/couchdb/data/stub-starts && say "data has $(wc -l < /opt/couchdb/data/stub-starts) starts"
fi
if [ -n "$port" ]; then
    say "answers on $port"
    httpd -f -p "$port" -h $www &
else
    say "sleeps"
fi
while :; do sleep 86400 & wait $!; done
"""


def leased(lease: str, program: str, pause: int, first: str = "") -> str:
    """A script that starts a program in the one pod that holds a Lease. vCenter's simulator serves the updates of the client that came last only."""
    return rf"""#!/bin/sh
{first}account=/var/run/secrets/kubernetes.io/serviceaccount
lease=https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/apis/coordination.k8s.io/v1/namespaces/$CSI_NAMESPACE/leases/{lease}
trap 'exit 0' TERM INT
echo "waits for the Lease {lease}"
until curl -s -m 5 --cacert $account/ca.crt -H "Authorization: Bearer $(cat $account/token)" "$lease" | grep -q "\"holderIdentity\": *\"$(hostname)\""; do
    sleep {pause} & wait $!
done
exec {program} "$@"
"""


# The node plugin, which has the same image, is a stub.
CSI_SCRIPT = leased("lab-csi-controller", "/vsphere-csi", 2, '[ "$X_CSI_MODE" = controller ] || exec /stub "$@"\n')
# A stub until a test names its pod.
SYNCER_SCRIPT = leased("lab-csi-syncer", "/syncer", 5)

PAUSE_SCRIPT = "#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 2147483 & wait $!; done\n"

# Last part of a repository's name -> what the stub is then. Any tag of them exists; nothing else does.
STUBS = {
    "cht-api": "cht-api", "cht-sentinel": "cht-sentinel", "cht-haproxy": "cht-haproxy", "cht-haproxy-healthcheck": "cht-haproxy-healthcheck",
    "cht-couchdb": "cht-couchdb", "cht-couchdb-nouveau": "cht-couchdb-nouveau", "upgrade-service": "upgrade-service",
    "csi-attacher": "csi-attacher", "csi-resizer": "csi-resizer", "csi-provisioner": "csi-provisioner", "csi-snapshotter": "csi-snapshotter",
    "snapshot-controller": "snapshot-controller", "livenessprobe": "livenessprobe", "csi-node-driver-registrar": "csi-node-driver-registrar",
    "driver": "csi-driver", "syncer": "csi-syncer", "mirrored-cloud-provider-vsphere-csi-release-driver": "csi-driver",
    "mirrored-cloud-provider-vsphere-csi-release-syncer": "csi-syncer", "web": "web",
}  # fmt: skip


@dataclass(frozen=True)
class Image:
    """A real image: one layer and how it starts."""

    layer: str
    entrypoint: tuple[str, ...]
    env: tuple[str, ...] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    user: str = ""


def _blob(data: bytes) -> str:
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    target = BLOBS / digest.removeprefix("sha256:")
    if not target.exists():
        BLOBS.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        part.write_bytes(data)
        part.rename(target)
    return digest


def _info(name: str, size: int, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name.lstrip("/"))
    info.size, info.mode = size, mode
    return info


def layer(name: str, files: Mapping[str, Path | bytes | str], folders: Sequence[str] = ("tmp", "etc")) -> str:
    """A layer of files: a path is copied, bytes are written, text is a link. Kept under a name, which must change with the content."""
    note = BLOBS / f"layer-{name}"
    if note.exists() and (BLOBS / note.read_text(encoding="ascii")).exists():
        return "sha256:" + note.read_text(encoding="ascii")
    BLOBS.mkdir(parents=True, exist_ok=True)
    part = BLOBS / f"layer-{name}.part"
    made: set[str] = set()
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:

        def folder(path: str) -> None:
            if path in made or path in {"", "."}:
                return
            folder(str(Path(path).parent))
            made.add(path)
            info = _info(path, 0, 0o1777 if path == "tmp" else 0o755)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)

        for path in folders:
            folder(path)
        for path, content in files.items():
            folder(str(Path(path.lstrip("/")).parent))
            if isinstance(content, Path):
                with open(content, "rb") as stream:
                    archive.addfile(_info(path, content.stat().st_size, 0o755), stream)
            elif isinstance(content, bytes):
                archive.addfile(_info(path, len(content), 0o755), io.BytesIO(content))
            else:
                info = _info(path, 0, 0o777)
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
    with open(part, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    part.rename(BLOBS / digest)
    note.write_text(digest, encoding="ascii")
    return "sha256:" + digest


def libraries(program: Path) -> dict[str, Path]:
    """What a dynamically linked program needs, from the nodes' image and not from this machine; nothing for a static one."""
    root = image.ensure()
    folders = [root / "lib/x86_64-linux-gnu", root / "usr/lib/x86_64-linux-gnu"]
    loader = folders[0] / "ld-linux-x86-64.so.2"
    listing = run([loader, "--library-path", ":".join(str(folder) for folder in folders), "--list", program], check=False)
    if listing.returncode:
        return {}
    found = {"/lib64/ld-linux-x86-64.so.2": loader.resolve()}
    for line in listing.stdout.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow and rest.startswith(str(root)) and not name.startswith("/"):
            found[f"/lib/x86_64-linux-gnu/{name}"] = Path(rest.split(" (")[0]).resolve()
    return found


def program_layer(name: str, program: Path, target: str) -> str:
    """A layer with one program and its libraries, as an image made from scratch has it."""
    stat = program.stat()
    return layer(f"{name}-{stat.st_size}-{int(stat.st_mtime)}", {target: program, **libraries(program)})


def _stub_files() -> dict[str, Path | bytes | str]:
    busybox = image.ensure() / "bin/busybox"
    if not busybox.exists():
        raise LabError(f"{busybox} is missing: remove {image.path()} and run `lab up` again")
    files: dict[str, Path | bytes | str] = {"bin/busybox": busybox}
    for applet in run([busybox, "--list"]).stdout.split():
        if applet != "busybox":
            files[f"bin/{applet}"] = "busybox"
    files["stub"] = STUB_SCRIPT.encode()
    files["pause"] = PAUSE_SCRIPT.encode()
    files["csi-node-driver-registrar"] = "stub"
    files["www/index.html"] = b"stub\n"
    files["www/healthz"] = b"ok\n"
    files["www/_up"] = b'{"status": "ok"}\n'
    files["www/api/info"] = b'{"version": "0.1.0"}\n'
    files["etc/passwd"] = b"root:x:0:0:root:/:/bin/sh\n"
    return files


def client_layer() -> str:
    """busybox and curl, for pods that ask others. busybox' own wget and nc can't look a name up without the system's libraries."""
    curl = image.ensure() / "usr/bin/curl"
    mark = hashlib.sha256((image.recipe() + PAUSE_SCRIPT).encode()).hexdigest()[:12]
    return layer(f"client-{mark}", {**_stub_files(), "bin/curl": curl, **libraries(curl)})


def csi_layer(name: str, script: str) -> str:
    """A real program of CSI with the script that starts it."""
    program, curl = tools.program(name), image.ensure() / "usr/bin/curl"
    mark = hashlib.sha256(f"{STUB_SCRIPT}{script}{image.recipe()}{program.stat().st_mtime}".encode()).hexdigest()[:12]
    return layer(f"{name}-{mark}", {**_stub_files(), "start": script.encode(), name: program, "bin/curl": curl, **libraries(curl)})


def stub_layer() -> str:
    """The one layer of all stubs."""
    mark = hashlib.sha256((STUB_SCRIPT + PAUSE_SCRIPT + "1").encode()).hexdigest()[:12]
    return layer(f"stub-{mark}", _stub_files())


def manifest(item: Image) -> bytes:
    """The manifest of an image; its configuration is stored as a blob."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": list(item.env), "Entrypoint": list(item.entrypoint), "WorkingDir": "/", "User": item.user},
        "rootfs": {"type": "layers", "diff_ids": [item.layer]},
        "history": [{"created_by": "cht.k3s lab"}],
    }
    data = json.dumps(config, sort_keys=True).encode()
    body = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "size": len(data), "digest": _blob(data)},
        "layers": [{"mediaType": LAYER_TYPE, "size": blob(item.layer).stat().st_size, "digest": item.layer}],
    }
    text = json.dumps(body, sort_keys=True).encode()
    _blob(text)
    return text


def blob(digest: str) -> Path:
    """The file of a blob."""
    return BLOBS / digest.removeprefix("sha256:")


def catalogue(csi: bool = False) -> dict[str, Image]:
    """The real images, by repository and tag, without the registry's host as containerd asks a mirror for them."""
    stub = stub_layer()
    base = Image(stub, ("/pause",))
    ccm = tools.program("vsphere-cloud-controller-manager")
    cpi = Image(program_layer("cpi", ccm, "bin/vsphere-cloud-controller-manager"), ("/bin/vsphere-cloud-controller-manager",))
    client = Image(client_layer(), ("/bin/sh",))
    dns = Image(program_layer("coredns", tools.program("coredns"), "coredns"), ("/coredns",))
    result = {
        "rancher/mirrored-pause:3.6": base,
        "pause:3.6": base,
        "cloud-pv-vsphere/cloud-provider-vsphere:v1.36.0": cpi,
        "rancher/mirrored-cloud-provider-vsphere:v1.36.0": cpi,
        "rancher/mirrored-coredns-coredns:1.14.3": dns,
        "coredns/coredns:v1.14.3": dns,
        "lab/empty:1": Image(layer("empty-1", {"empty": b""}), ("/empty",)),
        "lab/client:1": client,
        "lab/busybox:1": client,
        "library/busybox:latest": client,
        "rancher/mirrored-library-busybox:1.37.0": client,
    }
    if csi:
        for name, program, script in (("driver", "vsphere-csi", CSI_SCRIPT), ("syncer", "syncer", SYNCER_SCRIPT)):
            real = Image(csi_layer(program, script), ("/start",), ("PATH=/bin", f"STUB=csi-{name}", "STUB_TAG=v3.3.1"))
            result[f"csi-vsphere/{name}:v3.3.1"] = real
        controller = program_layer("snapshotter", tools.program("snapshot-controller"), "snapshot-controller")
        result["sig-storage/snapshot-controller:v8.2.0"] = Image(controller, ("/snapshot-controller",))
    traefik = tools.TOOLS["traefik"]
    if (traefik.folder / "traefik").exists():
        web = Image(program_layer("traefik", traefik.folder / "traefik", "traefik"), ("/traefik",))
        result["rancher/mirrored-library-traefik:3.6.12"] = web
    return result


def stub(repository: str, tag: str) -> Image | None:
    """The stub under that name, if there may be one."""
    name = STUBS.get(repository.rsplit("/", 1)[-1])
    if name is None:
        return None
    env = ("PATH=/bin", f"STUB={name}", f"STUB_TAG={tag}")
    return Image(stub_layer(), ("/stub",), env)


def clean() -> None:
    """Forget all blobs."""
    shutil.rmtree(BLOBS, ignore_errors=True)
    say(f"images: {BLOBS} removed")
