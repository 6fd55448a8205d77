# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One vCenter session: opened with exactly one login attempt, always closed, every failure explained."""
from __future__ import annotations

import hashlib
import os
import socket
import ssl
from http.client import HTTPException, HTTPSConnection
from typing import Any, Callable, TypeVar
from xml.parsers.expat import ExpatError

from ansible_collections.cht.k3s.plugins.module_utils.vsphere.errors import VsphereError
from ansible_collections.cht.k3s.plugins.module_utils.vsphere.options import ConnectionOptions

try:
    from pyVmomi import SoapStubAdapter, vim

    PYVMOMI_ERROR: str | None = None
except ImportError as exc:
    SoapStubAdapter = vim = None
    PYVMOMI_ERROR = str(exc)

# The oldest API that the CPI supports (6.7 U3). Every newer vCenter speaks it too, so asking for exactly this
# version saves the negotiation round trip and gives the same answers everywhere.
API_VERSION = "vim.version.version15"

_EXPIRED = 10
_NOT_YET_VALID = 9
_NAME_MISMATCH = (62, 64)

_DIGESTS = {40: "sha1", 64: "sha256", 128: "sha512"}

T = TypeVar("T")


def check_thumbprint(options: ConnectionOptions, certificate: bytes | None) -> None:
    """Accept exactly the certificate (DER) whose thumbprint was given."""
    wanted = (options.thumbprint or "").replace(":", "").replace(" ", "").lower()
    if len(wanted) not in _DIGESTS:
        raise VsphereError(
            "options",
            f"The thumbprint for vCenter {options.address} is neither SHA-1, SHA-256 nor SHA-512.",
            "Give thumbprint (VMWARE_THUMBPRINT) as 40, 64 or 128 hexadecimal digits, with or without colons.",
        )
    found = hashlib.new(_DIGESTS[len(wanted)], certificate or b"", usedforsecurity=False).hexdigest()
    if found != wanted:
        raise VsphereError(
            "certificate-thumbprint",
            f"The certificate of vCenter {options.address} has the thumbprint {found}, not the one that was given.",
            "Compare thumbprint (VMWARE_THUMBPRINT) with the certificate that vCenter shows; it changes at renewal.",
        )


def https_connection(options: ConnectionOptions, context: ssl.SSLContext) -> HTTPSConnection:
    """A connected, trusted HTTPS connection for the few things that SOAP does not offer."""
    host, port = (options.proxy_host, options.proxy_port) if options.proxy_host else (options.hostname, options.port)
    connection = HTTPSConnection(host, port, timeout=options.timeout, context=context)
    if options.proxy_host:
        connection.set_tunnel(options.hostname, options.port)
    connection.connect()
    if options.thumbprint and options.validate_certs:
        check_thumbprint(options, connection.sock.getpeercert(binary_form=True))
    return connection


def proxy_arguments(options: ConnectionOptions) -> dict[str, Any]:
    """What every SOAP stub is given besides, where the vCenter is behind a proxy."""
    return {"httpProxyHost": options.proxy_host, "httpProxyPort": options.proxy_port} if options.proxy_host else {}


def _stub_class(options: ConnectionOptions) -> Any:
    """pyvmomi checks a thumbprint on the first connection only; a pin has to hold for each of them."""

    class PinnedStub(SoapStubAdapter):  # type: ignore[misc,valid-type]
        """A SOAP stub that never uses a connection whose certificate it has not compared."""

        def GetConnection(self) -> Any:
            connection = super().GetConnection()
            if connection.sock is None:
                connection.connect()
            check_thumbprint(options, connection.sock.getpeercert(True))
            return connection

    return PinnedStub if options.thumbprint and options.validate_certs else SoapStubAdapter


def tls_context(options: ConnectionOptions) -> ssl.SSLContext:
    """The TLS settings of all requests to this vCenter."""
    if options.thumbprint or not options.validate_certs:
        # With a thumbprint it is the certificate itself that is compared, whoever signed it.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if options.ca_path and not os.path.isfile(options.ca_path):
        raise VsphereError(
            "options",
            f"The certificate authority file '{options.ca_path}' for vCenter {options.address} does not exist.",
            "Correct ca_path (environment variable VMWARE_CA_PATH).",
        )
    try:
        return ssl.create_default_context(cafile=options.ca_path)
    except ssl.SSLError as exc:
        raise VsphereError(
            "options",
            f"The file '{options.ca_path}' holds no readable certificate authority ({getattr(exc, 'reason', None) or exc}).",
            "Give a PEM file in ca_path (environment variable VMWARE_CA_PATH).",
        ) from exc


def explain_tls(options: ConnectionOptions, exc: ssl.SSLCertVerificationError) -> VsphereError:
    """Turn a failed verification into the thing to do; expiry needs another remedy than a missing authority."""
    where = f"vCenter {options.address}"
    if exc.verify_code == _EXPIRED:
        return VsphereError(
            "certificate-expired",
            f"The certificate of {where} has expired.",
            "Renew it in vCenter (Administration > Certificates), or check this machine's clock.",
        )
    if exc.verify_code == _NOT_YET_VALID:
        return VsphereError(
            "certificate-not-yet-valid",
            f"The certificate of {where} is not valid yet.",
            "Check the clocks of this machine and of vCenter.",
        )
    if exc.verify_code in _NAME_MISMATCH:
        return VsphereError(
            "certificate-name",
            f"The certificate of {where} was issued for another name ({exc.verify_message}).",
            "Use the name in the certificate as hostname (VMWARE_HOST), or set thumbprint (VMWARE_THUMBPRINT).",
        )
    return VsphereError(
        "certificate-untrusted",
        f"The certificate of {where} is not trusted ({exc.verify_message}).",
        "Give its certificate authority in ca_path (VMWARE_CA_PATH) or its thumbprint in thumbprint (VMWARE_THUMBPRINT).",
    )


