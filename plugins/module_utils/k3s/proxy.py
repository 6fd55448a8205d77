# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts are reached without the proxy, as k3s and containerd read NO_PROXY (Go's httpproxy), and what must be among them."""

from __future__ import annotations

import ipaddress
import urllib.request

# Names inside the cluster, which no proxy can resolve; the last one with the cluster's own domain.
_NAMES = (".svc", ".cluster.local")


def setting(environment: dict, name: str) -> str:
    """A variable of a proxy in either spelling; the one in capitals counts first."""
    for spelling in (name.upper(), name.lower()):
        if environment.get(spelling):
            return str(environment[spelling])
    return ""


def used(environment: dict) -> bool:
    """A proxy is given."""
    return bool(setting(environment, "http_proxy") or setting(environment, "https_proxy"))


def _address(text: str):
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _network(text: str):
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def bypassed(host: str, no_proxy: str) -> bool:
    """A host, without its port, is reached without the proxy."""
    host = host.lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or address is not None and address.is_loopback:
        return True
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if entry == "*":
            return True
        if address is not None:
            network = _network(entry)
            if address == _address(entry) or network is not None and address in network:
                return True
            continue
        name = entry.rpartition(":")[0] if ":" in entry else entry
        domain = name.lstrip("*")
        # With a dot before it only what is below the domain is meant.
        if domain and (host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith("." + domain)):
            return True
    return False


def _covered(network: str, no_proxy: str) -> bool:
    """All addresses of a range are reached without the proxy."""
    wanted = _network(network)
    given = [_network(part.strip()) for part in no_proxy.split(",")]
    return wanted is None or any(
        one is not None and one.version == wanted.version and wanted.subnet_of(one) for one in given)  # type: ignore[arg-type]


def missing(environment: dict, hosts: list, networks: list, domain: str = "") -> list:
    """What NO_PROXY has to have besides; [] where no proxy is given. `hosts` are the nodes' addresses and the URL's host, `networks` of pods and services."""
    no_proxy = setting(environment, "no_proxy")
    if not used(environment) or "*" in [part.strip() for part in no_proxy.split(",")]:
        return []
    found = [host for host in hosts if host and not bypassed(host, no_proxy)]
    found += [network for network in networks if not _covered(network, no_proxy)]
    names = (".svc", f".{domain}") if domain else _NAMES
    found += [name for name in names if not bypassed("x" + name, no_proxy)]
    return list(dict.fromkeys(found))


class ProxyHandler(urllib.request.ProxyHandler):
    """urllib's, with NO_PROXY from the settings of k3s in place of the machine's."""

    def __init__(self, environment: dict) -> None:
        found = {scheme: setting(environment, f"{scheme}_proxy") for scheme in ("http", "https")}
        super().__init__({scheme: url for scheme, url in found.items() if url})
        self.no_proxy = setting(environment, "no_proxy")

    def proxy_open(self, req, proxy, type):  # pylint: disable=redefined-builtin
        """None lets the request go on without a proxy."""
        host = urllib.request.urlsplit("//" + (req.host or "")).hostname or ""
        return None if bypassed(host, self.no_proxy) else super().proxy_open(req, proxy, type)
