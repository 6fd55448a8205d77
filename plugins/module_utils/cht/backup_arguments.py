# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that read or write backup sets share. Its twin in prose is the doc fragment cht.k3s.cht_backup."""

from __future__ import annotations

from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import NAMESPACE
from ansible_collections.cht.k3s.plugins.module_utils.kube.module import base_argument_spec


def sets_argument_spec(**extra: Any) -> dict[str, Any]:
    """Connection, and where the sets are, plus what the module adds."""
    return base_argument_spec(namespace={"type": "str", "default": NAMESPACE}, **extra)


def restart_argument_spec(**extra: Any) -> dict[str, Any]:
    """The same for a module that stops and starts counties."""
    return sets_argument_spec(wait_timeout={"type": "int", "default": 900}, health={"type": "bool", "default": True}, **extra)
