# Copyright: Contributors to the cht.k3s project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract's rows about whole nodes: kubelet, containerd, pods and their network, on a lab of its own (three servers, one agent)."""
from __future__ import annotations

import base64
import json
import os
import pathlib
import subprocess
import time

import pytest
from cht_lab import tools

LAB = pathlib.Path(__file__).resolve().parents[2] / "lab"
NAME = "k3snodes"
SERVERS = {"control-plane-1": "198.18.0.11", "control-plane-2": "198.18.0.12", "control-plane-3": "198.18.0.13"}
AGENT, AGENT_IP = "agent-1", "198.18.0.21"
TAINT = "node.cloudprovider.kubernetes.io/uninitialized"
COMMON = """token: "the token of the node tests"
cluster-cidr: 198.19.0.0/17
service-cidr: 198.19.128.0/17
disable: [local-storage]
disable-cloud-controller: true
"""
UNIT = """[Unit]
After=network-online.target
[Install]
WantedBy=multi-user.target
[Service]
Type=notify
KillMode=process
Delegate=yes
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStart=/usr/local/bin/k3s KIND
"""
REGISTRIES = """mirrors:
  docker.io:
    endpoint:
      - "http://198.18.0.2:5000"
"""
CLIENT = {"containers": [{"name": "c", "image": "lab/client:1", "command": ["/bin/sh", "-c", "sleep 36000"]}], "terminationGracePeriodSeconds": 0}


class Lab:
    def __init__(self):
        self.env = {**os.environ, "LAB_NAME": NAME}
        self.env.pop("LAB_STATE", None)

    def __call__(self, *arguments, check=True, data=None, timeout=600):
        done = subprocess.run([str(LAB), *arguments], env=self.env, input=data, capture_output=True, text=True, check=False, timeout=timeout)
        assert not check or done.returncode == 0, f"lab {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def ssh(self, node, script, check=True, data=None):
        return self("ssh", node, script, check=check, data=data)

    def put(self, node, place, text, mode="600"):
        self.ssh(node, f"sudo sh -c 'mkdir -p $(dirname {place}); cat > {place}; chmod {mode} {place}'", data=text)

    def kubectl(self, *arguments, node="control-plane-1", check=True, data=None):
        words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in arguments)
        return self.ssh(node, f"sudo k3s kubectl {words}", check=check, data=data)

    def get(self, *arguments, node="control-plane-1"):
        return json.loads(self.kubectl("get", *arguments, "-o", "json", node=node))

    def install(self, node, kind, config, binary):
        self.ssh(node, "base64 -d > /tmp/k3s && sudo install -m 755 /tmp/k3s /usr/local/bin/k3s", data=base64.b64encode(binary.read_bytes()).decode())
        self.put(node, "/etc/rancher/k3s/config.yaml", config)
        self.put(node, "/etc/rancher/k3s/registries.yaml", REGISTRIES)
        unit = "k3s" if kind == "server" else "k3s-agent"
        self.put(node, f"/etc/systemd/system/{unit}.service", UNIT.replace("KIND", kind), "644")
        self.ssh(node, f"sudo systemctl daemon-reload; sudo systemctl enable -q {unit}; sudo systemctl restart --no-block {unit}")

    def state(self, node, unit="k3s"):
        return self.ssh(node, f"systemctl is-active {unit}", check=False).strip()

    def log(self, node, unit="k3s"):
        return self.ssh(node, f"sudo journalctl -u {unit} -o cat --no-pager | grep ^time=", check=False)


def wait(what, condition, seconds=120):
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(1)


def settings(ip, *lines):
    kubelet = ["cloud-provider=external", "fail-cgroupv1=false", f"provider-id=vsphere://id-{ip}"]
    return COMMON + f"node-ip: {ip}\nkubelet-arg: {json.dumps(kubelet)}\n" + "".join(f"{x}\n" for x in lines)


@pytest.fixture(scope="module")
def lab(binary, tmp_path_factory):
    assert os.geteuid() == 0, "machines need root"
    made = Lab()
    nodes = ",".join([*SERVERS, AGENT])
    try:
        made("up", "--nodes", nodes)
        made.install("control-plane-1", "server", settings(SERVERS["control-plane-1"], "cluster-init: true"), binary)
        wait("first server ready", lambda: made.state("control-plane-1") == "active")
        agent = settings(AGENT_IP, "server: https://198.18.0.11:6443", "node-label: [colour=blue]", "node-taint: [special=yes:PreferNoSchedule]")
        agent = "".join(line + "\n" for line in agent.splitlines() if not line.startswith(("cluster-", "service-", "disable")))
        made.install(AGENT, "agent", agent, binary)
        yield made
    finally:
        made("down", check=False)


