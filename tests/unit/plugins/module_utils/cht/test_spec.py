# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a county's definition may say, and what is said to who wrote it wrong."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import (
    PUBLISHED_SECRET,
    PUBLISHED_UUID,
    read_counties,
    secret_values,
    upgrade_problem,
)


def county(**more: t.Any) -> dict[str, t.Any]:
    return {"name": "nairobi", "host": "nairobi.health.example", "version": "4.22.0", **more}


def setting(section: str, key: str, value: t.Any) -> dict[str, t.Any]:
    return {"section": section, "key": key, "value": value}


def problems_of(*entries: t.Any, defaults: t.Any = None) -> list[str]:
    return [str(problem) for problem in read_counties(list(entries), defaults)[1]]


def test_three_lines_are_enough_and_the_guide_s_values_are_filled_in() -> None:
    counties, problems = read_counties([county()], None)
    assert not problems
    assert counties[0].namespace == "nairobi"
    assert counties[0].couchdb_services == ["couchdb-1", "couchdb-2", "couchdb-3"]
    assert counties[0]["couchdb"]["storage"] == "4Gi"
    assert counties[0]["couchdb"]["storage_class"] == "vmware-sc"
    assert counties[0].tag == "4.22.0"


def test_defaults_are_shared_level_by_level() -> None:
    defaults = {"version": "5.2.0", "couchdb": {"mode": "single", "storage": "10Gi"}, "images": {"registry": "mirror.example/medic"}}
    counties, problems = read_counties(
        [{"name": "kisumu", "host": "kisumu.health.example", "couchdb": {"storage": "20Gi"}, "ingress": {"tls_in_front": True}}], defaults
    )
    assert not problems
    assert counties[0].version == "5.2.0"
    assert counties[0].couchdb_services == ["couchdb"]
    assert counties[0]["couchdb"]["storage"] == "20Gi"
    assert counties[0]["images"]["registry"] == "mirror.example/medic"


