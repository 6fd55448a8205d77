# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that call k3s on a node; twin of module_utils/k3s/argument_spec.py."""

    DOCUMENTATION = r"""
options:
  binary:
    description: Where the binary is.
    type: path
    default: /usr/local/bin/k3s
"""
