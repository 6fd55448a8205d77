# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes past the proxy, as k3s itself reads NO_PROXY."""
from __future__ import annotations

import http.server
import threading

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.inputs import no_proxy_problem
from ansible_collections.cht.k3s.plugins.module_utils.k3s import proxy, release

PROXY = "http://198.18.0.9:3128"
WHOLE = "198.18.0.0/24,10.42.0.0/16,10.43.0.0/16,.svc,.cluster.local"


@pytest.mark.parametrize(
    ("host", "no_proxy", "past"),
    [
        ("mirror.example.org", "*", True), ("mirror.example.org", "example.org", True), ("mirror.example.org", ".example.org", True),
        ("example.org", ".example.org", False), ("example.org", "example.org", True), ("badexample.org", "example.org", False),
        ("mirror.example.org", "*.example.org", True), ("Mirror.Example.org.", " EXAMPLE.org:443 ", True), ("198.18.0.2", "198.18.0.0/24", True),
        ("198.18.1.2", "198.18.0.0/24", False), ("198.18.0.2", "198.18.0.2", True), ("198.18.0.22", "198.18.0.2", False), ("fd00::2", "fd00::/64", True),
        ("localhost", "", True), ("127.0.0.1", "", True), ("198.18.0.2", "", False), ("10.43.0.1", "10.43.0.0/16,broken/99", True),
    ],
)
def test_no_proxy_is_read_as_k3s_reads_it(host, no_proxy, past):
    assert proxy.bypassed(host, no_proxy) is past


@pytest.mark.parametrize(
    ("environment", "lacking"),
    [
        ({}, []), ({"NO_PROXY": "x"}, []), ({"HTTPS_PROXY": PROXY, "NO_PROXY": WHOLE}, []), ({"http_proxy": PROXY, "no_proxy": "*"}, []),
        ({"HTTPS_PROXY": PROXY}, ["198.18.0.11", "10.42.0.0/16", "10.43.0.0/16", ".svc", ".cluster.local"]),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": WHOLE.replace("198.18.0.0/24", "198.18.0.1")}, ["198.18.0.11"]),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "198.18.0.11,10.42.0.0/15,svc,cluster.local"}, []),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "198.18.0.11,10.42.0.0/24,10.43.0.0/16,.svc,.cluster.local"}, ["10.42.0.0/16"]),
    ],
)
def test_nodes_pods_and_services_are_not_asked_of_the_proxy(environment, lacking):
    assert proxy.missing(environment, ["198.18.0.11"], ["10.42.0.0/16", "10.43.0.0/16"]) == lacking


def test_a_proxy_without_no_proxy_is_refused_with_what_is_missing():
    nodes = [{"ansible_host": "198.18.0.11"}, {"k3s_node_ip": "198.18.0.12", "ansible_host": "192.0.2.12"}, {"inventory_hostname": "agent-1"}]
    given = {"k3s_environment": {"HTTPS_PROXY": PROXY, "NO_PROXY": WHOLE}, "k3s_server_url": "https://k3s.example.org:6443"}
    problem = no_proxy_problem(given, nodes, {"control_plane_config": {"cluster-domain": "county.local"}})
    assert "does not cover agent-1, k3s.example.org, .county.local:" in problem
    given["k3s_environment"]["NO_PROXY"] = WHOLE + ",agent-1,example.org"
    assert no_proxy_problem(given, nodes, {}) == ""
    assert no_proxy_problem(dict(given, k3s_cluster_cidr="10.50.0.0/16"), nodes, {}).count("10.50.0.0/16") == 2


def test_the_value_that_the_message_names_is_enough():
    """With twelve nodes the list of what is missing is shortened; the value is whole."""
    nodes = [{"inventory_hostname": f"n{number}", "ansible_host": f"192.0.2.{number}"} for number in range(1, 13)]
    given = {**nodes[0], "k3s_environment": {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "example.org,"}}
    problem = no_proxy_problem(given, nodes, {})
    value = problem.partition("Set it to '")[2].partition("'")[0]
    assert value.startswith("example.org,192.0.2.1,") and "and 8 more" in problem
    assert no_proxy_problem(dict(given, k3s_environment={"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": value}), nodes, {}) == ""


@pytest.fixture
def proxied():
    """A proxy that answers every request itself."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"by the proxy")

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("no_proxy", "text"), [("", "by the proxy"), ("other.example", "by the proxy"), ("*", None), ("invalid", None), (".invalid", None)])
def test_a_release_is_fetched_past_the_proxy_where_no_proxy_says_so(proxied, no_proxy, text):
    opener = release._opener({"http_proxy": proxied, "no_proxy": no_proxy})
    if text is None:
        with pytest.raises(Exception, match="Cannot read http://mirror.invalid"):
            release._read(opener, "http://mirror.invalid/sha256sum-amd64.txt")
    else:
        assert release._read(opener, "http://mirror.invalid/sha256sum-amd64.txt") == text
