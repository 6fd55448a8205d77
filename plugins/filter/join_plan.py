# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: join_plan
short_description: Decide which server a node joins
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes the results of a loop of M(cht.k3s.k3s_server_info) over the servers and decides whether a node joins one of them or begins the cluster.
positional: _input, urls
options:
  _input:
    description: The C(results) of the loop.
    type: list
    elements: dict
    required: true
  urls:
    description: URL of each server, from P(cht.k3s.server_urls#filter).
    type: dict
    required: true
  host:
    description: The host it is decided for.
    type: str
    required: true
  server:
    description: Whether the host is a server.
    type: bool
    default: false
  batch:
    description: The hosts that act at the same time.
    type: list
    elements: str
    default: []
  play:
    description: The hosts of the whole play.
    type: list
    elements: str
    default: []
  fixed_url:
    description: URL that agents join through instead of a server's own.
    type: str
    default: ''
  token:
    description: A token that was given.
    type: str
    default: ''
  check_mode:
    description: Whether the run changes nothing.
    type: bool
    default: false
  version:
    description: The release that the host joins with. It is compared with that of the servers; not when it is empty, as in an upgrade.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Refuse to guess
  ansible.builtin.fail:
    msg: "{{ plan.problem }}"
  vars:
    plan: "{{ answers.results | cht.k3s.join_plan(urls, host=inventory_hostname, server=true) }}"
  when: plan.problem | length > 0
"""

RETURN = r"""
_value:
  description: What to give to M(cht.k3s.k3s_join), and why nothing can be decided.
  type: dict
  sample: {"servers": ["https://198.18.0.11:6443"], "cluster_init": false, "token": "", "problem": "", "via": "control-plane-1",
           "version": "v1.34.4+k3s1", "encryption": "encrypted", "settings": {"disable": ["local-storage"]},
           "peers": ["https://198.18.0.11:6443"]}
"""


def join_plan(
    results: list[Mapping[str, Any]],
    urls: Mapping[str, str],
    host: str,
    server: bool = False,
    batch: list[str] | None = None,
    play: list[str] | None = None,
    fixed_url: str = "",
    token: str = "",
    check_mode: bool = False,
    version: str = "",
) -> dict[str, Any]:
    """The plan for one host; the token in it is a secret."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.access import answers_by_server
    from ansible_collections.cht.k3s.plugins.module_utils.k3s.plan import decide

    first = next((name for name in urls if server and name in (play or [])), next(iter(urls), ""))
    return decide(
        answers_by_server(results),
        dict(urls),
        host=host,
        server=server,
        alone=len(batch or [host]) <= 1,
        first=first,
        fixed_url=fixed_url,
        token=token,
        check_mode=check_mode,
        version=version,
    )


class FilterModule:
    """The filter join_plan."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"join_plan": join_plan}
