"""One function says by which address a node is reached, and everything that needs one asks it."""
from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest

from ansible_collections.cht.k3s.plugins.filter.host_addresses import host_addresses
from ansible_collections.cht.k3s.plugins.filter.node_urls import node_urls
from ansible_collections.cht.k3s.plugins.filter.preflight_nodes import preflight_nodes
from ansible_collections.cht.k3s.plugins.filter.preflight_targets import preflight_targets
from ansible_collections.cht.k3s.plugins.filter.preflight_udp import preflight_udp
from ansible_collections.cht.k3s.plugins.filter.server_urls import server_urls

ROOT = Path(__file__).resolve().parents[4]
NEW = {"preflight_host": {"host": {"k3s_installed": False}}}
GROUPS = {"control_plane": ["a", "b"]}
# The default of k3s_node_ip may.
READERS = {"roles/k3s/defaults/main.yml", "playbooks/restore.yml"}


def everywhere(hostvars: dict[str, dict[str, t.Any]]) -> list[str]:
    """The address of b as each of them has it."""
    targets = preflight_targets("a", hostvars, GROUPS, ["a", "b"])
    found = [host_addresses(["b"], hostvars)[0], node_urls(["b"], hostvars, ["http"])[0]["url"], server_urls(["b"], hostvars)["b"]]
    found += [preflight_udp("a", hostvars, GROUPS, ["a", "b"])["hosts"][0], preflight_nodes(GROUPS, hostvars, [])[1]["address"]]
    return [re.sub(r"^https?://|:6443$|/$", "", text) for text in found] + sorted({target["host"] for target in targets if target["purpose"] == "b"})


@pytest.mark.parametrize(("given", "address"), [
    # A node with one card keeps what it had.
    ({"ansible_host": "192.0.2.12"}, "192.0.2.12"),
    ({"ansible_host": "192.0.2.12", "k3s_node_ip": ""}, "192.0.2.12"),
    ({"ansible_host": "192.0.2.12", "k3s_node_ip": "192.0.2.12"}, "192.0.2.12"),
    # One with two is reached where the cluster is.
    ({"ansible_host": "198.18.0.12", "k3s_node_ip": "192.0.2.12"}, "192.0.2.12"),
])
def test_everything_has_the_same_address_of_a_node(given: dict[str, str], address: str) -> None:
    hostvars = {"a": {"ansible_host": "192.0.2.11", **NEW}, "b": {**given, **NEW}}
    assert set(everywhere(hostvars)) == {address}


def test_a_host_without_an_address_is_its_name() -> None:
    assert host_addresses(["proxy"], {"proxy": {"inventory_hostname": "proxy"}}) == ["proxy"] == host_addresses(["proxy"], {"proxy": {}})


def test_no_role_and_no_playbook_reads_ansible_host_by_itself() -> None:
    found = set()
    for path in [*ROOT.glob("roles/*/[dhtv]*/*"), *ROOT.glob("playbooks/*.yml")]:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if any("{" in line and re.search(r"\bansible_host\b", line.partition(" #")[0]) for line in lines):
            found.add(str(path.relative_to(ROOT)))
    assert found == READERS
