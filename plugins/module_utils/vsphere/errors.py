# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of the vSphere utilities: what went wrong, where, and what to do about it."""
from __future__ import annotations


class VsphereError(Exception):
    """Raised for everything a person has to act on.

    ``kind`` lets callers and tests tell the cases apart without reading prose.
    """

    def __init__(self, kind: str, what: str, remedy: str) -> None:
        self.kind = kind
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what} {remedy}")
