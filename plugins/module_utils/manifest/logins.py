# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which vCenter credentials no running part of the cluster uses yet, so that they are tried before they are written."""

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.manifest import csi


def in_use(cpi_secret: dict[str, Any] | None, csi_secret: dict[str, Any] | None) -> set[tuple[str, str, str]]:
    """Host name, user and password of every vCenter in the cluster's Secrets."""
    found: set[tuple[str, str, str]] = set()
    data = {key: _decoded(value) for key, value in ((cpi_secret or {}).get("data") or {}).items()}
    for key, user in data.items():
        if key.endswith(".username"):
            host = key[: -len(".username")]
            found.add((host, user, data.get(f"{host}.password", "")))
        elif key.startswith("server_"):
            number = key[len("server_"):]
            found.add((user, data.get(f"username_{number}", ""), data.get(f"password_{number}", "")))
    for (section, host), values in csi.live_config(csi_secret).items():
        if section == "VirtualCenter":
            found.add((host, values.get("user", ""), values.get("password", "")))
    return found


def untested(vcenters: list[dict[str, Any]], cpi_secret: dict[str, Any] | None, csi_secret: dict[str, Any] | None) -> list[int]:
    """Positions of the vCenters whose credentials are new."""
    known = in_use(cpi_secret, csi_secret)
    return [
        number for number, entry in enumerate(vcenters)
        if (str(entry.get("hostname", "")).strip("[]"), entry.get("username", ""), entry.get("password", "")) not in known
    ]


def current(vcenters: list[dict[str, Any]], cpi_secret: dict[str, Any] | None, csi_secret: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The same vCenters with the user and password that the cluster has for them now; one that it does not know stays as it is."""
    known = {host: {"username": user, "password": password} for host, user, password in in_use(cpi_secret, csi_secret)}
    return [{**entry, **known.get(str(entry.get("hostname", "")).strip("[]"), {})} for entry in vcenters]


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value).decode()
    except ValueError:
        return ""
