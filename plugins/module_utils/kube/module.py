# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that talk to the Kubernetes API share. Its twin in prose is the doc fragment cht.k3s.kube."""

from __future__ import annotations

from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.config import KubeConfigError


def base_argument_spec(**extra: Any) -> dict[str, Any]:
    """Connection options plus what the module adds."""
    spec: dict[str, Any] = {
        "kubeconfig": {"type": "path", "required": True},
        "context": {"type": "str"},
        "request_timeout": {"type": "int", "default": 30},
    }
    spec.update(extra)
    return spec


def object_argument_spec(**extra: Any) -> dict[str, Any]:
    """The option `objects`: a list of references to objects, with what the module adds to each."""
    reference: dict[str, Any] = {
        "api_version": {"type": "str", "default": "v1"},
        "kind": {"type": "str", "required": True},
        "namespace": {"type": "str"},
        "name": {"type": "str"},
    }
    reference.update(extra)
    return {"type": "list", "elements": "dict", "required": True, "options": reference}


def open_client(module: Any) -> Client | None:
    """The client for the module's kubeconfig; None in check mode when there is no cluster yet."""
    path = module.params["kubeconfig"]
    timeout = float(module.params["request_timeout"])
    if not path:
        if module.check_mode:
            return None
        module.fail_json(
            msg="kubeconfig is empty: there is no cluster to talk to. Set up the control plane first, or give the path of a kubeconfig."
        )
    try:
        client = Client.from_kubeconfig(path, module.params["context"], timeout, timeout)
    except KubeConfigError as error:
        module.fail_json(msg=str(error))
    if module.check_mode and not client.reachable():
        module.warn(f"The API server of {path} does not answer; check mode goes on as if there were no cluster yet.")
        client.close()
        return None
    return client
