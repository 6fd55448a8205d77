"""A cluster that was built by hand: site.yml refuses it, adopt.yml reports and moves it, and nothing about it changes meaning."""
from __future__ import annotations

import pytest
from support.lab import Lab

BINARY = "http://198.18.0.2:8080/k3s/v1.34.4%2Bk3s1/k3s"
WORD = "typed-by-hand"
# What the installer of k3s writes.
UNIT = r"""[Unit]
Description=Lightweight Kubernetes
After=network-online.target
[Install]
WantedBy=multi-user.target
[Service]
Type=notify
EnvironmentFile=-/etc/systemd/system/{service}.service.env
KillMode=process
Delegate=yes
Restart=always
RestartSec=5s
TimeoutStartSec=0
ExecStart=/usr/local/bin/k3s \
    {arguments}
"""
SERVER = r"""server \
    '--cluster-init' \
    '--docker' \
    '--token' \
    'typed-by-hand' \
    '--cluster-cidr=198.19.0.0/17' \
    '--service-cidr=198.19.128.0/17' \
    '--node-ip=198.18.0.11' \
    '--disable' \
    'local-storage,metrics-server' \
    '--kube-apiserver-arg=default-watch-cache-size=50' \
"""
AGENT = r"""agent \
    '--docker' \
    '--node-label' \
    'room=cellar' \
"""
VARIABLES = ("-e", "k3s_cloud_provider=none", "-e", "k3s_container_runtime=docker")


def install(lab: Lab, node: str, service: str, arguments: str, environment: str = "") -> None:
    """What a person does on a machine."""
    unit = UNIT.format(service=service, arguments=arguments)
    lab("ssh", node, f"""sudo sh -ec '
        curl -sf -o /usr/local/bin/k3s {BINARY} || python3 -c "import urllib.request; urllib.request.urlretrieve(\\"{BINARY}\\", \\"/usr/local/bin/k3s\\")"
        chmod 755 /usr/local/bin/k3s
        cat > /etc/systemd/system/{service}.service.env && chmod 600 /etc/systemd/system/{service}.service.env' <<'END'
{environment}
END""")
    lab("ssh", node, f"sudo sh -c 'cat > /etc/systemd/system/{service}.service' <<'END'\n{unit}END\n")
    lab("ssh", node, f"sudo systemctl daemon-reload && sudo systemctl enable -q {service} && sudo timeout 240 systemctl start {service}", timeout=300)


def uid(lab: Lab) -> str:
    return lab.kubectl("get", "namespace", "kube-system")["metadata"]["uid"]


def pids(lab: Lab) -> list[str]:
    return [lab("ssh", node, f"systemctl show -p MainPID {unit}").strip() for node, unit in
            (("control-plane-1", "k3s"), ("agent-1", "k3s-agent"), ("agent-2", "k3s-agent"))]


@pytest.fixture(scope="module")
def by_hand(life_lab: Lab) -> Lab:
    for node in ("control-plane-1", "agent-1", "agent-2"):
        if life_lab("ssh", node, "ls /usr/local/bin/k3s 2>/dev/null || true").strip():
            life_lab("vm", "wipe", node, timeout=120)
    install(life_lab, "control-plane-1", "k3s", SERVER)
    for node in ("agent-1", "agent-2"):
        install(life_lab, node, "k3s-agent", AGENT, f"K3S_TOKEN='{WORD}'\nK3S_URL='https://198.18.0.11:6443'\nNO_PROXY='.svc'")
    life_lab("ssh", "agent-2", "sudo mkdir -p /etc/rancher/k3s && echo 'mirrors: {}' | sudo tee /etc/rancher/k3s/registries.yaml")
    return life_lab


def test_site_refuses_a_cluster_that_is_not_adopted(by_hand: Lab) -> None:
    before = pids(by_hand)
    for tags in ("node", "control_plane", "agent"):
        run = by_hand.playbook("--tags", tags, *VARIABLES, name=f"life-refused-{tags}").expect(1)
        assert "adopt.yml" in run.output and run.changed == []
    assert pids(by_hand) == before


