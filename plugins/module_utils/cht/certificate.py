# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a certificate expires, read with the standard library alone."""

from __future__ import annotations

import datetime
import re
import ssl

_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class CertificateError(Exception):
    """No certificate could be read."""


def _element(data: bytes, start: int) -> tuple[int, int, int]:
    """Return tag, start and end of the content of the DER element at a place."""
    tag, size, begin = data[start], data[start + 1], start + 2
    if size & 0x80:
        count = size & 0x7F
        size, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    return tag, begin, begin + size


def expiry(der: bytes) -> datetime.datetime:
    """Return notAfter of one certificate in DER."""
    try:
        dummy, outer, dummy = _element(der, 0)
        dummy, place, dummy = _element(der, outer)
        # version (which may be left out), serial number, algorithm and issuer come before the validity
        skipped = 4 if der[place] == _VERSION else 3
        for dummy in range(skipped):
            place = _element(der, place)[2]
        dummy, first, dummy = _element(der, place)
        second = _element(der, first)[2]
        tag, begin, end = _element(der, second)
        text = der[begin:end].decode("ascii")
        if tag not in (_UTC_TIME, _GENERALIZED_TIME):
            raise CertificateError("the validity is no time")
        if tag == _UTC_TIME:
            text = ("20" if int(text[:2]) < 50 else "19") + text
        return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    except (IndexError, ValueError) as error:
        raise CertificateError(f"this is no certificate: {error}") from error


def pem_expiry(text: str) -> datetime.datetime:
    """Return notAfter of the first certificate of a PEM text, the one that is shown to clients."""
    found = _PEM.search(text)
    if found is None:
        raise CertificateError("there is no certificate in it")
    try:
        return expiry(ssl.PEM_cert_to_DER_cert(found.group(0)))
    except ValueError as error:
        raise CertificateError(f"this is no certificate: {error}") from error
