# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: cpi_objects
short_description: The manifest of the vSphere cloud provider (CPI) with our settings in it
version_added: 1.0.0
author: CHT k3s maintainers (@cht-k3s)
description:
  - Patches the objects of the official manifest by their structure
    (Secret, ConfigMap, image and placement), and refuses a manifest that is not built as expected.
positional: _input, settings
options:
  _input:
    description: The objects of the manifest, as M(cht.k3s.manifest_info) returns them.
    type: list
    elements: dict
    required: true
  settings:
    description: What to put in; the keys are those of the role's variables without its prefix.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Patch the manifest
  ansible.builtin.set_fact:
    patched: "{{ manifest.documents | cht.k3s.cpi_objects({'vcenters': vcenters}) }}"
  no_log: true
"""

RETURN = r"""
_value:
  description: The objects to apply.
  type: list
  elements: dict
"""


def cpi_objects(documents: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The patched objects."""
    # Here and not above: a worker that meets one filter of a collection reads them all, and pays for what they import.
    from ansible_collections.cht.k3s.plugins.module_utils.manifest import cpi
    from ansible_collections.cht.k3s.plugins.module_utils.manifest.source import ManifestError
    from ansible_collections.cht.k3s.plugins.module_utils.manifest.vcenters import SettingsError
    from ansible_collections.cht.k3s.plugins.plugin_utils.vcenters import with_authorities

    try:
        return cpi.objects(documents, with_authorities(settings))
    except (ManifestError, SettingsError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters about manifests."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"cpi_objects": cpi_objects}
