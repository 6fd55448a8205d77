# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubernetes quantities: read "4Gi", "500m" or "2" into exact numbers and compare them."""

from __future__ import annotations

import re
from fractions import Fraction

_SUFFIXES: dict[str, Fraction] = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(?:[eE]([+-]?\d{1,2})|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?$")


def parse_quantity(text: object) -> Fraction:
    """Return the exact number that a quantity stands for; ValueError when it is none."""
    match = _QUANTITY.match(str(text).strip())
    if match is None:
        raise ValueError(f"'{text}' is not a quantity")
    return Fraction(match.group(1)) * Fraction(10) ** int(match.group(2) or 0) * _SUFFIXES[match.group(3) or ""]


def larger_quantity(first: object, second: object) -> str:
    """Return the text of the larger of two quantities; the first one when they are equal."""
    return str(second) if parse_quantity(second) > parse_quantity(first) else str(first)
