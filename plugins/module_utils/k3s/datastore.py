# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a server keeps the cluster's data, and which cluster that is.

k3s picks its datastore at every start: etcd where etcd's data is on the disk or the server is told to begin or to join a cluster, else the
one of `datastore-endpoint`, else SQLite. So one that lost its data and is not told how to join begins a cluster of its own, with the same
authorities and tokens as before: only what lies in the datastore tells the two apart.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import ssl

from .api import Api, ApiError
from .files import CONFIG_DIR, CONFIG_PATH, DATA_DIR
from .system import System
from .unit import environment_path, unit_path
from .yamltext import top_level

DB = DATA_DIR + "/server/db"
ETCD_WAL = DB + "/etcd/member/wal"
SQLITE = DB + "/state.db"
# The ConfigMap that the collection keeps in the cluster; module_utils/cht/record.py writes it.
RECORD_NAMESPACE, RECORD_NAME = "kube-system", "cht-k3s"
RECORD = f"/api/v1/namespaces/{RECORD_NAMESPACE}/configmaps/{RECORD_NAME}"
# There while a server's data moves from SQLite to etcd: half of it may be in etcd.
MOVING = CONFIG_DIR + "/migration-pending"
TLS = DATA_DIR + "/server/tls"
SERVER_CA = TLS + "/server-ca.crt"
# etcd's own port for its members: it tells of its cluster even while there is no quorum.
PEER_PORT = 2380


def kind(system: System) -> str:
    """`etcd`, `external` or `sqlite` as k3s would pick it at its next start; '' where there is no data."""
    if system.listdir(ETCD_WAL):
        return "etcd"
    if _has_endpoint(system) and system.exists(SERVER_CA):
        return "external"
    return "sqlite" if system.exists(SQLITE) else ""


def _has_endpoint(system: System) -> bool:
    """The server is told of a database of its own, in a file, its unit or its environment."""
    drop_ins = CONFIG_DIR + "/config.yaml.d"
    paths = [CONFIG_PATH] + [f"{drop_ins}/{name}" for name in system.listdir(drop_ins) if name.endswith((".yaml", ".yml"))]
    if any(top_level(system.read(path)).get("datastore-endpoint") for path in paths):
        return True
    unit, environment = system.read(unit_path("server")) or "", system.read(environment_path("server")) or ""
    return bool(re.search(r"--?datastore-endpoint\b", unit) or re.search(r"^[ \t]*K3S_DATASTORE_ENDPOINT=.*\w", environment + "\n" + unit, re.MULTILINE))


def identity(system: System, api: Api | None = None) -> dict:
    """What tells this server's cluster from any other; what is not known is ''."""
    found = {"uid": "", "since": "", "ca_hash": ca_hash(system.read(SERVER_CA)), "etcd_id": etcd_id(system)}
    if api is not None:
        metadata = api.get("/api/v1/namespaces/kube-system").get("metadata") or {}
        found.update(uid=metadata.get("uid") or "", since=metadata.get("creationTimestamp") or "")
        name = recorded_name(api)
        if name:
            found["name"] = name
    return found


def recorded_name(api: Api) -> str:
    """The name that the collection gave the cluster; '' where it gave none yet."""
    try:
        text = (api.get(RECORD).get("data") or {}).get("cluster") or "{}"
        return str(json.loads(text).get("name") or "")
    except (ApiError, ValueError, AttributeError):
        # Absent, or broken by somebody: the next run writes it anew.
        return ""


def ca_hash(pem: str | None) -> str:
    """The hash of the cluster's authority as tokens carry it: of the file, or of the root where the file holds a chain."""
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", pem or "", re.DOTALL)
    if not blocks:
        return ""
    data = (pem or "").encode() if len(blocks) == 1 else base64.b64decode(blocks[-1])
    return hashlib.sha256(data).hexdigest()


def etcd_id(system: System, timeout: float = 3.0) -> str:
    """The ID of etcd's cluster, asked of the member on this machine; '' where none runs."""
    if not system.listdir(ETCD_WAL):
        return ""
    own = f"{TLS}/etcd/peer-server-client"
    try:
        context = ssl.create_default_context(cafile=system.path(f"{TLS}/etcd/peer-ca.crt"))
        context.check_hostname = False
        context.load_cert_chain(system.path(f"{own}.crt"), system.path(f"{own}.key"))
        connection = http.client.HTTPSConnection("127.0.0.1", PEER_PORT, timeout=timeout, context=context)
        try:
            connection.request("GET", "/members")
            answer = connection.getresponse()
            answer.read()
            return answer.getheader("X-Etcd-Cluster-Id") or ""
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return ""
