# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a cluster with its counties into one report: what is unwell, what fits, what may be lost. Nothing is written."""

from __future__ import annotations

import base64
import datetime
import typing as t
from dataclasses import dataclass, field

from ansible_collections.cht.k3s.plugins.module_utils.cht import encryption, upkeep
from ansible_collections.cht.k3s.plugins.module_utils.cht.backup_sets import NAMESPACE
from ansible_collections.cht.k3s.plugins.module_utils.cht.capacity import Agent, Amount, Load, etcd_majority, fit, losses, typical, with_given
from ansible_collections.cht.k3s.plugins.module_utils.cht.certificate import CertificateError, expiry, pem_expiry
from ansible_collections.cht.k3s.plugins.module_utils.cht.cluster import describe
from ansible_collections.cht.k3s.plugins.module_utils.cht.figures import of_all
from ansible_collections.cht.k3s.plugins.module_utils.cht.findings import problems, shortened
from ansible_collections.cht.k3s.plugins.module_utils.cht.nodes import NONE, clocks, faults, is_ready, is_server, takes_pods, vote
from ansible_collections.cht.k3s.plugins.module_utils.cht.objects import SERVICE_LABEL
from ansible_collections.cht.k3s.plugins.module_utils.cht.quantity import parse_quantity
from ansible_collections.cht.k3s.plugins.module_utils.cht.rollout import real_size
from ansible_collections.cht.k3s.plugins.module_utils.cht.scheduling import may_run
from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client
from ansible_collections.cht.k3s.plugins.module_utils.kube.resources import CLAIMS, CSI_NODES, LEASES, NODES, PODS, SECRETS, VOLUMES
from ansible_collections.cht.k3s.plugins.module_utils.kube.status import has_ended

Object = dict[str, t.Any]

CSI_DRIVER = "csi.vsphere.vmware.com"
# Of the 60 disks that a VM's four paravirtual controllers take, one is the root disk.
VOLUMES_PER_VM = 59
# What becomes of a county when its agent is lost; measured on the lab, see docs/counties.md.
RECOVERY = (
    "A lost agent is noticed after about a minute. Its counties stay away until its machine is back or a person fences it, which takes half a minute: "
    "ansible-playbook cht.k3s.fence_node -e k3s_fence=NAME"
)

_VERBS = ("is ", "has ", "runs ", "run ", "signs ")
_METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"


def number(text: t.Any) -> float:
    """A quantity as a number; 0 for none. Metrics also come in nano and micro units."""
    value = str(text or "0")
    for suffix, factor in (("n", 1e-9), ("u", 1e-6)):
        if value.endswith(suffix):
            return float(value[:-1]) * factor
    try:
        return float(parse_quantity(value))
    except ValueError:
        return 0.0


def pod_needs(pod: Object) -> Amount:
    """What the scheduler counts for a pod."""
    spec = pod["spec"]

    def requests(containers: list[Object], name: str) -> list[float]:
        return [number(((item.get("resources") or {}).get("requests") or {}).get(name)) for item in containers]

    cpu, memory = (
        max([sum(requests(spec.get("containers") or [], name)), *requests(spec.get("initContainers") or [], name)]) for name in ("cpu", "memory")
    )
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in spec.get("volumes") or [] if volume.get("persistentVolumeClaim")}
    return Amount(cpu, memory, 1, len(claims))


def headlines(report: Object) -> list[str]:
    """The report in a few lines: what is unwell, what fits, what may be lost."""
    capacity, loss = report["capacity"], report["loss"]
    lines = [
        f"{entry['what']}{'' if entry['text'].startswith(_VERBS) else ':'} {entry['text']}{f' (next: {step})' if (step := entry.get('next')) else ''}"
        for entry in report["problems"]
    ]
    unknown = f"; not known: {'; '.join(capacity['unknown'])}" if capacity["unknown"] else ""
    room = f"{'at most ' if unknown else ''}{capacity['counties']} more counties fit (limit: {', '.join(capacity['limited_by'])})"
    lines.append(("nothing is known to limit more counties" if capacity["counties"] is None else room) + unknown)
    said = []
    for key, what in (("one_agent", "one agent"), ("two_agents", "two agents")):
        entry = loss[key]
        well = "not known" if loss["unknown"] else "room for all its counties" if key == "one_agent" else "room for all their counties"
        said.append(f"{what}: {well if entry['survives'] else entry['reason'] or 'no room in ' + str(len(entry['bad'])) + ' cases'}")
    lines.append(f"loss of {'; of '.join(said)}; {loss['servers_to_lose']} of {loss['servers']} servers may be lost")
    lines.append(loss["recovery"])
    return lines


