# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vCenters that CPI and CSI talk to, checked before anything is written from them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.cht.k3s.plugins.module_utils.inputs import plain
from ansible_collections.cht.k3s.plugins.module_utils.versions import minor

_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")
_THUMBPRINT = re.compile(r"(?:[0-9A-F]{2}:){19}(?:(?:[0-9A-F]{2}:){12})?[0-9A-F]{2}")
_KEYS = {"hostname", "port", "username", "password", "datacenters", "validate_certs", "ca_path", "ca", "thumbprint"}


def is_network(text: str) -> bool:
    """A network as Go's net.ParseCIDR takes it: an address alone or a mask in dots is none."""
    address, slash, bits = text.partition("/")
    return bool(slash) and bits.isdigit() and _is_address(address) and int(bits) <= ipaddress.ip_address(address).max_prefixlen


def refuse_sha256(found: list[VCenter], where: str, name: str, version: str, last: tuple[int, int]) -> None:
    """A release that compares SHA-1 only would never find its vCenter again."""
    number = tuple(int(part) for part in minor(version).split("."))
    for vcenter in found:
        if number <= last and len(vcenter.thumbprint.split(":")) == 32:
            raise SettingsError(
                f"{where}: {name} {version} compares SHA-1 thumbprints (20 pairs) only, and that of {vcenter.hostname} is SHA-256; give the SHA-1"
                " thumbprint, or the authority (ca_path) in its place."
            )


class SettingsError(ValueError):
    """A setting that can't be used: which one, and what to do."""


@dataclass
class VCenter:
    """One vCenter and how to log in to it."""

    hostname: str
    username: str
    password: str
    port: int = 443
    datacenters: list[str] = field(default_factory=list)
    validate_certs: bool = True
    ca: str = ""
    thumbprint: str = ""

    @property
    def is_ipv6(self) -> bool:
        try:
            return ipaddress.ip_address(self.hostname).version == 6
        except ValueError:
            return False


def parse(entries: Any, where: str) -> list[VCenter]:
    """Check and convert a list of mappings; C(where) names the variable in messages."""
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{where} is empty: at least one vCenter is needed (set vsphere_hostname, vsphere_username and vsphere_password).")
    found = [_one(entry, f"{where}[{number}]") for number, entry in enumerate(entries)]
    names = [vcenter.hostname.lower() for vcenter in found]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{where} names the vCenter {name} twice; give each one once.")
    return found


def _one(entry: Any, where: str) -> VCenter:
    if not isinstance(entry, dict):
        raise SettingsError(f"{where} has to be a mapping with hostname, username and password.")
    entry = plain(entry)
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise SettingsError(f"{where} has the unknown key {unknown[0]}; known are {', '.join(sorted(_KEYS - {'ca'}))}.")
    for key in ("hostname", "username", "password"):
        value = entry.get(key)
        if not isinstance(value, str) or not value:
            raise SettingsError(f"{where}.{key} is empty; set vsphere_{key} (environment {_ENVIRONMENT[key]}) or give it here.")
        if "\n" in value or "\r" in value or "\0" in value:
            raise SettingsError(f"{where}.{key} has a line break or a null character in it, which vCenter does not take; remove it.")
    hostname = str(entry["hostname"]).strip("[]")
    if not _NAME.match(hostname) and not _is_address(hostname):
        raise SettingsError(f"{where}.hostname {hostname!r} is neither a host name nor an address; leave out scheme, port and path.")
    try:
        port = int(entry.get("port") or 443)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{where}.port {entry.get('port')!r} is not a number.") from error
    if not 0 < port < 65536:
        raise SettingsError(f"{where}.port {port} is not between 1 and 65535.")
    # CPI and CSI compare it letter by letter with what they compute, which is in upper case.
    thumbprint = str(entry.get("thumbprint") or "").strip().upper()
    if thumbprint and not _THUMBPRINT.fullmatch(thumbprint):
        raise SettingsError(f"{where}.thumbprint {thumbprint!r} is not a list of 20 (SHA-1) or 32 (SHA-256) hexadecimal pairs with colons between them.")
    authority = str(entry.get("ca") or "")
    if authority and "-----BEGIN CERTIFICATE-----" not in authority:
        raise SettingsError(f"{where}.ca_path does not name a file with a PEM certificate.")
    datacenters = entry.get("datacenters") or []
    if not isinstance(datacenters, list) or not all(isinstance(name, str) and name for name in datacenters):
        raise SettingsError(f"{where}.datacenters has to be a list of names.")
    for name in datacenters:
        # Both programs join the names with commas and take them apart again.
        if "," in name:
            raise SettingsError(f"{where}.datacenters has {name!r} with a comma, which neither CPI nor CSI can be told; rename the datacenter in vCenter.")
    return VCenter(
        hostname=hostname, username=str(entry["username"]), password=str(entry["password"]), port=port, datacenters=[str(name) for name in datacenters],
        # Who gives an authority or a thumbprint wants it compared, whatever AWX's credential says of validation.
        validate_certs=_truth(entry.get("validate_certs", True), f"{where}.validate_certs") or bool(authority or thumbprint),
        ca=authority, thumbprint=thumbprint,
    )


def _truth(value: Any, where: str) -> bool:
    """A boolean as modules read it: from -e, an INI inventory or a survey it comes as text, and the text "false" is not empty. Empty is not set."""
    if value == "":
        return True
    try:
        return bool(boolean(value))
    except TypeError as error:
        raise SettingsError(f"{where} {value!r} is neither true nor false.") from error


_ENVIRONMENT = {"hostname": "VMWARE_HOST", "username": "VMWARE_USER", "password": "VMWARE_PASSWORD"}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
