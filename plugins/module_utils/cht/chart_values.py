# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the values.yaml of CHT's helm charts to a county's definition."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import COUCHDB_TOLERATION
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import PUBLISHED_SECRET, PUBLISHED_UUID

Values = dict[str, t.Any]

# Keys that say nothing about a county on k3s, or that the collection does in its own way.
_WITHOUT_MEANING = frozenset(
    {"environment", "cluster_type", "local_storage", "ebs", "ebs_settings", "vSphere", "k3s_use_vSphere_storage_class", "haproxy", "healthcheck"}
)
_TAKEN = frozenset(
    {
        "project_name", "namespace", "chtversion", "cht_image_tag", "cache_images", "upstream_servers", "upgrade_service", "couchdb", "clusteredCouch",
        "toleration", "nodes", "ingress", "cert_source", "certificate_crt_file_path", "certificate_key_file_path", "couchdb_data", "api", "sentinel",
    }
)


class _Reader:
    """Reads values by their path, and keeps what people should know about them."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.notes: list[str] = []

    def get(self, path: str) -> t.Any:
        """Return the value at a dotted path; None when it is absent, empty or a placeholder like '<your-namespace>'."""
        value: t.Any = self.values
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str) and value.startswith("<"):
            self.notes.append(f"{path} still is the placeholder '{value}'")
            return None
        return None if value == "" else value

    def flag(self, path: str) -> bool | None:
        """Return a truth value; text is taken for what it says."""
        value = self.get(path)
        if isinstance(value, str):
            self.notes.append(f"{path} is the text '{value}', which parts of the chart take for true; here it is what it says")
            return value.strip().lower() == "true"
        return None if value is None else bool(value)


def _put(target: Values, path: str, value: t.Any) -> None:
    if value is None:
        return
    *parents, last = path.split(".")
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value


def _text(value: t.Any) -> str | None:
    return None if value is None else str(value)


def convert(values: t.Any) -> dict[str, t.Any]:
    """Return C(county), a definition, and C(notes), what could not be taken over as it is."""
    if not isinstance(values, dict):
        raise ValueError("values.yaml must be a dictionary")
    reader, county = _Reader(values), {}
    name = _text(reader.get("project_name"))
    if name:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        if slug != name:
            reader.notes.append(f"project_name '{name}' became the name '{slug}'")
        county["name"] = slug
    elif reader.get("namespace"):
        county["name"] = str(reader.get("namespace"))
    for source, target in (
        ("ingress.host", "host"),
        ("chtversion", "version"),
        ("namespace", "namespace"),
        ("upstream_servers.builds_url", "builds_url"),
        ("upstream_servers.docker_registry", "images.registry"),
        ("couchdb.user", "credentials.user"),
        ("couchdb.password", "credentials.password"),
        ("couchdb.couchdb_node_storage_size", "couchdb.storage"),
        ("couchdb.storage_class", "couchdb.storage_class"),
        ("couchdb.db_name", "couchdb.database"),
        ("api.node_env", "node_env"),
        ("api.log_level", "log_level"),
    ):
        _put(county, target, _text(reader.get(source)))
    _images(reader, county)
    _secrets(reader, county)
    _couchdb(reader, county)
    _placement(reader, county)
    _tls(reader, county)
    for service in ("api", "sentinel"):
        if values.get(service) and service == "sentinel":
            different = [key for key in ("node_env", "log_level") if reader.get(f"sentinel.{key}") not in (None, reader.get(f"api.{key}"))]
            reader.notes.extend(f"sentinel.{key} differs from api.{key}: a county has one for both" for key in different)
    if reader.flag("couchdb_data.preExistingDataAvailable"):
        reader.notes.append("couchdb_data.preExistingDataAvailable: the existing volumes must be bound to the county's claims before its first run")
    reader.notes.extend(f"'{key}' is not known and was left out" for key in values if key not in _TAKEN and key not in _WITHOUT_MEANING)
    return {"county": county, "notes": list(dict.fromkeys(reader.notes))}


def _images(reader: _Reader, county: Values) -> None:
    tag = _text(reader.get("cht_image_tag"))
    if tag and tag != county.get("version"):
        _put(county, "images.tag", tag)
    upgrade = reader.get("upgrade_service.tag")
    if upgrade is not None:
        if isinstance(upgrade, float):
            reader.notes.append(f"upgrade_service.tag {upgrade} is a number in YAML, which loses zeros at its end: check images.upgrade_service")
        _put(county, "images.upgrade_service", f"medicmobile/upgrade-service:{upgrade}")
    if reader.flag("cache_images") is False:
        _put(county, "images.pull_policy", "Always")


def _secrets(reader: _Reader, county: Values) -> None:
    for key, published in (("secret", PUBLISHED_SECRET), ("uuid", PUBLISHED_UUID)):
        value = _text(reader.get(f"couchdb.{key}"))
        if value == published:
            reader.notes.append(f"couchdb.{key} is the one published with the chart: left out; a county that runs keeps it and is reported")
        else:
            _put(county, f"credentials.{key}", value)


def _couchdb(reader: _Reader, county: Values) -> None:
    data = reader.values.get("couchdb_data")
    if isinstance(data, dict) and data.get("dataPathOnDiskForCouchDB") == "":
        _put(county, "couchdb.data_path", "/")  # the chart's root of the volume
    else:
        _put(county, "couchdb.data_path", _text(reader.get("couchdb_data.dataPathOnDiskForCouchDB")))
    clustered = reader.flag("couchdb.clusteredCouch_enabled")
    if clustered is None:
        clustered = reader.flag("couchdb.clusteredCouchEnabled")
    # The charts' default is one node, the collection's is the guide's cluster.
    _put(county, "couchdb.mode", "clustered" if clustered else "single")
    if clustered:
        _put(county, "couchdb.nodes", reader.get("clusteredCouch.noOfCouchDBNodes"))
    elif str(reader.get("cluster_type")) == "k3s-k3d":
        path = reader.get("local_storage.preExistingDiskPath-1")
        reader.notes.append(
            f"cluster_type k3s-k3d with one CouchDB keeps the data in a folder of an agent (local_storage.preExistingDiskPath-1{f' {path}' if path else ''}), "
            "not on a claim: a county that runs has to get it as a volume, named in couchdb.volumes, before it is taken over"
        )


def _placement(reader: _Reader, county: Values) -> None:
    nodes = reader.get("nodes")
    if isinstance(nodes, dict):
        single = reader.get("nodes.single_node_deploy")
        count = county["couchdb"].get("nodes") or 3
        numbered = [reader.get(f"nodes.node-{number}") for number in range(1, int(count) + 1)]
        if county["couchdb"]["mode"] == "single":
            _put(county, "placement.nodes", [str(single)] if single else None)
        elif all(numbered):
            _put(county, "placement.nodes", [str(item) for item in numbered])
        elif any(numbered):
            reader.notes.append("nodes names an agent for some CouchDB nodes only: left out; placement.nodes takes one for each")
    toleration = reader.get("toleration")
    if isinstance(toleration, dict):
        value = str(toleration.get("value"))
        found = {**toleration, "value": value.lower() if isinstance(toleration.get("value"), bool) else value}
        if found != COUCHDB_TOLERATION:
            _put(county, "placement.tolerations", [found])


def _tls(reader: _Reader, county: Values) -> None:
    source = reader.get("cert_source")
    if source == "specify-file-path":
        _put(county, "tls.mode", "files")
        _put(county, "tls.certificate", _text(reader.get("certificate_crt_file_path")))
        _put(county, "tls.private_key", _text(reader.get("certificate_key_file_path")))
    elif source is not None:
        reader.notes.append(f"cert_source '{source}' has no counterpart: TLS ends in front of the cluster (tls.mode none) unless tls is set")
    if reader.get("ingress.annotations"):
        reader.notes.append("ingress.annotations are for a cloud's load balancer: left out")
