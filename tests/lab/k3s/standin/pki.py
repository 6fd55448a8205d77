# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificate authorities and certificates, in the files that k3s keeps them in, made with openssl."""
from __future__ import annotations

import os
import pathlib
import secrets
import subprocess
import tempfile
import time

from . import log
from .log import Fatal

CA_DAYS = 3650
LEAF_DAYS = 365
RENEW_SECONDS = 120 * 86400

# file stem below server/tls: common name prefix
CAS = {
    "server-ca": "k3s-server-ca",
    "client-ca": "k3s-client-ca",
    "request-header-ca": "k3s-request-header-ca",
    "etcd/server-ca": "etcd-server-ca",
    "etcd/peer-ca": "etcd-peer-ca",
}

# what every server must have the same: the cluster's bootstrap data
BOOTSTRAP_FILES = [f"{stem}.{ext}" for stem in CAS for ext in ("crt", "key")] + ["service.key"]


def openssl(*arguments: str, data: bytes | None = None) -> bytes:
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise Fatal(f"Error: openssl {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def write_private(path: pathlib.Path, data: bytes, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as out:
        out.write(data)
    os.chmod(name, mode)
    os.replace(name, path)


def make_key(path: pathlib.Path) -> None:
    if not path.exists():
        write_private(path, openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout"))


def make_cas(tls: pathlib.Path) -> None:
    """Only what is missing: the CAs of a joined cluster are already there."""
    now = int(time.time())
    for stem, name in CAS.items():
        crt, key = tls / f"{stem}.crt", tls / f"{stem}.key"
        if crt.exists() and key.exists():
            continue
        make_key(key)
        write_private(crt, openssl(
            "req", "-x509", "-new", "-key", str(key), "-sha256", "-days", str(CA_DAYS), "-subj", f"/CN={name}@{now}",
            "-addext", "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign"), 0o644)
    if not (tls / "service.key").exists():
        write_private(tls / "service.key", openssl("genrsa", "-traditional", "2048"))
    write_private(tls / "service.current.key", (tls / "service.key").read_bytes())


def subject(common_name: str, organization: str = "") -> str:
    org = f"/O={organization}" if organization else ""
    return f"{org}/CN={common_name}"


def make_csr(key: pathlib.Path, subj: str) -> bytes:
    return openssl("req", "-new", "-key", str(key), "-subj", subj)


def sign(csr: bytes, ca: pathlib.Path, subj: str, sans: list[str] | None, usage: str) -> bytes:
    """Sign a request; subject, names and usage are the signer's, only the key is the requester's."""
    lines = ["keyUsage=critical,digitalSignature,keyEncipherment", f"extendedKeyUsage={usage}", "basicConstraints=critical,CA:FALSE"]
    if sans:
        lines.append("subjectAltName=" + ",".join(sans))
    with tempfile.TemporaryDirectory() as folder:
        request, extensions = pathlib.Path(folder, "csr"), pathlib.Path(folder, "ext")
        request.write_bytes(csr)
        extensions.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return openssl(
            "x509", "-req", "-in", str(request), "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-set_serial", "0x" + secrets.token_hex(8),
            "-days", str(LEAF_DAYS), "-sha256", "-subj", subj, "-extfile", str(extensions))


def names(hosts: list[str]) -> list[str]:
    out = []
    for host in hosts:
        plain = host.replace(".", "").replace(":", "")
        kind = "IP" if (host.count(".") == 3 and plain.isdigit()) or ":" in host else "DNS"
        entry = f"{kind}:{host}"
        if host and entry not in out:
            out.append(entry)
    return out


def still_good(crt: pathlib.Path, sans: list[str] | None, ca: pathlib.Path) -> bool:
    if not crt.exists():
        return False
    check = ["openssl", "x509", "-in", str(crt), "-noout", "-checkend", str(RENEW_SECONDS)]
    if subprocess.run(check, capture_output=True, check=False).returncode:
        return False
    verify = ["openssl", "verify", "-CAfile", f"{ca}.crt", "-partial_chain", str(crt)]
    if subprocess.run(verify, capture_output=True, check=False).returncode:
        return False
    note = pathlib.Path(f"{crt}.names")
    return (note.read_text(encoding="utf-8") if note.exists() else "") == "\n".join(sans or [])


def leaf(stem: pathlib.Path, ca: pathlib.Path, subj: str, usage: str = "clientAuth", sans: list[str] | None = None) -> None:
    """A certificate with its key; kept while it is good for another 120 days and names the same hosts."""
    crt, key = pathlib.Path(f"{stem}.crt"), pathlib.Path(f"{stem}.key")
    if key.exists() and still_good(crt, sans, ca):
        return
    if crt.exists():
        log.debug(f"renewing {crt}")
    make_key(key)
    chain = pathlib.Path(f"{ca}.crt").read_bytes()
    write_private(crt, sign(make_csr(key, subj), ca, subj, sans, usage) + chain, 0o644)
    if sans:
        pathlib.Path(f"{crt}.names").write_text("\n".join(sans), encoding="utf-8")
    else:
        pathlib.Path(f"{crt}.names").unlink(missing_ok=True)
