# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of a county, as CHT's charts have them."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import Builder, Object
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import County, read_counties

SECRET = {
    "COUCHDB_USER": "medic",
    "COUCHDB_PASSWORD": "a-password-1",
    "COUCHDB_SECRET": "s",
    "COUCHDB_UUID": "u",
    "COUCH_URL": "http://medic:a-password-1@haproxy.nairobi.svc.cluster.local:5984/medic",
}


def read(**more: t.Any) -> County:
    entry = {"name": "nairobi", "host": "nairobi.health.example", "version": "4.22.0", "ingress": {"tls_in_front": True}, **more}
    counties, problems = read_counties([entry], None)
    assert not problems, problems
    return counties[0]


def build(builder_options: dict[str, t.Any] | None = None, **more: t.Any) -> dict[tuple[str, str], Object]:
    objects = Builder(read(**more), SECRET, **(builder_options or {})).build()
    named = {(item["kind"], item["metadata"]["name"]): item for item in objects}
    assert len(named) == len(objects), "an object is there twice"
    return named


def pod(objects: dict[tuple[str, str], Object], deployment: str) -> Object:
    return objects["Deployment", deployment]["spec"]["template"]["spec"]


def env(container: Object) -> dict[str, t.Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container.get("env", [])}


def names(objects: dict[tuple[str, str], Object], kind: str) -> list[str]:
    return sorted(name for found, name in objects if found == kind)


def test_a_clustered_county_of_4x_has_exactly_these_objects() -> None:
    objects = build()
    assert sorted(f"{kind}/{name}" for kind, name in objects) == [
        "ConfigMap/couchdb-servers-configmap",
        "Deployment/cht-api",
        "Deployment/cht-couchdb-1",
        "Deployment/cht-couchdb-2",
        "Deployment/cht-couchdb-3",
        "Deployment/cht-haproxy",
        "Deployment/cht-haproxy-healthcheck",
        "Deployment/cht-sentinel",
        "Deployment/upgrade-service",
        "Ingress/api-ingress",
        "Namespace/nairobi",
        "NetworkPolicy/ingress-to-api",
        "NetworkPolicy/own-namespace-only",
        "PersistentVolumeClaim/couchdb-1-claim0",
        "PersistentVolumeClaim/couchdb-2-claim0",
        "PersistentVolumeClaim/couchdb-3-claim0",
        "PodDisruptionBudget/couchdb",
        "Role/deployment-manager",
        "RoleBinding/deployment-manager-cht",
        "Secret/cht-couchdb-credentials",
        "Service/api",
        "Service/couchdb-1",
        "Service/couchdb-2",
        "Service/couchdb-3",
        "Service/haproxy",
        "Service/healthcheck",
        "Service/upgrade-service",
        "ServiceAccount/cht",
        "ServiceAccount/cht-upgrade-service-user",
    ]


def test_5x_has_nouveau_and_no_upgrade_service() -> None:
    objects = build(version="5.1.0")
    assert names(objects, "Deployment") == [
        "cht-api",
        "cht-couchdb-1",
        "cht-couchdb-2",
        "cht-couchdb-3",
        "cht-haproxy",
        "cht-haproxy-healthcheck",
        "cht-sentinel",
    ]
    assert not names(objects, "Role") and not names(objects, "RoleBinding")
    assert names(objects, "ServiceAccount") == ["cht"]
    sidecars = {name: [item["name"] for item in pod(objects, name)["containers"]] for name in names(objects, "Deployment")}
    assert sidecars["cht-couchdb-1"] == ["cht-couchdb-1", "cht-couchdb-nouveau"]
    assert sidecars["cht-couchdb-2"] == ["cht-couchdb-2"]
    nouveau = pod(objects, "cht-couchdb-1")["containers"][1]
    assert nouveau["image"] == "public.ecr.aws/medic/cht-couchdb-nouveau:5.1.0"
    assert nouveau["volumeMounts"] == [{"name": "couchdb-1-claim0", "mountPath": "/data/nouveau", "subPath": "data"}]
    assert objects["Service", "nouveau"]["spec"]["selector"] == {"cht.service": "couchdb-1"}
    assert all(item["spec"]["strategy"] == {"type": "Recreate"} for (kind, dummy), item in objects.items() if kind == "Deployment")


