# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The k3s binary: which version is there, and how a release's binary gets onto the node."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import platform
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from .proxy import ProxyHandler, used
from .system import NodeError, System

# machine -> (suffix of the binary, name in the checksum file's name)
ARCHITECTURES = {
    "x86_64": ("", "amd64"), "amd64": ("", "amd64"),
    "aarch64": ("-arm64", "arm64"), "arm64": ("-arm64", "arm64"),
    "armv7l": ("-armhf", "arm"), "armv8l": ("-armhf", "arm"),
}
# NAME version vX.Y.Z+k3sN (COMMIT): NAME is the base name of the file that was called, and the next line is the version of Go.
_SHOWN = re.compile(r"^.+ version (v\d+\.\d+\.\d+\S*) \([^)]*\)[ \t]*\r?$", re.MULTILINE)
_TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:-[a-z0-9.]+)?\+k3s(\d+)\Z")


def version_key(version: str) -> tuple:
    """A version for comparing, (1, 34, 4, 1) for v1.34.4+k3s1; () when it is none."""
    match = _TAG.match(version or "")
    return tuple(int(part) for part in match.groups()) if match else ()


def parse_version(shown: str) -> str:
    """The release in the output of `k3s --version`; '' where that is none."""
    match = _SHOWN.search(shown)
    return match.group(1) if match else ""


def installed_version(system: System, binary: str) -> str:
    """What `k3s --version` says; '' when there is no usable binary."""
    if not system.exists(binary):
        return ""
    shown = system.run([system.path(binary), "--version"], timeout=60)
    return parse_version(shown.out) if shown.rc == 0 else ""


def asset_urls(release_url: str, version: str, machine: str) -> tuple:
    """(binary, checksum file, name in the checksum file) of a release."""
    if machine not in ARCHITECTURES:
        raise NodeError(f"k3s has no release for the architecture {machine}.")
    suffix, arch = ARCHITECTURES[machine]
    base = f"{release_url.rstrip('/')}/{urllib.parse.quote(version, safe='')}"
    return f"{base}/k3s{suffix}", f"{base}/sha256sum-{arch}.txt", f"k3s{suffix}"


def checksum_of(listing: str, name: str) -> str:
    """The checksum of one asset in a release's checksum file; '' when it is not there."""
    for line in listing.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].lstrip("*") == name and re.fullmatch(r"[0-9a-f]{64}", words[0]):
            return words[0]
    return ""


def _opener(environment: dict) -> urllib.request.OpenerDirector:
    """Reads through the proxy that k3s itself is told to use, and past it where k3s would."""
    return urllib.request.build_opener(ProxyHandler(environment)) if used(environment or {}) else urllib.request.build_opener()


def _read(opener: urllib.request.OpenerDirector, url: str) -> str:
    try:
        with opener.open(url, timeout=30) as answer:
            return answer.read().decode("utf-8", "replace")
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
        raise NodeError(_unreachable(url, error)) from error


def _unreachable(url: str, error: Exception) -> str:
    reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None) or error
    return (
        f"Cannot read {url}: {reason}. Check k3s_version and k3s_release_url, and that this node reaches it;"
        " or give the file with k3s_binary, which is copied from the controller."
    )


def download(system: System, release_url: str, version: str, checksum: str, environment: dict, target: str) -> str:
    """Fetch a release's binary, compare it with its checksum, try it, and put it in place in one step. Returns its sha256."""
    url, sums_url, name = asset_urls(release_url, version, platform.machine())
    opener = _opener(environment)
    wanted = checksum or checksum_of(_read(opener, sums_url), name)
    if not wanted:
        raise NodeError(f"{sums_url} has no checksum for {name}. Check k3s_release_url, or give k3s_binary_checksum.")
    directory = os.path.dirname(system.path(target))
    os.makedirs(directory, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".k3s-")
    try:
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as stream:
            try:
                with opener.open(url, timeout=60) as answer:
                    for block in iter(lambda: answer.read(1 << 20), b""):
                        digest.update(block)
                        stream.write(block)
            except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
                raise NodeError(_unreachable(url, error)) from error
            stream.flush()
            os.fsync(stream.fileno())
        if digest.hexdigest() != wanted:
            raise NodeError(
                f"{url} has sha256 {digest.hexdigest()}, but it must be {wanted}. Nothing was installed;"
                " the download or the mirror is damaged, or k3s_binary_checksum belongs to another version."
            )
        os.chmod(temporary, 0o755)
        shown = system.run([temporary, "--version"], timeout=60)
        found = parse_version(shown.out) if shown.rc == 0 else ""
        if found != version:
            said = found or (shown.err or shown.out).strip()[:200]
            raise NodeError(f"The file at {url} is not k3s {version}: `k3s --version` gave {said!r}. Nothing was installed.")
        os.rename(temporary, system.path(target))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return digest.hexdigest()
