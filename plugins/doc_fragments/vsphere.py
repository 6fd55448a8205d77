# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection options of everything that talks to vCenter."""
from __future__ import annotations


class ModuleDocFragment:
    """DOCUMENTATION for modules, VMS for those given VMs, POWER for those that may power them off and on, PLUGIN for plugins."""

    DOCUMENTATION = r"""
options:
  hostname:
    description:
      - Host name or address of the vCenter.
      - If not set, the environment variable E(VMWARE_HOST) is used.
    type: str
    required: true
  port:
    description:
      - Port of the vCenter's API.
      - If not set, the environment variable E(VMWARE_PORT) is used.
    type: int
    default: 443
  username:
    description:
      - Account that logs in, for example V(svc-k3s@vsphere.local).
      - If not set, the environment variable E(VMWARE_USER) is used.
    type: str
    required: true
    aliases: [user]
  password:
    description:
      - Password of the account. Exactly one login is attempted, so that a wrong password cannot lock the account.
      - If not set, the environment variable E(VMWARE_PASSWORD) is used.
    type: str
    required: true
    aliases: [pass, pwd]
  validate_certs:
    description:
      - Whether the vCenter's certificate must be trusted.
      - With O(ca_path) or O(thumbprint) it is verified whatever this says.
      - If not set, the environment variable E(VMWARE_VALIDATE_CERTS) is used.
    type: bool
    default: true
  ca_path:
    description:
      - File (PEM) with the certificate authority that signed the vCenter's certificate.
        Without it the system's authorities are used.
      - If not set, the environment variable E(VMWARE_CA_PATH) is used.
    type: path
  thumbprint:
    description:
      - SHA-1, SHA-256 or SHA-512 thumbprint of the vCenter's certificate.
        Only the certificate with this thumbprint is accepted then, whoever signed it.
      - If not set, the environment variable E(VMWARE_THUMBPRINT) is used.
    type: str
  timeout:
    description:
      - Seconds to wait for the connection and for each answer of the vCenter.
      - If not set, the environment variable E(VMWARE_TIMEOUT) is used.
    type: int
    default: 60
  proxy_host:
    description:
      - Host name or address of an HTTP proxy through which the vCenter is reached, together with O(proxy_port).
      - If not set, the environment variable E(VMWARE_PROXY_HOST) is used.
    type: str
  proxy_port:
    description:
      - Port of O(proxy_host).
      - If not set, the environment variable E(VMWARE_PROXY_PORT) is used.
    type: int
requirements:
  - pyvmomi >= 8.0.3.0.1
notes:
  - One session is opened for the whole call, and always closed.
  - Credentials can be written once for all modules with C(module_defaults) and the action group C(cht.k3s.vsphere).
"""

    VMS = r"""
options:
  vms:
    description: The VMs.
    type: list
    elements: str
    required: true
  datacenters:
    description: Search only in these datacenters, by name or path.
    type: list
    elements: str
    default: []
"""

    POWER = r"""
options:
  search_by:
    description: What the entries of O(vms) are.
    type: str
    choices: [name, moid, path]
    default: name
  power_cycle:
    description:
      - Whether VMs that are on may be powered off and on where a change needs it to be made or to take effect.
      - V(graceful) shuts the guest down through Tools, V(hard) switches off.
      - VMs are cycled strictly one after the other, each waiting until the Tools of the one before run again, so that
        two control planes are never down together. The first that fails ends it.
    type: str
    choices: [never, graceful, hard]
    default: never
  power_timeout:
    description: Seconds to wait for each step of a VM, such as to go off, or to come back.
    type: int
    default: 300
"""

    PLUGIN = r"""
options:
  hostname:
    description: Host name or address of the vCenter.
    type: str
    env:
      - name: VMWARE_HOST
  port:
    description: Port of the vCenter's API.
    # Not int: a template is a text until it is filled in.
    type: raw
    default: 443
    env:
      - name: VMWARE_PORT
  username:
    description: Account that logs in, for example V(svc-k3s@vsphere.local).
    type: str
    aliases: [user]
    env:
      - name: VMWARE_USER
  password:
    description:
      - Password of the account. Exactly one login is attempted, so that a wrong password cannot lock the account.
      - In the file, write it only as an Ansible Vault string or as a template.
    type: str
    aliases: [pass, pwd]
    env:
      - name: VMWARE_PASSWORD
  validate_certs:
    description:
      - Whether the vCenter's certificate must be trusted.
      - With O(ca_path) or O(thumbprint) it is verified whatever this says.
    type: raw
    default: true
    env:
      - name: VMWARE_VALIDATE_CERTS
  ca_path:
    description:
      - File (PEM) with the certificate authority that signed the vCenter's certificate.
        Without it the system's authorities are used.
    type: path
    env:
      - name: VMWARE_CA_PATH
  thumbprint:
    description:
      - SHA-1, SHA-256 or SHA-512 thumbprint of the vCenter's certificate.
        Only the certificate with this thumbprint is accepted then, whoever signed it.
    type: str
    env:
      - name: VMWARE_THUMBPRINT
  timeout:
    description: Seconds to wait for the connection and for each answer of the vCenter.
    type: raw
    default: 60
    env:
      - name: VMWARE_TIMEOUT
  proxy_host:
    description: Host name or address of an HTTP proxy through which the vCenter is reached, together with O(proxy_port).
    type: str
    env:
      - name: VMWARE_PROXY_HOST
  proxy_port:
    description: Port of O(proxy_host).
    type: raw
    env:
      - name: VMWARE_PROXY_PORT
requirements:
  - pyvmomi >= 8.0.3.0.1
"""
