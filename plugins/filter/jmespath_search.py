# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: jmespath_search
short_description: What a JMESPath query finds in a module's result
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - For the large results of this collection, of which a person or another job wants one part.
positional: _input, query
options:
  _input:
    description: A result, such as the report of M(cht.k3s.cht_report).
    type: raw
    required: true
  query:
    description: A query in JMESPath.
    type: str
    required: true
requirements:
  - jmespath
seealso:
  - name: JMESPath
    description: The language of the query.
    link: https://jmespath.org
"""

EXAMPLES = r"""
- name: The counties that a loss of two agents would take down
  ansible.builtin.debug:
    msg: "{{ result.report | cht.k3s.jmespath_search('loss.two_agents.bad') }}"

- name: What is bad, and where
  ansible.builtin.debug:
    msg: "{{ result.report | cht.k3s.jmespath_search(query) }}"
  vars:
    query: "problems[?level=='bad'].[what, text]"
"""

RETURN = r"""
_value:
  description: What the query found; none when there is nothing at that place.
  type: raw
"""


def jmespath_search(data: Any, query: str) -> Any:
    """The query's result."""
    try:
        import jmespath
    except ImportError as error:
        raise AnsibleFilterError("The Python package jmespath is needed where Ansible runs; install it (requirements.txt).") from error
    try:
        return jmespath.search(str(query), _plain(data))
    except jmespath.exceptions.JMESPathError as error:
        reason = " ".join(str(error).split())
        raise AnsibleFilterError(f"The query {str(query)!r} is not understood: {reason}. The language is described on jmespath.org.") from error


def _plain(value: Any) -> Any:
    """Ansible's own strings and numbers as Python's: the functions of the language look at the very type."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"jmespath_search": jmespath_search}