def test_agent_waits_for_the_taint_to_go(lab):
    wait("agent waits", lambda: "waiting for removal of " + TAINT in lab.log(AGENT, "k3s-agent"))
    assert lab.state(AGENT, "k3s-agent") == "activating"

    def both():
        found = lab.get("nodes")["items"]
        return found if len(found) == 2 else None
    nodes = wait("both nodes", both)
    for node in nodes:
        assert TAINT in [taint["key"] for taint in node["spec"]["taints"]]
        assert node["spec"]["providerID"].startswith("vsphere://id-198.18.0.")
    lab.kubectl("taint", "nodes", "--all", TAINT + "-")
    wait("agent ready", lambda: lab.state(AGENT, "k3s-agent") == "active", 30)
    assert "k3s agent is up and running" in lab.log(AGENT, "k3s-agent")


def test_server_node_object(lab):
    def voter():
        node = lab.get("node", "control-plane-1")
        return node if any(row["type"] == "EtcdIsVoter" for row in node["status"]["conditions"]) else None
    node = wait("EtcdIsVoter", voter, 60)
    condition = next(row for row in node["status"]["conditions"] if row["type"] == "EtcdIsVoter")
    assert (condition["status"], condition["reason"]) == ("True", "MemberNotLearner")
    meta = node["metadata"]
    assert meta["labels"]["node-role.kubernetes.io/control-plane"] == meta["labels"]["node-role.kubernetes.io/etcd"] == "true"
    assert meta["annotations"]["etcd.k3s.cattle.io/node-name"].startswith("control-plane-1-")
    assert meta["annotations"]["etcd.k3s.cattle.io/node-address"] == "198.18.0.11"
    assert "wrangler.cattle.io/managed-etcd-controller" in meta["finalizers"]
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith(f"v{tools.TOOLS['kubernetes'].version}+k3s")


def test_agent_node_object_and_files(lab):
    node = lab.get("node", AGENT)
    assert node["metadata"]["labels"]["colour"] == "blue"
    assert {"key": "special", "value": "yes", "effect": "PreferNoSchedule"} in node["spec"]["taints"]
    assert node["metadata"]["annotations"]["k3s.io/internal-ip"] == AGENT_IP
    assert "server: https://127.0.0.1:6444" in lab.ssh(AGENT, "sudo cat /var/lib/rancher/k3s/agent/kubelet.kubeconfig")
    assert lab.ssh(AGENT, "sudo stat -c %a /etc/rancher/node/password").strip() == "600"
    owner = wait("owner of the password", lambda: lab.get("secret", "-n", "kube-system", f"{AGENT}.node-password.k3s")["metadata"].get("ownerReferences"))
    assert owner[0]["uid"] == node["metadata"]["uid"]


def test_traefik_answers_on_every_node(lab):
    for ip in ("198.18.0.11", AGENT_IP):
        for scheme in ("http", "https"):
            wait(f"{scheme}://{ip}", lambda url=f"{scheme}://{ip}/": "404 page not found" in lab("exec", "--", "curl", "-sk", "-m", "3", url, check=False))
    status = lab.get("service", "-n", "kube-system", "traefik")["status"]["loadBalancer"]["ingress"]
    assert sorted(row["ip"] for row in status) == ["198.18.0.11", AGENT_IP]


