# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: encryption_plan
short_description: Decide what is left until the Secrets are encrypted
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes the results of a loop of M(cht.k3s.k3s_secrets_encryption) over the servers and says which steps are left, also after a run that was
    interrupted.
positional: _input, servers
options:
  _input:
    description: The C(results) of the loop.
    type: list
    elements: dict
    required: true
  servers:
    description: All servers.
    type: list
    elements: str
    required: true
  rotate:
    description: Whether Secrets that are encrypted get another key. A change of the key that was begun is always finished.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Stop where nothing can be begun
  ansible.builtin.fail:
    msg: "{{ plan.problem }}"
  vars:
    plan: "{{ found.results | cht.k3s.encryption_plan(groups['control_plane']) }}"
  when: plan.problem | length > 0
"""

RETURN = r"""
_value:
  description:
    - C(operations) are the steps for the server C(leader), each followed by all servers taking its outcome; an empty one is only that.
    - C(problem) says why nothing can be begun. C(before) is V(plain), V(encrypted) or V(mixed).
  type: dict
  sample: {"problem": "", "leader": "control-plane-1", "operations": ["enable", "rotate-keys"], "before": "plain"}
"""


def encryption_plan(results: list[Mapping[str, Any]], servers: list[str], rotate: bool = False) -> dict[str, Any]:
    """The steps that are left."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.encryption_plan import decide

    answers = {str(entry["item"]): dict(entry) if "kind" in entry and not entry.get("unreachable") else None for entry in results}
    return decide(answers, list(servers), bool(rotate))


class FilterModule:
    """The filter encryption_plan."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"encryption_plan": encryption_plan}