def test_one_county_can_not_change_the_defaults_of_the_next() -> None:
    counties, problems = read_counties([county(), county(name="kisumu", host="kisumu.health.example")], None)
    assert not problems
    counties[0]["placement"]["nodes"].append("agent-1")
    assert counties[1]["placement"]["nodes"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hots": "x"}, "county 'nairobi': unknown key 'hots': did you mean 'host'?"),
        ({"couchdb": {"storge": "4Gi"}}, "unknown key 'couchdb.storge': did you mean 'storage'?"),
        ({"couchdb": {"settings": "x"}}, "couchdb.settings must be a list"),
        ({"couchdb": {"settings": [{"section": "smoosh", "key": "x"}]}}, "couchdb.settings has the entry {section, key}: each needs section, key and value"),
        ({"couchdb": {"settings": [setting("admins", "medic", "x")]}}, "has 'admins/medic', which can't be set here: it is credentials.user"),
        ({"couchdb": {"settings": [setting("chttpd_auth", "secret", "x")]}}, "'chttpd_auth/secret', which can't be set here: it is credentials.secret"),
        ({"couchdb": {"settings": [setting("cluster", "n", 3)]}}, "has 'cluster/n', which can't be set here: it decides where the data is"),
        ({"couchdb": {"settings": [setting("log", "level", "debug")]}}, "has 'log/level', which can't be set here: it is couchdb.log_level"),
        ({"couchdb": {"settings": [setting("chttpd", "port", 80)]}}, "has 'chttpd/port', which can't be set here: CHT needs it as it is"),
        ({"couchdb": {"settings": [setting("smoosh", "x", "1\n[admins]\na = b")]}}, "the value of smoosh/x, which CouchDB would not read as one"),
        ({"couchdb": {"settings": [setting("smoosh", "x", "1 ; more")]}}, "the value of smoosh/x, which CouchDB would not read as one"),
        ({"couchdb": {"settings": [setting("smoosh]", "x", "1")]}}, "has 'smoosh]/x', which is not a section and a key"),
        ({"couchdb": {"settings": [setting("smoosh", "x", True)]}}, "has the value of smoosh/x, which is no text or number"),
        ({"couchdb": {"settings": [setting("smoosh", "x", 1), setting("smoosh", "x", 2)]}}, "has 'smoosh/x' twice"),
        ({"environment": {"api": {"COUCH_URL": "x"}}}, "environment.api has 'COUCH_URL', which can't be set here: this collection sets it"),
        ({"environment": {"sentinel": {"NODE_ENV": "x"}}}, "environment.sentinel has 'NODE_ENV', which can't be set here: it is node_env"),
        ({"environment": {"api": {"A-B": "x"}}}, "environment.api has 'A-B', which is not the name of an environment variable"),
        ({"environment": {"api": {"DEBUG": True}}}, "environment.api has 'DEBUG', whose value is no text"),
        ({"environment": {"api": {"https_proxy": "http://proxy:3128"}}}, "environment.api has a proxy, and NO_PROXY does not name .svc.cluster.local"),
        ({"couchdb": {"storage": "4GB"}}, "couchdb.storage '4GB' is not a quantity: write it as '4Gi'"),
        ({"couchdb": {"storage": 4}}, "couchdb.storage '4' is less than 1Mi: give the size with its unit"),
        ({"couchdb": {"mode": "cluster"}}, "couchdb.mode 'cluster' is none of: clustered, single (did you mean 'clustered'?)"),
        ({"couchdb": {"nodes": 1}}, "couchdb.nodes '1' is not between 2 and 9"),
        ({"couchdb": {"nodes": "three"}}, "couchdb.nodes 'three' is not a whole number"),
        ({"couchdb": "single"}, "couchdb must be a dictionary, not a text"),
        ({"host": "https://nairobi.health.example"}, "is not a host name"),
        ({"host": ""}, "'host' is missing"),
        ({"version": "4.22"}, "version '4.22' is not a version of CHT: write all three numbers"),
        ({"version": 4.22}, "version '4.22' was read by YAML as a number: put it in quotes"),
        ({"version": "3.17.0"}, "is not supported: this collection deploys CHT 4.x and 5.x"),
        ({"namespace": "kube-system"}, "is a namespace of the cluster itself"),
        ({"namespace": "Nairobi"}, "is not a name that Kubernetes takes"),
        ({"credentials": {"secret": PUBLISHED_SECRET}}, "credentials.secret is the secret published with cht-chart-4x: run uuidgen"),
        ({"credentials": {"uuid": PUBLISHED_UUID}}, "credentials.uuid is the uuid published with cht-chart-4x"),
        ({"credentials": {"password": "password"}}, "credentials.password is a published example"),
        ({"credentials": {"password": "p@ss w0rd/long"}}, "has characters that CHT's start scripts break"),
        ({"credentials": {"password": "Short1"}}, "is shorter than 12 characters"),
        ({"credentials": {"user": "me@here"}}, "credentials.user 'me@here' is not a name"),
        ({"tls": {"mode": "files", "certificate": "a.crt"}}, "tls.mode is 'files' but tls.private_key is missing"),
        ({"tls": {"certificate": "a.crt", "private_key": "a.key"}}, "but tls.mode is 'none': set it to 'files'"),
        ({"placement": {"nodes": ["agent-1", "agent-2"]}}, "placement.nodes has 2 names: give 1, or 3"),
        ({"couchdb": {"volumes": ["pvc-a", "pvc-b"]}}, "couchdb.volumes has 2 names: give 3"),
        ({"couchdb": {"volumes": ["pvc-a", "pvc-a", "pvc-b"]}}, "couchdb.volumes names a volume twice"),
        ({"version": "5.4.0"}, "is newer than 5.3, the newest whose Deployments this release of the collection knows"),
        ({"version": "6.0.0"}, "is not supported"),
        ({"version": "4.5.2", "couchdb": {"nodes": 5}}, "couchdb.nodes is 5: a clustered CouchDB of CHT before 4.6 has 3 nodes"),
        ({"version": "5.2.0"}, "CHT 5.2.0 sets Secure cookies, and TLS ends nowhere, so nobody could log in"),
        ({"version": "5.2.0", "node_env": "development"}, "TLS ends nowhere"),
        ({"version": "5.1.0"}, "TLS ends nowhere"),
        (
            {"version": "5.0.0", "limit_range": {"default": {"memory": "2Gi"}}},
            "limit_range.default.memory '2Gi' is too little for Nouveau, whose heap alone has 2 GiB: give resources.nouveau.limits.memory: 3Gi or more",
        ),
        ({"version": "5.0.0", "resources": {"nouveau": {"limits": {"memory": "1Gi"}}}}, "resources.nouveau.limits.memory '1Gi' is too little"),
        ({"images": {"tag": "5.0.0"}}, "images.tag '5.0.0' is of another major version than version '4.22.0'"),
        ({"resources": {"api": {"requests": {"cpu": "lots"}}}}, "resources.api.requests has 'cpu: lots', which is not a quantity"),
        (
            {"resources": {"api": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}},
            "resources.api.requests.memory '2Gi' is more than its limit '1Gi'",
        ),
        ({"resources": {"apii": {}}}, "unknown key 'resources.apii': did you mean 'api'?"),
        ({"quota": {"pods": "many"}}, "quota has 'pods: many', which is not a quantity"),
        ({"network_policy": "maybe"}, "network_policy 'maybe' is neither true nor false"),
    ],
)
def test_a_wrong_value_is_named_with_the_county_and_what_to_do(change: dict[str, t.Any], message: str) -> None:
    found = problems_of(county(**change))
    assert len(found) == 1, found
    assert found[0].startswith("county 'nairobi': ")
    assert message in found[0]


