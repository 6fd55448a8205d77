# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage policies, which vCenter keeps in a service of its own (SPBM)."""
from __future__ import annotations

from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.connection import VsphereSession, proxy_arguments

try:
    from pyVmomi import SoapStubAdapter, VmomiSupport, pbm
except ImportError:
    SoapStubAdapter = VmomiSupport = pbm = None

PBM_VERSION = "pbm.version.version1"
_COOKIE = "vcSessionCookie"


def policy_names(session: VsphereSession) -> list[str]:
    """The names of all policies that the account sees."""
    return session.run(lambda: _names(session))


def _names(session: VsphereSession) -> list[str]:
    options = session.options
    stub = SoapStubAdapter(
        host=options.hostname, port=options.port, path="/pbm", version=PBM_VERSION, sslContext=session.context,
        httpConnectionTimeout=options.timeout, **proxy_arguments(options),
    )
    # The service takes the session from a header of the request; the simulator from the cookie, like the others.
    stub.cookie = session.stub.cookie
    context: Any = VmomiSupport.GetRequestContext()
    context[_COOKIE] = session.stub.cookie.partition("=")[2].partition(";")[0].strip('" ')
    try:
        manager = pbm.ServiceInstance("ServiceInstance", stub).RetrieveContent().profileManager
        kind = pbm.profile.ResourceType(resourceType=pbm.profile.ResourceTypeEnum.STORAGE)
        ids = manager.PbmQueryProfile(resourceType=kind)
        return sorted(str(profile.name) for profile in manager.PbmRetrieveContent(profileIds=ids)) if ids else []
    finally:
        context.pop(_COOKIE, None)
        stub.DropConnections()
