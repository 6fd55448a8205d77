# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a county names and the cluster, or the certificate, does not have; nothing here stops a run."""

from __future__ import annotations

import ssl
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import County
from ansible_collections.cht.k3s.plugins.module_utils.names import did_you_mean

Object = dict[str, t.Any]

_WRONG_HOST, _EXPIRED = 62, 10


def certificate_misfit(server: ssl.SSLContext, certificate: str, host: str) -> str:
    """Say why a browser would refuse a certificate (a file) for a host, but for who signed it; C(server) is the context that has it loaded."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(certificate)
    # Whoever signed it is not the matter: the certificate itself is trusted.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=host)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (here, there, here):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            if error.verify_code == _WRONG_HOST:
                return f"tls.certificate is not for {host}: {error.verify_message}"
            return "tls.certificate is expired" if error.verify_code == _EXPIRED else ""
        except ssl.SSLError:
            return ""
    return ""


def misfits(
    county: County, claims: t.Collection[str], classes: t.Collection[str], nodes: t.Collection[str], ingress_classes: t.Collection[str],
    secrets: t.Collection[tuple[str, str]],
) -> list[str]:
    """Return a note for each thing that a county names and the cluster does not have; C(claims) are those that are there and stay."""
    found = []
    wanted = county["couchdb"]["storage_class"]
    new = any(f"{service}-claim0" not in claims for service in county.couchdb_services) and not county["couchdb"]["volumes"]
    if new and wanted not in classes:
        found.append(f"couchdb.storage_class: there is no StorageClass '{wanted}'; {did_you_mean(wanted, classes)}")
    found += [f"placement.nodes: there is no node '{name}'; {did_you_mean(name, nodes)}" for name in county["placement"]["nodes"] or [] if name not in nodes]
    wanted = county["ingress"]["class_name"]
    if wanted not in ingress_classes:
        found.append(f"ingress.class_name: there is no IngressClass '{wanted}'; {did_you_mean(wanted, ingress_classes)}")
    tls = county["tls"]
    if tls["mode"] == "secret" and (county.namespace, tls["secret"]) not in secrets:
        found.append(f"tls.secret: there is no Secret '{tls['secret']}' in the namespace {county.namespace}")
    return found
