# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from users to counties: nginx in front, Traefik in the cluster, and lists for DNS and monitoring."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import parse_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import UNREADABLE

Object = dict[str, t.Any]

_HOST = re.compile(r"^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")
# Nothing that would end a directive or begin a variable.
_PATH = re.compile(r"^/[\w@%+=:,./ -]*$")
_DURATION = re.compile(r"^[1-9]\d*(s|m|h)$")
# As the template has it: a host's name, then its certificate.
_SERVED = re.compile(r"server_name (\S+);\s+ssl_certificate ")
_BODY_SIZE = "cht-body-size"


class AccessError(Exception):
    """Settings that can't be used; the message says which and why."""


def _host(entry: t.Any) -> str:
    if isinstance(entry, dict) and UNREADABLE in entry:
        # Left out, its users would be shut out.
        raise AccessError(f"county '{entry.get('name', '?')}': {entry[UNREADABLE]}")
    host = str(entry.get("host") or "") if isinstance(entry, dict) else ""
    if not _HOST.match(host):
        name = entry.get("name", "?") if isinstance(entry, dict) else "?"
        raise AccessError(f"county '{name}': host '{host}' is not a host name in small letters")
    return host


def _path(value: str, what: str) -> str:
    if not _PATH.match(value):
        raise AccessError(f"{what} '{value}' is not an absolute path")
    return value


def proxy_servers(counties: list[Object], certificate: str, private_key: str, own: dict[str, Object]) -> list[dict[str, str]]:
    """Return name, host, certificate and key of each county, as paths on the proxy's host; `%s` in a path stands for the host name."""
    servers: list[dict[str, str]] = []
    seen: dict[str, str] = {}
    names = {str(entry.get("name")) for entry in counties if isinstance(entry, dict)}
    unknown = sorted(set(own) - names)
    if unknown:
        raise AccessError(f"reverse_proxy_certificates names {', '.join(unknown)}, which is no county of the list")
    for entry in counties:
        host, name = _host(entry), str(entry.get("name") or "?")
        if host in seen:
            raise AccessError(f"county '{name}': host '{host}' is also that of '{seen[host]}'")
        seen[host] = name
        pair = own.get(name) or {"certificate": certificate, "private_key": private_key}
        paths = {key: str(pair.get(key) or "").replace("%s", host) for key in ("certificate", "private_key")}
        if not all(paths.values()):
            raise AccessError(
                f"county '{name}' has no certificate: set reverse_proxy_certificate and reverse_proxy_private_key for all, "
                "or its own in reverse_proxy_certificates"
            )
        servers.append({"name": name, "host": host, **{key: _path(path, f"county '{name}': {key}") for key, path in paths.items()}})
    return servers


def without_certificate(servers: list[dict[str, str]], present: t.Collection[str], config: str) -> list[str]:
    """Return the counties whose certificate is not there yet; C(config) is the present configuration of nginx.

    A county that has HTTPS now is not among them: to leave it out for a file that is missing would cut its users off. nginx refuses the file.
    """
    served = set(_SERVED.findall(config))
    return [server["name"] for server in servers if server["certificate"] not in present and server["host"] not in served]


def hosts_lines(counties: list[Object], address: str) -> list[str]:
    """Return a line for each county as /etc/hosts has it, from which DNS entries can be made, too."""
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise AccessError(f"'{address}' is not an address: set reverse_proxy_address to the one that users reach the proxy at") from error
    return [f"{address} {_host(entry)}" for entry in counties]


def watchdog_targets(counties: list[Object]) -> list[Object]:
    """Return what cht-watchdog's cht-instances.yml holds: the address of every county, to be scraped from outside."""
    return [{"targets": [f"https://{_host(entry)}" for entry in counties]}]


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise AccessError(f"traefik_trusted_proxies: '{value}' is neither an address nor a network") from error


def traefik_config(trusted: list[str], read_timeout: str, idle_timeout: str, body_size: str, client_address: bool = True) -> Object:
    """Return k3s' HelmChartConfig for its Traefik.

    Plain arguments, since they are the same in all versions of the chart. k3s restarts Traefik when they change.

    With C(client_address) Traefik sees who asks, and not an address of the pod network. A node then passes requests to its own Traefik only, so that
    each has one.
    """
    import yaml  # only on the controller

    networks = ",".join(_network(entry) for entry in trusted)
    for name, value in (("traefik_read_timeout", read_timeout), ("traefik_idle_timeout", idle_timeout)):
        if not _DURATION.match(value):
            raise AccessError(f"{name}: '{value}' is not a time such as 3600s or 1h")
    arguments = []
    for entry in ("web", "websecure"):
        prefix = f"--entryPoints.{entry}"
        if networks:
            arguments.append(f"{prefix}.forwardedHeaders.trustedIPs={networks}")
        arguments.append(f"{prefix}.transport.respondingTimeouts.readTimeout={read_timeout}")
        arguments.append(f"{prefix}.transport.respondingTimeouts.idleTimeout={idle_timeout}")
        if body_size:
            arguments.append(f"{prefix}.http.middlewares=kube-system-{_BODY_SIZE}@kubernetescrd")
    values: Object = {"additionalArguments": arguments}
    if client_address:
        values["deployment"] = {"kind": "DaemonSet"}
        values["service"] = {"spec": {"externalTrafficPolicy": "Local"}}
    if body_size:
        try:
            limit = int(parse_quantity(body_size))
        except ValueError as error:
            raise AccessError(f"traefik_max_body_size: {error}: write it as 32Mi") from error
        values["extraObjects"] = [{
            "apiVersion": "traefik.io/v1alpha1",
            "kind": "Middleware",
            "metadata": {"name": _BODY_SIZE, "namespace": "kube-system"},
            "spec": {"buffering": {"maxRequestBodyBytes": limit}},
        }]
    return {
        "apiVersion": "helm.cattle.io/v1",
        "kind": "HelmChartConfig",
        "metadata": {"name": "traefik", "namespace": "kube-system"},
        "spec": {"valuesContent": yaml.safe_dump(values, sort_keys=True)},
    }