class Reader:
    """Reads what the report is made of, by a list call for each kind; not C(whole), only what it takes to place counties."""

    def __init__(self, client: Client, whole: bool = True, ask: bool = False) -> None:
        self.client = client
        self.counties = describe(client)
        self.nodes = sorted(client.items(NODES.collection()), key=lambda item: (not is_server(item), natural(item["metadata"]["name"])))
        pods = list(client.items(PODS.collection()))
        self.pods = [pod for pod in pods if not has_ended(pod)]
        self.left = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed" and SERVICE_LABEL in (pod["metadata"].get("labels") or {})]
        self.claims = list(client.items(CLAIMS.collection()))
        self.volumes = list(client.items(VOLUMES.collection()))
        self.limits = self._volume_limits()
        self.usage = self._usage()
        self.clocks = self._clocks() if whole else {}
        # Expiry of the certificate in each Secret of a county; None where it can't be read.
        self.tls: dict[tuple[str, str], datetime.datetime | None] = {}
        self.certificates = self._certificates() if whole else []
        # Of one whose pods are not ready nothing is asked: it costs seconds, and what stands in its way is known.
        self.figures = of_all(client, (county["namespace"] for county in self.counties if county["ready"] == county["total"] > 0)) if ask else {}

    def _volume_limits(self) -> dict[str, int]:
        limits = {}
        for item in self.client.items(CSI_NODES.collection()):
            for driver in (item.get("spec") or {}).get("drivers") or []:
                count = (driver.get("allocatable") or {}).get("count")
                if driver.get("name") == CSI_DRIVER and count:
                    limits[item["metadata"]["name"]] = int(count)
        return limits

    def _clocks(self) -> dict[str, float]:
        ready = {node["metadata"]["name"] for node in self.nodes if is_ready(node)}
        signed = {item["metadata"]["name"]: (item.get("spec") or {}).get("renewTime") for item in self.client.items(LEASES.collection("kube-node-lease"))}
        now = datetime.datetime.now(datetime.timezone.utc)
        return clocks({name: datetime.datetime.fromisoformat(when.replace("Z", "+00:00")) for name, when in signed.items() if when and name in ready}, now)

    def _usage(self) -> dict[str, Object]:
        """What nodes really use, where a metrics server tells it."""
        try:
            return {item["metadata"]["name"]: item.get("usage") or {} for item in self.client.items(_METRICS)}
        except ApiError:
            return {}

    def _certificates(self) -> list[tuple[str, datetime.datetime]]:
        found = []
        spaces = {county["namespace"]: county["name"] for county in self.counties}
        for secret in self.client.items(SECRETS.collection(), {"fieldSelector": "type=kubernetes.io/tls"}):
            space, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
            if space not in spaces:
                continue
            try:
                text = base64.b64decode((secret.get("data") or {}).get("tls.crt") or "").decode(errors="replace")
                self.tls[space, name] = pem_expiry(text)
                found.append((f"county {spaces[space]}", pem_expiry(text)))
            except (CertificateError, ValueError):
                self.tls[space, name] = None
        connection = self.client.dedicated()
        try:
            connection.connect()
            der = getattr(connection.sock, "getpeercert", lambda **dummy: None)(binary_form=True)
            if der:
                found.append(("API server", expiry(der)))
        except (OSError, CertificateError):
            pass  # the API answered before; its certificate is worth a line, not a failure
        finally:
            connection.close()
        return sorted(found, key=lambda entry: entry[1])


def natural(name: str) -> list[t.Any]:
    """Sort agent-10 after agent-9."""
    digits, parts = "", []
    for char in f"{name} ":
        if char.isdigit():
            digits += char
            continue
        if digits:
            parts.append((1, int(digits), ""))
            digits = ""
        parts.append((0, 0, char))
    return parts


