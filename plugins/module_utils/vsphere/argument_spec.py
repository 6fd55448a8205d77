# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The argument specs that vSphere modules share. Their twins in prose are in the doc fragment cht.k3s.vsphere."""
from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import env_fallback
from ansible.module_utils.common.parameters import AnsibleFallbackNotFound

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import ENVIRONMENT


def set_env_fallback(*names: str, **more: Any) -> Any:
    """The environment variable, if there is something in it: AWX gives empty ones for fields that were left empty."""
    value = env_fallback(*names, **more)
    if not str(value).strip():
        raise AnsibleFallbackNotFound
    return value


def _env(name: str) -> tuple[Any, list[str]]:
    return (set_env_fallback, [ENVIRONMENT[name]])


def base_argument_spec(**extra: Any) -> dict[str, Any]:
    """Connection options plus what the module adds."""
    spec: dict[str, Any] = {
        "hostname": {"type": "str", "required": True, "fallback": _env("hostname")},
        "port": {"type": "int", "default": 443, "fallback": _env("port")},
        "username": {"type": "str", "required": True, "aliases": ["user"], "fallback": _env("username")},
        "password": {
            "type": "str",
            "required": True,
            "no_log": True,
            "aliases": ["pass", "pwd"],
            "fallback": _env("password"),
        },
        "validate_certs": {"type": "bool", "default": True, "fallback": _env("validate_certs")},
        "ca_path": {"type": "path", "fallback": _env("ca_path")},
        "thumbprint": {"type": "str", "fallback": _env("thumbprint")},
        "timeout": {"type": "int", "default": 60, "fallback": _env("timeout")},
        "proxy_host": {"type": "str", "fallback": _env("proxy_host")},
        "proxy_port": {"type": "int", "fallback": _env("proxy_port")},
    }
    spec.update(extra)
    return spec


def vms_argument_spec(**extra: Any) -> dict[str, Any]:
    """The same for modules that are given VMs."""
    return base_argument_spec(
        vms={"type": "list", "elements": "str", "required": True},
        datacenters={"type": "list", "elements": "str", "default": []},
        **extra,
    )


def power_argument_spec(**extra: Any) -> dict[str, Any]:
    """The same for modules that may have to power VMs off and on."""
    return vms_argument_spec(
        search_by={"type": "str", "choices": ["name", "moid", "path"], "default": "name"},
        power_cycle={"type": "str", "choices": ["never", "graceful", "hard"], "default": "never"},
        power_timeout={"type": "int", "default": 300},
        **extra,
    )
