# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who begins a cluster and who joins whom, for every state the servers can be in."""
from __future__ import annotations

import pytest
from ansible_collections.cht.k3s.plugins.filter.join_plan import join_plan
from ansible_collections.cht.k3s.plugins.filter.server_answers import server_answers
from ansible_collections.cht.k3s.plugins.filter.server_urls import server_urls
from ansible_collections.cht.k3s.plugins.filter.servers_on_their_way import servers_on_their_way
from ansible_collections.cht.k3s.plugins.module_utils.k3s.access import answers_by_server, choose, with_server

URLS = {f"cp-{number}": f"https://198.18.0.1{number}:6443" for number in (1, 2, 3)}
NOTHING = {"datastore": False, "healthy": False, "reason": "nothing there"}
HEALTHY = {"datastore": True, "healthy": True, "token": "K10secret", "kubeconfig": "server: https://127.0.0.1:6443\n"}
DOWN = {"datastore": True, "healthy": False, "reason": "its API does not answer"}
SILENT = {"unreachable": True, "msg": "ssh: timed out"}


def results(**answers):
    return [dict(answer, item=name.replace("_", "-")) for name, answer in answers.items()]


def plan(answers, host="cp-1", server=True, **options):
    return join_plan(answers, URLS, host=host, server=server, **options)


def test_the_first_server_begins_when_nobody_has_data():
    got = plan(results(cp_1=NOTHING, cp_2=NOTHING, cp_3=NOTHING))
    assert got["cluster_init"] and not got["problem"] and got["servers"] == []


def test_a_rebuilt_first_server_joins_a_healthy_one():
    got = plan(results(cp_1=NOTHING, cp_2=DOWN, cp_3=HEALTHY))
    assert not got["cluster_init"] and got["servers"][0] == URLS["cp-3"] and got["token"] == "K10secret" and got["via"] == "cp-3"


def test_a_member_needs_nobody():
    got = plan(results(cp_1=DOWN))
    assert not got["problem"] and not got["cluster_init"] and got["token"] == ""


def test_no_second_cluster_while_the_first_is_down():
    got = plan(results(cp_1=NOTHING, cp_2=DOWN, cp_3=NOTHING))
    assert "must not begin a second one" in got["problem"] and "cp-2: its API does not answer" in got["problem"] and not got["cluster_init"]


def test_no_cluster_while_a_server_is_silent():
    got = plan(results(cp_1=NOTHING, cp_2=NOTHING, cp_3=SILENT))
    assert "cp-3 cannot be reached" in got["problem"] and not got["cluster_init"]


def test_a_server_that_could_not_be_asked_gets_no_plan():
    got = plan(results(cp_1={"failed": True, "msg": "sudo: a password is required"}, cp_2=HEALTHY))
    assert "could not be asked" in got["problem"]


def test_two_servers_at_once_do_not_begin_two_clusters():
    got = plan(results(cp_1=NOTHING, cp_2=NOTHING, cp_3=NOTHING), batch=["cp-1", "cp-2"])
    assert "serial: 1" in got["problem"] and not got["cluster_init"]


def test_an_agent_joins_a_healthy_server_and_knows_the_others():
    got = plan(results(cp_1=DOWN, cp_2=HEALTHY), host="agent-1", server=False)
    assert got["servers"] == [URLS["cp-2"], URLS["cp-1"], URLS["cp-3"]] and got["token"] == "K10secret"


def test_an_agent_joins_through_the_load_balancer():
    got = plan(results(cp_1=HEALTHY), host="agent-1", server=False, fixed_url="https://k3s.example.org:6443")
    assert got["servers"] == ["https://k3s.example.org:6443"]


def test_an_agent_without_a_cluster_is_told_so():
    assert "Run the role control_plane first" in plan(results(cp_1=NOTHING, cp_2=NOTHING, cp_3=NOTHING), host="a", server=False)["problem"]


@pytest.mark.parametrize(("host", "init", "servers"), [("cp-1", True, []), ("cp-2", False, [URLS["cp-1"]])])
def test_check_mode_predicts_on_nothing(host, init, servers):
    got = plan(results(cp_1=NOTHING, cp_2=NOTHING, cp_3=NOTHING), host=host, play=["cp-1", "cp-2", "cp-3"], check_mode=True)
    assert (got["cluster_init"], got["servers"], got["problem"]) == (init, servers, "")


def test_check_mode_predicts_under_a_limit():
    got = plan(results(cp_1=NOTHING, cp_2=NOTHING, cp_3=NOTHING), host="cp-2", play=["cp-2"], check_mode=True)
    assert got["cluster_init"]


def test_urls_prefer_the_node_address():
    hostvars = {
        "a": {"k3s_node_ip": "198.18.0.11", "ansible_host": "a.example.org"}, "b": {"ansible_host": "b.example.org"}, "c": {},
        "d": {"ansible_host": "2001:db8::1"},
    }
    assert server_urls(hostvars, hostvars) == {
        "a": "https://198.18.0.11:6443", "b": "https://b.example.org:6443", "c": "https://c:6443", "d": "https://[2001:db8::1]:6443",
    }


