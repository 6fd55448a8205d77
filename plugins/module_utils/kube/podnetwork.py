# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real packets between pods of different nodes: small and full-size ones, by address and by Service."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.cht.k3s.plugins.module_utils.kube.client import ApiError, Client, segment

NAME = "pod-network-test"
PORT = 8080
_MANAGER = "cht.k3s"
_NAMESPACE = f"/api/v1/namespaces/{NAME}"
_PODS, _SERVICES = f"{_NAMESPACE}/pods", f"{_NAMESPACE}/services"
_LABEL = "cht.k3s/pod-network-test"
# Many full frames, and a text that both ends can make.
_TEXT = "yes 0123456789abcdef | head -c 262144"
SIZES = ("small", "full")
ADDRESS, SERVICE = "address", "Service"
# Kept in a pod's status, which holds 4096 bytes: enough to tell what is wrong.
_MESSAGE = "/dev/termination-log"
_SERVE = f"cd /www && echo small > small && {_TEXT} > full && exec httpd -f -p {PORT} -h /www"
# Tried several times, as the rules of a new Service take a moment on each node.
_TRY = (
    "try() { for n in 1 2 3; do [ \"$(timeout 6 wget -q -O - http://$1/$2 | md5sum)\" = \"$3\" ] && return 0; sleep 2; done; echo \"$4 $2\" >> "
    f"{_MESSAGE}; }}\nsmall=$(echo small | md5sum)\nfull=$({_TEXT} | md5sum)\n"
)


class PodNetworkError(Exception):
    """What could not be tested, and why."""


@dataclass(frozen=True)
class Loss:
    """Packets that did not arrive."""

    source: str
    target: str
    by: str
    size: str


def advice(losses: Sequence[Loss]) -> str:
    """What is most likely wrong and what to do, by what arrives and what does not."""
    lost = {(loss.source, loss.target, loss.by, loss.size) for loss in losses}
    pairs = {(source, target) for source, target, _by, _size in lost}
    offload = (
        "set node_flannel_tx_checksum: false and run the role node (site.yml --tags node), which switches checksum offload off on flannel's device for"
        " good: on some hosts vmxnet3 spoils checksums inside VXLAN"
    )
    if all((source, target, by, "small") not in lost for source, target in pairs for by in (ADDRESS, SERVICE)):
        return (
            "Only full-size packets are lost: the network between the VMs carries smaller packets than their cards are set to. Set the same MTU on the port"
            " groups, the distributed switch and the cards (VXLAN adds 50 bytes; flannel sets its own by the card's), and run again; else "
            + offload + "."
        )
    if all((source, target, ADDRESS, size) not in lost for source, target in pairs for size in SIZES):
        return (
            f"Only what goes by Services is lost: {offload}. If that is no cure, see the rules of kube-proxy on the source"
            " (`iptables-save | grep KUBE-SVC`) and whether another firewall flushes them."
        )
    return (
        "Let 8472/udp (WireGuard: 51820/udp and 51821/udp) pass between all nodes, in their firewalls and in NSX, where 8472 may be taken by the host's own"
        f" VXLAN; if it passes, {offload}. Else use flannel-backend: host-gw for a new cluster whose nodes are in one network, or E1000E cards."
    )


