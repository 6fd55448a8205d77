# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into nginx' and Traefik's configuration."""

from __future__ import annotations

import typing as t

import pytest
import yaml

from ansible_collections.cht.k3s.plugins.module_utils.cht.access import (
    AccessError,
    hosts_lines,
    proxy_servers,
    traefik_config,
    watchdog_targets,
    without_certificate,
)

ONE = {"name": "nairobi", "host": "nairobi.health.example"}


def test_certificates_by_host_name_or_of_their_own() -> None:
    two = {"name": "kisumu", "host": "kisumu.health.example"}
    own = {"kisumu": {"certificate": "/own.crt", "private_key": "/own.key"}}
    found = proxy_servers([ONE, two], "/live/%s/fullchain.pem", "/live/%s/privkey.pem", own)
    assert [entry["certificate"] for entry in found] == ["/live/nairobi.health.example/fullchain.pem", "/own.crt"]


@pytest.mark.parametrize(
    ("counties", "certificate", "own", "problem"),
    [
        ([ONE], "", {}, "has no certificate"),
        ([ONE, {**ONE, "name": "b"}], "/x", {}, "is also that of 'nairobi'"),
        ([{"name": "x", "host": "a;b"}], "/x", {}, "is not a host name"),
        ([ONE], "/x;include", {}, "is not an absolute path"),
        ([ONE], "/x", {"nairoby": {}}, "names nairoby, which is no county"),
    ],
)
def test_what_nginx_must_not_get(counties: list[dict[str, t.Any]], certificate: str, own: dict[str, t.Any], problem: str) -> None:
    with pytest.raises(AccessError, match=problem):
        proxy_servers(counties, certificate, "/key", own)


def test_lists() -> None:
    assert hosts_lines([ONE], "192.0.2.1") == ["192.0.2.1 nairobi.health.example"]
    assert watchdog_targets([ONE]) == [{"targets": ["https://nairobi.health.example"]}]
    with pytest.raises(AccessError, match="set reverse_proxy_address"):
        hosts_lines([ONE], "")


def test_traefik_sees_who_asks_on_each_node() -> None:
    values = yaml.safe_load(traefik_config([], "1h", "60s", "")["spec"]["valuesContent"])
    # One without the other would leave nodes without an answer.
    assert values["service"] == {"spec": {"externalTrafficPolicy": "Local"}} and values["deployment"] == {"kind": "DaemonSet"}
    plain = yaml.safe_load(traefik_config([], "1h", "60s", "", False)["spec"]["valuesContent"])
    assert set(plain) == {"additionalArguments"}


def test_traefik_s_body_size_is_a_middleware_of_both_entry_points() -> None:
    values = yaml.safe_load(traefik_config([], "1h", "60s", "32Mi")["spec"]["valuesContent"])
    assert values["extraObjects"][0]["spec"]["buffering"]["maxRequestBodyBytes"] == 32 << 20
    assert sum("middlewares=kube-system-cht-body-size@kubernetescrd" in argument for argument in values["additionalArguments"]) == 2
    assert not any("trustedIPs" in argument for argument in values["additionalArguments"])


@pytest.mark.parametrize("arguments", [(["host"], "1h", "1h", ""), ([], "1 hour", "1h", ""), ([], "1h", "0", ""), ([], "1h", "1h", "big")])
def test_traefik_s_settings_are_checked(arguments: tuple[t.Any, ...]) -> None:
    with pytest.raises(AccessError):
        traefik_config(*arguments)


def test_a_file_that_can_t_be_read_is_named() -> None:
    with pytest.raises(AccessError, match="county 'nairobi': the file nairobi.yml is empty"):
        hosts_lines([{"name": "nairobi", "unreadable file": "the file nairobi.yml is empty"}], "192.0.2.10")


def test_a_new_county_waits_for_its_certificate_and_one_that_is_served_does_not_lose_it() -> None:
    servers = [{"name": name, "host": f"{name}.example", "certificate": f"/tls/{name}.crt"} for name in ("old", "new", "ready")]
    config = "server {\n server_name old.example;\n ssl_certificate /tls/other.crt;\n}\nserver {\n server_name new.example;\n location / {}\n}"
    assert without_certificate(servers, ["/tls/ready.crt"], config) == ["new"]
    assert without_certificate(servers, [], "") == ["old", "new", "ready"]
