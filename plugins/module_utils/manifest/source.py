# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn what was downloaded into Kubernetes objects, or say what it was instead."""

from __future__ import annotations

import hashlib
from typing import Any

try:
    import yaml
except ImportError:
    yaml = None  # type: ignore[assignment]


class ManifestError(Exception):
    """A manifest that can't be used, with its place and what to do."""


def check_digest(content: bytes, sha256: str, place: str, variable: str = "") -> str:
    """Compare with the pinned digest and return the one found; '' compares with nothing."""
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256.lower().removeprefix("sha256:"):
        raise ManifestError(
            f"The manifest {place} has the SHA-256 {found}, expected {sha256}. It was cut off, altered, or is of another version; "
            f"check the mirror or file, or set {variable or 'the checksum variable'} if the content is what you want."
        )
    return found


def unpinned(place: str, sha256: str, variable: str = "") -> str:
    """Why a download that nothing can be compared with is refused, and what to do."""
    remedy = f"set {variable} to that digest" if variable else "name a file that you keep a copy of"
    return (
        f"No SHA-256 is known for the manifest {place}: its version is not in the table, so nobody has tried it with this collection. What came has "
        f"{sha256}. Choose a version of the table (docs/cpi_csi.md), or compare it with the release and {remedy}."
    )


def documents(content: bytes, place: str) -> list[dict[str, Any]]:
    """All objects of a manifest, lists unpacked."""
    start = content[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<")):
        raise ManifestError(f"{place} holds a web page, not a manifest; a proxy or a login page may answer in its place. Check the URL.")
    try:
        parsed = [document for document in yaml.safe_load_all(content.decode("utf-8")) if document is not None]
    except UnicodeDecodeError as error:
        raise ManifestError(f"{place} is not UTF-8 text: {error}.") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{place} is not valid YAML: {str(error).replace(chr(10), ' ')}. It may have been cut off.") from error
    found: list[dict[str, Any]] = []
    for document in parsed:
        if isinstance(document, dict) and str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            found.extend(document["items"])
        else:
            found.append(document)
    for number, document in enumerate(found, 1):
        problem = _object_problem(document)
        if problem:
            raise ManifestError(f"{place}: document {number} is no Kubernetes object: {problem}.")
    if not found:
        raise ManifestError(f"{place} is empty.")
    return found


def _object_problem(document: Any) -> str:
    if not isinstance(document, dict):
        return f"it is a {type(document).__name__}"
    missing = [key for key in ("apiVersion", "kind") if not document.get(key)]
    if not isinstance(document.get("metadata"), dict) or not document["metadata"].get("name"):
        missing.append("metadata.name")
    return f"it has no {', '.join(missing)}" if missing else ""
