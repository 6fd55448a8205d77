# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: manifest_sources
short_description: Where to read the files of a manifest
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Puts the base URL before the paths of the version table, or takes local files in their place.
positional: _input, url, files
options:
  _input:
    description: Entries with path and sha256.
    type: list
    elements: dict
    required: true
  url:
    description: The base URL.
    type: str
    required: true
  files:
    description: Local files that take the place of all downloads when there are any.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Read the manifests of the snapshot-controller
  cht.k3s.manifest_info:
    sources: "{{ (k3s_version | cht.k3s.version_set).snapshot_manifests | cht.k3s.manifest_sources(csi_snapshot_manifest_url) }}"
"""

RETURN = r"""
_value:
  description: Sources, as M(cht.k3s.manifest_info) takes them.
  type: list
  elements: dict
"""


def manifest_sources(entries: list[dict[str, str]], url: str, files: list[str] | None = None) -> list[dict[str, str]]:
    """The sources."""
    if files:
        return [{"path": name} for name in files]
    return [{"url": f"{url.rstrip('/')}/{entry['path']}", "sha256": entry["sha256"]} for entry in entries]


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"manifest_sources": manifest_sources}
