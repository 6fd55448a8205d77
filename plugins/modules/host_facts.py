#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a node for the preflight."""
from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Read what the preflight has to know about a machine
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Reads the firmware's serial and UUID, the system, sizes, free disk space, ports in use, the clock and whether other
    machines can be reached. One fast task instead of a full fact gathering; it changes nothing.
  - Needs root to read the firmware's serial, and nothing but Python on the machine.
options:
  disk_paths:
    description: Paths whose free space is read. Where one does not exist yet, its nearest parent counts.
    type: list
    elements: path
    default: [/var/lib/rancher]
  ports:
    description: TCP ports that should be free.
    type: list
    elements: int
    default: []
  reach:
    description: Machines to which a TCP connection must be possible.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Name or address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
      refused_ok:
        description: Whether a refused connection counts as reachable, since it proves that no firewall is in the way.
        type: bool
        default: false
      purpose:
        description: What the connection is for, in words.
        type: str
        default: ''
  timeout:
    description: Seconds to wait for a connection. All are tried at the same time.
    type: int
    default: 5
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed.
"""

EXAMPLES = r"""
- name: Read the machines
  cht.k3s.host_facts:
    ports: [6443, 10250]
    reach:
      - host: vcenter.example.org
        port: 443
  register: machine
"""

RETURN = r"""
host:
  description: The facts.
  returned: success
  type: dict
  contains:
    product_serial:
      description: Serial in the firmware.
      type: str
      returned: success
      sample: VMware-42 0e 3f 11 8a 5c 4d 01-9b 77 c0 de 00 00 00 11
    product_uuid:
      description: UUID in the firmware.
      type: str
      returned: success
      sample: 420e3f11-8a5c-4d01-9b77-c0de00000011
    os_id:
      description: Distribution.
      type: str
      returned: success
      sample: ubuntu
    os_version:
      description: Its release.
      type: str
      returned: success
      sample: '22.04'
    os_name:
      description: Its name for people.
      type: str
      returned: success
      sample: Ubuntu 22.04.5 LTS
    kernel:
      description: Release of the running kernel.
      type: str
      returned: success
      sample: 5.15.0-91-generic
    architecture:
      description: Machine type.
      type: str
      returned: success
      sample: x86_64
    hostname:
      description: What the machine calls itself.
      type: str
      returned: success
      sample: agent-1
    cpu_count:
      description: Processors.
      type: int
      returned: success
      sample: 48
    memory_mb:
      description: Memory in MB.
      type: int
      returned: success
      sample: 196608
    swap_mb:
      description: Swap in MB.
      type: int
      returned: success
      sample: 0
    cgroup_version:
      description: Version of control groups; V(0) where it can't be told.
      type: int
      returned: success
      sample: 2
    cgroup_v1_configured:
      description: Whether a file of the kubelet's configuration lets it start with version 1.
      type: bool
      returned: success
      sample: false
    disks:
      description: Free and whole size where each of O(disk_paths) is.
      type: list
      elements: dict
      returned: success
      sample: [{"path": "/var/lib/rancher", "free_gb": 41.2, "size_gb": 50.0}]
    firewall:
      description: The firewall that is active, V(ufw), V(firewalld) or nothing.
      type: str
      returned: success
      sample: ufw
    noexec:
      description: Those of the places of k3s' programs whose file system is mounted noexec.
      type: list
      elements: str
      returned: success
      sample: []
    default_route:
      description: Whether the machine has a default route.
      type: bool
      returned: success
      sample: true
    k3s_installed:
      description: Whether a k3s unit is there.
      type: bool
      returned: success
      sample: false
    k3s_foreign:
      description: Where the machine has a k3s that was installed by other means, and by what it shows.
      type: list
      elements: str
      returned: success
      sample: ["/etc/rancher/k3s/config.yaml is not there, so it runs with k3s' defaults"]
    ports_in_use:
      description: Those of O(ports) that something listens on.
      type: list
      elements: int
      returned: success
      sample: []
    reach:
      description: The result for each of O(reach).
      type: list
      elements: dict
      returned: success
      sample: [{"target": "vcenter.example.org:443", "purpose": "vCenter", "ok": true, "error": ""}]
    clock:
      description: The machine's time in seconds since 1970.
      type: float
      returned: success
      sample: 1700000000.5
    clock_offset:
      description:
        - By how many seconds the machine's clock is ahead of (or, negative, behind) the controller's, at least.
          The whole duration of the request is given to the network, so that a slow one causes no false alarm.
      type: float
      returned: success
      sample: 0.0
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.preflight.host_facts import collect


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "disk_paths": {"type": "list", "elements": "path", "default": ["/var/lib/rancher"]},
            "ports": {"type": "list", "elements": "int", "default": []},
            "reach": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "host": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                    "refused_ok": {"type": "bool", "default": False},
                    "purpose": {"type": "str", "default": ""},
                },
            },
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        facts = collect(params["disk_paths"], params["ports"], params["reach"], params["timeout"])
    except OSError as exc:
        module.fail_json(msg=f"Reading {exc.filename or 'the system'} failed: {exc.strerror or exc}.")
    module.exit_json(changed=False, host=facts)


if __name__ == "__main__":
    main()
