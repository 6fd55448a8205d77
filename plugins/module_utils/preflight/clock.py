# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing two clocks over a slow connection."""
from __future__ import annotations


def offset(asked: float, there: float, answered: float) -> float:
    """How far the other clock is off at least: it was read at some moment between the question and the answer."""
    if there > answered:
        return round(there - answered, 3)
    if there < asked:
        return round(there - asked, 3)
    return 0.0