def test_the_report_names_every_difference_and_changes_nothing(by_hand: Lab) -> None:
    before = pids(by_hand)
    run = by_hand.playbook(playbook="playbooks/adopt.yml", name="life-report").expect()
    assert run.changed == [] and pids(by_hand) == before
    for text in ("control-plane-1: by other means, in /etc/systemd/system/k3s.service; docker; k3s://control-plane-1",
                 "agent-1: by other means, in /etc/systemd/system/k3s-agent.service, /etc/systemd/system/k3s-agent.service.env; docker",
                 "k3s://control-plane-1 of the running node stays", "Set k3s_container_runtime to docker",
                 "disable: has local-storage, metrics-server; site.yml would set local-storage (control-plane-1)",
                 "node-label: has room=cellar; site.yml would set nothing (agent-1, agent-2)",
                 "secrets-encryption: has nothing; stays so under site.yml; playbooks/secrets_encryption.yml encrypts",
                 "environment NO_PROXY: has .svc; site.yml would set nothing (agent-1, agent-2)",
                 "/etc/rancher/k3s/registries.yaml: has mirrors or logins of its own; site.yml would set k3s_registries (agent-2)"):
        assert text in " ".join(run.output.replace("''", "'").split()), text
    assert WORD not in run.output


def test_adopting_moves_the_settings_and_nothing_else(by_hand: Lab) -> None:
    identity = uid(by_hand)
    run = by_hand.playbook("-e", "k3s_adopt=true", playbook="playbooks/adopt.yml", name="life-adopted").expect()
    assert len([line for line in run.changed if "Move the settings" in line]) == 3
    assert WORD not in run.output
    config = by_hand("ssh", "control-plane-1", "sudo cat /etc/rancher/k3s/config.yaml; cat /etc/systemd/system/k3s.service; sudo cat /etc/rancher/k3s/token")
    for text in ("cluster-init: true", "docker: true", "- metrics-server", "ExecStart=/usr/local/bin/k3s server\n", WORD):
        assert text in config
    agent = by_hand("ssh", "agent-1", "sudo cat /etc/systemd/system/k3s-agent.service.env /etc/rancher/k3s/config.yaml")
    assert "K3S_" not in agent and "NO_PROXY" in agent and "room=cellar" in agent
    assert by_hand("ssh", "agent-2", "sudo cat /etc/rancher/k3s/registries.yaml.before-adoption").strip() == "mirrors: {}"
    nodes = by_hand.kubectl("get", "nodes")["items"]
    assert sorted(node["spec"]["providerID"] for node in nodes) == ["k3s://agent-1", "k3s://agent-2", "k3s://control-plane-1"]
    assert uid(by_hand) == identity
    again = by_hand.playbook("-e", "k3s_adopt=true", playbook="playbooks/adopt.yml", name="life-adopted-again").expect()
    assert again.changed == []


def test_another_runtime_is_refused_until_the_node_is_drained(by_hand: Lab) -> None:
    run = by_hand.playbook("--tags", "agent", "--limit", "agent-1,localhost", "-e", "k3s_cloud_provider=none", name="life-runtime").expect(1)
    assert "this node runs with the other one" in run.output and "kubectl drain agent-1" in run.output
    by_hand("kubectl", "drain", "agent-1", "--ignore-daemonsets", "--delete-emptydir-data", "--force", timeout=200)
    by_hand.playbook("--tags", "agent", "--limit", "agent-1,localhost", "-e", "k3s_cloud_provider=none", name="life-runtime-drained").expect()
    by_hand("kubectl", "uncordon", "agent-1")
    assert "docker" not in by_hand("ssh", "agent-1", "sudo cat /etc/rancher/k3s/config.yaml")


def test_after_that_site_manages_it(by_hand: Lab) -> None:
    by_hand("kubectl", "drain", "agent-2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", timeout=200)
    by_hand("kubectl", "drain", "control-plane-1", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s", timeout=200)
    identity = uid(by_hand)
    argv = ("--tags", "node,control_plane,agent", "-e", "k3s_cloud_provider=none", "-e", "control_plane_secrets_encryption=false")
    by_hand.playbook(*argv, name="life-managed").expect()
    for node in ("control-plane-1", "agent-2"):
        by_hand("kubectl", "uncordon", node)
    assert by_hand.playbook(*argv, name="life-managed-again").expect().changed == []
    assert uid(by_hand) == identity
