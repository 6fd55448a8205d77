# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions; build.py writes its own copy of this file into what it packs."""
from __future__ import annotations

VERSION = "v0.0.0+k3s0"
COMMIT = "00000000"
KUBERNETES = "1.35.4"
