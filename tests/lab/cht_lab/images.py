"""Container images without docker: layers are plain tar files of programs, manifests a few lines of JSON.

Real programs get an image of their own, haproxy as CHT configures it among them. A program of the lab's plays the rest of CHT (tools/cht); what else can't be
had runs the stub, a shell script on busybox. One layer serves all that a program plays, and the image's environment says which one it is.
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
mkdir -p $www 2>/dev/null || www=/www
port=
case "$STUB" in
livenessprobe) port=9808 ;;
web) port=8080 ;;
esac
if [ "$STUB" = livenessprobe ]; then
    for arg in "$@"; do case "$arg" in --health-port=*) port=${arg#*=} ;; --http-endpoint=*) port=${arg##*:} ;; esac; done
fi
if [ "$www" != /www ]; then
    echo "$STUB $STUB_TAG on $(hostname)" > $www/index.html
    echo ok > $www/healthz
fi
if [ -n "$port" ]; then
    say "answers on $port"
    httpd -f -p "$port" -h $www &
else
    say "sleeps"
fi
while :; do sleep 86400 & wait $!; done
"""

# The settings are CHT's (cht-core, haproxy/default_frontend.cfg, backend.cfg.template) but for its sizes, which need more memory and open files than a pod
# of the lab has, and for the scripts that put the user's name into the log. As CHT's entrypoint.sh, it writes the password into its log.
HAPROXY_SCRIPT = r"""#!/bin/sh
frontend=/tmp/frontend.cfg backend=/tmp/backend.cfg
cat > $frontend <<'END'
global
  maxconn 2000
  nbthread 1
  spread-checks 5
  log stdout len 65535 local2 debug
  tune.bufsize 65536
  tune.http.maxhdr 1010
defaults
  mode http
  option http-ignore-probes
  option httplog
  option forwardfor
  option redispatch
  option http-server-close
  timeout client 15000000
  timeout server 360000000
  timeout connect 1500000
  timeout http-keep-alive 5m
  stats enable
  stats refresh 30s
  stats auth "$COUCHDB_USER:$COUCHDB_PASSWORD"
  stats uri /haproxy?stats
frontend http-in
  bind "$HAPROXY_IP:$HAPROXY_PORT"
  http-response set-header Connection Keep-Alive
  http-response set-header Keep-Alive timeout=18000
  log global
  default_backend couchdb-servers
END
cat > $backend <<'END'
backend couchdb-servers
  balance leastconn
  retry-on all-retryable-errors
  log global
  retries 5
END
for server in $(echo "$COUCHDB_SERVERS" | tr , ' '); do
    echo "  server $server $server:5984 check agent-check agent-inter 5s agent-addr $HEALTHCHECK_ADDR agent-port 5555" >> $backend
done
sed "s/^  stats auth .*//" $frontend $backend
echo "  stats auth $COUCHDB_USER:$COUCHDB_PASSWORD"
exec haproxy -W -db -f $frontend -f $backend "$@"
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

# Those that tools/cht plays.
CHT = {"cht-api", "cht-sentinel", "cht-haproxy-healthcheck", "cht-couchdb", "cht-couchdb-nouveau", "upgrade-service"}


@dataclass(frozen=True)
class Image:
    """An image: one layer, how it starts, and the signal that asks it to end where that is not SIGTERM."""

    layer: str
    entrypoint: tuple[str, ...]
    env: tuple[str, ...] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    user: str = ""
    stop: str = ""


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


def cht_layer() -> str:
    """The one layer of CHT's services: the program that plays them, and a shell for those who look inside."""
    return layer(f"cht-{tools.TOOLS['cht'].version}-{image.recipe()}", {**_stub_files(), "cht": tools.program("cht")})


def haproxy_layer() -> str:
    """Debian's haproxy, started as CHT starts it."""
    haproxy = image.ensure() / "usr/sbin/haproxy"
    mark = hashlib.sha256((image.recipe() + HAPROXY_SCRIPT).encode()).hexdigest()[:12]
    return layer(f"haproxy-{mark}", {**_stub_files(), "start": HAPROXY_SCRIPT.encode(), "bin/haproxy": haproxy, **libraries(haproxy)})


def stub_layer() -> str:
    """The one layer of all other stubs."""
    mark = hashlib.sha256((STUB_SCRIPT + PAUSE_SCRIPT + "1").encode()).hexdigest()[:12]
    return layer(f"stub-{mark}", _stub_files())


def manifest(item: Image) -> bytes:
    """The manifest of an image; its configuration is stored as a blob."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": list(item.env), "Entrypoint": list(item.entrypoint), "WorkingDir": "/", "User": item.user,
            **({"StopSignal": item.stop} if item.stop else {}),
        },
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


def stub(repository: str, tag: str, time: float = 1) -> Image | None:
    """The stub under that name, if there may be one; what takes the real one a second takes it C(time) seconds."""
    name = STUBS.get(repository.rsplit("/", 1)[-1])
    if name is None:
        return None
    env = ("PATH=/bin", f"STUB={name}", f"STUB_TAG={tag}", f"STUB_TIME={time}")
    if name == "cht-haproxy":
        # It lets open connections end, and API's never do.
        return Image(haproxy_layer(), ("/start",), env, stop="SIGUSR1")
    return Image(cht_layer(), ("/cht",), env) if name in CHT else Image(stub_layer(), ("/stub",), env)


def clean() -> None:
    """Forget all blobs."""
    shutil.rmtree(BLOBS, ignore_errors=True)
    say(f"images: {BLOBS} removed")
