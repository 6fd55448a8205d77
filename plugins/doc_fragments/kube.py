# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that talks to the Kubernetes API; twin of module_utils/kube/module.py."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig to use, on the host that the module runs on.
      - Client certificates, tokens, basic authentication, credential plugins (C(exec)) and OIDC providers (C(auth-provider)) are understood.
      - A token of an OIDC provider that has ended is renewed there and written back, as kubectl does it.
      - An empty string means that there is no cluster yet, which is accepted in check mode only.
    type: path
    required: true
  context:
    description: Name of the context in the kubeconfig; its current context when left out.
    type: str
  request_timeout:
    description:
      - Seconds to wait for an answer of the API server.
      - A lost connection, an overloaded or restarting server is tried again for as long.
    type: int
    default: 30
requirements:
  - PyYAML
  - kubernetes, for a kubeconfig with an OIDC provider only
"""
