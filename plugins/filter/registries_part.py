# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: registries_part
short_description: Registries with or without their credentials
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Splits a C(registries.yaml) into what may be shown and what may not, as M(cht.k3s.k3s_join) takes them.
positional: _input, part
options:
  _input:
    description: Content of C(registries.yaml).
    type: dict
    required: true
  part:
    description: Which part.
    type: str
    choices: [public, auth]
    required: true
"""

EXAMPLES = r"""
- name: Registries that may be shown
  ansible.builtin.debug:
    msg: "{{ k3s_registries | cht.k3s.registries_part('public') }}"
"""

RETURN = r"""
_value:
  description: That part.
  type: dict
  sample: {"mirrors": {"docker.io": {"endpoint": ["http://198.18.0.2:5000"]}}}
"""


def registries_part(registries: Mapping[str, Any], part: str) -> dict[str, Any]:
    """One of both parts."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s import settings

    public, auth = settings.split_registries(dict(registries))
    parts = {"public": public, "auth": auth}
    if part not in parts:
        raise AnsibleFilterError(f"registries_part: {part!r} is neither public nor auth")
    return parts[part]


class FilterModule:
    """The filter registries_part."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"registries_part": registries_part}
