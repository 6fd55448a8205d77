# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which network card carries the nodes' traffic: flannel takes that of the default route, which on a machine with several need not be node-ip's."""

from __future__ import annotations

import ipaddress
import re

from .system import System

# What k3s, container runtimes and tunnels make themselves.
_MADE = re.compile(r"(lo|cni|flannel|veth|docker|br-|virbr|kube-|cali|tunl|wg|tun|tap|nerdctl|podman)")
_LINE = re.compile(r"\d+:\s+(?P<card>[^\s@:]+)\S*\s+inet6?\s+(?P<address>[0-9A-Fa-f:.]+)/")


def cards(system: System) -> dict:
    """Card -> its global addresses; {} where they can't be listed."""
    found: dict = {}
    for line in system.run(["ip", "-o", "address", "show", "scope", "global"]).out.splitlines():
        match = _LINE.match(line)
        if match and not _MADE.match(match.group("card")):
            found.setdefault(match.group("card"), []).append(ipaddress.ip_address(match.group("address")))
    return found


def default_card(system: System) -> str:
    """The card of the default route, '' if there is none."""
    match = re.search(r"^default .*?\bdev (\S+)", system.run(["ip", "-o", "route", "show", "default"]).out, re.MULTILINE)
    return match.group(1) if match else ""


def flannel_card(system: System, config: dict) -> str:
    """The card for flannel-iface; '' on a machine with one card, and where the settings say it already."""
    if config.get("flannel-iface") or config.get("flannel-external-ip") or config.get("flannel-backend") == "none":
        return ""
    try:
        address = ipaddress.ip_address(str(config.get("node-ip") or ""))
    except ValueError:
        return ""
    found = cards(system)
    return next((card for card, addresses in found.items() if address in addresses), "") if len(found) > 1 else ""