def explain(options: ConnectionOptions, exc: BaseException) -> VsphereError:
    """Translate any failure of a request into what, where and what to do."""
    where = f"vCenter {options.address}"
    if isinstance(exc, VsphereError):
        return exc
    if isinstance(exc, ssl.SSLCertVerificationError):
        return explain_tls(options, exc)
    if isinstance(exc, ssl.SSLError):
        return VsphereError(
            "tls",
            f"{where} did not answer with TLS ({getattr(exc, 'reason', None) or exc}).",
            "Check hostname and port (VMWARE_HOST, VMWARE_PORT): vCenter's API listens on 443.",
        )
    if isinstance(exc, socket.gaierror):
        return VsphereError(
            "unreachable",
            f"The name of {where} cannot be resolved ({exc.strerror}).",
            "Check hostname (VMWARE_HOST) and this machine's DNS.",
        )
    if isinstance(exc, (socket.timeout, TimeoutError)):
        return VsphereError(
            "timeout",
            f"{where} did not answer within {options.timeout} s.",
            "Check the network, firewall and load of vCenter, or raise timeout (VMWARE_TIMEOUT).",
        )
    if isinstance(exc, OSError):
        return VsphereError(
            "unreachable",
            f"{where} cannot be reached ({exc.strerror or exc}).",
            "Check hostname and port (VMWARE_HOST, VMWARE_PORT), the network and the firewall.",
        )
    if isinstance(exc, (HTTPException, ExpatError)):
        return VsphereError(
            "not-vcenter",
            f"{where} did not answer as a vCenter does ({exc}).",
            "Check hostname and port (VMWARE_HOST, VMWARE_PORT); a proxy or another service may answer there.",
        )
    return _explain_fault(options, exc)


def _explain_fault(options: ConnectionOptions, exc: BaseException) -> VsphereError:
    where = f"vCenter {options.address}"
    if vim is not None and isinstance(exc, vim.fault.InvalidLogin):
        return VsphereError(
            "login",
            f"{where} refused the login of '{options.username}': wrong user name or password, or the account is locked.",
            "Correct username and password (VMWARE_USER, VMWARE_PASSWORD). Only this one attempt was made.",
        )
    # Asked first: to pyvmomi it is a kind of NoPermission.
    if vim is not None and isinstance(exc, vim.fault.NotAuthenticated):
        return VsphereError(
            "session",
            f"{where} ended the session of '{options.username}' twice.",
            "Check vCenter's idle time-out and whether somebody terminates sessions.",
        )
    if vim is not None and isinstance(exc, vim.fault.NoPermission):
        privilege = getattr(exc, "privilegeId", None) or "unknown"
        target = getattr(getattr(exc, "object", None), "_moId", "unknown object")
        return VsphereError(
            "permission",
            f"'{options.username}' lacks the privilege {privilege} on {target} in {where}.",
            "Grant the role that holds it on that object or above it.",
        )
    message = getattr(exc, "msg", None) or str(exc) or type(exc).__name__
    return VsphereError(
        "fault",
        f"{where} answered with {type(exc).__name__}: {message}",
        "Look the task or event up in vCenter; this was not expected.",
    )


class VsphereSession:
    """A session to use in a ``with`` block."""

    def __init__(self, options: ConnectionOptions) -> None:
        if PYVMOMI_ERROR is not None:
            raise VsphereError(
                "library",
                f"The Python library pyvmomi is missing ({PYVMOMI_ERROR}).",
                "Install it for the Python that runs Ansible: pip install pyvmomi.",
            )
        self.options = options
        self.context = tls_context(options)
        self._stub: Any = None
        self._content: Any = None
        self._logged_in = False

    @property
    def content(self) -> Any:
        """The service content of the open session."""
        return self._content

    @property
    def stub(self) -> Any:
        """The SOAP stub, needed to name managed objects by their id."""
        return self._stub

    def __enter__(self) -> VsphereSession:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect and log in once."""
        options = self.options
        try:
            self._stub = _stub_class(options)(
                host=options.hostname,
                port=options.port,
                path="/sdk",
                version=API_VERSION,
                sslContext=self.context,
                httpConnectionTimeout=options.timeout,
                **proxy_arguments(options),
            )
            self._content = vim.ServiceInstance("ServiceInstance", self._stub).RetrieveContent()
            self._login()
        except Exception as exc:
            self.close()
            raise explain(options, exc) from exc

    def _login(self) -> None:
        self._content.sessionManager.Login(self.options.username, self.options.password, None)
        self._logged_in = True

    def close(self) -> None:
        """Log out. A failure here must not hide what happened before, and the session would idle out anyway."""
        if self._stub is None:
            return
        try:
            if self._logged_in:
                self._content.sessionManager.Logout()
        except Exception:  # pylint: disable=broad-except
            pass
        finally:
            self._logged_in = False
            self._stub.DropConnections()

    def run(self, operation: Callable[[], T]) -> T:
        """Run an operation that may be repeated; if vCenter dropped the session meanwhile, log in again once."""
        try:
            try:
                return operation()
            except vim.fault.NotAuthenticated:
                self._logged_in = False
                self._login()
                return operation()
        except Exception as exc:
            raise explain(self.options, exc) from exc

    def reference(self, kind: str, moid: str) -> Any:
        """A managed object by its id, without asking vCenter."""
        return getattr(vim, kind)(moid, self._stub)
