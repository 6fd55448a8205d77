# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: notification
short_description: The body of the request that tells a receiver what changed
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes RV(cht.k3s.cht_report#module:news) and gives what Slack, a workflow of Microsoft Teams or ntfy takes, or all of it as JSON.
positional: _input, kind, topic
options:
  _input:
    description: The news.
    type: dict
    required: true
  kind:
    description: Who receives it; V(slack), V(teams), V(ntfy) or V(json).
    type: str
    required: true
  topic:
    description: The topic of ntfy.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Tell it
  ansible.builtin.uri:
    url: https://ntfy.example
    method: POST
    body_format: json
    body: "{{ found.news | cht.k3s.notification('ntfy', 'cht') }}"
"""

RETURN = r"""
_value:
  description: The body.
  type: dict
"""


def notification(news: Mapping[str, Any], kind: str, topic: str = "") -> dict[str, Any]:
    """The body."""
    from ansible_collections.cht.k3s.plugins.module_utils.cht.news import payload

    try:
        return payload(str(kind), dict(news), str(topic))
    except ValueError as error:
        raise AnsibleFilterError(f"cht_project_report_webhooks: {error}") from error


class FilterModule:
    """The filter notification."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"notification": notification}
