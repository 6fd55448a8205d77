#!/usr/bin/python
# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: http_probe
short_description: Wait until many HTTP endpoints answer
version_added: 1.0.0
description:
  - Requests all given URLs in parallel, again and again until each has answered or the time is over, and reports each one.
  - One task for a whole cluster, where M(ansible.builtin.uri) needs one per URL.
author:
  - CHT k3s maintainers (@cht-k3s)
options:
  endpoints:
    description: The URLs to request.
    type: list
    elements: dict
    required: true
    suboptions:
      url:
        description: Where to send the request, C(http) or C(https).
        type: str
        required: true
      host:
        description: Value of the C(Host) header, where many sites share an address.
        type: str
  timeout:
    description: Seconds to wait for all endpoints together.
    type: int
    default: 60
  failing_from:
    description: Statuses from this one on count as no answer.
    type: int
    default: 500
  validate_certs:
    description: Whether certificates are verified.
    type: bool
    default: true
  ca_path:
    description: File with the certificate authorities to trust; the system's when left out.
    type: path
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Wait until the ingress controller answers on every node
  cht.k3s.http_probe:
    endpoints:
      - url: http://198.18.0.11/
      - url: https://198.18.0.11/
    validate_certs: false
"""

RETURN = r"""
answers:
  description: What each endpoint said.
  returned: always
  type: list
  elements: dict
  sample:
    - url: http://198.18.0.11/
      host: ""
      status: 404
      error: ""
      tries: 1
      ok: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.cht.k3s.plugins.module_utils.http_probe import Endpoint, Prober


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "endpoints": {
                "type": "list", "elements": "dict", "required": True,
                "options": {"url": {"type": "str", "required": True}, "host": {"type": "str"}},
            },
            "timeout": {"type": "int", "default": 60},
            "failing_from": {"type": "int", "default": 500},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    prober = Prober(timeout=params["timeout"], failing_from=params["failing_from"], verify=params["validate_certs"],
                    ca_path=params["ca_path"])
    answers = prober.wait([Endpoint(item["url"], item["host"]) for item in params["endpoints"]])
    result = {"changed": False, "answers": [answer.as_dict() for answer in answers]}
    silent = [answer for answer in answers if not answer.ok]
    if silent:
        module.fail_json(
            msg=f"{len(silent)} of {len(answers)} endpoints did not answer within {params['timeout']} s: "
            + "; ".join(f"{a.endpoint.url}: {a.error}" for a in silent), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
