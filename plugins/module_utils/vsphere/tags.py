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


class TagClient:
    """A REST session for tags, to use in a ``with`` block. Open it after the SOAP login has proven the password."""

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._connection: HTTPSConnection | None = None
        self._token = ""
        self._tags: dict[str, tuple[str, str]] | None = None

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

    def _request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """One request; all of them read, so that one that met an ended session is repeated after another login."""
        status, answer = self._send(method, path, body, headers)
        if status == 401 and self._token and path != _SESSION:
            self._login()
            status, answer = self._send(method, path, body, headers)
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

    def _all_tags(self) -> dict[str, tuple[str, str]]:
        """Tag id -> (category, tag)."""
        if self._tags is None:
            categories: dict[str, str] = {}
            tags: dict[str, tuple[str, str]] = {}
            for tag_id in self._request("GET", f"{_TAGGING}/tag") or ():
                tag = self._request("GET", f"{_TAGGING}/tag/id:{tag_id}")
                category_id = tag["category_id"]
                if category_id not in categories:
                    categories[category_id] = self._request("GET", f"{_TAGGING}/category/id:{category_id}")["name"]
                tags[tag_id] = (categories[category_id], tag["name"])
            self._tags = tags
        return self._tags

    def vms_with(self, wanted: Sequence[str]) -> set[str]:
        """The ids of the VMs that carry all wanted tags, each given as 'tag' or 'category:tag'."""
        result: set[str] | None = None
        for name in wanted:
            found = self._vms_with_one(name)
            result = found if result is None else result & found
        return result or set()

    def _vms_with_one(self, wanted: str) -> set[str]:
        tags = self._all_tags()
        ids = [tag_id for tag_id, (category, tag) in tags.items() if wanted in (tag, f"{category}:{tag}")]
        if not ids:
            known = sorted(f"{category}:{tag}" for category, tag in tags.values())
            raise VsphereError(
                "tag-missing",
                f"vCenter {self._options.address} has no tag '{wanted}'.",
                f"Give it as 'tag' or 'category:tag'. It has: {', '.join(known[:20]) or 'none'}.",
            )
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
        tags = self._all_tags()
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
                for tag_id in item["tag_ids"] or ():
                    category, tag = tags.get(tag_id, ("", tag_id))
                    by_category.setdefault(category, []).append(tag)
        for by_category in result.values():
            for names in by_category.values():
                names.sort()
        return result