def test_all_problems_of_all_counties_are_found_at_once() -> None:
    found = problems_of(
        county(versoin="1"),
        {"name": "kisumu", "host": "KISUMU", "version": "x"},
        "mombasa",
        county(name="embu", host="embu.health.example"),
    )
    assert [text.split(":")[0] for text in found] == [
        "county 'nairobi'",
        "county 'kisumu'",
        "county 'kisumu'",
        "county 'number 3 of the list'",
    ]


def test_good_counties_are_returned_beside_bad_ones() -> None:
    counties, problems = read_counties([county(bad=1), county(name="embu", host="embu.health.example")], None)
    assert [item.name for item in counties] == ["embu"]
    assert len(problems) == 1


def test_two_counties_can_not_share_host_or_namespace_or_name() -> None:
    found = problems_of(
        county(), county(name="kisumu"), county(name="embu", host="e.health.example", namespace="kisumu"), county(host="n2.health.example")
    )
    assert "county 'nairobi': is in the list 2 times: names must be unique" in found
    assert "county 'kisumu': host 'nairobi.health.example' is also that of 'nairobi': each county needs its own" in found
    assert "county 'kisumu': namespace 'kisumu' is also that of 'embu': each county needs its own" in found
    assert "county 'embu': namespace 'kisumu' is also that of 'kisumu': each county needs its own" in found


def test_a_bad_default_is_told_once() -> None:
    found = problems_of(county(), county(name="kisumu", host="k.health.example"), defaults={"couchdb": {"mod": "x"}, "host": "a.b"})
    assert found == [
        "county '(defaults of all)': unknown key 'couchdb.mod': did you mean 'mode'?",
        "county '(defaults of all)': 'host' can't be shared by all counties",
    ]


def test_a_quoted_false_is_false() -> None:
    counties, problems = read_counties([county(network_policy="false")], None)
    assert not problems
    assert counties[0]["network_policy"] is False


def test_no_message_shows_a_secret() -> None:
    found = problems_of(county(credentials={"password": "my secret", "secret": "tooshort", "uuid": "also short"}))
    assert len(found) == 3
    assert not any("my secret" in text or "tooshort" in text or "also short" in text for text in found)


def test_secret_values_are_found_even_in_bad_definitions() -> None:
    entries = [county(bad=1, credentials={"password": "abc"}), "nonsense", county(tls={"private_key": "KEY"}), {"credentials": "x"}]
    assert secret_values(entries) == ["abc", "KEY"]


@pytest.mark.parametrize(
    ("live", "wanted", "refused"),
    [("4.4.2", "5.0.0", True), ("4.5.0", "5.0.0", False), ("4.2.0", "4.22.0", False), ("branch", "5.0.0", False), ("", "5.0.0", False)],
)
def test_old_versions_need_a_step_between(live: str, wanted: str, refused: bool) -> None:
    assert bool(upgrade_problem(live, wanted)) is refused


@pytest.mark.parametrize("entry", [
    {"ingress": {"annotations": {"traefik.ingress.kubernetes.io/router.tls": True}}}, {"labels": {"tier": False}},
    {"placement": {"node_selector": {"ssd": True}}},
])
def test_true_as_a_label_or_annotation_is_asked_for_in_quotes(entry: dict[str, t.Any]) -> None:
    problems = read_counties([{"name": "nairobi", "host": "nairobi.health.example", "version": "4.22.0", **entry}], None)[1]
    assert len(problems) == 1 and "put it in quotes" in problems[0].message


@pytest.mark.parametrize("entry", [
    {"version": "4.6.0", "couchdb": {"nodes": 5}}, {"version": "4.5.2", "couchdb": {"mode": "single", "nodes": 5}},
    {"version": "5.0.3"}, {"version": "5.1.0", "node_env": "development"}, {"version": "5.2.0", "tls": {"mode": "secret"}},
    {"version": "5.2.0", "ingress": {"tls_in_front": True}}, {"version": "4.22.0", "limit_range": {"default": {"memory": "1Gi"}}},
    {"version": "5.0.0", "limit_range": {"default": {"memory": "1Gi"}}, "resources": {"nouveau": {"limits": {"memory": "3Gi"}}}},
])
def test_what_chts_own_shape_allows_is_taken(entry: dict[str, t.Any]) -> None:
    assert read_counties([{"name": "nairobi", "host": "nairobi.health.example", **entry}], None)[1] == []


@pytest.mark.parametrize(("version", "tag"), [("4.1.1", "4.1.1-4.1.1"), ("4.2.0", "4.2.0"), ("4.22.0", "4.22.0"), ("4.1.0-beta.1", "4.1.0-beta.1")])
def test_images_before_4_2_are_tagged_twice(version: str, tag: str) -> None:
    counties, dummy = read_counties([{"name": "nairobi", "host": "nairobi.health.example", "version": version}], None)
    assert counties[0].tag == tag
