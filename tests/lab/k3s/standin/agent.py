# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`k3s agent`, and the same part inside a server: certificates, containerd, kubelet, kube-proxy, pod network."""
from __future__ import annotations

import json
import pathlib
import re
import secrets
import socket
import threading
import time
import urllib.request
from typing import Any

from . import control, faults, kube, lab, loadbalancer, log, network, nodepassword, notify, pki, proc, runtime, stamp, token
from .config import Options
from .kube import ApiError, Cache, Client
from .log import Fatal
from .remote import Remote, RemoteError

TAINT = "node.cloudprovider.kubernetes.io/uninitialized"
NODE_ID = pathlib.Path("/etc/rancher/node/id")
FILE_SECONDS = 240.0


def node_name(options: Options) -> str:
    name = (options["node-name"] or socket.gethostname()).lower()
    if options["with-node-id"]:
        if not NODE_ID.exists():
            pki.write_private(NODE_ID, secrets.token_hex(4).encode(), 0o644)
        name = f"{name}-{NODE_ID.read_text(encoding='utf-8').strip()}"
    return name


def wait_token_file(options: Options, flag: str = "token") -> str:
    """The token; a file goes before the flag beside it, and is waited for."""
    if not options[f"{flag}-file"]:
        return str(options[flag] or "").strip()
    path = pathlib.Path(options[f"{flag}-file"])
    end = time.monotonic() + FILE_SECONDS
    while not path.exists():
        if time.monotonic() >= end:
            raise Fatal("Error: context deadline exceeded" if lab.minor() >= 36 else "Error: Timeout while trying to read the file")
        log.info(f'Waiting for file "{path}" to be created\n' if lab.minor() >= 36 else f"Waiting for {path} to be available\n")
        time.sleep(2)
    return path.read_text(encoding="utf-8").strip()