@dataclass(frozen=True)
class Wishes:
    """What a report is to look at besides the cluster: the module's options.

    C(given) are the measures of the next county where somebody knows them; C(storage_total) the datastore's size or 0. C(cluster_problem) is what the
    servers themselves said of their cluster, which the API of one of them does not know; C(encryption) what each said of its Secrets. C(ask) the
    counties for their figures. C(listed) are the counties that are meant, None where nobody says, and C(list_problems) what of that
    list can't be read. A backup is too old after so many days, 0 for never.
    """

    given: dict[str, float] = field(default_factory=dict)
    storage_total: float = 0.0
    cluster_problem: str = ""
    encryption: t.Sequence[Object] = ()
    ask: bool = False
    cluster: str = ""
    listed: t.Sequence[str] | None = None
    list_problems: t.Sequence[str] = ()
    backup_namespace: str = NAMESPACE
    backup_days: int = 0
    snapshot_days: int = 0


def build(client: Client, now: datetime.datetime, wishes: Wishes) -> Object:
    """Return the report."""
    given, storage_total = wishes.given, wishes.storage_total
    found = Reader(client, ask=wishes.ask)
    agents, nodes = read_agents(found)
    needs: dict[str, Amount] = {county["namespace"]: Amount() for county in found.counties}
    for pod in found.pods:
        space = pod["metadata"]["namespace"]
        if space in needs:
            needs[space] = needs[space] + pod_needs(pod)
    storage = {space: 0.0 for space in needs}
    for claim in found.claims:
        if claim["metadata"]["namespace"] in storage:
            storage[claim["metadata"]["namespace"]] += number(real_size(claim))
    need, storage_need = typical([(needs[space], storage[space]) for space in needs])
    need, storage_need = with_given(need, given), given.get("storage", storage_need)
    storage_used = sum(number((item["spec"].get("capacity") or {}).get("storage")) for item in found.volumes)
    servers = [node for node in nodes if node["role"] == "server"]
    waiting = _waiting(found)
    spaces = {county["namespace"]: county["name"] for county in found.counties}
    bare = [spaces[space] for space, amount in needs.items() if amount.pods and not (amount.cpu and amount.memory)]
    unknown = [f"{len(bare)} of {len(spaces)} counties request no CPU or no memory ({shortened(bare)}): give them resources"] if bare else []
    used = upkeep.volume_use(client, [node["name"] for node in nodes if node["ready"] and node["counties"]]) if wishes.ask else {}
    backups = upkeep.backups(client, now, wishes.backup_namespace)
    counties = [
        {
            **county,
            "backup": backups.get(county["name"]),
            "full": {claim: round(used[county["namespace"], claim], 3) for claim in county["volumes"] if (county["namespace"], claim) in used},
            "tls": [{"secret": name, "state": _tls_state(found.tls, county["namespace"], name)} for name in county["tls"]],
            "needs": needs[county["namespace"]].as_dict(),
            "storage": storage[county["namespace"]],
            "figures": found.figures.get(county["namespace"]),
            "left_pods": [f"{pod['metadata']['name']} ({(pod.get('status') or {}).get('reason') or 'Failed'})" for pod in found.left
                          if pod["metadata"]["namespace"] == county["namespace"]],
        }
        for county in found.counties
    ]
    certificates = [
        {"name": name, "expires": when.strftime("%Y-%m-%d"), "days": (when - now).days} for name, when in found.certificates
    ]
    report: Object = {
        "cluster": wishes.cluster,
        "time": now.strftime("%Y-%m-%d %H:%M UTC"),
        "nodes": nodes,
        "counties": counties,
        "certificates": certificates,
        "encryption": encryption.servers([node for node in found.nodes if is_server(node)], list(wishes.encryption)),
        "versions": _versions(nodes, counties),
        "parts": upkeep.parts(client, [node["version"] for node in nodes if node["version"]]),
        "snapshot": upkeep.snapshot(client, now),
        "listed": None if wishes.listed is None else sorted(wishes.listed),
        "list_problems": list(wishes.list_problems),
        "next_county": {**need.as_dict(), "storage": storage_need},
        "storage": {"total": storage_total or None, "used": storage_used},
        "capacity": {
            **fit(agents, need, storage_total - storage_used if storage_total else None, storage_need, waiting),
            "unknown": unknown + ([] if storage_total else ["the size of the datastore: set cht_project_report_storage"]),
        },
        "loss": {
            "servers": len(servers),
            **etcd_majority([node["etcd"] for node in servers]),
            "one_agent": losses(agents, 1, waiting),
            "two_agents": losses(agents, 2, waiting),
            "unknown": unknown,
            "recovery": RECOVERY,
        },
    }
    whole = [{"level": "bad", "what": "the cluster", "text": wishes.cluster_problem, "next": "ansible-playbook cht.k3s.one_cluster"}]
    report["problems"] = (whole if wishes.cluster_problem else []) + problems(
        report, found.claims, found.volumes, wishes.backup_days, wishes.snapshot_days
    )
    return report


