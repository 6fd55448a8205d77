# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All objects of one county, as CHT's own charts have them, plus what isolates counties from each other.

Names of Deployments, containers, Services, claims, the Secret and the ConfigMap are an interface: the
upgrade service finds containers by name, CouchDB its peers by Service, and counties made by the charts
are taken over under the same names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import typing as t

from ansible_collections.cht.k3s.plugins.module_utils.cht.credentials import SECRET_NAME
from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import larger_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.release import FIRST_WITH_NODE_ENV, has_nouveau_on_each_node, parse_release
from ansible_collections.cht.k3s.plugins.module_utils.cht.spec import County

Object = dict[str, t.Any]

CONFIGMAP_NAME = "couchdb-servers-configmap"
SETTINGS_NAME = "couchdb-settings"
SERVICE_ACCOUNT = "cht"
UPGRADE_ACCOUNT = "cht-upgrade-service-user"
VIEWER_NAME = "county-viewer"
SERVICE_LABEL = "cht.service"
# On every namespace of a county: how the cluster's counties are found again without the list.
COUNTY_LABEL = "cht.k3s/county"
MANAGED_LABELS = {"app.kubernetes.io/part-of": "cht", "app.kubernetes.io/managed-by": "cht.k3s"}

# The key that charts of CHT give agents reserved for databases.
COUCHDB_TOLERATION = {"key": "dev-couchdb-only", "operator": "Equal", "value": "true", "effect": "NoSchedule"}

# Where CouchDB has its data in the container.
DATA_MOUNT = "/opt/couchdb/data"

# Read after CHT's own defaults and before what CouchDB keeps on its volume, the file that it writes to last (apache/couchdb, config_app.erl). Not a file
# in default.d: CHT's start script ends when it can't change the owner of what is below /opt/couchdb (cht-core, couchdb/docker-entrypoint.sh).
_SETTINGS_MOUNT = "/etc/couchdb-settings"
_ETC = "/opt/couchdb/etc"
_INI_CHAIN = f"-couch_ini {_ETC}/default.ini {_ETC}/default.d {_SETTINGS_MOUNT} {_ETC}/local.ini {_ETC}/local.d"

API_PORT, COUCHDB_PORT, NOUVEAU_PORT, HEALTHCHECK_PORT, UPGRADE_PORT = 5988, 5984, 5987, 5555, 5008

# Seconds to end in. All but CouchDB run below a shell that passes no SIGTERM on (cht-core, docker-entrypoint.sh), so they would use up any time and are
# killed in the end; nothing is lost by it that a longer wait would save. Not 0, as in the charts of 5.x: the API server would then forget
# a pod that still runs, and its successor would meet it. CouchDB obeys in 1.5 s and closes its files.
_GRACE, _COUCHDB_GRACE = 1, 30


def data_folder(county: County, number: int) -> str:
    """Return the folder on the volume of one CouchDB node that holds its data; empty for the root."""
    return str(county["couchdb"]["data_path"]).replace("%d", str(number)).strip("/")


def _applied(live: Object, field: str) -> bool:
    """Tell whether somebody owns a field of the spec by server-side apply; left out later, it would be taken away again."""
    entries = live.get("metadata", {}).get("managedFields") or []
    return any(entry.get("operation") == "Apply" and f"f:{field}" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}) for entry in entries)


def can_grow(claim: Object) -> bool:
    """Tell whether a claim may ask for more: its StorageClass decides that, and a volume that was bound by hand may have none."""
    return claim.get("spec", {}).get("storageClassName") != ""


def service_name(service: str, namespace: str) -> str:
    """The name of a county's Service in the cluster's DNS; the nodes of a clustered CouchDB are called after it."""
    return f"{service}.{namespace}.svc.cluster.local"