def _member(*names, version="v1.34.4+k3s1", uid="one"):
    members = [{"name": name, "voter": True, "ready": True} for name in names]
    return dict(HEALTHY, version=version, members=members, datastore_kind="etcd", cluster={"uid": uid})


def test_servers_of_two_clusters_are_told_apart():
    """The first one lost its data and began anew: nobody joins either before a person has looked."""
    split = results(cp_1=_member("cp-1", uid="two"), cp_2=_member("cp-2", "cp-3"))
    for host, server in (("cp-1", True), ("cp-3", True), ("agent-1", False)):
        assert "are of different clusters" in plan(split, host=host, server=server)["problem"]
    server, dummy, problem = choose(split, list(URLS))
    assert server is None and "are of different clusters" in problem.message and problem.exists
    assert not plan(results(cp_1=_member("cp-1", "cp-2"), cp_2=_member("cp-1", "cp-2"), cp_3=NOTHING), host="cp-3")["problem"]
    assert not plan(results(cp_1=_member(), cp_2=_member("cp-2"), cp_3=NOTHING), host="cp-3")["problem"], "its Node has no label yet"


def test_a_server_knows_its_peers():
    assert plan(results(cp_1=NOTHING, cp_2=NOTHING, cp_3=NOTHING))["peers"] == [URLS["cp-2"], URLS["cp-3"]]
    assert plan(results(cp_1=HEALTHY), host="agent-1", server=False)["peers"] == []


def test_a_member_is_forgotten_through_nobody():
    assert plan(results(cp_1=_member("cp-1", "cp-2"), cp_2=_member("cp-1", "cp-2")))["via"] == ""


@pytest.mark.parametrize(("server", "version", "text"), [
    (True, "v1.34.4+k3s1", ""), (True, "v1.34.2+k3s1", "joins only with the release that runs"), (True, "v1.35.1+k3s1", "set k3s_version to v1.34.4"),
    (False, "v1.34.2+k3s1", ""), (False, "v1.31.9+k3s1", ""), (False, "v1.30.9+k3s1", "at most 3 minor releases older"),
    (False, "v1.34.5+k3s1", "no agent may be newer"), (False, "", ""), (True, "", ""),
])
def test_nobody_joins_with_another_release(server, version, text):
    got = plan(results(cp_1=NOTHING, cp_2=_member("cp-2")), host="cp-1" if server else "agent-1", server=server, version=version)
    assert text in got["problem"] and bool(got["problem"]) == bool(text) and got["version"] == "v1.34.4+k3s1"


def test_a_members_release_is_not_the_plans_business():
    assert not plan(results(cp_1=_member("cp-1", "cp-2")), version="v1.35.1+k3s1")["problem"]


# -- servers on their way ----------------------------------------------------------------------------

STARTING = dict(DOWN, starting=True, reason="its API does not answer: 503 apiserver not ready; k3s.service is activating")


def test_a_server_on_its_way_is_waited_for_when_none_is_healthy():
    assert servers_on_their_way(results(cp_1=STARTING, cp_2=DOWN, cp_3=SILENT)) == {"cp-1": STARTING["reason"]}
    assert servers_on_their_way(results(cp_1=STARTING, cp_2=HEALTHY)) == {}
    assert servers_on_their_way(results(cp_1=DOWN, cp_2=NOTHING, cp_3=SILENT)) == {}, "what is off costs no time"
    assert servers_on_their_way(results(cp_1=STARTING), member="cp-1") == {}, "a member needs no other"
    assert servers_on_their_way(results(cp_1=STARTING), member="cp-2") == {"cp-1": STARTING["reason"]}


def test_what_a_server_said_last_counts():
    """Rounds of waiting have [round, server] as their items."""
    asked = [*results(cp_1=STARTING, cp_2=SILENT), dict(STARTING, item=[0, "cp-1"]), dict(HEALTHY, item=[10, "cp-1"])]
    assert server_answers(asked) == {"cp-1": dict(HEALTHY, well=False, item=[10, "cp-1"]), "cp-2": {"healthy": False, "well": False}}
    assert plan(asked, host="agent-1", server=False)["via"] == "cp-1" and choose(asked, list(URLS))[0] == "cp-1"
    assert choose(asked[:3], list(URLS))[2].message.count("cp-1: ") == 1, "each server is named once, however often it was asked"


# -- access to the API -------------------------------------------------------------------------------


def test_access_comes_from_the_first_healthy_server():
    assert choose(results(cp_1=DOWN, cp_2=HEALTHY), list(URLS))[0] == "cp-2"


def test_no_access_says_what_each_server_said():
    server, dummy, problem = choose(results(cp_1=DOWN, cp_2=SILENT), list(URLS))
    assert server is None and problem.exists
    assert "cp-1: its API does not answer" in problem.message and "cp-2: could not be asked (ssh: timed out)" in problem.message


def test_nothing_there_yet_is_no_cluster():
    assert not choose(results(cp_1=NOTHING, cp_2=NOTHING), list(URLS))[2].exists


def test_skipped_items_are_no_answers():
    assert answers_by_server([{"item": "cp-1", "skipped": True}]) == {}


def test_the_kubeconfig_gets_the_servers_address():
    text = "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: default\n"
    assert with_server(text, "https://[2001:db8::1]:6443") == text.replace("127.0.0.1", "[2001:db8::1]")
