# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: undecided_settings
short_description: What a cluster is begun with where the variables say nothing
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - The settings of a new cluster about which the variables of the role P(cht.k3s.control_plane#role) say nothing. A cluster that exists keeps its
    own.
positional: _input, server
options:
  _input:
    description: Settings to add, by the names of k3s' flags.
    type: dict
    required: true
  server:
    description: The server as in P(cht.k3s.server_config#filter) (disable, snapshot_cron, snapshot_retention), none where nothing was said.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Settings of a new cluster
  ansible.builtin.debug:
    msg: "{{ {} | cht.k3s.undecided_settings({'snapshot_retention': 20}) }}"
"""

RETURN = r"""
_value:
  description: Settings for M(cht.k3s.k3s_join).
  type: dict
  sample: {"disable": ["local-storage"], "etcd-snapshot-schedule-cron": "0 */12 * * *"}
"""


def undecided_settings(extra: Mapping[str, Any], server: Mapping[str, Any]) -> dict[str, Any]:
    """What is left open."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.k3s import settings

    return settings.undecided(dict(extra), dict(server))


class FilterModule:
    """The filter undecided_settings."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"undecided_settings": undecided_settings}
