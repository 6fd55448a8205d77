# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each kind lives in the API, and in which order kinds are created."""

from __future__ import annotations

from typing import Any, NamedTuple

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client, segment


class Resource(NamedTuple):
    """One kind of the API."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def root(self) -> str:
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def collection(self, namespace: str | None = None) -> str:
        if self.namespaced and namespace:
            return f"{self.root}/namespaces/{segment(namespace)}/{self.plural}"
        return f"{self.root}/{self.plural}"

    def path(self, name: str, namespace: str | None = None) -> str:
        return f"{self.collection(namespace)}/{segment(name)}"


def _table(api_version: str, namespaced: bool, **plurals: str) -> dict[tuple[str, str], Resource]:
    return {(api_version, kind): Resource(api_version, kind, plural, namespaced) for kind, plural in plurals.items()}


# The kinds that our roles use, so that a run needs no discovery. Anything else is asked of the API.
WELL_KNOWN: dict[tuple[str, str], Resource] = {
    **_table("v1", False, Namespace="namespaces", Node="nodes", PersistentVolume="persistentvolumes"),
    **_table(
        "v1", True, ConfigMap="configmaps", Secret="secrets", Service="services", ServiceAccount="serviceaccounts",
        PersistentVolumeClaim="persistentvolumeclaims", Pod="pods", Event="events", LimitRange="limitranges",
        ResourceQuota="resourcequotas",
    ),
    **_table("apps/v1", True, Deployment="deployments", DaemonSet="daemonsets", StatefulSet="statefulsets", ReplicaSet="replicasets"),
    **_table("batch/v1", True, Job="jobs", CronJob="cronjobs"),
    **_table("rbac.authorization.k8s.io/v1", False, ClusterRole="clusterroles", ClusterRoleBinding="clusterrolebindings"),
    **_table("rbac.authorization.k8s.io/v1", True, Role="roles", RoleBinding="rolebindings"),
    **_table("networking.k8s.io/v1", True, Ingress="ingresses", NetworkPolicy="networkpolicies"),
    **_table("networking.k8s.io/v1", False, IngressClass="ingressclasses"),
    **_table("policy/v1", True, PodDisruptionBudget="poddisruptionbudgets"),
    **_table("storage.k8s.io/v1", False, StorageClass="storageclasses", CSIDriver="csidrivers", CSINode="csinodes", VolumeAttachment="volumeattachments"),
    **_table("scheduling.k8s.io/v1", False, PriorityClass="priorityclasses"),
    **_table("apiextensions.k8s.io/v1", False, CustomResourceDefinition="customresourcedefinitions"),
    **_table("coordination.k8s.io/v1", True, Lease="leases"),
}

# Those that code names.
NAMESPACES = WELL_KNOWN["v1", "Namespace"]
NODES = WELL_KNOWN["v1", "Node"]
VOLUMES = WELL_KNOWN["v1", "PersistentVolume"]
CLAIMS = WELL_KNOWN["v1", "PersistentVolumeClaim"]
PODS = WELL_KNOWN["v1", "Pod"]
EVENTS = WELL_KNOWN["v1", "Event"]
SECRETS = WELL_KNOWN["v1", "Secret"]
CONFIGMAPS = WELL_KNOWN["v1", "ConfigMap"]
SERVICES = WELL_KNOWN["v1", "Service"]
SERVICE_ACCOUNTS = WELL_KNOWN["v1", "ServiceAccount"]
QUOTAS = WELL_KNOWN["v1", "ResourceQuota"]
LIMIT_RANGES = WELL_KNOWN["v1", "LimitRange"]
DEPLOYMENTS = WELL_KNOWN["apps/v1", "Deployment"]
INGRESSES = WELL_KNOWN["networking.k8s.io/v1", "Ingress"]
NETWORK_POLICIES = WELL_KNOWN["networking.k8s.io/v1", "NetworkPolicy"]
ROLES = WELL_KNOWN["rbac.authorization.k8s.io/v1", "Role"]
ROLE_BINDINGS = WELL_KNOWN["rbac.authorization.k8s.io/v1", "RoleBinding"]
DISRUPTION_BUDGETS = WELL_KNOWN["policy/v1", "PodDisruptionBudget"]
CLASSES = WELL_KNOWN["storage.k8s.io/v1", "StorageClass"]
INGRESS_CLASSES = WELL_KNOWN["networking.k8s.io/v1", "IngressClass"]
CSI_NODES = WELL_KNOWN["storage.k8s.io/v1", "CSINode"]
LEASES = WELL_KNOWN["coordination.k8s.io/v1", "Lease"]
ATTACHMENTS = WELL_KNOWN["storage.k8s.io/v1", "VolumeAttachment"]

# Each wave is finished in all groups before the next one starts.
_WAVES: tuple[tuple[str, ...], ...] = (
    ("Namespace", "CustomResourceDefinition", "PriorityClass"),
    ("ServiceAccount", "ClusterRole", "Role", "StorageClass", "CSIDriver", "ResourceQuota", "LimitRange", "IngressClass"),
    ("ClusterRoleBinding", "RoleBinding", "Secret", "ConfigMap", "NetworkPolicy", "PersistentVolume"),
    ("PersistentVolumeClaim", "Service", "PodDisruptionBudget"),
    ("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job", "CronJob", "Pod"),
)
_WAVE_OF = {kind: number for number, kinds in enumerate(_WAVES) for kind in kinds}
# What we don't know is most often a custom resource or an Ingress: it points at things, so it comes last.
LAST_WAVE = len(_WAVES)


def wave(kind: str) -> int:
    """The number of the step in which objects of C(kind) are sent."""
    return _WAVE_OF.get(kind, LAST_WAVE)


class Resources:
    """Finds the Resource of an object; asks the API once per group and version for kinds that are not well known."""

    def __init__(self, client: Client | None) -> None:
        self._client = client
        self._groups: dict[str, dict[str, Resource]] = {}

    def of(self, api_version: str, kind: str) -> Resource | None:
        """The resource, or None when the API does not serve this kind (yet)."""
        known = WELL_KNOWN.get((api_version, kind))
        if known is not None or self._client is None:
            return known
        if api_version not in self._groups:
            self._groups[api_version] = self._discover(api_version)
        return self._groups[api_version].get(kind)

    def forget(self, api_version: str) -> None:
        """Ask again next time: a CRD was just created."""
        self._groups.pop(api_version, None)

    def _discover(self, api_version: str) -> dict[str, Resource]:
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            answer = self._client.get(root)  # type: ignore[union-attr]
        except ApiError as error:
            if error.status == 404:
                return {}
            raise
        return {
            entry["kind"]: Resource(api_version, entry["kind"], entry["name"], bool(entry.get("namespaced")))
            for entry in answer.get("resources") or []
            if "/" not in entry["name"]
        }


def crd_resources(document: dict[str, Any]) -> dict[tuple[str, str], Resource]:
    """The resources that a CustomResourceDefinition will bring, for predicting a run before it exists."""
    spec = document.get("spec") or {}
    names = spec.get("names") or {}
    kind, plural, group = names.get("kind"), names.get("plural"), spec.get("group")
    return {
        (f"{group}/{version.get('name')}", kind): Resource(f"{group}/{version.get('name')}", kind, plural, spec.get("scope") == "Namespaced")
        for version in spec.get("versions") or []
    }