class Agent:
    def __init__(self, options: Options, server: Any = None):
        self.options, self.server = options, server
        self.data = pathlib.Path(options["data-dir"])
        self.dir = self.data / "agent"
        self.name = node_name(options)
        self.ip = network.node_ip(options)
        self.config: dict[str, Any] = {}
        self.remote: Remote | None = None
        self.nodes: Cache | None = None
        self.balancer: loadbalancer.LoadBalancer | None = None

    def run(self) -> None:
        if self.server is None:
            log.info(f"Starting k3s agent {stamp.VERSION} ({stamp.COMMIT})")
        self.dir.mkdir(parents=True, exist_ok=True)
        (self.dir / "etc").mkdir(exist_ok=True)
        self.connect()
        self.fetch()
        network.check_families(self.config["cluster-cidr"], self.config["service-cidr"], self.ip)
        self.endpoints()
        network.prepare_host()
        runtime.start(self)
        self.start_kubelet()
        if not self.config.get("disable-kube-proxy"):
            self.start_kube_proxy()
        self.join_network()

    # -- configuration and certificates from a server

    def candidates(self) -> list[str]:
        urls = [self.options["server"]]
        port = urls[0].rstrip("/").rpartition(":")[2] if re.search(r":\d+/?$", urls[0]) else "443"
        for address in loadbalancer.saved(self.dir):
            url = f"https://{address.rpartition(':')[0]}:{port}"
            if url not in urls:
                urls.append(url)
        return urls

    def connect(self) -> None:
        """Validate the token against a server, for ever, as the real agent does: also a token or a URL that can't be right."""
        if self.server is not None:
            self.remote = Remote("https://127.0.0.1:" + str(self.options["https-listen-port"]))
            self.remote.validate(token.Token("node", self.server.agent_password))
            return
        if not self.options["server"]:
            raise Fatal("Error: --server is required")
        given = wait_token_file(self.options)
        if not given:
            raise Fatal("Error: --token is required")
        while True:
            for url in self.candidates():
                try:
                    parsed = token.parse(given, "node")
                    if parsed.user != "bootstrap":
                        parsed.user = "node"
                    remote = Remote(url)
                    remote.validate(parsed)
                    self.remote = remote
                    return
                except (RemoteError, token.TokenError) as err:
                    log.error(f"Failed to validate connection to cluster at {url}: {err}")
            time.sleep(2)

    def fetch(self) -> None:
        while True:
            try:
                self.config = self.remote.json("/v1-k3s/config")
                self.certificates()
                return
            except (RemoteError, ValueError) as err:
                detail = str(err)
                if getattr(err, "code", 0) == 401 and not self.config:
                    detail = f"failed to retrieve configuration from server: {err}"
                log.info(f"Waiting to retrieve agent configuration; server is not ready: {detail}")
                time.sleep(2 if self.server is not None else 5)

    def certificates(self) -> None:
        headers = {"k3s-Node-Name": self.name, "k3s-Node-Password": nodepassword.local(), "k3s-Node-IP": self.ip}
        for ca in ("client-ca", "server-ca"):
            pki.write_private(self.dir / f"{ca}.crt", self.remote.request("GET", f"/v1-k3s/{ca}.crt"), 0o644)
        for stem in ("serving-kubelet", "client-kubelet", "client-kube-proxy", "client-k3s-controller"):
            key = self.dir / f"{stem}.key"
            pki.make_key(key)
            try:
                crt = self.remote.request("POST", f"/v1-k3s/{stem}.crt", pki.make_csr(key, "/CN=k3s"), headers)
            except RemoteError as err:
                raise RemoteError(f"{self.dir}/{stem}.crt: {err}", err.code) from None
            pki.write_private(self.dir / f"{stem}.crt", crt, 0o644)
        url = self.api_url()
        for name, stem in (("kubelet", "client-kubelet"), ("kubeproxy", "client-kube-proxy"), ("k3scontroller", "client-k3s-controller")):
            text = kube.kubeconfig(url, self.dir / "server-ca.crt", self.dir / f"{stem}.crt", self.dir / f"{stem}.key")
            pki.write_private(self.dir / f"{name}.kubeconfig", text.encode())

    def api_url(self) -> str:
        if self.server is not None:
            return f"https://127.0.0.1:{self.options['https-listen-port']}"
        return f"https://127.0.0.1:{self.options['lb-server-port']}"

    def client(self, stem: str) -> Client:
        return Client(self.api_url(), self.dir / "server-ca.crt", self.dir / f"{stem}.crt", self.dir / f"{stem}.key")

    def endpoints(self) -> None:
        """Agents reach the API servers through a balancer on loopback, fed by the Endpoints of `kubernetes`."""
        if self.server is not None:
            return
        addresses = [f"{self.remote.host}:{self.config['https-listen-port']}"]
        try:
            addresses += [item for item in self.remote.json("/v1-k3s/apiservers") if item not in addresses]
        except RemoteError as err:
            log.debug(f"apiservers: {err}")
        self.balancer = loadbalancer.LoadBalancer(self.dir, self.options["lb-server-port"], addresses)
        self.balancer.start()
        client = self.client("client-k3s-controller")
        path = "/api/v1/namespaces/default/endpoints?fieldSelector=metadata.name%3Dkubernetes"
        cache = Cache(client, path, changed=lambda: self.balancer.update(loadbalancer.addresses(cache.values())))

    # -- components

    def start_kubelet(self) -> None:
        folder = self.dir / "etc" / "kubelet.conf.d"
        folder.mkdir(parents=True, exist_ok=True)
        (self.dir / "pod-manifests").mkdir(exist_ok=True)
        resolv = self.options["resolv-conf"] or "/etc/resolv.conf"
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": "0.0.0.0",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True, "cacheTTL": "2m0s"},
                               "x509": {"clientCAFile": str(self.dir / "client-ca.crt")}},
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [self.config["cluster-dns"]], "clusterDomain": self.config["cluster-domain"],
            "containerRuntimeEndpoint": self.options["container-runtime-endpoint"] or f"unix://{runtime.SOCKET}",
            "evictionHard": {"imagefs.available": "5%", "nodefs.available": "5%"},
            "evictionMinimumReclaim": {"imagefs.available": "10%", "nodefs.available": "10%"},
            "readOnlyPort": 0, "failSwapOn": False, "healthzBindAddress": "127.0.0.1", "healthzPort": 10248,
            "protectKernelDefaults": bool(self.options["protect-kernel-defaults"]),
            "resolvConf": resolv, "serializeImagePulls": False, "staticPodPath": str(self.dir / "pod-manifests"),
            "tlsCertFile": str(self.dir / "serving-kubelet.crt"), "tlsPrivateKeyFile": str(self.dir / "serving-kubelet.key"),
        }
        pki.write_private(folder / "00-k3s-defaults.conf", json.dumps(settings, indent=1).encode())
        drop_in = {"apiVersion": settings["apiVersion"], "kind": settings["kind"], **lab.get("kubelet")}
        pki.write_private(folder / "50-lab.conf", json.dumps(drop_in, indent=1).encode())
        defaults = {
            "config-dir": str(folder), "hostname-override": self.name, "kubeconfig": str(self.dir / "kubelet.kubeconfig"),
            "node-ip": self.ip, "node-labels": ",".join(self.options["node-label"]),
        }
        taints = list(self.options["node-taint"])
        if not self.config.get("disable-cloud-controller"):
            defaults["cloud-provider"] = "external"
        if taints:
            defaults["register-with-taints"] = ",".join(taints)
        argv = [lab.program("kubelet"), *control.merge({key: value for key, value in defaults.items() if value}, self.options["kubelet-arg"])]
        log.info(f"Running kubelet {' '.join(argv[1:])}")
        proc.Child("kubelet", argv, env={"GOGC": "60"})

    def start_kube_proxy(self) -> None:
        defaults = {
            "cluster-cidr": self.config["cluster-cidr"], "conntrack-max-per-core": "0", "conntrack-tcp-timeout-close-wait": "0s",
            "conntrack-tcp-timeout-established": "0s", "healthz-bind-address": "127.0.0.1", "hostname-override": self.name,
            "kubeconfig": str(self.dir / "kubeproxy.kubeconfig"), "proxy-mode": "iptables",
        }
        argv = [lab.program("kube-proxy"), *control.merge(defaults, self.options["kube-proxy-arg"])]
        log.info(f"Running kube-proxy {' '.join(argv[1:])}")
        proc.Child("kube-proxy", argv, env={"GOGC": "60"})

    # -- the node object and the pod network

    def join_network(self) -> None:
        client = self.client("client-k3s-controller")
        if self.server is not None:
            self.nodes = self.server.nodes
        else:
            from .server import slim_node
            self.nodes = Cache(client, "/api/v1/nodes", slim=slim_node)
        node = self.wait_node()
        network.start_flannel(self, node["spec"]["podCIDR"])
        self.annotate(node)
        self.wait_kubelet()
        if self.config.get("disable-network-policy"):
            self.up()
            return
        if self.server is None:
            self.wait_initialized()
            faults.late()
            network.start_policy(self)
            self.up()
        else:
            threading.Thread(target=self.policy_later, name="network-policy", daemon=True).start()

    def policy_later(self) -> None:
        self.wait_initialized()
        network.start_policy(self)

    def up(self) -> None:
        if self.server is None:
            log.info("k3s agent is up and running")
            notify.ready()

    def own(self) -> dict | None:
        return next((node for node in self.nodes.values() if node["metadata"]["name"] == self.name), None)

    def wait_node(self) -> dict:
        count = 0
        while True:
            node = self.own()
            if node is not None and node.get("spec", {}).get("podCIDR"):
                return node
            if count % 20 == 10:
                log.info(f"Waiting for node {self.name} CIDR not assigned yet" if node else f"Waiting for node {self.name}: nodes \"{self.name}\" not found")
            count += 1
            time.sleep(0.5)

    def wait_kubelet(self) -> None:
        while True:
            try:
                with urllib.request.urlopen("http://127.0.0.1:10248/healthz", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            time.sleep(1)

    def wait_initialized(self) -> None:
        while True:
            node = self.own() or {}
            taints = [taint["key"] for taint in node.get("spec", {}).get("taints") or []]
            if node and TAINT not in taints:
                return
            log.info(f"Network policy controller waiting for removal of {TAINT} taint")
            time.sleep(2)

    def annotate(self, node: dict) -> None:
        """k3s' annotations, and labels of the configuration also on a node that exists already."""
        labels = dict(item.partition("=")[::2] for item in self.options["node-label"])
        notes = {"k3s.io/hostname": self.name, "k3s.io/internal-ip": self.ip}
        meta = node["metadata"]
        body: dict[str, Any] = {}
        if any((meta.get("labels") or {}).get(key) != value for key, value in labels.items()):
            body["labels"] = labels
        if any((meta.get("annotations") or {}).get(key) != value for key, value in notes.items()):
            body["annotations"] = notes
        if not body:
            return
        try:
            self.client("client-kubelet").patch(f"/api/v1/nodes/{self.name}", {"metadata": body})
            log.info(f"Annotations and labels have been set successfully on node: {self.name}")
        except ApiError as err:
            log.warning(f"Unable to set annotations and labels on node {self.name}: {err}")
