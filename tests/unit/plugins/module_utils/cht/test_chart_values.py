# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of CHT's helm charts become counties."""

from __future__ import annotations

import typing as t

import pytest
import yaml

from ansible_collections.cht.k3s.plugins.module_utils.cht.chart_values import convert
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import PUBLISHED_SECRET, PUBLISHED_UUID, read_counties

CHART_4 = """
project_name: nairobi
namespace: nairobi-prod
chtversion: 4.22.0
cht_image_tag: 4.22.0-4.22.0
cache_images: true
upstream_servers: {docker_registry: mirror.example/medic, builds_url: https://builds.example/}
upgrade_service: {tag: "0.32"}
couchdb:
  password: a-good-password
  secret: 11111111-2222-3333-4444-555555555555
  user: admin
  uuid: 66666666-2222-3333-4444-555555555555
  clusteredCouch_enabled: true
  couchdb_node_storage_size: 50Gi
clusteredCouch: {noOfCouchDBNodes: 3}
toleration: {key: dev-couchdb-only, operator: Equal, value: true, effect: NoSchedule}
ingress: {host: nairobi.health.example}
nodes: {node-1: agent-1, node-2: agent-2, node-3: agent-3}
environment: remote
cluster_type: k3s-k3d
cert_source: specify-file-path
certificate_crt_file_path: /tls/tls.crt
certificate_key_file_path: /tls/tls.key
couchdb_data: {preExistingDataAvailable: false, dataPathOnDiskForCouchDB: data}
"""


def test_a_clustered_chart_is_taken_over_completely() -> None:
    found = convert(yaml.safe_load(CHART_4))
    assert found["notes"] == []
    assert found["county"] == {
        "name": "nairobi",
        "host": "nairobi.health.example",
        "version": "4.22.0",
        "namespace": "nairobi-prod",
        "builds_url": "https://builds.example/",
        "images": {"registry": "mirror.example/medic", "tag": "4.22.0-4.22.0", "upgrade_service": "medicmobile/upgrade-service:0.32"},
        "credentials": {
            "user": "admin",
            "password": "a-good-password",
            "secret": "11111111-2222-3333-4444-555555555555",
            "uuid": "66666666-2222-3333-4444-555555555555",
        },
        "couchdb": {"storage": "50Gi", "data_path": "data", "mode": "clustered", "nodes": 3},
        "placement": {"nodes": ["agent-1", "agent-2", "agent-3"]},
        "tls": {"mode": "files", "certificate": "/tls/tls.crt", "private_key": "/tls/tls.key"},
    }
    assert read_counties([found["county"]], None)[1] == []


@pytest.mark.parametrize(
    ("values", "key", "expected", "note"),
    [
        ({"couchdb": {"clusteredCouch_enabled": "false"}}, "couchdb", {"mode": "single"}, "is the text 'false'"),
        ({"couchdb": {"secret": PUBLISHED_SECRET, "uuid": PUBLISHED_UUID}}, "credentials", None, "couchdb.uuid is the one published"),
        ({"namespace": "<your-namespace>"}, "namespace", None, "placeholder '<your-namespace>'"),
        ({"upgrade_service": {"tag": 0.3}}, "images", {"upgrade_service": "medicmobile/upgrade-service:0.3"}, "loses zeros"),
        ({"cert_source": "my-ip-co"}, "tls", None, "cert_source 'my-ip-co' has no counterpart"),
        ({"project_name": "My Project"}, "name", "my-project", "became the name 'my-project'"),
        ({"couchdb": {"clusteredCouchEnabled": True}, "nodes": {"node-1": "a"}}, "placement", None, "for some CouchDB nodes only"),
        ({"couchdb_data": {"preExistingDataAvailable": "true"}}, "name", None, "must be bound"),
        ({"something": 1}, "name", None, "'something' is not known"),
        ({"cluster_type": "k3s-k3d", "local_storage": {"preExistingDiskPath-1": "/srv/db"}}, "name", None, "preExistingDiskPath-1 /srv/db), not on a claim"),
    ],
)
def test_what_people_should_look_at_is_said(values: dict[str, t.Any], key: str, expected: t.Any, note: str) -> None:
    found = convert(values)
    assert found["county"].get(key) == expected
    assert any(note in text for text in found["notes"]), found["notes"]


def test_values_of_5x() -> None:
    values = {
        "project_name": "kisumu", "chtversion": "5.2.0", "cache_images": False, "ingress": {"host": "kisumu.health.example"},
        "couchdb": {"clusteredCouchEnabled": False, "storage_class": "fast", "db_name": "medic", "couchdb_node_storage_size": "10Gi"},
        "nodes": {"single_node_deploy": "agent-4"}, "api": {"node_env": "production", "log_level": "debug"}, "sentinel": {"log_level": "info"},
    }  # fmt: skip
    found = convert(values)
    assert found["county"]["couchdb"] == {"storage": "10Gi", "storage_class": "fast", "database": "medic", "mode": "single"}
    assert found["county"]["placement"] == {"nodes": ["agent-4"]}
    assert found["county"]["images"] == {"pull_policy": "Always"}
    assert found["notes"] == ["sentinel.log_level differs from api.log_level: a county has one for both"]
    # Where TLS ends, no key of the chart says.
    assert "TLS ends nowhere" in str(read_counties([found["county"]], None)[1])
    assert read_counties([{**found["county"], "ingress": {"tls_in_front": True}}], None)[1] == []


@pytest.mark.parametrize(("path", "expected"), [("", "/"), ("storage/medic-core/couchdb/data", "storage/medic-core/couchdb/data"), (None, None)])
def test_the_root_of_the_volume_stays_the_root(path: str | None, expected: str | None) -> None:
    found = convert({"couchdb_data": {"dataPathOnDiskForCouchDB": path}})
    assert found["county"]["couchdb"].get("data_path") == expected


def test_what_is_no_dictionary_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a dictionary"):
        convert("text")
