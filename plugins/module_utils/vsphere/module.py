# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all vSphere modules do around their work: the library check, the session, the errors."""
from __future__ import annotations

import traceback
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import PYVMOMI_ERROR, VsphereSession
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import connection_options


def run_module(module: AnsibleModule, work: Callable[[VsphereSession], dict[str, Any]]) -> None:
    """Open a session, do the work, report its result; errors become one readable message."""
    if PYVMOMI_ERROR is not None:
        module.fail_json(msg=missing_required_lib("pyvmomi"), exception=PYVMOMI_ERROR)
    try:
        with VsphereSession(connection_options(module.params)) as session:
            result = work(session)
    except VsphereError as exc:
        module.fail_json(msg=str(exc), kind=exc.kind)
    except Exception as exc:  # pylint: disable=broad-except
        module.fail_json(msg=f"Unexpected {type(exc).__name__}: {exc}", exception=traceback.format_exc())
    module.exit_json(**result)