def test_from_53_on_each_node_of_a_cluster_has_a_nouveau_of_its_own() -> None:
    objects = build(version="5.3.0")
    for number in ("1", "2", "3"):
        couchdb, nouveau = pod(objects, f"cht-couchdb-{number}")["containers"]
        assert {"name": "NOUVEAU_URL", "value": f"http://nouveau-{number}:5987"} in couchdb["env"]
        assert nouveau["volumeMounts"] == [{"name": f"couchdb-{number}-claim0", "mountPath": "/data/nouveau", "subPath": "data"}]
        assert objects["Service", f"nouveau-{number}"]["spec"]["selector"] == {"cht.service": f"couchdb-{number}"}
    assert objects["Service", "nouveau"]["spec"]["selector"] == {"cht.service": "couchdb-1"}, "for the nodes that an upgrade has not come to yet"
    single = build(version="5.3.0", couchdb={"mode": "single"})
    couchdb, nouveau = pod(single, "cht-couchdb")["containers"]
    assert "NOUVEAU_URL" not in [item["name"] for item in couchdb["env"]] and ("Service", "nouveau-1") not in single


PLAIN: dict[str, t.Any] = {"ingress": {"tls_in_front": False}}
FRONT: dict[str, t.Any] = {"ingress": {"tls_in_front": True}}


@pytest.mark.parametrize(("version", "options", "variables"), [
    ("4.22.0", PLAIN, set()), ("5.0.3", PLAIN, set()), ("4.22.0", FRONT, {"NODE_ENV"}), ("4.22.0", {**PLAIN, "tls": {"mode": "secret"}}, {"NODE_ENV"}),
    ("5.1.0", FRONT, {"NODE_ENV", "LOG_LEVEL"}), ("5.1.0", {**PLAIN, "node_env": "development"}, {"NODE_ENV", "LOG_LEVEL"}),
    ("5.2.0", FRONT, {"NODE_ENV", "LOG_LEVEL"}),
])
def test_node_env_is_given_from_5_1_on_and_wherever_users_come_over_https(version: str, options: dict[str, t.Any], variables: set[str]) -> None:
    objects = build(version=version, **options)
    for deployment in ("cht-api", "cht-sentinel"):
        assert {"NODE_ENV", "LOG_LEVEL"} & set(env(pod(objects, deployment)["containers"][0])) == variables


def test_only_couchdb_gets_time_to_end() -> None:
    for options in ({}, {"version": "5.2.0"}, {"couchdb": {"mode": "single"}}):
        objects = build(**options)
        for kind, name in objects:
            if kind == "Deployment":
                assert pod(objects, name)["terminationGracePeriodSeconds"] == (30 if name.startswith("cht-couchdb") else 1), name


def test_api_is_ready_when_it_listens_so_that_people_see_its_progress() -> None:
    probe = pod(build(), "cht-api")["containers"][0]["readinessProbe"]
    assert probe["tcpSocket"] == {"port": 5988} and "httpGet" not in probe


def test_what_a_county_waits_for_is_asked_often_and_given_up_as_late_as_the_others() -> None:
    objects = build()
    seconds = {}
    for kind, name in objects:
        for container in pod(objects, name)["containers"] if kind == "Deployment" else ():
            probe = container.get("readinessProbe")
            if probe:
                assert probe["periodSeconds"] * probe["failureThreshold"] == 30, name
                seconds[name] = probe["periodSeconds"]
    assert {name for name, period in seconds.items() if period == 2} == {"cht-api", "cht-couchdb-1", "cht-couchdb-2", "cht-couchdb-3"}
    assert seconds["cht-haproxy"] == 10


def test_a_single_couchdb_has_no_number() -> None:
    objects = build(couchdb={"mode": "single"}, version="5.0.0")
    assert names(objects, "PersistentVolumeClaim") == ["couchdb-claim0"]
    assert objects["ConfigMap", "couchdb-servers-configmap"]["data"] == {"COUCHDB_SERVERS": "couchdb.nairobi.svc.cluster.local"}
    container = pod(objects, "cht-couchdb")["containers"][0]
    assert container["name"] == "cht-couchdb"
    assert set(env(container)) == {"COUCHDB_LOG_LEVEL", "COUCHDB_USER", "COUCHDB_PASSWORD", "COUCHDB_SECRET", "COUCHDB_UUID", "SVC_NAME"}
    assert env(container)["SVC_NAME"] == "couchdb.nairobi.svc.cluster.local"
    assert objects["Service", "nouveau"]["spec"]["selector"] == {"cht.service": "couchdb"}


