# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times of AWX' schedules: people say every day at 01:30, AWX wants an RRULE."""
from __future__ import annotations

import re

FREQUENCIES = {"minute": "MINUTELY", "hour": "HOURLY", "day": "DAILY", "week": "WEEKLY", "month": "MONTHLY"}
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
# Any day that is over: AWX counts on from there. A fixed one, as the rule is compared as text. It is a Thursday.
START = "20260101"


def rrule(every: str, at: str, timezone: str, interval: int = 1, day: str = "") -> str:
    """The rule; ValueError says what is wrong."""
    if every not in FREQUENCIES:
        raise ValueError(f"'every' must be one of {', '.join(FREQUENCIES)}, and is '{every}'")
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", at):
        raise ValueError(f"'at' must be a time like '01:30', in quotes, and is '{at}'")
    if interval < 1:
        raise ValueError(f"'interval' must be 1 or more, and is {interval}")
    rule = f"FREQ={FREQUENCIES[every]};INTERVAL={interval}"
    if every == "week":
        if day.upper() not in WEEKDAYS:
            raise ValueError(f"with 'every: week' the 'day' must be one of {', '.join(WEEKDAYS)}, and is '{day}'")
        rule += f";BYDAY={day.upper()}"
    elif every == "month":
        # Every month has a 28th.
        if not day.isdigit() or not 1 <= int(day) <= 28:
            raise ValueError(f"with 'every: month' the 'day' must be a number from 1 to 28, and is '{day}'")
        rule += f";BYMONTHDAY={int(day)}"
    elif day:
        raise ValueError(f"'day' goes with 'every: week' and 'every: month', not with 'every: {every}'")
    return f"DTSTART;TZID={timezone}:{START}T{at.replace(':', '')}00 RRULE:{rule}"
