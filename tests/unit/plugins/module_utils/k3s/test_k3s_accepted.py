# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that only k3s or the kubelet would refuse, or take for others, are refused here before anything is changed."""
from __future__ import annotations

import pytest
from ansible_collections.cht.k3s.plugins.module_utils.inputs import value_problems
from ansible_collections.cht.k3s.plugins.module_utils.k3s import accepted, settings, unit
from ansible_collections.cht.k3s.plugins.module_utils.k3s.join import Joiner, Wanted
from ansible_collections.cht.k3s.plugins.module_utils.k3s.system import NodeError


@pytest.mark.parametrize(
    ("config", "words"),
    [
        # YAML reads 0644 as 420.
        ({"write-kubeconfig-mode": 0o644}, 'in quotes, "0644"'), ({"write-kubeconfig-mode": 644}, 'in quotes, "0644"'),
        ({"write-kubeconfig-mode": "rw-r--r--"}, "octal digits"),
        ({"secrets-encryption": "yes please"}, "true or false"), ({"debug": "yes"}, "true or false"),
        ({"etcd-snapshot-retention": "five"}, "whole number"), ({"etcd-s3-timeout": 30}, "with its unit"),
        ({"flannel-backend": "vxlan2"}, "takes none, vxlan"), ({"egress-selector-mode": False}, "agent, cluster"),
        ({"secrets-encryption-provider": "aesgcm"}, "secretbox"), ({"service-node-port-range": "30000"}, "30000-32767"),
        ({"etcd-snapshot-schedule-cron": "0 */12 * *"}, "five fields"), ({"tls-san": {"a": "b"}}, "is a map"),
        ({"docker": [True, False]}, "takes one value"),
        ({"node-label": ["node-role.kubernetes.io/worker=true"]}, "no kubelet may give its own node"),
        ({"node-label": "a=b,example.k8s.io/x=1"}, "'example.k8s.io/x'"),
        ({"kubelet-arg": ["node-labels=kubernetes.io/role=worker"]}, "'kubernetes.io/role'"),
        ({"node-label": ["a=two words"]}, "has a value"), ({"node-label": ["a b=c"]}, "has a name"), ({"node-label": ["a=" + "x" * 64]}, "has a value"),
        ({"node-taint": ["dedicated=db:NoShedule"]}, "no effect"), ({"node-taint": ["dedicated=db"]}, "no effect"),
        ({"node-taint": ["a=b c:NoExecute"]}, "NAME=VALUE:EFFECT"), ({"node-taint": ["a=1:NoExecute", "a=2:NoExecute"]}, "is there twice"),
        ({"kubelet-arg": ["max-pods=500"]}, "253 addresses for pods (a /24)"), ({"kubelet-arg": ["max-pods=many"]}, "a number above 0"),
        ({"kubelet-arg": ["max-pods=500"], "kube-controller-manager-arg": ["node-cidr-mask-size=24"]}, "253"),
    ],
)
def test_a_value_that_a_server_would_refuse_at_its_start_is_refused_before_anything_changes(system, config, words):
    with pytest.raises(NodeError) as refused:
        Joiner(system, Wanted(role="server", version="v1.34.4+k3s1", release_url="http://198.18.0.2/k3s", cluster_init=True, config=config)).present()
    assert words in str(refused.value) and "Nothing was changed" in str(refused.value)
    assert system.read("/etc/rancher/k3s/config.yaml") is None and system.read("/usr/local/bin/k3s") is None


@pytest.mark.parametrize(
    "config",
    [
        {"write-kubeconfig-mode": "0644"}, {"write-kubeconfig-mode": "600"}, {"debug": True}, {"debug": "False"}, {"etcd-snapshot-retention": "5"},
        {"etcd-s3-timeout": "1m30s"}, {"etcd-snapshot-schedule-cron": "@every 6h"}, {"etcd-snapshot-schedule-cron": "TZ=Africa/Nairobi 0 3 * * MON-FRI"},
        {"flannel-backend": "host-gw"}, {"node-label": ["node.kubernetes.io/pool=a", "topology.kubernetes.io/zone=z", "example.org/x=", "ssd"]},
        {"node-taint": ["a:NoSchedule", "a=b:NoExecute", "node-role.kubernetes.io/control-plane=true:NoSchedule"]}, {"node-label": None, "node-taint": ""},
        {"kubelet-arg": ["max-pods=250"]}, {"kubelet-arg": ["max-pods=900"], "kube-controller-manager-arg": ["node-cidr-mask-size=22"]},
        {"kubelet-arg": ["max-pods=900"], "cluster-cidr": "fd00:42::/56"}, {"tls-san": ["a", "b"], "service-node-port-range": "30000-32767"},
    ],
)
def test_what_k3s_takes_is_taken(config):
    assert accepted.problems(config, accepted.mask_size(config)) == []


def test_an_agent_is_not_judged_by_a_mask_that_it_cannot_know():
    assert accepted.problems({"kubelet-arg": ["max-pods=500"]}, None) == []


@pytest.mark.parametrize(
    ("role", "given", "words"),
    [
        ("agent", {"agent_labels": {"node-role.kubernetes.io/worker": True}}, "kubectl label node NAME node-role.kubernetes.io/worker=true"),
        ("agent", {"agent_taints": ["a=b:Never"]}, "no effect"), ("control_plane", {"control_plane_config": {"write-kubeconfig-mode": 420}}, '"0644"'),
        ("agent", {"agent_kubelet_args": ["max-pods=300"]}, "253 addresses"), ("agent", {"agent_config": {"kubelet-arg": "max-pods=300"}}, "253 addresses"),
        ("control_plane", {"control_plane_snapshot_cron": "hourly"}, "five fields"),
        ("agent", {"k3s_server_url": "https://k3s.example.org"}, "has no port"),
        ("agent", {"k3s_server_url": "k3s.example.org:6443"}, "https://k3s.example.org:6443"),
        ("agent", {"k3s_server_url": "https://k3s.example.org:6443/api"}, "nothing else"), ("agent", {"k3s_server_url": "https://h:port"}, "no port"),
    ],
)
def test_the_variables_of_all_nodes_are_judged_before_the_first_is_touched(role, given, words):
    (problem,) = value_problems(role, given, {})
    assert words in problem


def test_how_many_pods_an_agent_may_have_is_the_servers_to_say():
    server = {"control_plane_controller_manager_args": ["node-cidr-mask-size=23"]}
    assert value_problems("agent", {"agent_kubelet_args": ["max-pods=500"]}, server) == []
    assert "509 addresses" in value_problems("agent", {"agent_kubelet_args": ["max-pods=510"]}, server)[0]
    assert value_problems("agent", {"k3s_server_url": "https://[fd00::1]:6443"}, {}) == []


@pytest.mark.parametrize(("value", "said"), [(True, "true"), (False, "false"), (None, ""), (7, "7"), ("True", "True")])
def test_a_value_of_yaml_is_said_as_yaml_says_it(value, said):
    assert settings.agent_config({}, {"labels": {"ssd": value}}) == {"node-label": [f"ssd={said}"]}
    assert unit.render_environment({"X": value}) == f'X="{said}"\n'