def test_the_configmap_and_environment_of_a_cluster() -> None:
    objects = build()
    assert objects["ConfigMap", "couchdb-servers-configmap"]["data"] == {
        "COUCHDB_SERVERS": "couchdb-1.nairobi.svc.cluster.local,couchdb-2.nairobi.svc.cluster.local,couchdb-3.nairobi.svc.cluster.local",
        "COUCHDB_SYNC_ADMINS_NODE": "couchdb-1.nairobi.svc.cluster.local",
        "CLUSTER_PEER_IPS": "couchdb-2.nairobi.svc.cluster.local,couchdb-3.nairobi.svc.cluster.local",
    }
    first, second = (env(pod(objects, f"cht-couchdb-{number}")["containers"][0]) for number in (1, 2))
    assert first["NODE_COUNT"] == "3"
    assert "CLUSTER_PEER_IPS" in first and "COUCHDB_SYNC_ADMINS_NODE" not in first
    assert "COUCHDB_SYNC_ADMINS_NODE" in second and "CLUSTER_PEER_IPS" not in second
    assert second["SVC_NAME"] == "couchdb-2.nairobi.svc.cluster.local"


def test_environment_of_the_other_services() -> None:
    objects = build()
    api = env(pod(objects, "cht-api")["containers"][0])
    assert api["API_PORT"] == "5988"
    assert api["UPGRADE_SERVICE_URL"] == "http://upgrade-service.nairobi.svc.cluster.local:5008"
    assert api["COUCH_URL"] == {"secretKeyRef": {"name": "cht-couchdb-credentials", "key": "COUCH_URL"}}
    assert env(pod(objects, "cht-sentinel")["containers"][0])["API_HOST"] == "api.nairobi.svc.cluster.local"
    haproxy = env(pod(objects, "cht-haproxy")["containers"][0])
    assert (haproxy["HAPROXY_IP"], haproxy["HAPROXY_PORT"]) == ("0.0.0.0", "5984")
    assert haproxy["HEALTHCHECK_ADDR"] == "healthcheck.nairobi.svc.cluster.local"
    assert pod(objects, "cht-haproxy")["hostname"] == "haproxy"
    upgrade = env(pod(objects, "upgrade-service")["containers"][0])
    assert upgrade["CHT_DEPLOYMENT_NAME"]["fieldRef"]["fieldPath"] == "metadata.labels['cht.service']"
    assert pod(objects, "upgrade-service")["serviceAccountName"] == "cht-upgrade-service-user"
    assert "UPGRADE_SERVICE_URL" not in env(pod(build(version="5.0.0"), "cht-api")["containers"][0])


def test_labels_and_selectors_are_those_of_the_charts() -> None:
    for (kind, name), item in build().items():
        if kind != "Deployment":
            continue
        service = item["metadata"]["labels"]["cht.service"]
        assert name == {"healthcheck": "cht-haproxy-healthcheck", "upgrade-service": "upgrade-service"}.get(service, f"cht-{service}")
        assert item["spec"]["selector"]["matchLabels"] == {"cht.service": service}
        assert item["spec"]["template"]["metadata"]["labels"] == {"cht.service": service}
        assert item["spec"]["template"]["spec"]["containers"][0]["name"] == name, "the upgrade service finds containers by this name"


def test_ports_of_the_services() -> None:
    def ports(objects: dict[tuple[str, str], Object], name: str) -> list[int]:
        return [port["port"] for port in objects["Service", name]["spec"]["ports"]]

    assert ports(build(), "couchdb-1") == [5984, 5986, 4369, 9100]
    assert ports(build(version="5.0.0"), "couchdb-1") == [5984, 4369, 9100]
    assert ports(build(couchdb={"mode": "single"}), "couchdb") == [5984, 4369, 9100]
    assert [ports(build(), name) for name in ("api", "haproxy", "healthcheck", "upgrade-service")] == [[5988], [5984], [5555], [5008]]
    assert ports(build(version="5.0.0"), "nouveau") == [5987]


def test_couchdb_pods_run_as_the_charts_run_them() -> None:
    spec = pod(build(), "cht-couchdb-2")
    assert spec["securityContext"] == {"runAsUser": 0, "fsGroup": 0}
    assert {"key": "dev-couchdb-only", "operator": "Equal", "value": "true", "effect": "NoSchedule"} in spec["tolerations"]
    assert spec["containers"][0]["volumeMounts"] == [
        {"name": "couchdb-2-claim0", "mountPath": "/opt/couchdb/data", "subPath": "data"},
        {"name": "couchdb-2-claim0", "mountPath": "/opt/couchdb/etc/local.d", "subPath": "local.d"},
    ]
    assert spec["volumes"] == [{"name": "couchdb-2-claim0", "persistentVolumeClaim": {"claimName": "couchdb-2-claim0"}}]


