#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_binary_info
short_description: Read which release of k3s is installed on a machine
version_added: 1.0.0
description:
  - Runs C(k3s --version) on the machine. Which release a running k3s has is another question; see M(cht.k3s.k3s_server_info).
author:
  - CHT k3s maintainers (@cht-k3s)
extends_documentation_fragment:
  - cht.k3s.k3s
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Read which release is installed
  cht.k3s.k3s_binary_info:
  register: installed
"""

RETURN = r"""
version:
  description: Release of the binary; empty where none is, or it does not run.
  type: str
  returned: success
  sample: v1.34.4+k3s1
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.argument_spec import binary_spec
from ansible_collections.cht.k3s.plugins.module_utils.k3s.release import installed_version
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import System


def main() -> None:
    module = AnsibleModule(argument_spec=binary_spec(), supports_check_mode=True)
    module.exit_json(changed=False, version=installed_version(System(), module.params["binary"]))


if __name__ == "__main__":
    main()
