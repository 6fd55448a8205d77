# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOCUMENTATION = r"""
name: missing_modules
short_description: Modules that are not installed where Ansible runs
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - For modules of collections that are optional, so that a missing one is named before it is used.
options:
  _input:
    description: Full names of modules.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: See whether mails can be sent
  ansible.builtin.debug:
    msg: "{{ ['community.general.mail'] | cht.k3s.missing_modules }}"
"""

RETURN = r"""
_value:
  description: Those that are missing.
  type: list
  elements: str
"""


def missing_modules(names: list[str]) -> list[str]:
    """Those that Ansible does not find."""
    from ansible.errors import AnsibleError
    from ansible.plugins.loader import module_loader

    def there(name: str) -> bool:
        try:
            return bool(module_loader.find_plugin_with_context(name).resolved)
        except AnsibleError:
            return False

    return [name for name in map(str, names) if not there(name)]


class FilterModule:
    """The filter missing_modules."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"missing_modules": missing_modules}
