# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`k3s server`: datastore, control plane, supervisor, controllers, then the agent of the same node."""
from __future__ import annotations

import base64
import ipaddress
import os
import pathlib
import secrets
import threading
import time
from typing import Any

from . import addons, bootstrap, ccm, control, encryption, faults, front, kube, log, members, network, notify, pki, snapshot, sqlite, stamp, supervisor, token
from .agent import Agent, node_name, wait_token_file
from .config import Options
from .etcd import Etcd, EtcdError
from .kube import ApiError, Cache, Client
from .log import Fatal
from .remote import Remote, RemoteError

# flags that must be the same on every server; the name that k3s logs where it differs
CRITICAL = ["cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "disable-cloud-controller", "disable-helm-controller",
            "disable-network-policy", "disable-service-lb", "egress-selector-mode", "embedded-registry", "flannel-backend", "flannel-external-ip",
            "flannel-ipv6-masq", "secrets-encryption", "secrets-encryption-provider"]


class Server:
    def __init__(self, options: Options):
        self.options = options
        self.data = pathlib.Path(options["data-dir"])
        self.dir = self.data / "server"
        self.tls = self.dir / "tls"
        self.cred = self.dir / "cred"
        self.api_ready = threading.Event()
        self.name = node_name(options)
        self.ip = network.node_ip(options)
        self.cluster_cidr = (options.split("cluster-cidr") or ["10.42.0.0/16"])[0]
        self.service_cidr = (options.split("service-cidr") or ["10.43.0.0/16"])[0]
        self.domain = options["cluster-domain"]
        network.check_families(self.cluster_cidr, self.service_cidr, self.ip)
        self.dns = (options.split("cluster-dns") or [str(ipaddress.ip_network(self.service_cidr)[10])])[0]
        self.disabled = set(options.split("disable"))
        self.etcd = Etcd(self.data, self.name, self.ip)
        self.sqlite = sqlite.Sqlite(self.dir)
        # Whether the data is in etcd: else it is in SQLite, which nobody can join and of which there are no snapshots.
        self.managed = True
        # What requests are held against, read once, and what the bootstrap data is encrypted with.
        self.password = ""
        self.data_password = ""
        self.agent_password = ""
        port = options["https-listen-port"]
        self.client = Client(f"https://127.0.0.1:{port}", self.tls / "server-ca.crt", self.tls / "client-admin.crt", self.tls / "client-admin.key")
        self.snapshots = snapshot.Snapshots(self)
        self.encryption = encryption.Encryption(self)
        self.nodes: Cache | None = None
        self.leader: kube.Leader | None = None
        self.owned = False
        self.adopted: set[str] = set()

    # -- run

    def run(self) -> None:
        log.info(f"Starting k3s {stamp.VERSION} ({stamp.COMMIT})")
        self.check_host()
        faults.at_start()
        self.etcd.bury_if_tombstoned()
        self.etcd.load_name(False)
        if self.options["cluster-reset"]:
            snapshot.cluster_reset(self)
            return
        given = wait_token_file(self.options)
        initial, state = "", ""
        if self.etcd.has_data():
            log.info("Managed etcd cluster bootstrap already complete and initialized")
            self.load_tokens(given)
            self.ask_peer(given)
            (self.dir / "db" / "reset-flag").unlink(missing_ok=True)
        elif self.options["server"] and given:
            initial = self.join(given)
            state = "existing"
        elif self.options["cluster-init"]:
            log.info("Managed etcd cluster initializing")
            self.load_tokens(given)
            self.etcd.load_name(True)
            initial, state = f"{self.etcd.member_name}={self.etcd.peer_url()}", "new"
        else:
            # A server to join alone says nothing: without a token beside it this is a cluster of its own, with what is left of the old one on the disk.
            self.managed = False
            self.load_tokens(given)
        # Of a member the datastore has its say first: a wrong token is not written down.
        self.prepare_files(tokens=bool(state) or not self.managed)
        front.Front(self.tls, self.options["bind-address"], self.options["https-listen-port"], supervisor.start(self)).start()
        if self.managed:
            self.start_etcd(initial, state)
        else:
            self.sqlite.start()
            self.encryption.generate()
        self.start_control_plane()
        threading.Thread(target=self.after_api, name="after-api", daemon=True).start()

    def start_etcd(self, initial: str, state: str) -> None:
        if self.etcd.locked():
            self.die_beside_another()
        self.etcd.start(initial, state, self.options["etcd-arg"], self.options["etcd-expose-metrics"])
        members.start_promotion(self)
        self.etcd.wait()
        if state == "new":
            self.sqlite.move(self.etcd)
        self.sync_bootstrap(reconcile=not state)
        self.write_tokens(self.password, self.agent_password)

    def check_host(self) -> None:
        if os.geteuid() != 0:
            raise Fatal("Error: k3s must be run as root unless rootless is enabled")
        port = self.options["https-listen-port"]
        if front.taken(port):
            raise Fatal(f"Error: failed to start listener: listen tcp :{port}: bind: address already in use")

    def die_beside_another(self) -> None:
        """A second process meets the first one's API and etcd on the ports that they share, is up, and then finds the data locked."""
        log.info("k3s is up and running")
        notify.ready()
        time.sleep(2.5)
        log.etcd_line("fatal", "failed to open database", error="file already locked")
        raise Fatal("Error: etcd: file already locked")

    # -- tokens and bootstrap data

    def load_tokens(self, given: str) -> None:
        kept = self.dir / "token"
        if not given and kept.exists():
            given = kept.read_text(encoding="utf-8").strip()
        self.password = token.password_of(given) if given else token.random_password()
        agent = wait_token_file(self.options, "agent-token")
        self.agent_password = token.parse(agent, "node").password if agent else self.password
        self.data_password = self.password

    def join(self, given: str) -> str:
        prefix = "Error: preparing server: failed to bootstrap cluster data: "
        log.info("Managed etcd cluster not yet initialized")
        try:
            parsed = token.parse(given, "server")
            remote = Remote(self.options["server"])
            remote.validate(parsed)
        except (token.TokenError, RemoteError) as err:
            raise Fatal(f"{prefix}failed to check if bootstrap data has been initialized: failed to validate token: {err}") from None
        self.compare(remote)
        try:
            theirs = remote.json("/v1-k3s/server-bootstrap")
            if self.tls.is_dir():
                bootstrap.reconcile(self.dir, theirs)
            else:
                bootstrap.unpack(self.dir, theirs)
            self.encryption.reconcile(theirs)
            rows = remote.json("/db/info")["members"]
        except RemoteError as err:
            raise Fatal(f"{prefix}{err}") from None
        self.load_tokens(given)
        self.make_certificates()
        self.etcd.load_name(True)
        endpoints = [url for row in rows if not row.get("isLearner") for url in row["clientURLs"]]
        if not endpoints:
            raise Fatal(f"{prefix}no etcd members found at {remote.url}")
        return self.etcd.join(endpoints)

    def ask_peer(self, given: str) -> None:
        """A member that is given a server and a token asks it at every start; one that is silent, or refuses the token, is passed over."""
        if not self.options["server"] or not given:
            return
        try:
            remote = Remote(self.options["server"])
            remote.validate(token.parse(given, "server"))
        except (token.TokenError, RemoteError):
            return
        try:
            theirs = remote.json("/v1-k3s/server-bootstrap")
        except RemoteError as err:
            log.warning(f"Unable to reconcile with remote datastore: {err}")
            return
        bootstrap.reconcile(self.dir, theirs)
        log.info("Successfully reconciled with remote datastore")

    def compare(self, remote: Remote) -> None:
        try:
            theirs = remote.json("/v1-k3s/config")
        except RemoteError as err:
            log.warning(f"Skipping cluster configuration validation: {err}")
            return
        mine = self.shared_config()
        wrong = [key for key in CRITICAL if mine.get(key) != theirs.get(key)]
        for key in wrong:
            log.warning(f"critical configuration mismatched: {key}")
        if wrong:
            raise Fatal("Error: preparing server: failed to validate server configuration: critical configuration value mismatch between servers")

    def shared_config(self) -> dict[str, Any]:
        out = {name: self.options[name] for name in CRITICAL if name != "disable-service-lb"}
        out.update({
            "cluster-cidr": self.cluster_cidr, "service-cidr": self.service_cidr, "cluster-dns": self.dns,
            "disable-service-lb": "servicelb" in self.disabled,
            "disable-kube-proxy": self.options["disable-kube-proxy"],
            "https-listen-port": self.options["https-listen-port"],
            "service-node-port-range": self.options["service-node-port-range"],
            "system-default-registry": self.options["system-default-registry"] or "",
        })
        return out

    def bootstrap_data(self) -> dict[str, dict]:
        return {**bootstrap.pack(self.dir), **self.encryption.pack()}

    def stored_bootstrap(self) -> dict[str, dict]:
        """What joiners and restarted servers get: from the datastore, or from this server's disk where that can't be read."""
        try:
            return bootstrap.decrypt(self.etcd.get_prefix("/bootstrap/")[bootstrap.key_of(self.data_password)], self.data_password)
        except (EtcdError, KeyError):
            return self.bootstrap_data()

    def save_bootstrap(self) -> None:
        self.etcd.put(bootstrap.key_of(self.data_password), bootstrap.encrypt(self.bootstrap_data(), self.data_password))

    def sync_bootstrap(self, reconcile: bool = False) -> None:
        """Keep the CA material in etcd, encrypted with the server password, as k3s does."""
        mine = bootstrap.key_of(self.password)
        try:
            stored = self.etcd.get_prefix("/bootstrap/")
        except EtcdError as err:
            raise Fatal(f"Error: preparing server: failed to bootstrap cluster data: {err}") from None
        if mine in stored:
            data = bootstrap.decrypt(stored[mine], self.password)
            if reconcile:
                bootstrap.reconcile(self.dir, data)
            self.encryption.reconcile(data, bool(self.options["cluster-reset"]))
            # A cluster that was begun without: this key is not saved, so it is this server's own.
            self.encryption.generate()
            return
        if stored:
            raise Fatal("Error: preparing server: failed to bootstrap cluster data: bootstrap data already found and encrypted with different token")
        self.encryption.generate()
        self.save_bootstrap()

    def rotate_token(self, new: str) -> None:
        """Files first, then the datastore. The passwords that requests are held against stay those that were read at the start."""
        password = token.parse(new, "server").password if new else token.random_password()
        kept = token.read_passwords(self.cred / "passwd")
        old = kept.get("server", "")
        agent = password if kept.get("node") == old and not self.options["agent-token"] else kept.get("node", password)
        self.write_tokens(password, agent)
        data = {**self.stored_bootstrap(), **bootstrap.pack(self.dir)}
        stored = self.etcd.get_prefix("/bootstrap/")
        if not {bootstrap.key_of(password), bootstrap.key_of(old)} & set(stored):
            raise OSError("bootstrap data already found and encrypted with different token")
        self.etcd.put(bootstrap.key_of(password), bootstrap.encrypt(data, password))
        if old != password:
            self.etcd.delete(bootstrap.key_of(old))
        self.data_password = password

    def bootstrap_token(self, text: str) -> bool:
        """A token made by `k3s token create`: a secret of kube-system that has not expired."""
        ident, _sep, secret = text.partition(".")
        if not self.api_ready.is_set():
            return False
        try:
            found = self.client.find(f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{ident}")
        except ApiError:
            return False
        data = {key: base64.b64decode(value).decode() for key, value in ((found or {}).get("data") or {}).items()}
        if data.get("expiration", "9999") < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()):
            return False
        return bool(secret) and secrets.compare_digest(data.get("token-secret", ""), secret)

    # -- files

    def prepare_files(self, tokens: bool = True) -> None:
        for path, mode in ((self.dir, 0o700), (self.tls, 0o700), (self.cred, 0o700), (self.dir / "manifests", 0o700)):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
        pki.make_cas(self.tls)
        self.make_certificates()
        if tokens:
            self.write_tokens(self.password, self.agent_password)
        url = f"https://127.0.0.1:{self.options['https-listen-port']}"
        direct = f"https://{front.API_ADDRESS}:{self.options['https-listen-port']}"
        for name, server, tls_name in (("admin", url, ""), ("controller", direct, "localhost"), ("scheduler", direct, "localhost")):
            stem = self.tls / f"client-{name}"
            text = kube.kubeconfig(server, self.tls / "server-ca.crt", stem.with_suffix(".crt"), stem.with_suffix(".key"), tls_name=tls_name)
            pki.write_private(self.cred / f"{name}.kubeconfig", text.encode())
        self.write_kubeconfig(url)

    def make_certificates(self) -> None:
        tls = self.tls
        client_ca, server_ca = tls / "client-ca", tls / "server-ca"
        for stem, name, org in (
                ("client-admin", "system:admin", "system:masters"), ("client-supervisor", "system:k3s-supervisor", "system:masters"),
                ("client-controller", "system:kube-controller-manager", ""), ("client-scheduler", "system:kube-scheduler", ""),
                ("client-kube-apiserver", "system:apiserver", "system:masters"), ("client-k3s-cloud-controller", "k3s-cloud-controller-manager", "")):
            pki.leaf(tls / stem, client_ca, pki.subject(name, org))
        pki.leaf(tls / "client-auth-proxy", tls / "request-header-ca", pki.subject("system:auth-proxy"))
        hosts = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{self.domain}", "localhost", "127.0.0.1",
                 self.ip, self.name, str(ipaddress.ip_network(self.service_cidr)[1]), *self.options.split("node-external-ip"), *self.options.split("tls-san")]
        if self.options["advertise-address"]:
            hosts.append(self.options["advertise-address"])
        names = pki.names(hosts)
        pki.leaf(tls / "serving-kube-apiserver", server_ca, pki.subject("kube-apiserver"), "serverAuth", names)
        pki.leaf(tls / "serving-supervisor", server_ca, pki.subject("k3s"), "serverAuth", names)
        etcd_names = pki.names(["localhost", "127.0.0.1", self.ip, self.name])
        pki.leaf(tls / "etcd/client", tls / "etcd/server-ca", pki.subject("etcd-client"))
        pki.leaf(tls / "etcd/server-client", tls / "etcd/server-ca", pki.subject("etcd-server"), "serverAuth,clientAuth", etcd_names)
        pki.leaf(tls / "etcd/peer-server-client", tls / "etcd/peer-ca", pki.subject("etcd-peer"), "serverAuth,clientAuth", etcd_names)

    def write_tokens(self, password: str, agent_password: str) -> None:
        pem = (self.tls / "server-ca.crt").read_bytes()
        pki.write_private(self.dir / "token", (token.secure(pem, "server", password) + "\n").encode())
        wanted = {"server": password, "node": agent_password}
        if token.read_passwords(self.cred / "passwd") != wanted:
            rows = [f"{password},server,server,k3s:server", f"{agent_password},node,node,k3s:agent"]
            pki.write_private(self.cred / "passwd", ("\n".join(rows) + "\n").encode())
        link(self.dir / "node-token", self.dir / "token")
        if agent_password == password:
            link(self.dir / "agent-token", self.dir / "token")
        else:
            (self.dir / "agent-token").unlink(missing_ok=True)
            pki.write_private(self.dir / "agent-token", (token.secure(pem, "node", agent_password) + "\n").encode())

    def write_kubeconfig(self, url: str) -> None:
        place = pathlib.Path(self.options["write-kubeconfig"] or "/etc/rancher/k3s/k3s.yaml")
        text = kube.kubeconfig(url, self.tls / "server-ca.crt", self.tls / "client-admin.crt", self.tls / "client-admin.key", embed=True)
        mode = 0o600
        if self.options["write-kubeconfig-mode"]:
            try:
                mode = int(str(self.options["write-kubeconfig-mode"]), 8)
            except ValueError:
                log.error(f"Failed to set {place} to mode {self.options['write-kubeconfig-mode']}: invalid syntax")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            pki.write_private(place, text.encode(), mode)
        place.chmod(mode)
        log.info(f"Wrote kubeconfig {place}")

    # -- control plane

    def start_control_plane(self) -> None:
        configuration = self.encryption.place if self.encryption.flag else None
        datastore = "" if self.managed else self.sqlite.url
        control.start_apiserver(self.tls, self.options, self.ip, self.service_cidr, self.domain, configuration, datastore)
        waited = 0
        while not self.client.ready():
            time.sleep(1)
            waited += 1
            if waited % 20 == 0:
                log.info("Waiting for API server to become available")
        self.api_ready.set()
        if not self.options["disable-controller-manager"]:
            control.start_controller_manager(self.tls, self.cred, self.options, self.cluster_cidr, self.service_cidr)
        if not self.options["disable-scheduler"]:
            control.start_scheduler(self.cred, self.options)
        log.info("Kube API server is now running")
        log.info("k3s is up and running")
        notify.ready()
        faults.after_ready()

    def after_api(self) -> None:
        self.nodes = Cache(self.client, "/api/v1/nodes", slim=slim_node)
        self.leader = kube.Leader(self.client, "k3s", self.name)
        addons.start(self)
        members.start_node_duties(self)
        ccm.start(self)
        self.encryption.announce()
        if self.managed:
            self.snapshots.start()
        if not self.options["disable-agent"]:
            Agent(self.options, server=self).run()

    def api_servers(self) -> list[str]:
        if not self.api_ready.is_set():
            raise ApiError(503, "runtime core not ready")
        data = self.client.get("/api/v1/namespaces/default/endpoints/kubernetes")
        return [f"{address['ip']}:{port['port']}" for subset in data.get("subsets") or []
                for address in subset.get("addresses") or [] for port in subset.get("ports") or []]


def slim_node(node: dict) -> dict:
    status = node.get("status") or {}
    node["status"] = {key: status[key] for key in ("addresses", "conditions") if key in status}
    return node


def link(place: pathlib.Path, target: pathlib.Path) -> None:
    if place.is_symlink() and place.resolve() == target.resolve():
        return
    place.unlink(missing_ok=True)
    place.symlink_to(target)
