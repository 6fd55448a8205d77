# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the certificates of a node end, read without any library for certificates."""

from __future__ import annotations

import base64
import calendar
import re
import time

from .files import DATA_DIR
from .system import System

_TLS = DATA_DIR + "/server/tls"
DIRECTORIES = (_TLS, _TLS + "/etcd", _TLS + "/kube-controller-manager", _TLS + "/kube-scheduler", DATA_DIR + "/agent")
# Authorities last ten years and are rotated by `k3s certificate rotate-ca` alone; the temporary ones are files of the running server.
AUTHORITY = re.compile(r"(\A|-)ca(\.nochain)?\.crt\Z|\A(root|intermediate|temporary)-")
DAY = 86400.0
_SEQUENCE, _VERSION, _UTC_TIME, _TIME = 0x30, 0xA0, 0x17, 0x18


def _element(data: bytes, at: int) -> tuple:
    """(tag, begin, end) of the DER element at a place."""
    tag, length, begin = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(data[begin:begin + count], "big")
        begin += count
    if begin + length > len(data):
        raise ValueError("an element is longer than the certificate")
    return tag, begin, begin + length


def _moment(data: bytes, at: int) -> tuple:
    """(seconds since the epoch, where the next element begins)."""
    tag, begin, end = _element(data, at)
    text = data[begin:end].decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _TIME:
        raise ValueError("the certificate has no dates")
    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))), end


def validity(pem: str) -> tuple:
    """(not before, not after) of the first certificate in a PEM file; ValueError when there is none."""
    match = re.search(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", pem or "", re.DOTALL)
    if not match:
        raise ValueError("no certificate is in the file")
    data = base64.b64decode(match.group(1))
    try:
        at = _element(data, _element(data, 0)[1])[1]
        if data[at] == _VERSION:
            at = _element(data, at)[2]
        for dummy in ("serial number", "algorithm", "issuer"):
            at = _element(data, at)[2]
        tag, at, dummy = _element(data, at)
        if tag != _SEQUENCE:
            raise ValueError("the certificate has no dates")
        begins, at = _moment(data, at)
        return begins, _moment(data, at)[0]
    except IndexError as error:
        raise ValueError("the certificate is cut off") from error


def certificates(system: System) -> list:
    """All certificates that k3s keeps on the node, the one that ends first at the top."""
    found = []
    now = system.now()
    for directory in DIRECTORIES:
        for name in system.listdir(directory):
            if not name.endswith(".crt"):
                continue
            path = f"{directory}/{name}"
            try:
                begins, ends = validity(system.read(path))
            except ValueError:
                # A bundle that is empty for now, as of a server that is starting.
                continue
            found.append({
                "path": path, "authority": bool(AUTHORITY.search(name)), "days": int((ends - now) // DAY),
                "not_before": _shown(begins), "not_after": _shown(ends),
            })
    return sorted(found, key=lambda entry: (entry["not_after"], entry["path"]))


def due(found: list, within: int) -> list:
    """The paths of those that `k3s certificate rotate` renews and that have less than so many days left."""
    return [entry["path"] for entry in found if not entry["authority"] and entry["days"] < within]


def _shown(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
