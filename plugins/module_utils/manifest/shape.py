# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the parts of a manifest by what they are, and refusing one that is not built as we know it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError
from ansible_collections.cht.k3s.plugins.module_utils.versions import DELETED_REGISTRY

HASH_ANNOTATION = "cht.k3s/config-hash"

# What the examples in the manifests have where a user has to put something of their own.
_PLACEHOLDERS = re.compile(r"<ENTER|your-vcenter|use-your-vcenter|1\.2\.3\.4|hrwest|could-be-a-tenant")

Document = dict[str, Any]


def plain(value: Any) -> Any:
    """A copy of our own to work on, of plain mappings and lists.

    Ansible hands its filters containers that render each item when it is looked at. copy.deepcopy takes a copy of all variables for each such
    container on its way, which takes seconds for one manifest and minutes for a few.
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


class Manifest:
    """The objects of one manifest by kind and name."""

    def __init__(self, name: str, documents: list[Document], expected: dict[tuple[str, str], bool]) -> None:
        """C(expected) says of each known object whether it has to be there; any other object is refused."""
        self.name = name
        self.documents = documents
        found: dict[tuple[str, str], Document] = {}
        for document in documents:
            identity = (str(document["kind"]), str(document["metadata"]["name"]))
            if identity in found:
                raise ManifestError(f"The {name} manifest has {' '.join(identity)} twice.")
            found[identity] = document
        unknown = [" ".join(identity) for identity in found if identity not in expected]
        missing = [" ".join(identity) for identity, required in expected.items() if required and identity not in found]
        problems = []
        if unknown:
            problems.append("unknown: " + ", ".join(unknown))
        if missing:
            problems.append("missing: " + ", ".join(missing))
        if problems:
            raise ManifestError(
                f"The {name} manifest is not built as expected ({'; '.join(problems)}). Expected "
                + ", ".join(" ".join(identity) for identity in expected)
                + ". Use a version from the table, or report this one so that it can be added."
            )
        self._found = found

    def get(self, kind: str, name: str) -> Document | None:
        return self._found.get((kind, name))

    def need(self, kind: str, name: str) -> Document:
        return self._found[(kind, name)]

    def drop(self, kind: str, name: str) -> None:
        document = self._found.pop((kind, name), None)
        if document is not None:
            self.documents.remove(document)


@contextmanager
def as_expected(name: str) -> Iterator[None]:
    """A key that is missing where every known version has it means another shape, or a file that was cut off."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ManifestError(f"The {name} manifest is not built as expected, or cut off: {type(error).__name__} {error}.") from error


def dig(document: Document, path: str, name: str) -> Any:
    """The value at a dotted path; a manifest without it is refused."""
    value: Any = document
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            raise ManifestError(f"The {name} manifest is not built as expected: {document['kind']} {document['metadata']['name']} has no {path}.")
        value = value[key]
    return value


def containers(workload: Document, name: str) -> dict[str, Document]:
    """The containers of a workload by name."""
    found = dig(workload, "spec.template.spec.containers", name)
    if not isinstance(found, list) or not all(isinstance(entry, dict) and entry.get("name") and entry.get("image") for entry in found):
        identity = f"{workload['kind']} {workload['metadata']['name']}"
        raise ManifestError(f"The {name} manifest is not built as expected: {identity} has a container without name or image.")
    return {str(container["name"]): container for container in found}


def with_registry(image: str, registry: str) -> str:
    """The same image from another registry: 'registry.k8s.io/a/b:1' becomes '<registry>/a/b:1'."""
    if not registry:
        return image
    first, slash, rest = image.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return f"{registry.rstrip('/')}/{rest if is_host else image}"


def config_hash(scope: str, *parts: bytes) -> str:
    """A short digest of a configuration that holds a password; slow to compute on purpose, so that it can't be guessed from it."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return hashlib.pbkdf2_hmac("sha256", digest.digest(), scope.encode(), 100_000).hex()[:32]


def annotate(workload: Document, value: str, name: str) -> None:
    """Put the hash on the pod template, so that pods restart if, and only if, what they read has changed."""
    template = dig(workload, "spec.template", name)
    template.setdefault("metadata", {}).setdefault("annotations", {})[HASH_ANNOTATION] = value


def refuse_leftovers(documents: list[Document], name: str) -> None:
    """No placeholder and no image of the deleted project may reach the cluster."""
    for document in documents:
        for path, text in _strings(document, ""):
            place = f"{document['kind']} {document['metadata']['name']}, {path}"
            if document["kind"] not in ("Secret", "ConfigMap") or path.startswith(".metadata"):
                if text.startswith(DELETED_REGISTRY):
                    raise ManifestError(f"{place}: the image {text} was deleted with its project; name one that exists.")
            # Values of ours may hold anything; the examples live in these two kinds, whose data we replace as a whole.
            if document["kind"] not in ("Secret", "ConfigMap") and _PLACEHOLDERS.search(text):
                raise ManifestError(f"The {name} manifest still has a placeholder at {place}: {text!r}.")


def _strings(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _strings(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for number, item in enumerate(value) for found in _strings(item, f"{path}[{number}]")]
    return [(path, value)] if isinstance(value, str) else []
