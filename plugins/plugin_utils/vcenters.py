# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError


def with_authorities(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the content of each vCenter's certificate authority beside its path, which is one on the controller."""
    vcenters = settings.get("vcenters")
    if not isinstance(vcenters, list):
        return settings
    return {**settings, "vcenters": [_with_authority(entry, number) for number, entry in enumerate(vcenters)]}


def _with_authority(entry: Any, number: int) -> Any:
    if not isinstance(entry, dict) or not entry.get("ca_path"):
        return entry
    path = os.path.expanduser(str(entry["ca_path"]))
    try:
        with open(path, encoding="ascii") as stream:
            return {**entry, "ca": stream.read()}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"ca_path of vCenter number {number + 1}, {path}, can't be read: {error}.") from error