def test_the_bootstrap_can_not_deadlock() -> None:
    objects = build(version="5.2.0")
    for number in (1, 2, 3):
        assert objects["Service", f"couchdb-{number}"]["spec"]["publishNotReadyAddresses"] is True
    for (kind, name), item in objects.items():
        if kind != "Deployment":
            continue
        for container in item["spec"]["template"]["spec"]["containers"]:
            assert "livenessProbe" not in container, "a restart in a migration would start it anew"
            if "couchdb" in name:
                assert set(container["readinessProbe"]) >= {"tcpSocket"}, "no probe may need the other nodes"


def test_nothing_of_another_service_gets_into_a_pod() -> None:
    for (kind, dummy), item in build().items():
        if kind == "Deployment":
            assert item["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_only_the_upgrade_service_has_a_token() -> None:
    objects = build()
    assert objects["ServiceAccount", "cht"]["automountServiceAccountToken"] is False
    accounts = {name: pod(objects, name)["serviceAccountName"] for name in names(objects, "Deployment")}
    assert accounts.pop("upgrade-service") == "cht-upgrade-service-user"
    assert set(accounts.values()) == {"cht"}


def test_only_the_ingress_controller_and_the_county_itself_get_in() -> None:
    objects = build()
    own = objects["NetworkPolicy", "own-namespace-only"]["spec"]
    assert own == {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]}
    api = objects["NetworkPolicy", "ingress-to-api"]["spec"]
    assert api["podSelector"] == {"matchLabels": {"cht.service": "api"}}
    assert api["ingress"] == [
        {
            "from": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "traefik"}},
                }
            ],
            "ports": [{"protocol": "TCP", "port": 5988}],
        }
    ]
    assert not names(build(network_policy=False), "NetworkPolicy")


def test_the_ingress_always_has_its_host() -> None:
    for version in ("4.22.0", "5.2.0"):
        spec = build(version=version)["Ingress", "api-ingress"]["spec"]
        assert [rule["host"] for rule in spec["rules"]] == ["nairobi.health.example"]
        assert "tls" not in spec
    tls = build(tls={"mode": "secret", "secret": "wildcard"})["Ingress", "api-ingress"]["spec"]["tls"]
    assert tls == [{"hosts": ["nairobi.health.example"], "secretName": "wildcard"}]


def hashes(objects: dict[tuple[str, str], Object]) -> dict[str, dict[str, str]]:
    return {name: item["spec"]["template"]["metadata"].get("annotations", {}) for (kind, name), item in objects.items() if kind == "Deployment"}


def test_a_changed_secret_restarts_exactly_the_pods_that_read_it() -> None:
    before = hashes(build())
    after = {
        (item["metadata"]["name"]): item["spec"]["template"]["metadata"].get("annotations", {})
        for item in Builder(read(), {**SECRET, "COUCHDB_UUID": "other"}).build()
        if item["kind"] == "Deployment"
    }
    changed = sorted(name for name in before if before[name] != after[name])
    assert changed == ["cht-couchdb-1", "cht-couchdb-2", "cht-couchdb-3"]
    assert before["upgrade-service"] == {}
    assert "cht.k3s/configmap-hash" in before["cht-haproxy"] and "cht.k3s/configmap-hash" not in before["cht-api"]