class Builder:
    """Builds the objects of one county.

    `secret_data` are the Secret's entries; `images` gives, for a container, the image to write instead of the
    definition's (a newer one that the upgrade service put there); `claims` the volumes claims that exist; `volumes`
    the existing volume that a claim which does not is to get.
    """

    def __init__(
        self,
        county: County,
        secret_data: dict[str, str],
        tls_data: dict[str, str] | None = None,
        images: dict[str, str] | None = None,
        claims: dict[str, Object] | None = None,
        volumes: dict[str, Object] | None = None,
    ) -> None:
        self.county = county
        self.namespace = county.namespace
        self.secret_data = secret_data
        self.tls_data = tls_data
        self.images = images or {}
        self.claims = claims or {}
        self.volumes = volumes or {}
        self.couchdbs = county.couchdb_services
        self.clustered = county["couchdb"]["mode"] == "clustered"
        release = parse_release(county.version)
        # Later versions take both from their chart. Earlier ones read NODE_ENV too, and make cookies Secure by it, which HTTP alone would not bring back.
        self.has_log_level = release is not None and release.number >= FIRST_WITH_NODE_ENV
        self.has_node_env = self.has_log_level or county["tls"]["mode"] != "none" or county["ingress"]["tls_in_front"]
        self.config_data = self._config_data()

    def build(self) -> list[Object]:
        """Return every object of the county, Namespace first."""
        objects = [self._namespace(), self._service_account(SERVICE_ACCOUNT, mount_token=False)]
        objects += self._limits()
        objects += [self._secret(), self._configmap()]
        if self.county["couchdb"]["settings"]:
            objects.append(self._settings())
        if self.tls_data is not None:
            objects.append(self._tls_secret())
        if self.county["network_policy"]:
            objects += self._network_policies()
        objects += [self._claim(service) for service in self.couchdbs]
        objects += self._services()
        if self.county.major == 4:
            objects += self._upgrade_rbac()
        if self.county["viewers"]:
            objects += self._viewers()
        objects += self._deployments()
        objects += [self._disruption_budget(), self._ingress()]
        return objects

    # --- pieces shared by many objects

    def _meta(self, name: str, service: str | None = None, **more: t.Any) -> Object:
        labels = dict(MANAGED_LABELS)
        if service:
            labels[SERVICE_LABEL] = service
        return {"name": name, "namespace": self.namespace, "labels": labels, **more}

    def _fqdn(self, service: str) -> str:
        return service_name(service, self.namespace)

    def _image(self, container: str, repository: str) -> str:
        return self.images.get(container) or self.wanted_image(container, repository)

    def wanted_image(self, container: str, repository: str) -> str:
        """Return the image that the definition asks for."""
        images = self.county["images"]
        if container == "upgrade-service":
            return str(images["upgrade_service"])
        return f"{images['registry']}/{repository}:{self.county.tag}"

    def wanted_images(self) -> dict[str, str]:
        """Return container -> image as the definition asks for them."""
        repositories = {"cht-api": "cht-api", "cht-sentinel": "cht-sentinel", "cht-haproxy": "cht-haproxy"}
        repositories["cht-haproxy-healthcheck"] = "cht-haproxy-healthcheck"
        repositories.update({f"cht-{service}": "cht-couchdb" for service in self.couchdbs})
        if self.county.major == 4:
            repositories["upgrade-service"] = ""
        else:
            repositories["cht-couchdb-nouveau"] = "cht-couchdb-nouveau"
        return {container: self.wanted_image(container, repository) for container, repository in repositories.items()}

    @staticmethod
    def _env(name: str, value: str) -> Object:
        return {"name": name, "value": value}

    @staticmethod
    def _secret_env(name: str) -> Object:
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET_NAME, "key": name}}}

    @staticmethod
    def _config_env(name: str) -> Object:
        return {"name": name, "valueFrom": {"configMapKeyRef": {"name": CONFIGMAP_NAME, "key": name}}}

    @staticmethod
    def _hash(entries: dict[str, str]) -> str:
        return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:16]

    def _hashes(self, containers: list[Object]) -> dict[str, str]:
        """Return annotations that change exactly when an entry changes that these containers read.

        Containers read the Secret and the ConfigMap as environment, which Kubernetes never renews in a running pod.
        """
        secret: dict[str, str] = {}
        config: dict[str, str] = {}
        for container in containers:
            for variable in container.get("env", []):
                source = variable.get("valueFrom", {})
                if "secretKeyRef" in source:
                    secret[source["secretKeyRef"]["key"]] = self.secret_data[source["secretKeyRef"]["key"]]
                if "configMapKeyRef" in source:
                    config[source["configMapKeyRef"]["key"]] = self.config_data[source["configMapKeyRef"]["key"]]
        annotations = {}
        if secret:
            annotations["cht.k3s/secret-hash"] = self._hash(secret)
        if config:
            annotations["cht.k3s/configmap-hash"] = self._hash(config)
        return annotations

    # --- namespace-wide objects

    def _namespace(self) -> Object:
        labels = {
            **self.county["labels"],
            **MANAGED_LABELS,
            COUNTY_LABEL: self.county.name,
            # CouchDB starts as root and changes to its own user: allowed by baseline, not by restricted.
            "pod-security.kubernetes.io/enforce": "baseline",
        }
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}

    def _service_account(self, name: str, mount_token: bool) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": self._meta(name),
            "automountServiceAccountToken": mount_token,
        }

    def _limits(self) -> list[Object]:
        objects: list[Object] = []
        if self.county["quota"]:
            objects.append(
                {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": self._meta("cht"), "spec": {"hard": dict(self.county["quota"])}}
            )
        names = {"default": "default", "default_request": "defaultRequest", "max": "max"}
        limits = {names[key]: value for key, value in self.county["limit_range"].items() if value}
        if limits:
            objects.append(
                {
                    "apiVersion": "v1",
                    "kind": "LimitRange",
                    "metadata": self._meta("cht"),
                    "spec": {"limits": [{"type": "Container", **limits}]},
                }
            )
        return objects

    def _secret(self) -> Object:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in self.secret_data.items()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": self._meta(SECRET_NAME), "type": "Opaque", "data": data}

    def _tls_secret(self) -> Object:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in (self.tls_data or {}).items()}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self._meta(self.county["tls"]["secret"]),
            "type": "kubernetes.io/tls",
            "data": data,
        }

    def _config_data(self) -> dict[str, str]:
        servers = [self._fqdn(service) for service in self.couchdbs]
        data = {"COUCHDB_SERVERS": ",".join(servers)}
        if self.clustered:
            data["COUCHDB_SYNC_ADMINS_NODE"] = servers[0]
            data["CLUSTER_PEER_IPS"] = ",".join(servers[1:])
        return data

    def _configmap(self) -> Object:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": self._meta(CONFIGMAP_NAME), "data": dict(self.config_data)}

    def _settings(self) -> Object:
        sections: dict[str, list[str]] = {}
        for entry in self.county["couchdb"]["settings"]:
            sections.setdefault(str(entry["section"]), []).append(f"{entry['key']} = {str(entry['value']).strip()}")
        text = "\n".join(line for name, lines in sections.items() for line in (f"[{name}]", *lines))
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": self._meta(SETTINGS_NAME), "data": {"county.ini": f"{text}\n"}}

    def _network_policies(self) -> list[Object]:
        """Close the namespace to all others, then let the ingress controller reach API.

        CouchDB's Erlang cookie is the same in every county, so 4369 and 9100 must not be reachable from another one.
        """
        ingress = self.county["ingress"]
        controller = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ingress["controller_namespace"]}},
            "podSelector": {"matchLabels": dict(ingress["controller_labels"])},
        }
        return [
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": self._meta("own-namespace-only"),
                "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]},
            },
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": self._meta("ingress-to-api"),
                "spec": {
                    "podSelector": {"matchLabels": {SERVICE_LABEL: "api"}},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": [controller], "ports": [{"protocol": "TCP", "port": API_PORT}]}],
                },
            },
        ]

    def _disruption_budget(self) -> Object:
        """Let a drain take one CouchDB node of the county after the other, never all at once."""
        return {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": self._meta("couchdb"),
            "spec": {
                "maxUnavailable": 1,
                "selector": {"matchExpressions": [{"key": SERVICE_LABEL, "operator": "In", "values": list(self.couchdbs)}]},
            },
        }

    # --- volumes

    def _claim(self, service: str) -> Object:
        name = f"{service}-claim0"
        couchdb = self.county["couchdb"]
        spec: Object = {"accessModes": ["ReadWriteOnce"], "storageClassName": couchdb["storage_class"]}
        size = couchdb["storage"]
        live = self.claims.get(name)
        if live is not None:
            # A claim's class and volume can't change, and its size only grow: what is there is kept.
            live_spec = live.get("spec", {})
            there = live_spec.get("resources", {}).get("requests", {}).get("storage", size)
            size = larger_quantity(there, size) if can_grow(live) else there
            spec = {"accessModes": list(live_spec.get("accessModes") or spec["accessModes"])}
            if "storageClassName" in live_spec:
                spec["storageClassName"] = live_spec["storageClassName"]
            if live_spec.get("volumeName") and _applied(live, "volumeName"):
                spec["volumeName"] = live_spec["volumeName"]
        elif name in self.volumes:
            # Exactly what the volume has: Kubernetes passes over a volume that is too small and makes a new, empty one. The name keeps it
            # from doing so before it has seen that the volume points to this claim. A later run lets the claim grow.
            volume = self.volumes[name]["spec"]
            size = volume["capacity"]["storage"]
            spec.update(storageClassName=volume.get("storageClassName") or "", volumeName=self.volumes[name]["metadata"]["name"])
        spec["resources"] = {"requests": {"storage": size}}
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": self._meta(name, name), "spec": spec}

    # --- network

    def _service(self, name: str, ports: list[tuple[str, int]], selector: str | None = None, not_ready: bool = False) -> Object:
        spec: Object = {
            "type": "ClusterIP",
            "selector": {SERVICE_LABEL: selector or name},
            "ports": [{"name": port_name, "port": port, "targetPort": port, "protocol": "TCP"} for port_name, port in ports],
        }
        if not_ready:
            # The first node's bootstrap calls its own Service, and the peers', before any of them is ready.
            spec["publishNotReadyAddresses"] = True
        return {"apiVersion": "v1", "kind": "Service", "metadata": self._meta(name, name), "spec": spec}

    @property
    def nouveau_on_each_node(self) -> bool:
        return self.clustered and has_nouveau_on_each_node(self.county.version)

    def _services(self) -> list[Object]:
        services = [
            self._service("api", [("api-service", API_PORT)]),
            self._service("haproxy", [("haproxy-service", COUCHDB_PORT)]),
            self._service("healthcheck", [("healthcheck-service", HEALTHCHECK_PORT)]),
        ]
        for number, service in enumerate(self.couchdbs, start=1):
            ports = [(f"couchdb{number}-service" if self.clustered else "couchdb-service", COUCHDB_PORT)]
            if self.clustered and self.county.major == 4:
                ports.append(("cluster-api", 5986))
            ports += [("epmd", 4369), ("erlang", 9100)]
            services.append(self._service(service, ports, not_ready=True))
        if self.county.major == 4:
            services.append(self._service("upgrade-service", [("upgrade-service", UPGRADE_PORT)]))
        else:
            # A sidecar of the first CouchDB node, since it works on that node's volume. Where each node has one this Service
            # serves those that an upgrade has not come to yet.
            services.append(self._service("nouveau", [("nouveau-service", NOUVEAU_PORT)], selector=self.couchdbs[0], not_ready=True))
            if self.nouveau_on_each_node:
                for number, service in enumerate(self.couchdbs, start=1):
                    services.append(self._service(f"nouveau-{number}", [("nouveau-service", NOUVEAU_PORT)], selector=service, not_ready=True))
        return services

    def _ingress(self) -> Object:
        options = self.county["ingress"]
        path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "api", "port": {"number": API_PORT}}}}
        spec: Object = {
            "ingressClassName": options["class_name"],
            # Without a host fifty counties would all claim every request.
            "rules": [{"host": self.county.host, "http": {"paths": [path]}}],
        }
        if self.county["tls"]["mode"] != "none":
            spec["tls"] = [{"hosts": [self.county.host], "secretName": self.county["tls"]["secret"]}]
        metadata = self._meta("api-ingress", "api")
        if options["annotations"]:
            metadata["annotations"] = dict(options["annotations"])
        return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}

    # --- the upgrade service's rights (4.x)

    def _upgrade_rbac(self) -> list[Object]:
        verbs = ["get", "update", "watch", "patch", "list"]
        return [
            self._service_account(UPGRADE_ACCOUNT, mount_token=True),
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "metadata": self._meta("deployment-manager"),
                "rules": [
                    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
                    {"apiGroups": [""], "resources": ["pods"], "verbs": verbs},
                ],
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": self._meta("deployment-manager-cht"),
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployment-manager"},
                "subjects": [{"kind": "ServiceAccount", "name": UPGRADE_ACCOUNT, "namespace": self.namespace}],
            },
        ]

    def _viewers(self) -> list[Object]:
        """Who may look at the county. Kubernetes' own role C(view) reads logs, and haproxy writes the administrator's password into its log."""
        api = "rbac.authorization.k8s.io"

        def read(group: str, *resources: str) -> Object:
            return {"apiGroups": [group], "resources": list(resources), "verbs": ["get", "list", "watch"]}

        return [
            {
                "apiVersion": f"{api}/v1",
                "kind": "Role",
                "metadata": self._meta(VIEWER_NAME),
                "rules": [
                    read("", "pods", "services", "endpoints", "events", "persistentvolumeclaims", "resourcequotas", "limitranges"),
                    read("apps", "deployments", "replicasets"),
                    read("networking.k8s.io", "ingresses", "networkpolicies"),
                    read("policy", "poddisruptionbudgets"),
                ],
            },
            {
                "apiVersion": f"{api}/v1",
                "kind": "RoleBinding",
                "metadata": self._meta(VIEWER_NAME),
                "roleRef": {"apiGroup": api, "kind": "Role", "name": VIEWER_NAME},
                "subjects": [{"apiGroup": api, "kind": "Group", "name": name} for name in self.county["viewers"]],
            },
        ]

    # --- workloads

    def _container(self, name: str, repository: str, component: str, ports: list[int], env: list[Object], **more: t.Any) -> Object:
        container: Object = {
            "name": name,
            "image": self._image(name, repository),
            "imagePullPolicy": self.county["images"]["pull_policy"],
            "env": env,
        }
        if ports:
            container["ports"] = [{"containerPort": port, "protocol": "TCP"} for port in ports]
        resources = {key: value for key, value in self.county["resources"][component].items() if value}
        if resources:
            container["resources"] = resources
        if not container["env"]:
            del container["env"]
        container.update(more)
        return container

    @staticmethod
    def _tcp_probes(port: int, every: int = 10) -> Object:
        """Ready when the port takes connections, which is asked every so many seconds; not ready after 30 s without.

        A county is away while a CouchDB node or API starts, and a first try that comes too early costs it a whole period. The others are asked seldom:
        haproxy writes a line for each try.

        Nothing here asks the cluster of CouchDB nodes: a probe that needs the peers would wait for pods that wait for it. Nor is API asked: it listens
        before its migrations and shows people their progress, and a CouchDB that is slow for a moment must not take the only API out. Whether a
        county works is asked by health.py. There is no liveness probe: a restart in the middle of a migration would start it anew.
        """
        return {
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": every, "failureThreshold": 30 // every},
        }

    def _deployment(self, service: str, containers: list[Object], recreate: bool, **pod: t.Any) -> Object:
        """Return a Deployment; `recreate` stops the old pod first, for what must never run twice."""
        strategy: Object = {"type": "Recreate"}
        if not recreate:
            strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
        couchdb = service in self.couchdbs
        template_metadata: Object = {"labels": {SERVICE_LABEL: service}}
        annotations = self._hashes(containers)
        if annotations:
            template_metadata["annotations"] = annotations
        spec: Object = {
            "serviceAccountName": SERVICE_ACCOUNT,
            # A Service `api` would put API_PORT=tcp://... into every pod of the namespace.
            "enableServiceLinks": False,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": _COUCHDB_GRACE if couchdb else _GRACE,
            "containers": containers,
            **pod,
        }
        spec.update(self._placement(service, couchdb))
        name = service if service == "upgrade-service" else "cht-haproxy-healthcheck" if service == "healthcheck" else f"cht-{service}"
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self._meta(name, service),
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {SERVICE_LABEL: service}},
                "strategy": strategy,
                "template": {"metadata": template_metadata, "spec": spec},
            },
        }

    def _placement(self, service: str, couchdb: bool) -> Object:
        options = self.county["placement"]
        placement: Object = {}
        selector = dict(options["node_selector"])
        nodes = options["nodes"]
        if len(nodes) == 1:
            selector["kubernetes.io/hostname"] = nodes[0]
        elif nodes and couchdb:
            selector["kubernetes.io/hostname"] = nodes[self.couchdbs.index(service)]
        if selector:
            placement["nodeSelector"] = selector
        tolerations = [dict(item) for item in options["tolerations"]]
        if couchdb and COUCHDB_TOLERATION not in tolerations:
            tolerations.insert(0, dict(COUCHDB_TOLERATION))
        if tolerations:
            placement["tolerations"] = tolerations
        placement["affinity"] = self._affinity(options["mode"], couchdb)
        return placement

    def _affinity(self, mode: str, couchdb: bool) -> Object:
        """Return preferences only: a county that finds no ideal agent still runs."""

        def term(weight: int, **selector: t.Any) -> Object:
            return {"weight": weight, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", **selector}}

        databases = {"matchExpressions": [{"key": SERVICE_LABEL, "operator": "In", "values": ["couchdb", "couchdb-1"]}]}
        others = {
            "matchExpressions": [
                {"key": COUNTY_LABEL, "operator": "Exists"},
                {"key": COUNTY_LABEL, "operator": "NotIn", "values": [self.county.name]},
            ]
        }
        # One database pod stands for each other county, so that agents are compared by counties, not pods.
        apart = [term(10, labelSelector=databases, namespaceSelector=others)]
        if mode == "spread" and couchdb:
            peers = {"matchExpressions": [{"key": SERVICE_LABEL, "operator": "In", "values": list(self.couchdbs)}]}
            return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term(100, labelSelector=peers), *apart]}}
        own = {"matchExpressions": [{"key": SERVICE_LABEL, "operator": "Exists"}]}
        return {
            "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term(100, labelSelector=own)]},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": apart},
        }

    def _deployments(self) -> list[Object]:
        major = self.county.major
        mode = [self._env("NODE_ENV", self.county["node_env"])] if self.has_node_env else []
        mode += [self._env("LOG_LEVEL", self.county["log_level"])] if self.has_log_level else []
        api_env = [self._env("BUILDS_URL", self.county["builds_url"]), self._secret_env("COUCH_URL"), self._env("API_PORT", str(API_PORT)), *mode]
        if major == 4:
            api_env.append(self._env("UPGRADE_SERVICE_URL", f"http://{self._fqdn('upgrade-service')}:{UPGRADE_PORT}"))
        own = {name: [self._env(key, text) for key, text in sorted(given.items())] for name, given in self.county["environment"].items()}
        api_env += own["api"]
        admin = [self._secret_env("COUCHDB_USER"), self._secret_env("COUCHDB_PASSWORD"), self._config_env("COUCHDB_SERVERS")]
        recreate = major >= 5
        deployments = [
            self._couchdb(number, service) for number, service in enumerate(self.couchdbs, start=1)
        ]
        deployments += [
            self._deployment(
                "healthcheck",
                [
                    self._container(
                        "cht-haproxy-healthcheck", "cht-haproxy-healthcheck", "healthcheck", [HEALTHCHECK_PORT], admin, **self._tcp_probes(HEALTHCHECK_PORT)
                    )
                ],
                recreate,
            ),
            self._deployment(
                "haproxy",
                [
                    self._container(
                        "cht-haproxy",
                        "cht-haproxy",
                        "haproxy",
                        [COUCHDB_PORT],
                        [
                            *admin,
                            self._env("HAPROXY_IP", "0.0.0.0"),
                            self._env("HAPROXY_PORT", str(COUCHDB_PORT)),
                            self._env("HEALTHCHECK_ADDR", self._fqdn("healthcheck")),
                        ],
                        **self._tcp_probes(COUCHDB_PORT),
                    )
                ],
                recreate,
                hostname="haproxy",
            ),
            self._deployment("api", [self._container("cht-api", "cht-api", "api", [API_PORT], api_env, **self._tcp_probes(API_PORT, 2))], recreate),
            self._deployment(
                "sentinel",
                [
                    self._container(
                        "cht-sentinel",
                        "cht-sentinel",
                        "sentinel",
                        [],
                        [
                            self._env("API_HOST", self._fqdn("api")),
                            self._env("API_PORT", str(API_PORT)),
                            self._secret_env("COUCH_URL"),
                            *mode,
                            *own["sentinel"],
                        ],
                    )
                ],
                recreate,
            ),
        ]
        if major == 4:
            deployments.append(self._upgrade_service())
        return deployments

    def _couchdb(self, number: int, service: str) -> Object:
        couchdb = self.county["couchdb"]
        env = [
            self._env("COUCHDB_LOG_LEVEL", couchdb["log_level"]),
            *(self._secret_env(key) for key in ("COUCHDB_USER", "COUCHDB_PASSWORD", "COUCHDB_SECRET", "COUCHDB_UUID")),
            self._env("SVC_NAME", self._fqdn(service)),
        ]
        if self.clustered:
            env.append(self._env("NODE_COUNT", str(couchdb["nodes"])))
            env.append(self._config_env("CLUSTER_PEER_IPS" if number == 1 else "COUCHDB_SYNC_ADMINS_NODE"))
            env.append(self._env("WAIT_THRESHOLD", str(couchdb["bootstrap_attempts"])))
        if self.nouveau_on_each_node:
            env.append(self._env("NOUVEAU_URL", f"http://nouveau-{number}:{NOUVEAU_PORT}"))
        settings = self._settings()["data"] if couchdb["settings"] else None
        if settings is not None:
            env.append(self._env("ERL_FLAGS", _INI_CHAIN))
        volume = f"{service}-claim0"
        data_mount: Object = {"name": volume, "mountPath": DATA_MOUNT}
        folder = data_folder(self.county, number)
        if folder:
            data_mount["subPath"] = folder
        mounts = [data_mount, {"name": volume, "mountPath": "/opt/couchdb/etc/local.d", "subPath": "local.d"}]
        volumes: list[Object] = [{"name": volume, "persistentVolumeClaim": {"claimName": volume}}]
        if settings is not None:
            mounts.append({"name": "settings", "mountPath": _SETTINGS_MOUNT, "readOnly": True})
            volumes.append({"name": "settings", "configMap": {"name": SETTINGS_NAME}})
        containers = [
            self._container(f"cht-{service}", "cht-couchdb", "couchdb", [COUCHDB_PORT], env, volumeMounts=mounts, **self._tcp_probes(COUCHDB_PORT, 2))
        ]
        if self.county.major >= 5 and (number == 1 or self.nouveau_on_each_node):
            nouveau_mount = {"name": volume, "mountPath": "/data/nouveau", "subPath": "data"}
            containers.append(
                self._container(
                    "cht-couchdb-nouveau", "cht-couchdb-nouveau", "nouveau", [NOUVEAU_PORT], [], volumeMounts=[nouveau_mount],
                    **self._tcp_probes(NOUVEAU_PORT),
                )
            )
        deployment = self._deployment(service, containers, recreate=True, securityContext={"runAsUser": 0, "fsGroup": 0}, volumes=volumes)
        if settings is not None:
            # CouchDB reads its files when it starts.
            deployment["spec"]["template"]["metadata"]["annotations"]["cht.k3s/settings-hash"] = self._hash(settings)
        return deployment

    def _upgrade_service(self) -> Object:
        def field(name: str, path: str) -> Object:
            return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}

        env = [
            field("CHT_NAMESPACE", "metadata.namespace"),
            field("CHT_DEPLOYMENT_NAME", f"metadata.labels['{SERVICE_LABEL}']"),
            self._env("UPGRADE_SERVICE_PORT", str(UPGRADE_PORT)),
        ]
        container = self._container("upgrade-service", "", "upgrade_service", [UPGRADE_PORT], env, **self._tcp_probes(UPGRADE_PORT))
        deployment = self._deployment("upgrade-service", [container], recreate=False)
        deployment["spec"]["template"]["spec"]["serviceAccountName"] = UPGRADE_ACCOUNT
        return deployment