@pytest.fixture(scope="module")
def pods(lab):
    """A server pod on the agent, a client and a stranger on the first server."""
    def pod(name, node, labels):
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "net", "labels": labels}, "spec": {**CLIENT, "nodeName": node}}
    server = pod("web", AGENT, {"app": "web"})
    server["spec"] = {"nodeName": AGENT, "containers": [{"name": "c", "image": "lab/web:1"}], "terminationGracePeriodSeconds": 0}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "net"},
               "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "net"}}
    items = [space, server, pod("client", "control-plane-1", {"role": "client"}), pod("stranger", "control-plane-1", {}), service]
    lab.kubectl("apply", "-f", "-", data=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    lab.kubectl("wait", "-n", "net", "--for=condition=Ready", "pod", "--all", "--timeout=120s")


def reach(lab, pod, url="http://web.net.svc.cluster.local/"):
    return "web" in lab.kubectl("exec", "-n", "net", pod, "--", "curl", "-s", "-m", "4", url, check=False)


def test_service_by_name_on_another_node(lab, pods):
    wait("web by name", lambda: reach(lab, "client"), 60)


def test_network_policy(lab, pods):
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "net"}, "spec": {
        "podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}]}}
    assert reach(lab, "stranger")
    lab.kubectl("apply", "-f", "-", data=json.dumps(policy))
    wait("stranger refused", lambda: not reach(lab, "stranger"), 30)
    assert reach(lab, "client")
    lab.kubectl("delete", "networkpolicy", "-n", "net", "p")
    wait("stranger let in", lambda: reach(lab, "stranger"), 30)


def container(lab):
    return lab.get("pod", "-n", "net", "web")["status"]["containerStatuses"][0]


def test_pods_survive_restart_and_kill(lab, pods):
    before = container(lab)["containerID"]
    lab.ssh(AGENT, "sudo systemctl restart k3s-agent")
    lab.ssh(AGENT, "sudo systemctl kill -s KILL --kill-whom=main k3s-agent")
    time.sleep(2)
    assert "kubelet" not in lab.ssh(AGENT, "pgrep -a kubelet", check=False), "children die with the launcher"
    wait("agent back", lambda: lab.state(AGENT, "k3s-agent") == "active")
    wait("web answers", lambda: reach(lab, "client"), 30)
    assert (container(lab)["containerID"], container(lab)["restartCount"]) == (before, 0)


def test_three_servers_and_balancer(lab, binary):
    for name in ("control-plane-2", "control-plane-3"):
        lab.install(name, "server", settings(SERVERS[name], "server: https://198.18.0.11:6443"), binary)
        wait(f"{name} ready", lambda which=name: lab.state(which) == "active")
        wait(f"node {name}", lambda which=name: lab.kubectl("get", "node", which, "-o", "name", check=False))
        lab.kubectl("taint", "node", name, TAINT + "-")

    def balanced():
        text = lab.ssh(AGENT, "sudo cat /var/lib/rancher/k3s/agent/etc/k3s-agent-load-balancer.json")
        return text if text.count(":6443") >= 4 else None
    servers = wait("balancer", balanced)
    assert all(ip in servers for ip in SERVERS.values())


def test_agent_goes_on_when_its_server_stops(lab):
    lab.ssh("control-plane-1", "sudo systemctl stop k3s")
    try:
        before = lab.get("lease", "-n", "kube-node-lease", AGENT, node="control-plane-2")["spec"]["renewTime"]
        wait("agent renews its lease", lambda: lab.get("lease", "-n", "kube-node-lease", AGENT, node="control-plane-2")["spec"]["renewTime"] != before, 60)
        lab.ssh(AGENT, "sudo systemctl restart --no-block k3s-agent")
        wait("agent restarts without its first server", lambda: lab.state(AGENT, "k3s-agent") == "active", 90)
    finally:
        lab.ssh("control-plane-1", "sudo systemctl start k3s")


def test_annotation_removes_the_member_and_a_restart_joins_again(lab):
    name = lab.get("node", "control-plane-2")["metadata"]["annotations"]["etcd.k3s.cattle.io/node-name"]
    lab.kubectl("annotate", "node", "control-plane-2", "etcd.k3s.cattle.io/remove=true")
    members = "curl -sk https://127.0.0.1:6443/db/info"
    wait("member gone", lambda: name not in lab.ssh("control-plane-1", members), 60)

    def again():
        notes = lab.get("node", "control-plane-2")["metadata"]["annotations"]
        return notes.get("etcd.k3s.cattle.io/node-name", name) != name and notes
    notes = wait("joined under a new member name", again, 150)
    assert notes["etcd.k3s.cattle.io/node-name"] in lab.ssh("control-plane-1", members)
    assert "etcd.k3s.cattle.io/removed-node-name" not in notes


def test_deleting_a_server_node_removes_its_member(lab):
    name = lab.get("node", "control-plane-3")["metadata"]["annotations"]["etcd.k3s.cattle.io/node-name"]
    lab.ssh("control-plane-3", "sudo systemctl disable -q k3s")
    lab.kubectl("delete", "node", "control-plane-3", "--timeout=90s")
    assert name not in lab.ssh("control-plane-1", "curl -sk https://127.0.0.1:6443/db/info")
    wait("its password gone", lambda: "control-plane-3." not in lab.kubectl("get", "secrets", "-n", "kube-system", "-o", "name"), 60)


def test_disable_removes_what_was_deployed(lab):
    lab.ssh("control-plane-1", "sudo sed -i 's/^disable: .*/disable: [local-storage, traefik]/' /etc/rancher/k3s/config.yaml; sudo systemctl restart k3s")
    wait("traefik gone", lambda: "traefik" not in lab.kubectl("get", "deployments,services", "-n", "kube-system", "-o", "name", check=False), 90)


def test_cloud_controller_initialises_nodes(lab, binary):
    for name in SERVERS:
        lab("vm", "wipe", name)
    config = settings("198.18.0.11", "cluster-init: true").replace("disable-cloud-controller: true\n", "").partition("kubelet-arg:")[0]
    lab.install("control-plane-1", "server", config + "cluster-init: true\nkubelet-arg: [fail-cgroupv1=false]\n", binary)
    wait("ready", lambda: lab.state("control-plane-1") == "active")

    def initialised():
        text = lab.kubectl("get", "node", "control-plane-1", "-o", "json", check=False)
        return json.loads(text) if text and TAINT not in text else None
    node = wait("initialised", initialised, 90)
    assert node["spec"]["providerID"] == "k3s://control-plane-1"
