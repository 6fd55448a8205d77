# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: certificate_report
short_description: When the certificates of all nodes end, as a table
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes what M(cht.k3s.k3s_certificates) found on each node and gives one line a node. A line names the certificate that ends first
    and the authority that ends first.
options:
  _input:
    description: The results by host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show when certificates end
  ansible.builtin.debug:
    msg: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'node_certificates'))) | cht.k3s.certificate_report }}"
"""

RETURN = r"""
_value:
  description: The lines of the table.
  type: list
  elements: str
  sample:
    - "NODE             DAYS  ENDS                  CERTIFICATE                   AUTHORITY ENDS"
    - "control-plane-1   364  2027-11-23T00:25:00Z  client-admin.crt              2036-11-20T00:25:00Z"
"""


def certificate_report(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line a node, the most urgent first."""
    rows = []
    for host, result in results.items():
        found = list(result.get("certificates") or [])
        own = next((entry for entry in found if not entry["authority"]), None)
        authority = next((entry for entry in found if entry["authority"]), None)
        rows.append((
            host, str(own["days"]) if own else "-", own["not_after"] if own else "no certificate found",
            own["path"].rpartition("/")[2] if own else "", authority["not_after"] if authority else "-",
        ))
    rows.sort(key=lambda row: (row[2], row[0]))
    head = ("NODE", "DAYS", "ENDS", "CERTIFICATE", "AUTHORITY ENDS")
    width = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(text.rjust(width[column]) if column == 1 else text.ljust(width[column]) for column, text in enumerate(row)).rstrip()
        for row in [head, *rows]
    ]


class FilterModule:
    """The filter certificate_report."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"certificate_report": certificate_report}
