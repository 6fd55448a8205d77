# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection options shared by the modules (argument spec) and the inventory plugin (plugin options)."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError

# Option name -> environment variable. The first four are also what AWX's own vCenter credential type exports.
ENVIRONMENT = {
    "hostname": "VMWARE_HOST",
    "port": "VMWARE_PORT",
    "username": "VMWARE_USER",
    "password": "VMWARE_PASSWORD",
    "validate_certs": "VMWARE_VALIDATE_CERTS",
    "ca_path": "VMWARE_CA_PATH",
    "thumbprint": "VMWARE_THUMBPRINT",
    "timeout": "VMWARE_TIMEOUT",
    "proxy_host": "VMWARE_PROXY_HOST",
    "proxy_port": "VMWARE_PROXY_PORT",
}


@dataclass(frozen=True)
class ConnectionOptions:
    """Everything needed to open one session."""

    hostname: str
    username: str
    password: str
    port: int = 443
    validate_certs: bool = True
    ca_path: str | None = None
    thumbprint: str | None = None
    timeout: int = 60
    proxy_host: str | None = None
    proxy_port: int = 0

    def __repr__(self) -> str:
        # The generated representation would carry the password into tracebacks.
        return f"ConnectionOptions({self.username}@{self.address})"

    @property
    def address(self) -> str:
        """Host and port as people write them."""
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{host}:{self.port}"


def truth(value: Any, name: str, default: bool) -> bool:
    """A boolean that may come as text, as from the environment. An empty one is not set: AWX gives those for fields left empty."""
    if value is None or str(value).strip() == "":
        return default
    try:
        return bool(boolean(str(value).strip()))
    except TypeError as exc:
        raise VsphereError("options", f"{_named(name)} '{value}' is neither true nor false.", "Write true or false, or leave it out.") from exc


def number(value: Any, name: str, default: int, most: int) -> int:
    """A number that may come as text."""
    if value is None or str(value).strip() == "":
        return default
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdigit() or not 0 < int(text) <= most:
        raise VsphereError("options", f"{_named(name)} '{value}' is not a number from 1 to {most}.", "Correct it, or leave it out.")
    return int(text)


def _named(name: str) -> str:
    return f"{name} (environment variable {ENVIRONMENT[name]})" if name in ENVIRONMENT else name


def connection_options(params: Mapping[str, Any]) -> ConnectionOptions:
    """Build the options from module parameters or plugin options and name all that is missing at once."""
    missing = [name for name in ("hostname", "username", "password") if not params.get(name)]
    if missing:
        wanted = ", ".join(f"{name} (environment variable {ENVIRONMENT[name]})" for name in missing)
        raise VsphereError(
            "options",
            f"No vCenter {' and no '.join(missing)} given.",
            f"Set {wanted}.",
        )
    hostname = str(params["hostname"]).strip()
    if "://" in hostname or "/" in hostname:
        raise VsphereError(
            "options",
            f"The vCenter hostname '{hostname}' looks like a URL.",
            "Give only the host name or address, for example vcenter.example.org, and the port separately.",
        )
    ca_path = str(params["ca_path"]) if params.get("ca_path") else None
    thumbprint = str(params["thumbprint"]) if params.get("thumbprint") else None
    proxy_host = str(params.get("proxy_host") or "").strip()
    proxy_port = number(params.get("proxy_port") or "", "proxy_port", 0, 65535)
    if "://" in proxy_host or "/" in proxy_host or bool(proxy_host) != bool(proxy_port):
        raise VsphereError(
            "options",
            f"The proxy for vCenter is given as host '{proxy_host}' and port '{params.get('proxy_port') or ''}'.",
            f"Give host name or address in proxy_host ({ENVIRONMENT['proxy_host']}) and the port in proxy_port ({ENVIRONMENT['proxy_port']}), or neither.",
        )
    return ConnectionOptions(
        hostname=hostname,
        username=str(params["username"]),
        password=str(params["password"]),
        port=number(params.get("port"), "port", 443, 65535),
        # Who gives an authority or a thumbprint wants it compared. AWX's own credential says VMWARE_VALIDATE_CERTS=False unless its server is set otherwise.
        validate_certs=truth(params.get("validate_certs"), "validate_certs", True) or bool(ca_path or thumbprint),
        ca_path=ca_path,
        thumbprint=thumbprint,
        timeout=number(params.get("timeout"), "timeout", 60, 86400),
        proxy_host=proxy_host or None,
        proxy_port=proxy_port,
    )