def _waiting(found: Reader) -> list[Load]:
    """The pods of counties that have no node yet: what is free is theirs first."""
    spaces = {county["namespace"]: county["name"] for county in found.counties}
    return [
        Load(spaces[pod["metadata"]["namespace"]], pod["metadata"]["name"], pod_needs(pod), _places(pod, found))
        for pod in found.pods if not pod["spec"].get("nodeName") and pod["metadata"]["namespace"] in spaces
    ]


def read_agents(found: Reader, servers: bool = False) -> tuple[list[Agent], list[Object]]:
    """Return the nodes that carry counties with the room on them, and all nodes as the report shows them.

    Servers are meant to carry counties only where there is nothing else, or when `servers` asks for what they carry in fact.
    """
    spaces = {county["namespace"]: county["name"] for county in found.counties}
    # A cluster without agents runs the counties on its servers.
    none = all(is_server(node) for node in found.nodes)
    by_node: dict[str, list[Object]] = {}
    for pod in found.pods:
        by_node.setdefault(pod["spec"].get("nodeName") or "", []).append(pod)
    agents, nodes = [], []
    for node in found.nodes:
        name, status = node["metadata"]["name"], node.get("status") or {}
        room = status.get("allocatable") or {}
        limit = found.limits.get(name, VOLUMES_PER_VM)
        agent = Agent(name, Amount(number(room.get("cpu")), number(room.get("memory")), int(number(room.get("pods"))), limit))
        agent.usable, agent.lost = takes_pods(node), not is_ready(node)
        for pod in by_node.get(name, []):
            wanted = pod_needs(pod)
            agent.used = agent.used + wanted
            # One that ends on a silent node has a successor by now.
            if pod["metadata"]["namespace"] in spaces and not (agent.lost and pod["metadata"].get("deletionTimestamp")):
                agent.loads.append(Load(spaces[pod["metadata"]["namespace"]], pod["metadata"]["name"], wanted, _places(pod, found)))
        if none or servers or not is_server(node):
            agents.append(agent)
        info, real = status.get("nodeInfo") or {}, found.usage.get(name)
        nodes.append({
            "name": name,
            "role": "server" if is_server(node) else "agent",
            "ready": is_ready(node),
            "etcd": vote(node) if is_server(node) else NONE,
            "faults": faults(node, found.clocks.get(name, 0.0) if is_ready(node) else 0.0),
            "usable": agent.usable,
            "version": info.get("kubeletVersion", ""),
            "os": info.get("osImage", ""),
            "runtime": info.get("containerRuntimeVersion", ""),
            "allocatable": agent.allocatable.as_dict(),
            "requested": agent.used.as_dict(),
            "usage": {"cpu": number(real.get("cpu")), "memory": number(real.get("memory"))} if real else None,
            "counties": agent.counties,
        })
    return agents, nodes


def _places(pod: Object, found: Reader) -> frozenset[str]:
    """Return the nodes on which a pod may be, room aside."""
    space = pod["metadata"]["namespace"]
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"].get("volumes") or [] if volume.get("persistentVolumeClaim")}
    owners = [(volume, volume["spec"].get("claimRef") or {}) for volume in found.volumes] if claims else []
    disks = [volume for volume, owner in owners if owner.get("namespace") == space and owner.get("name") in claims]
    return frozenset(node["metadata"]["name"] for node in found.nodes if may_run(pod, node, disks))


def _tls_state(secrets: dict[tuple[str, str], datetime.datetime | None], namespace: str, name: str) -> str:
    if (namespace, name) not in secrets:
        return "missing"
    return "there" if secrets[namespace, name] else "unreadable"


def _versions(nodes: list[Object], counties: list[Object]) -> Object:
    versions: Object = {"kubernetes": {}, "cht": {}}
    for node in nodes:
        versions["kubernetes"].setdefault(node["version"] or "unknown", []).append(node["name"])
    for county in counties:
        versions["cht"].setdefault(" and ".join(county["versions"]) or "none", []).append(county["name"])
    return versions