class PodNetworkTest:
    """One run. What was made is taken away again, also after a failure and after a run that was interrupted."""

    def __init__(self, client: Client, image: str, timeout: float, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self.client = client
        self.image = image
        self.timeout = timeout
        self.clock = clock
        self.sleep = sleep
        self.nodes: list[str] = []

    def run(self) -> list[Loss]:
        """The losses; none where all packets arrived, or where there is one node only."""
        self.clean()
        self.nodes = self._ready_nodes()
        if len(self.nodes) < 2:
            return []
        try:
            return self._test()
        except ApiError as error:
            raise PodNetworkError(f"the API server refused an object: {error.message}") from error
        finally:
            self.clean()

    def clean(self) -> None:
        """Take everything away."""
        if self.client.find(_NAMESPACE) is None:
            return
        try:
            self.client.json("DELETE", _NAMESPACE)
        except ApiError as error:
            if error.status != 404:
                raise
        self._until(lambda: self.client.find(_NAMESPACE) is None, f"the namespace {NAME} is still there")

    def _ready_nodes(self) -> list[str]:
        found = []
        for node in self.client.items("/api/v1/nodes"):
            ready = [entry["status"] for entry in (node.get("status") or {}).get("conditions") or [] if entry.get("type") == "Ready"]
            if ready == ["True"]:
                found.append(node["metadata"]["name"])
        return sorted(found)

    def _test(self) -> list[Loss]:
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        self._apply("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME, "labels": labels}})
        for number, node in enumerate(self.nodes):
            self._apply(_PODS, self._pod(f"server-{number}", node, _SERVE, "Always"))
            self._apply(_SERVICES, {
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": f"server-{number}"},
                "spec": {"selector": {_LABEL: f"server-{number}"}, "ports": [{"port": PORT}]},
            })
        servers = [f"server-{number}" for number in range(len(self.nodes))]
        self._until(lambda: all(self._address(name) for name in servers), lambda: self._waiting(servers, self._address))
        targets = {
            (number, by): _host(address)
            for number, name in enumerate(servers)
            for by, address in ((ADDRESS, self._address(name)), (SERVICE, self.client.get(f"{_SERVICES}/{name}")["spec"]["clusterIP"]))
        }
        for number, node in enumerate(self.nodes):
            self._apply(_PODS, self._pod(f"client-{number}", node, _client(number, targets), "Never"))
        clients = [f"client-{number}" for number in range(len(self.nodes))]
        self._until(lambda: all(self._ended(name) for name in clients), lambda: self._waiting(clients, self._ended))
        return [loss for number in range(len(self.nodes)) for loss in self._losses(number)]

    def _apply(self, collection: str, body: dict[str, Any]) -> None:
        # Applied, not posted: the client repeats a request whose answer was lost.
        self.client.apply(f"{collection}/{segment(body['metadata']['name'])}", body, _MANAGER, force=True)

    def _pod(self, name: str, node: str, command: str, restart: str) -> dict[str, Any]:
        container = {
            "name": "test", "image": self.image, "command": ["sh", "-c", command], "volumeMounts": [{"name": "www", "mountPath": "/www"}],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        return {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {_LABEL: name}},
            "spec": {
                # Past the scheduler, also on servers that are kept free and on nodes that are cordoned.
                "nodeName": node, "tolerations": [{"operator": "Exists"}], "restartPolicy": restart, "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [{"name": "www", "emptyDir": {}}],
                "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            },
        }

    def _status(self, name: str) -> dict[str, Any]:
        return self.client.get(f"{_PODS}/{name}").get("status") or {}

    def _address(self, name: str) -> str:
        status = self._status(name)
        states = [entry.get("state") or {} for entry in status.get("containerStatuses") or []]
        return str(status.get("podIP") or "") if any("running" in state for state in states) else ""

    def _ended(self, name: str) -> bool:
        return self._status(name).get("phase") in ("Succeeded", "Failed")

    def _waiting(self, names: Sequence[str], done: Callable[[str], Any]) -> str:
        """The nodes whose pods are not there yet, and what keeps the first."""
        late = [name for name in names if not done(name)]
        nodes = ", ".join(self.nodes[int(name.rpartition("-")[2])] for name in late)
        states = [entry.get("state") or {} for entry in self._status(late[0]).get("containerStatuses") or []] if late else []
        reasons = [f"{state['waiting'].get('reason')}: {state['waiting'].get('message', '')}".strip(": ") for state in states if "waiting" in state]
        return f"the pods on {nodes} do not run" + (f" ({reasons[0]})" if reasons else "")

    def _losses(self, number: int) -> list[Loss]:
        status = self._status(f"client-{number}")
        ended = [(entry.get("state") or {}).get("terminated") or {} for entry in status.get("containerStatuses") or []]
        if status.get("phase") != "Succeeded" or not ended:
            raise PodNetworkError(f"the pod on {self.nodes[number]} ended with {ended[0].get('reason') if ended else status.get('phase')}")
        found = []
        for line in str(ended[0].get("message") or "").splitlines():
            target, by, size = (line.split() + ["", "", ""])[:3]
            # The last line may be cut.
            if target.isdigit() and int(target) < len(self.nodes) and by in (ADDRESS, SERVICE) and size in SIZES:
                found.append(Loss(self.nodes[number], self.nodes[int(target)], by, size))
        return found

    def _until(self, done: Callable[[], bool], trouble: str | Callable[[], str]) -> None:
        deadline = self.clock() + self.timeout
        while not done():
            if self.clock() > deadline:
                raise PodNetworkError(f"{trouble if isinstance(trouble, str) else trouble()} after {self.timeout:.0f} s")
            self.sleep(0.5)


def _host(address: str) -> str:
    return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"


def _client(number: int, targets: dict[tuple[int, str], str]) -> str:
    """All at once, so that what is lost costs its time-out once."""
    lines = [
        f'try {host} {size} "${size}" "{other} {by}" &' for (other, by), host in sorted(targets.items()) if other != number for size in SIZES
    ]
    return _TRY + "\n".join([*lines, "wait"]) + "\n"


def told(losses: Sequence[Loss], most: int = 6) -> str:
    """The losses in words: by pair of nodes, the first few."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for loss in losses:
        pairs.setdefault((loss.source, loss.target), []).append(f"{'full-size' if loss.size == 'full' else 'small'} by {loss.by}")
    shown = [f"{source} to {target}: {', '.join(kinds)}" for (source, target), kinds in pairs.items()]
    return "; ".join(shown[:most]) + (f"; and {len(shown) - most} pairs more" if len(shown) > most else "")
