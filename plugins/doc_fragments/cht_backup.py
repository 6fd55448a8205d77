# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that read or write backup sets; twin of module_utils/cht/backup_arguments.py."""

    DOCUMENTATION = r"""
options:
  namespace:
    description: The namespace of the sets.
    type: str
    default: cht-backups
"""

    RESTART = r"""
options:
  wait_timeout:
    description: Seconds to wait until a county that was stopped is well again; V(0) does not wait.
    type: int
    default: 900
  health:
    description: Ask CouchDB and API of the county, too, before it counts as well.
    type: bool
    default: true
"""
