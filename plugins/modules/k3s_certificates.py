#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_certificates
short_description: When the certificates of a k3s node end
version_added: 1.0.0
description:
  - Reads the certificates that k3s keeps on the node, its own and those of its authorities, and says when each ends.
  - Uses Python's standard library only.
author:
  - CHT k3s maintainers (@cht-k3s)
options: {}
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Read when the certificates end
  cht.k3s.k3s_certificates:
  register: node_certificates
"""

RETURN = r"""
certificates:
  description: The certificates, the one that ends first at the top.
  type: list
  elements: dict
  returned: always
  sample:
    - path: /var/lib/rancher/k3s/server/tls/client-admin.crt
      authority: false
      days: 364
      not_before: "2026-11-23T00:25:00Z"
      not_after: "2027-11-23T00:25:00Z"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.k3s.certificates import certificates
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import System


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, certificates=certificates(System()))


if __name__ == "__main__":
    main()
