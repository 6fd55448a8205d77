# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: delivery
short_description: Who was told, and who could not be
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Takes the results of the requests to webhooks and that of the mail.
positional: _input, mailed
options:
  _input:
    description: The C(results) of a loop of M(ansible.builtin.uri) over webhooks.
    type: list
    elements: dict
    required: true
  mailed:
    description: The result of M(community.general.mail), or nothing.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: See who was told
  ansible.builtin.debug:
    msg: "{{ hooked.results | cht.k3s.delivery(mailed) }}"
"""

RETURN = r"""
_value:
  description: Those who have it, and those who have not, each with the reason.
  type: dict
  sample: {"heard": ["mail"], "deaf": ["slack at hooks.slack.com: Status code was 404"]}
"""


def delivery(hooked: list[Mapping[str, Any]], mailed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The two lists."""
    from ansible_collections.cht.k3s.plugins.module_utils.cht import news

    return news.delivery([dict(result) for result in hooked], dict(mailed or {}))


class FilterModule:
    """The filter delivery."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"delivery": delivery}
