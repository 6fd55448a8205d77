# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags. vCenter has no SOAP interface for them, so this is the one place that uses REST, and only when asked to."""
from __future__ import annotations

import json
from base64 import b64encode
from http.client import HTTPException, HTTPSConnection
from typing import Any, Iterable, Sequence

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import (
    explain,
    https_connection,
    tls_context,
)
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import ConnectionOptions

_SESSION = "/rest/com/vmware/cis/session"
_TAGGING = "/rest/com/vmware/cis/tagging"
# vCenter limits how many objects one association request may name.
_BATCH = 1000


def meant(wanted: str, tags: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the (category, tag) that 'tag' or 'category:tag' stands for. A tag's own name may have a colon in it, so the whole counts first."""
    known = sorted(set(tags))
    return [tag for tag in known if f"{tag[0]}:{tag[1]}" == wanted] or [tag for tag in known if tag[1] == wanted]


def ambiguous(where: str, wanted: str, found: Iterable[tuple[str, str]]) -> VsphereError:
    """Tags of several categories have the name."""
    named = " and ".join(sorted(f"{category}:{tag}" for category, tag in found))
    return VsphereError("tag-ambiguous", f"{where} the tag '{wanted}' stands for {named}.", "Give it as 'category:tag'.")


class TagClient:
    """A REST session for tags, to use in a ``with`` block. Open it after the SOAP login has proven the password."""

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._connection: HTTPSConnection | None = None
        self._token = ""
        # Deleted ones are None.
        self._tags: dict[str, tuple[str, str] | None] = {}
        self._categories: dict[str, str | None] = {}

    def __enter__(self) -> TagClient:
        try:
            self._connection = https_connection(self._options, tls_context(self._options))
            self._login()
        except (OSError, HTTPException) as exc:
            raise explain(self._options, exc) from exc
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._connection is None:
            return
        try:
            if self._token:
                self._request("DELETE", _SESSION)
        except (VsphereError, OSError, HTTPException):
            pass
        finally:
            self._connection.close()

    def _login(self) -> None:
        credentials = f"{self._options.username}:{self._options.password}".encode()
        self._token = ""
        self._token = self._request("POST", _SESSION, headers={"Authorization": f"Basic {b64encode(credentials).decode()}"})

    def _request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, gone: bool = False) -> Any:
        """One request; all of them read, so that one that met an ended session is repeated after another login.

        gone: an object that was deleted meanwhile is no failure, but None.
        """
        status, answer = self._send(method, path, body, headers)
        if status == 401 and self._token and path != _SESSION:
            self._login()
            status, answer = self._send(method, path, body, headers)
        if gone and status == 404:
            return None
        if status != 200:
            raise VsphereError(
                "tags",
                f"vCenter {self._options.address} refused {method} {path.partition('?')[0]} for "
                f"'{self._options.username}' with HTTP {status}.",
                "Check that the account may read tags, or select the VMs by folder or name instead.",
            )
        return json.loads(answer).get("value") if answer.strip() else None

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str] | None) -> tuple[int, bytes]:
        if self._connection is None:
            raise RuntimeError("TagClient is used outside its with block")
        sent = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
        if self._token:
            sent["vmware-api-session-id"] = self._token
        self._connection.request(method, path, None if body is None else json.dumps(body), sent)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _tag(self, tag_id: str) -> tuple[str, str] | None:
        """(category, tag); None for one that was deleted since it was listed."""
        if tag_id not in self._tags:
            tag = self._request("GET", f"{_TAGGING}/tag/id:{tag_id}", gone=True)
            category = self._category(tag["category_id"]) if tag else None
            self._tags[tag_id] = (category, tag["name"]) if category else None
        return self._tags[tag_id]

    def _category(self, category_id: str) -> str | None:
        if category_id not in self._categories:
            category = self._request("GET", f"{_TAGGING}/category/id:{category_id}", gone=True)
            self._categories[category_id] = category["name"] if category else None
        return self._categories[category_id]

    def _named(self, wanted: str) -> list[str]:
        """The ids of the tags that 'tag' or 'category:tag' stands for. A vCenter may have thousands, each of which costs a request."""
        category, colon, dummy = wanted.partition(":")
        ids: list[str] = []
        if colon:
            for category_id in self._request("GET", f"{_TAGGING}/category") or ():
                if self._category(category_id) == category:
                    ids += self._request("POST", f"{_TAGGING}/tag/id:{category_id}?~action=list-tags-for-category", gone=True) or ()
        # A name may have a colon in it.
        for tag_id in ids or self._request("GET", f"{_TAGGING}/tag") or ():
            self._tag(tag_id)
        named = meant(wanted, filter(None, self._tags.values()))
        return [tag_id for tag_id, tag in self._tags.items() if tag in named]

    def vms_with(self, wanted: Sequence[str]) -> set[str]:
        """The ids of the VMs that carry all wanted tags, each given as 'tag' or 'category:tag'."""
        result: set[str] | None = None
        for name in wanted:
            found = self._vms_with_one(name)
            result = found if result is None else result & found
        return result or set()

    def _vms_with_one(self, wanted: str) -> set[str]:
        ids = self._named(wanted)
        if not ids:
            known = sorted(f"{category}:{tag}" for category, tag in filter(None, self._tags.values()))
            raise VsphereError(
                "tag-missing",
                f"vCenter {self._options.address} has no tag '{wanted}'.",
                f"Give it as 'tag' or 'category:tag'. It has: {', '.join(known[:20]) or 'none'}.",
            )
        if len(ids) > 1:
            raise ambiguous(f"In vCenter {self._options.address}", wanted, filter(None, map(self._tag, ids)))
        answer = self._request(
            "POST", f"{_TAGGING}/tag-association?~action=list-attached-objects-on-tags", {"tag_ids": ids}
        )
        return {
            item["id"]
            for attached in answer or ()
            for item in attached["object_ids"] or ()
            if item["type"] == "VirtualMachine"
        }

    def tags_of(self, moids: Iterable[str]) -> dict[str, dict[str, list[str]]]:
        """VM id -> category -> tags."""
        objects = [{"type": "VirtualMachine", "id": moid} for moid in moids]
        result: dict[str, dict[str, list[str]]] = {}
        for start in range(0, len(objects), _BATCH):
            answer = self._request(
                "POST",
                f"{_TAGGING}/tag-association?~action=list-attached-tags-on-objects",
                {"object_ids": objects[start : start + _BATCH]},
            )
            for item in answer or ():
                by_category = result.setdefault(item["object_id"]["id"], {})
                for tag in filter(None, map(self._tag, item["tag_ids"] or ())):
                    by_category.setdefault(tag[0], []).append(tag[1])
        for by_category in result.values():
            for names in by_category.values():
                names.sort()
        return result
