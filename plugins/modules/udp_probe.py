#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: udp_probe
short_description: Try a UDP port between machines on which nothing listens yet
version_added: 1.0.0
description:
  - For the preflight, in three tasks. With O(state=listening) each machine answers on the port for a while, with O(state=asked) each asks the others, with
    O(state=stopped) none answers any more.
  - A port that is taken, as that of the pod network on a node that has joined, is left alone.
  - It changes nothing that lasts, so it never reports a change.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  state:
    description: The step.
    type: str
    choices: [listening, asked, stopped]
    required: true
  port:
    description: UDP port.
    type: int
    required: true
  hosts:
    description: Names or addresses to ask.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for the answers; with O(state=listening) the longest time that the machine answers.
    type: int
    default: 5
attributes:
  check_mode:
    support: full
    description: Does the same, as nothing is changed.
"""

EXAMPLES = r"""
- name: Answer for a minute at most
  cht.k3s.udp_probe:
    state: listening
    port: 8472
    timeout: 60

- name: Ask the others
  cht.k3s.udp_probe:
    state: asked
    port: 8472
    hosts: [192.0.2.11, 192.0.2.12]
"""

RETURN = r"""
listening:
  description: Whether the machine answers; not if the port is taken.
  returned: with O(state=listening)
  type: bool
  sample: true
answers:
  description: For each of O(hosts) why no packet came back, empty if one did.
  returned: with O(state=asked)
  type: dict
  sample: {"192.0.2.11": "", "192.0.2.12": "no answer within 5 s (a firewall drops it?)"}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.preflight import udp


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["listening", "asked", "stopped"], "required": True},
            "port": {"type": "int", "required": True},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["state"] == "listening":
            module.exit_json(changed=False, listening=udp.listen(params["port"], params["timeout"]))
        if params["state"] == "stopped":
            udp.stop(params["port"])
            module.exit_json(changed=False)
        module.exit_json(changed=False, answers=udp.ask(params["hosts"], params["port"], params["timeout"]))
    except OSError as exc:
        module.fail_json(msg=f"UDP port {params['port']} can't be tried: {exc.strerror or exc}.")


if __name__ == "__main__":
    main()