def test_a_claim_that_exists_keeps_its_class_and_never_shrinks() -> None:
    live = {
        "couchdb-1-claim0": {"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "old", "resources": {"requests": {"storage": "10Gi"}}}},
        "couchdb-2-claim0": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    }
    objects = build({"claims": live})
    first, second, third = (objects["PersistentVolumeClaim", f"couchdb-{number}-claim0"]["spec"] for number in (1, 2, 3))
    assert first["storageClassName"] == "old" and first["resources"]["requests"]["storage"] == "10Gi"
    assert "storageClassName" not in second and second["resources"]["requests"]["storage"] == "4Gi"
    assert third["storageClassName"] == "vmware-sc" and third["resources"]["requests"]["storage"] == "4Gi"


def test_placement() -> None:
    together = pod(build(), "cht-api")["affinity"]
    assert set(together) == {"podAffinity", "podAntiAffinity"}
    spread = pod(build(placement={"mode": "spread"}), "cht-couchdb-1")["affinity"]
    assert set(spread) == {"podAntiAffinity"}
    one = build(placement={"nodes": ["agent-7"]})
    assert {pod(one, name)["nodeSelector"]["kubernetes.io/hostname"] for name in names(one, "Deployment")} == {"agent-7"}
    three = build(placement={"nodes": ["agent-1", "agent-2", "agent-3"]})
    assert pod(three, "cht-couchdb-2")["nodeSelector"] == {"kubernetes.io/hostname": "agent-2"}
    assert "nodeSelector" not in pod(three, "cht-api")


def test_optional_limits() -> None:
    plain = build()
    assert not names(plain, "ResourceQuota") and not names(plain, "LimitRange")
    assert "resources" not in pod(plain, "cht-api")["containers"][0]
    objects = build(
        quota={"limits.memory": "32Gi", "pods": 20},
        limit_range={"default": {"memory": "1Gi"}, "default_request": {"cpu": "100m"}},
        resources={"api": {"requests": {"cpu": "500m"}}},
    )
    assert objects["ResourceQuota", "cht"]["spec"] == {"hard": {"limits.memory": "32Gi", "pods": "20"}}
    assert objects["LimitRange", "cht"]["spec"]["limits"] == [{"type": "Container", "default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}]
    assert pod(objects, "cht-api")["containers"][0]["resources"] == {"requests": {"cpu": "500m"}}


def test_live_images_replace_the_definition_s() -> None:
    objects = build({"images": {"cht-api": "public.ecr.aws/medic/cht-api:4.23.0"}})
    assert pod(objects, "cht-api")["containers"][0]["image"].endswith(":4.23.0")
    assert pod(objects, "cht-sentinel")["containers"][0]["image"].endswith(":4.22.0")


def test_settings_of_couchdb_come_between_cht_s_own_and_the_volume_s() -> None:
    settings = [
        {"section": "couchdb", "key": "max_dbs_open", "value": 9000}, {"section": "smoosh", "key": "db_channels", "value": "upgrade_dbs,ratio_dbs"},
        {"section": "couchdb", "key": "os_process_timeout", "value": "90000"},
    ]
    plain, objects = build(), build(couchdb={"settings": settings})
    assert ("ConfigMap", "couchdb-settings") not in plain
    assert objects["ConfigMap", "couchdb-settings"]["data"]["county.ini"] == (
        "[couchdb]\nmax_dbs_open = 9000\nos_process_timeout = 90000\n[smoosh]\ndb_channels = upgrade_dbs,ratio_dbs\n"
    )
    for number in (1, 2, 3):
        container = pod(objects, f"cht-couchdb-{number}")["containers"][0]
        files = env(container)["ERL_FLAGS"].split()
        assert files[0] == "-couch_ini" and files[1:3] == ["/opt/couchdb/etc/default.ini", "/opt/couchdb/etc/default.d"]
        assert files[-1] == "/opt/couchdb/etc/local.d", "CouchDB writes to the last: a changed password has to stay"
        mount = next(item for item in container["volumeMounts"] if item["name"] == "settings")
        assert mount["mountPath"] in files and not mount["mountPath"].startswith("/opt/couchdb"), "CHT's script changes owners there"
        assert "ERL_FLAGS" not in env(pod(plain, f"cht-couchdb-{number}")["containers"][0])
    other = build(couchdb={"settings": settings[:1]})
    changed = {name for name in names(objects, "Deployment") if objects["Deployment", name] != other["Deployment", name]}
    assert changed == {"cht-couchdb-1", "cht-couchdb-2", "cht-couchdb-3"}, "pods read the files when they start"


def test_environment_of_api_and_sentinel() -> None:
    more = {"api": {"NODE_OPTIONS": "--max-old-space-size=4096"}, "sentinel": {"https_proxy": "http://proxy:3128", "no_proxy": ".svc.cluster.local"}}
    plain, objects = build(), build(environment=more)
    for name in names(objects, "Deployment"):
        before, after = (env(pod(found, name)["containers"][0]) for found in (plain, objects))
        assert after == {**before, **more.get(name.removeprefix("cht-"), {})}


def test_viewers_read_neither_logs_nor_secrets() -> None:
    objects = build(viewers=["cht:nairobi", "support"])
    assert [subject["name"] for subject in objects["RoleBinding", "county-viewer"]["subjects"]] == ["cht:nairobi", "support"]
    assert ("Role", "county-viewer") not in build()
    for (kind, name), item in objects.items():
        for rule in item["rules"] if kind == "Role" else []:
            # haproxy writes the administrator's password into its log.
            assert not {"pods/log", "pods/exec", "secrets", "configmaps", "*"} & set(rule["resources"]), name
            assert name != "county-viewer" or rule["verbs"] == ["get", "list", "watch"]
