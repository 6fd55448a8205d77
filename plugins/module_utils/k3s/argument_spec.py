# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments shared by the modules that work on k3s nodes. Their twin in prose is the doc fragment cht.k3s.k3s."""

from __future__ import annotations


def binary_spec() -> dict:
    """Where k3s is."""
    return {"binary": {"type": "path", "default": "/usr/local/bin/k3s"}}
